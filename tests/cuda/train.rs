//! Whole training runs of the binary on the simulated devices, against the CPU.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use stablerep::weights::SafeTensors;
use tempfile::TempDir;

use crate::support::{Model, has_kernels, stablerep, text};

/// A run over the golden shards: 8 captions × 4 images, all of the augmentation, a head with batch norms per slot.
pub fn words(output: &Path, device: &str, steps: &str, save_every: &str) -> Vec<String> {
    words_at(["1e-4", "1"], output, device, steps, save_every)
}

fn words_at([lr, warmup]: [&str; 2], output: &Path, device: &str, steps: &str, save_every: &str) -> Vec<String> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/train_run/stablerep");
    let (data, output) = (data.display(), output.display());
    let line = format!(
        "train --data {data} --output {output} --device {device} --model custom --image-size 32 --patch-size 8 --width 64 --depth 2 \
         --heads 2 --head-dims 64,32 --batch 8 --images-per-caption 4 --steps {steps} --warmup-steps {warmup} --lr {lr} --save-every {save_every}"
    );
    line.split_whitespace().map(str::to_owned).collect()
}

fn metrics(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn command(model: Model, words: &[String]) -> Command {
    stablerep(model, &words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn finish(model: Model, words: &[String]) {
    let output = command(model, words).output().unwrap();
    assert!(output.status.success(), "{words:?}\n{}", text(&output));
}

/// Initial weights that tell the images apart. Those of a new network do not: its features differ in their last bits, which the batch norms
/// of the head blow up, so that bf16 and f32 part ways at once.
fn pretrained(folder: &Path) -> [String; 2] {
    let output = folder.join("pretrained");
    finish(Model::H200, &words_at(["1e-3", "10"], &output, "cpu", "200", "1000steps"));
    ["--init-from".into(), output.join("checkpoint.safetensors").display().to_string()]
}

/// Losses and gradient norms of every step, and the trained weights, as close as storage in bf16 leaves them.
fn assert_follows(cpu: &Path, cuda: &Path, steps: usize) {
    let (want, got) = (metrics(cpu), metrics(cuda));
    assert_eq!((want.len(), got.len()), (steps, steps));
    let side_by_side = || {
        let line =
            |(a, b): (&Value, &Value)| format!("{} {}   {} {}\n", a["loss"], b["loss"], a["grad_norm"], b["grad_norm"]);
        want.iter().zip(&got).map(line).collect::<String>()
    };
    for (want, got) in want.iter().zip(&got) {
        for (key, tolerance) in [("loss", 0.003), ("grad_norm", 0.08), ("lr", 1e-12)] {
            let (want, got) = (want[key].as_f64().unwrap(), got[key].as_f64().unwrap());
            assert!(
                (want - got).abs() <= tolerance * want.abs(),
                "{key} {got}, on the CPU {want}:\n{}",
                side_by_side()
            );
        }
    }
    let open = |folder: &Path| SafeTensors::open(folder.join("checkpoint.safetensors")).unwrap();
    let (want, got) = (open(cpu), open(cuda));
    let mut compared = 0;
    for name in want.names() {
        let shape = want.shape(name).unwrap();
        let (a, b) = (want.f32(name, shape).unwrap(), got.f32(name, shape).unwrap());
        if name.starts_with("adam.") {
            continue;
        }
        let (mut product, mut squares) = (0.0f64, 0.0f64);
        for (&a, &b) in a.iter().zip(&b) {
            product += f64::from(a) * f64::from(b);
            squares += f64::from(a).powi(2) + f64::from(b).powi(2);
        }
        let difference = if squares > 0.0 { 1.0 - 2.0 * product / squares } else { 0.0 };
        assert!(difference < 5e-3, "{name}: difference {difference:e}");
        compared += 1;
    }
    assert!(compared > 30, "{compared} tensors");
}

fn follows_the_cpu(model: Model) {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let init = pretrained(folder.path());
    let words = |output: &Path, device: &str| [words(output, device, "6", "1000steps"), init.to_vec()].concat();
    let (cpu, cuda) = (folder.path().join("cpu"), folder.path().join("cuda"));
    finish(model, &words(&cpu, "cpu"));
    finish(model, &words(&cuda, "cuda"));
    assert_follows(&cpu, &cuda, 6);
    // Another order of warps and copies: not a bit changes.
    let again = folder.path().join("again");
    let output = command(model, &words(&again, "cuda")).env("CUDA_SIM_SEED", "77").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let bytes = |folder: &Path| fs::read(folder.join("checkpoint.safetensors")).unwrap();
    assert!(bytes(&cuda) == bytes(&again), "two runs differ");
}

#[test]
fn hopper_follows_the_cpu() {
    follows_the_cpu(Model::H200);
}

#[test]
fn ampere_follows_the_cpu() {
    follows_the_cpu(Model::A100);
}

/// Starts a run (or goes on with it) and stops it by SIGTERM when `until` updates are done; returns how many are.
pub fn interrupt(model: Model, words: &[String], output: &Path, until: usize) -> usize {
    let mut child: Child = command(model, words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let limit = Instant::now() + Duration::from_secs(120);
    // Complete lines: the last one may be in the making.
    let so_far = || fs::read_to_string(output.join("metrics.jsonl")).map_or(0, |text| text.matches('\n').count());
    while so_far() < until {
        assert!(Instant::now() < limit, "no {until} updates in two minutes");
        sleep(Duration::from_millis(2));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(75));
    metrics(output).len()
}

/// Losses of the first `steps` updates beside those of the run that never left the CPU.
fn assert_losses_follow(reference: &[Value], folder: &Path, steps: usize) {
    let lines = metrics(folder);
    assert!(lines.len() >= steps);
    for (want, got) in reference.iter().zip(&lines).take(steps) {
        let (want, got) = (want["loss"].as_f64().unwrap(), got["loss"].as_f64().unwrap());
        assert!((want - got).abs() <= 0.03 * want.abs(), "{got}, on the CPU alone {want}");
    }
}

/// Long enough (400 updates) that a signal finds the run going on.
#[test]
fn a_checkpoint_of_one_device_goes_on_on_the_other() {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let init = pretrained(folder.path());
    let words = |name: &str, device: &str| {
        [words(&folder.path().join(name), device, "400", "1000steps"), init.to_vec()].concat()
    };
    finish(Model::A100, &words("reference", "cpu"));
    let reference = metrics(&folder.path().join("reference"));

    let output = folder.path().join("begun-on-cuda");
    let done = interrupt(Model::A100, &words("begun-on-cuda", "cuda"), &output, 2);
    finish(Model::A100, &words("begun-on-cuda", "cpu"));
    assert_eq!(metrics(&output).len(), 400);
    assert_losses_follow(&reference, &output, done + 3);

    let output = folder.path().join("begun-on-cpu");
    let done = interrupt(Model::A100, &words("begun-on-cpu", "cpu"), &output, 5);
    let later = interrupt(Model::A100, &words("begun-on-cpu", "cuda"), &output, done + 3);
    assert!(later >= done + 3);
    assert_losses_follow(&reference, &output, done + 3);
}
