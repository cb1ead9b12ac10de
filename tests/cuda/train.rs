//! Whole training runs of the binary on the simulated devices, against the CPU.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use stablerep::image::{Rgb8, encode_png};
use stablerep::shards::{ShardWriter, image_key};
use stablerep::weights::SafeTensors;
use tempfile::TempDir;

use crate::overflow::overflowing;
use crate::process::{freezes, signal, thaw};
use crate::support::{Model, has_kernels, stablerep, text};

/// A run over the golden shards: 8 captions × 4 images, all of the augmentation, a head with batch norms per slot.
pub fn words(output: &Path, device: &str, steps: &str, save_every: &str) -> Vec<String> {
    words_at(["1e-4", "1"], output, device, steps, save_every)
}

fn words_at(recipe: [&str; 2], output: &Path, device: &str, steps: &str, save_every: &str) -> Vec<String> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/train_run/stablerep");
    words_on(&data, recipe, output, device, steps, save_every)
}

fn words_on(
    data: &Path,
    [lr, warmup]: [&str; 2],
    output: &Path,
    device: &str,
    steps: &str,
    save_every: &str,
) -> Vec<String> {
    let (data, output) = (data.display(), output.display());
    let line = format!(
        "train --data {data} --output {output} --device {device} --model custom --image-size 32 --patch-size 8 --width 64 --depth 2 \
         --heads 2 --head-dims 64,32 --batch 8 --images-per-caption 4 --steps {steps} --warmup-steps {warmup} --lr {lr} --save-every {save_every}"
    );
    line.split_whitespace().map(str::to_owned).collect()
}

pub fn metrics(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn command(model: Model, words: &[String]) -> Command {
    stablerep(model, &words.iter().map(String::as_str).collect::<Vec<_>>())
}

pub fn finish(model: Model, words: &[String]) {
    let output = command(model, words).output().unwrap();
    assert!(output.status.success(), "{words:?}\n{}", text(&output));
}

/// Initial weights that tell the images apart. Those of a new network do not: its features differ in their last bits,
/// which the batch norms of the head blow up, so that bf16 and f32 part ways at once. After 100 to 200 steps some still
/// do, by how sums were rounded on the way.
pub fn pretrained(folder: &Path) -> [String; 2] {
    let output = folder.join("pretrained");
    finish(Model::H200, &words_at(["1e-3", "10"], &output, "cpu", "700", "1000steps"));
    ["--init-from".into(), output.join("checkpoint.safetensors").display().to_string()]
}

/// Losses and gradient norms of every step, what they added to the weights `init`, and the optimizer's moments, as
/// close as storage in bf16 leaves them.
fn assert_follows(init: &Path, cpu: &Path, cuda: &Path, steps: usize) {
    assert_tensors_follow(init, cpu, cuda, steps, (40, 4));
}

/// The same of a network of so many parameters and running statistics.
pub fn assert_tensors_follow(init: &Path, cpu: &Path, cuda: &Path, steps: usize, counts: (usize, usize)) {
    assert_tensors_follow_within(4e-3, init, cpu, cuda, steps, counts);
}

/// The same, where running statistics may be off by `of_statistics`.
fn assert_tensors_follow_within(
    of_statistics: f64,
    init: &Path,
    cpu: &Path,
    cuda: &Path,
    steps: usize,
    (parameters, running): (usize, usize),
) {
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
    let open = |path: &Path| SafeTensors::open(path).unwrap();
    let [init, want, got] = [init, &cpu.join("checkpoint.safetensors"), &cuda.join("checkpoint.safetensors")].map(open);
    // What training added to the parameters and to the running statistics, and both moments of the gradients, each as
    // one vector.
    let [mut updates, mut statistics, mut first, mut second] = [Difference::default(); 4];
    for name in want.names() {
        let shape = want.shape(name).unwrap();
        let [a, b] = [&want, &got].map(|file| file.f32(name, shape).unwrap());
        match name.strip_prefix("adam.").and_then(|rest| rest.split_once('.')) {
            Some(("m", _)) => first.add(&a, &b),
            Some(("v", _)) => second.add(&a, &b),
            Some(other) => panic!("{other:?}: a part of the optimizer nobody compares"),
            None => {
                let from = init.f32(name, shape).unwrap();
                let added = |to: &[f32]| to.iter().zip(&from).map(|(to, from)| to - from).collect::<Vec<_>>();
                let parameter = want.contains(&format!("adam.m.{name}"));
                if parameter { &mut updates } else { &mut statistics }.add(&added(&a), &added(&b));
            }
        }
    }
    // AdamW divides by the gradient's size, so where it is near zero its rounding decides a whole step.
    for (what, difference, tensors, bound) in [
        ("updates", updates, parameters, 4e-2),
        ("running statistics", statistics, running, of_statistics),
        ("first moments", first, parameters, 8e-3),
        ("second moments", second, parameters, 8e-3),
    ] {
        assert_eq!(difference.tensors, tensors, "{what}");
        assert!(
            tensors == 0 || difference.value() < bound,
            "{what} of the parameters: difference {:e}",
            difference.value()
        );
    }
}

/// 1 − 2⟨a, b⟩ / (|a|² + |b|²) over several tensors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Difference {
    product: f64,
    squares: f64,
    tensors: usize,
}

impl Difference {
    pub fn add(&mut self, a: &[f32], b: &[f32]) {
        for (&a, &b) in a.iter().zip(b) {
            self.product += f64::from(a) * f64::from(b);
            self.squares += f64::from(a).powi(2) + f64::from(b).powi(2);
        }
        self.tensors += 1;
    }

    /// NaN, which is below no bound, for vectors of zeros.
    pub fn value(self) -> f64 {
        1.0 - 2.0 * self.product / self.squares
    }
}

fn follows_the_cpu(model: Model) {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let init = pretrained(folder.path());
    let words = |output: &Path, device: &str| [words(output, device, "6", "1000steps"), init.to_vec()].concat();
    let (cpu, cuda) = beside_the_cpu(model, folder.path(), &words);
    assert_follows(Path::new(&init[1]), &cpu, &cuda, 6);
}

/// Folders of a run on the CPU and on the device; on this, another order of warps and copies changes not a bit.
pub fn beside_the_cpu(model: Model, folder: &Path, words: &dyn Fn(&Path, &str) -> Vec<String>) -> (PathBuf, PathBuf) {
    let [cpu, cuda, again] = ["cpu", "cuda", "again"].map(|name| folder.join(name));
    finish(model, &words(&cpu, "cpu"));
    finish(model, &words(&cuda, "cuda"));
    let output = command(model, &words(&again, "cuda")).env("CUDA_SIM_SEED", "77").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let bytes = |folder: &Path| fs::read(folder.join("checkpoint.safetensors")).unwrap();
    assert!(bytes(&cuda) == bytes(&again), "two runs differ");
    (cpu, cuda)
}

#[test]
fn hopper_follows_the_cpu() {
    follows_the_cpu(Model::H200);
}

/// Chunks of 12 of the 32 images, the first of 8, with norms and GELUs computed again, against all at once on the CPU.
#[test]
fn chunks_follow_the_cpu() {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let init = pretrained(folder.path());
    let words = |output: &Path, device: &str, more: &[&str]| {
        let more = more.iter().map(|&word| word.to_owned()).collect();
        [words(output, device, "6", "1000steps"), init.to_vec(), more].concat()
    };
    let (cpu, cuda) = (folder.path().join("cpu"), folder.path().join("cuda"));
    finish(Model::H200, &words(&cpu, "cpu", &[]));
    finish(Model::H200, &words(&cuda, "cuda", &["--chunk", "12", "--recompute"]));
    assert_follows(Path::new(&init[1]), &cpu, &cuda, 6);
}

/// On a card with less memory than a whole step takes, a run chooses what it holds at once, and goes on with that where
/// there is more.
#[test]
fn a_small_card_trains_in_chunks() {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    let words = words(&output, "cuda", "3", "1steps").join(" ");
    let words = words.replace("--width 64 --depth 2 --heads 2", "--width 256 --depth 2 --heads 4");
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let run = |memory: &str| {
        let output = command(Model::H200, &words).env("CUDA_SIM_MEMORY", memory).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let config = fs::read_to_string(folder.path().join("run/config.json")).unwrap();
        serde_json::from_str::<Value>(&config).unwrap()
    };
    let chosen = run("46137344");
    assert!(chosen["chunk"].as_u64().is_some_and(|chunk| chunk < 32) && chosen["recompute"] == true, "{chosen}");
    let kept = fs::read(output.join("checkpoint.safetensors")).unwrap();
    fs::remove_file(output.join("done.json")).unwrap();
    assert_eq!(run("2147483648"), chosen);
    assert!(kept == fs::read(output.join("checkpoint.safetensors")).unwrap());
}

#[test]
fn ampere_follows_the_cpu() {
    follows_the_cpu(Model::A100);
}

/// Consumer cards have 99 KB of shared memory for a block, less than the widest kernels take of an H200's or A100's:
/// the head's usual 256 dimensions are the widest.
#[test]
fn ada_trains_a_head_of_the_usual_width() {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let run = |device: &str| {
        let output = folder.path().join(device);
        let mut words = words(&output, device, "3", "1000steps");
        *words.iter_mut().find(|word| *word == "64,32").unwrap() = "64,256".into();
        finish(Model::Rtx4090, &words);
        metrics(&output)
    };
    for (want, got) in run("cpu").iter().zip(&run("cuda")) {
        let (want, got) = (want["loss"].as_f64().unwrap(), got["loss"].as_f64().unwrap());
        assert!((want - got).abs() <= 0.02 * want, "loss {got}, on the CPU {want}");
    }
}

/// Pictures of the second batch are larger than those of the first, so buffers move after the graph was recorded with
/// their addresses.
#[test]
fn pictures_of_several_sizes() {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let mut shard = ShardWriter::create(data.join("00000.tar")).unwrap();
    for caption in 0..16 {
        for image in 0..4 {
            let (width, height) = if caption < 8 { (32, 32) } else { (72 + 4 * image, 56) };
            let mut picture = Rgb8::filled(width, height, [0; 3]);
            for (i, value) in picture.data.iter_mut().enumerate() {
                let (x, y, c) = (i / 3 % width, i / 3 / width, i % 3);
                *value = ((x * (caption + 2) + y * (image + 3) + 40 * c * caption) % 251) as u8;
            }
            let png = encode_png(&picture).unwrap();
            let (text, json) = (format!("caption {caption}"), format!("{{\"caption_id\":{caption}}}"));
            let members = [("png", &png[..]), ("txt", text.as_bytes()), ("json", json.as_bytes())];
            shard.add(&image_key(caption as u64, image), &members).unwrap();
        }
    }
    shard.finish().unwrap();

    let init = pretrained(folder.path());
    let words = |output: &Path, device: &str| {
        let words = words_on(&data, ["1e-4", "1"], output, device, "4", "1000steps");
        [words, init.to_vec(), vec!["--no-shuffle".into()]].concat()
    };
    let (cpu, cuda) = (folder.path().join("cpu"), folder.path().join("cuda"));
    finish(Model::H200, &words(&cpu, "cpu"));
    finish(Model::H200, &words(&cuda, "cuda"));
    assert_follows(Path::new(&init[1]), &cpu, &cuda, 4);
}

#[test]
fn a_resumed_run_has_the_same_bits() {
    resumes_to_the_bit(&|output| words(output, "cuda", "8", "1000steps"), &["checkpoint.safetensors"]);
}

/// With norms of queries and keys, which a second run on the device computes again, in chunks. Unit variance in every
/// head is bf16's rounding in every head: the features' means, which hardly move in so few steps, show it most.
fn norms_of_queries_and_keys_follow_the_cpu(model: Model) {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let with = |mut words: Vec<String>, more: &[&str]| {
        words.extend(["--qk-norm"].iter().chain(more).map(|&word| word.to_owned()));
        words
    };
    let output = folder.path().join("pretrained");
    finish(model, &with(words_at(["1e-3", "10"], &output, "cpu", "200", "1000steps"), &[]));
    let init = output.join("checkpoint.safetensors");
    let shown = init.display().to_string();
    let plain = |output: &Path, device: &str| with(words(output, device, "6", "1000steps"), &["--init-from", &shown]);
    let (cpu, cuda) = beside_the_cpu(model, folder.path(), &plain);
    assert_tensors_follow_within(2e-2, &init, &cpu, &cuda, 6, (48, 4));
    let again = folder.path().join("chunks");
    let chunks = ["--chunk", "12", "--recompute"].map(str::to_owned);
    finish(model, &[plain(&again, "cuda"), chunks.to_vec()].concat());
    assert_tensors_follow_within(2e-2, &init, &cpu, &again, 6, (48, 4));
}

#[test]
fn norms_of_queries_and_keys_on_hopper_follow_the_cpu() {
    norms_of_queries_and_keys_follow_the_cpu(Model::H200);
}

#[test]
fn norms_of_queries_and_keys_on_ampere_follow_the_cpu() {
    norms_of_queries_and_keys_follow_the_cpu(Model::A100);
}

#[test]
fn norms_of_queries_and_keys_on_ada_follow_the_cpu() {
    norms_of_queries_and_keys_follow_the_cpu(Model::Rtx4090);
}

#[test]
fn norms_of_queries_and_keys_go_on_with_the_same_bits() {
    let words = |output: &Path| [words(output, "cuda", "8", "1000steps"), vec!["--qk-norm".into()]].concat();
    resumes_to_the_bit(&words, &["checkpoint.safetensors"]);
}

/// Stopped and gone on with on the device, a run of 8 updates ends in the bits of the one that was not stopped.
pub fn resumes_to_the_bit(words: &dyn Fn(&Path) -> Vec<String>, files: &[&str]) {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let [whole, stopped] = ["whole", "stopped"].map(|name| folder.path().join(name));
    finish(Model::H200, &words(&whole));
    let done = interrupt(Model::H200, &words(&stopped), &stopped, 2);
    assert!((2..8).contains(&done), "stopped after {done} of 8 updates");
    finish(Model::H200, &words(&stopped));
    for name in files {
        let bytes = |run: &Path| fs::read(run.join(name)).unwrap();
        assert!(bytes(&whole) == bytes(&stopped), "stopped after {done} updates, {name} differs");
    }
}

/// Wide enough for Hopper's products, whose clusters walk over tiles and shares: on fewer multiprocessors one takes
/// more of them.
#[test]
fn every_hopper_trains_the_same_bits() {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let checkpoint = |model, name: &str| {
        let output = folder.path().join(name);
        let words = words(&output, "cuda", "2", "1000steps").join(" ");
        let wide = words.replace("--width 64 --depth 2", "--width 128 --depth 1");
        assert!(wide != words);
        finish(model, &wide.split(' ').map(str::to_owned).collect::<Vec<_>>());
        fs::read(output.join("checkpoint.safetensors")).unwrap()
    };
    assert!(checkpoint(Model::H200, "h200") == checkpoint(Model::H100Pcie, "pcie"));
}

/// Starts a run (or goes on with it) and stops it by SIGTERM when `until` updates are seen to be done; returns how many
/// are.
pub fn interrupt(model: Model, words: &[String], output: &Path, until: usize) -> usize {
    assert_eq!(stopped_by(&["TERM"], &|| command(model, words), output, until), 75);
    metrics(output).len()
}

/// Starts a run (or goes on with it) and sends it `signals` when `until` updates are seen to be done; returns its exit
/// code. A run that ended before it was met is tried again from where it began.
pub fn stopped_by(signals: &[&str], start: &dyn Fn() -> Command, output: &Path, until: usize) -> i32 {
    let kept = TempDir::new().unwrap();
    let begun = output.exists();
    if begun {
        copy_files(output, kept.path());
    }
    // Complete lines: the last one may be in the making.
    let so_far = || fs::read_to_string(output.join("metrics.jsonl")).map_or(0, |text| text.matches('\n').count());
    for _ in 0..100 {
        let mut child: Child = start().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        if freezes(&mut child, || so_far() >= until) {
            signals.iter().for_each(|name| signal(&child, name));
            thaw(&child);
        }
        match child.wait().unwrap().code() {
            Some(0) => fs::remove_dir_all(output).unwrap(),
            code => return code.expect("an exit code"),
        }
        if begun {
            copy_files(kept.path(), output);
        }
    }
    panic!("no run was met after {until} updates in 100 trials");
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
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

/// Left out on the device as on the CPU, counted from run to run; a checkpoint holds finite numbers only, so what such
/// an update touched came back.
#[test]
fn bad_updates_are_left_out() {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let [first, init] = ["first", "init.safetensors"].map(|name| folder.path().join(name));
    finish(Model::A100, &words(&first, "cpu", "2", "1000steps"));
    overflowing(&first.join("checkpoint.safetensors"), &init);
    for device in ["cpu", "cuda"] {
        let output = folder.path().join(device);
        let words = [
            words(&output, device, "40", "1steps"),
            vec!["--init-from".into(), init.display().to_string(), "--max-bad-updates".into()],
        ]
        .concat();
        for most in [2, 3] {
            let words = [&words[..], &[most.to_string()]].concat();
            let failed = command(Model::A100, &words).output().unwrap();
            let said = text(&failed);
            let needle = format!("the update is left out ({most} of at most {most} by --max-bad-updates)");
            assert!(failed.status.code() == Some(5) && said.contains(&needle), "{said}");
            assert!(said.contains("first not finite: the output of visual.blocks.1.mlp.fc1"), "{said}");
            let file = SafeTensors::open(output.join("checkpoint.safetensors")).unwrap();
            assert_eq!(file.metadata("bad_updates"), Some(most.to_string().as_str()));
        }
    }
}
