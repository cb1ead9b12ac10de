//! Whole runs of the methods with a momentum copy on the simulated devices, against the CPU.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use stablerep::image::{Rgb8, encode_png};
use stablerep::rng::{Domain, Stream};
use stablerep::weights::SafeTensors;
use tempfile::TempDir;

use crate::support::{Model, has_kernels};
use crate::train::{Difference, beside_the_cpu, finish, metrics, resumes_to_the_bit};

fn words(method: &str, output: &Path, device: &str, steps: &str) -> Vec<String> {
    words_at(["1e-4", "1"], method, output, device, steps)
}

fn words_at([lr, warmup]: [&str; 2], method: &str, output: &Path, device: &str, steps: &str) -> Vec<String> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/train_run/simclr");
    let (data, output) = (data.display(), output.display());
    let momentum = if method.contains("--momentum") { "" } else { " --momentum 0.9" };
    let line = format!(
        "train --method {method}{momentum} --data {data} --output {output} --device {device} --model custom --image-size 32 --patch-size 8 \
         --width 64 --depth 2 --heads 2 --head-dims 64,32 --augmentation byol --batch 16 --steps {steps} \
         --warmup-steps {warmup} --lr {lr} --save-every 1000steps"
    );
    line.split_whitespace().map(str::to_owned).collect()
}

/// Initial weights that tell the images apart, with heads that do: those of a new network differ in their last bits,
/// which batch norms blow up.
fn pretrained(folder: &Path, method: &str) -> [String; 2] {
    let output = folder.join("pretrained");
    finish(Model::H200, &words_at(["1e-3", "10"], method, &output, "cpu", "400"));
    ["--init-from".into(), output.join("checkpoint.safetensors").display().to_string()]
}

/// Losses, gradient norms, and what the checkpoint holds, part by part, as close as storage in bf16 leaves them.
fn assert_follows(init: &Path, cpu: &Path, cuda: &Path, steps: usize) {
    let (want, got) = (metrics(cpu), metrics(cuda));
    assert_eq!((want.len(), got.len()), (steps, steps));
    for (want, got) in want.iter().zip(&got) {
        for (key, tolerance) in [("loss", 0.01), ("grad_norm", 0.25), ("lr", 1e-12)] {
            let (want, got) = (want[key].as_f64().unwrap(), got[key].as_f64().unwrap());
            assert!((want - got).abs() <= tolerance * want.abs(), "{key} {got}, on the CPU {want}");
        }
    }
    let open = |path: &Path| SafeTensors::open(path).unwrap();
    let [init, want, got] = [init, &cpu.join("checkpoint.safetensors"), &cuda.join("checkpoint.safetensors")].map(open);
    let mut parts: BTreeMap<&str, Difference> = BTreeMap::new();
    for name in want.names() {
        let shape = want.shape(name).unwrap();
        let [mut a, mut b] = [&want, &got].map(|file| file.f32(name, shape).unwrap());
        let part = match name {
            name if name.ends_with("running_mean") || name.ends_with("running_var") => "running statistics",
            name if name.starts_with("adam.m.") => "first moments",
            name if name.starts_with("adam.v.") => "second moments",
            name if name.starts_with("momentum.visual.") => "copied encoder",
            name if name.starts_with("visual.") => "encoder",
            "centre" => "centre",
            "queue.keys" => "queue",
            // Bits of whole numbers.
            "queue.labels" => {
                let bits = [&a, &b].map(|values| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>());
                assert_eq!(bits[0], bits[1], "labels of the queue");
                continue;
            }
            _ => "heads",
        };
        // Of parameters what training added; the copy begins as what it copies.
        let from = name.strip_prefix("momentum.").unwrap_or(name);
        // DINO's runs begin with the teacher's weights.
        let from = if init.contains("centre") { format!("momentum.{from}") } else { from.to_owned() };
        if ["encoder", "copied encoder", "heads"].contains(&part) {
            let from = init.f32(&from, shape).unwrap();
            for values in [&mut a, &mut b] {
                values.iter_mut().zip(&from).for_each(|(value, from)| *value -= from);
            }
        }
        parts.entry(part).or_default().add(&a, &b);
    }
    let only = [("centre", 1e-4), ("queue", 1e-3), ("running statistics", 1e-4)];
    let only = only.into_iter().filter(|(part, _)| parts.contains_key(part)).collect::<Vec<_>>();
    assert!(!only.is_empty());
    // LARS keeps none.
    let lars = fs::read_to_string(cpu.join("config.json")).unwrap().contains("lars");
    let second = parts.remove("second moments");
    assert!(
        second.is_none() == lars && second.iter().all(|second| second.value() < 2e-2),
        "second moments: {second:?}"
    );
    let every = [("copied encoder", 4e-2), ("encoder", 4e-2), ("first moments", 5e-2), ("heads", 4e-2)];
    for (part, bound) in every.into_iter().chain(only) {
        let difference = parts.remove(part).unwrap().value();
        assert!(difference < bound, "{part}: difference {difference:e}");
    }
    assert!(parts.is_empty());
}

fn follows_the_cpu(model: Model, method: &str) {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let init = pretrained(folder.path(), method);
    let words = |output: &Path, device: &str| [words(method, output, device, "5"), init.to_vec()].concat();
    let (cpu, cuda) = beside_the_cpu(model, folder.path(), &words);
    assert_follows(Path::new(&init[1]), &cpu, &cuda, 5);
}

#[test]
fn moco_v3_on_hopper_follows_the_cpu() {
    follows_the_cpu(Model::H200, "mocov3");
}

#[test]
fn moco_v3_on_ampere_follows_the_cpu() {
    follows_the_cpu(Model::A100, "mocov3");
}

#[test]
fn byol_on_hopper_follows_the_cpu() {
    follows_the_cpu(Model::H200, "byol");
}

#[test]
fn byol_on_ampere_follows_the_cpu() {
    follows_the_cpu(Model::A100, "byol");
}

/// With small crops, a decay that grows, gradients that are cut, branches that are left out, and a last layer that
/// waits for the second epoch: two steps.
const DINO: &str = "dino --local-crops 3 --local-size 16 --weight-decay-end 0.4 --clip-gradient 0.1 --drop-path 0.3";

#[test]
fn dino_on_hopper_follows_the_cpu() {
    follows_the_cpu(Model::H200, DINO);
}

/// Crops of both sizes in chunks.
#[test]
fn dino_on_ampere_follows_the_cpu() {
    follows_the_cpu(Model::A100, &format!("{DINO} --chunk 20"));
}

#[test]
fn dino_without_small_crops_on_hopper_follows_the_cpu() {
    follows_the_cpu(Model::H200, "dino --weight-decay-end 0.4 --clip-gradient 0.1");
}

/// LARS moves what AdamW moved before.
#[test]
fn byol_with_lars_on_ampere_follows_the_cpu() {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let init = pretrained(folder.path(), "byol");
    let lars = "byol --optimizer lars --weight-decay 1e-4";
    let words =
        |output: &Path, device: &str| [words_at(["0.5", "1"], lars, output, device, "5"), init.to_vec()].concat();
    let (cpu, cuda) = beside_the_cpu(Model::A100, folder.path(), &words);
    assert_follows(Path::new(&init[1]), &cpu, &cuda, 5);
}

/// The copy and its statistics go on too, and DINO's centre.
#[test]
fn a_momentum_copy_goes_on_with_the_same_bits() {
    let dino = "dino --local-crops 3 --local-size 16 --drop-path 0.3";
    for method in ["mocov3", "byol --optimizer lars", dino, "simclr --queue 50"] {
        resumes_to_the_bit(&|output| words(method, output, "cuda", "8"), &["checkpoint.safetensors"]);
    }
}

/// A queue that a second step's keys go around the end of, whose pictures come again in the second epoch.
#[test]
fn a_queue_on_hopper_follows_the_cpu() {
    follows_the_cpu(Model::H200, "simclr --queue 50");
}

#[test]
fn a_queue_on_ampere_follows_the_cpu() {
    follows_the_cpu(Model::A100, "simclr --queue 50");
}

#[test]
fn a_queue_on_ada_follows_the_cpu() {
    follows_the_cpu(Model::Rtx4090, "simclr --queue 50");
}

/// Several pictures of each caption, texts that come twice, in chunks; what is kept could be taken back.
#[test]
fn a_queue_of_captions_in_chunks_follows_the_cpu() {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let init = crate::train::pretrained(folder.path());
    let words = |device: &str, more: &[&str]| {
        let more: Vec<String> = ["--queue", "40"].iter().chain(more).map(|&word| word.to_owned()).collect();
        let output = folder.path().join(device);
        [crate::train::words(&output, device, "6", "1000steps"), init.to_vec(), more].concat()
    };
    finish(Model::H200, &words("cpu", &[]));
    finish(Model::H200, &words("cuda", &["--chunk", "12", "--recompute", "--max-bad-updates", "1"]));
    assert_follows(Path::new(&init[1]), &folder.path().join("cpu"), &folder.path().join("cuda"), 6);
}

/// A consumer card, whose block has 99 KB of shared memory.
#[test]
fn moco_v3_on_ada_follows_the_cpu() {
    follows_the_cpu(Model::Rtx4090, "mocov3");
}

#[test]
fn byol_on_ada_follows_the_cpu() {
    follows_the_cpu(Model::Rtx4090, "byol");
}

#[test]
fn dino_on_ada_follows_the_cpu() {
    follows_the_cpu(Model::Rtx4090, DINO);
}

/// Pictures of noise with a tint of its own for each of eight classes.
fn tinted(folder: &Path) {
    for class in 0..8u32 {
        let to = folder.join(class.to_string());
        fs::create_dir_all(&to).unwrap();
        for number in 0..10 {
            let mut stream = Stream::new(1, Domain::SelfTest, [class, number, 0]);
            let mut picture = Rgb8::filled(32, 32, [0, 1, 2].map(|channel| 60 * (class >> channel & 1) as u8));
            picture.data.iter_mut().for_each(|value| *value += stream.below(196) as u8);
            fs::write(to.join(format!("{number}.png")), encode_png(&picture).unwrap()).unwrap();
        }
    }
}

/// Scored on its way a run gives the figure of its weights on the CPU: of those that learn (here nothing), and of
/// DINO's teacher (here the first student), whatever the student does.
#[test]
fn runs_are_scored_on_the_device() {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let photographs = folder.path().join("photographs");
    tinted(&photographs);
    let run = |name: &str, [method, lr, device]: [&str; 3]| {
        let output = folder.path().join(name);
        let mut words = words_at([lr, "0"], method, &output, device, "2");
        words.extend(["--knn-every", "1steps", "--knn-train"].map(str::to_owned));
        words.push(photographs.display().to_string());
        finish(Model::H200, &words);
        metrics(&output).iter().map(|line| line["knn"].as_f64().unwrap()).collect::<Vec<f64>>()
    };
    let want = run("cpu", ["byol --momentum 1", "0", "cpu"]);
    assert!(want[0] > 20.0 && want[0] == want[1], "{want:?}");
    assert_eq!(run("dino-cpu", ["dino --momentum 1", "0.3", "cpu"]), want);
    let still = run("byol", ["byol --momentum 1", "0", "cuda"]);
    let taught = run("dino", ["dino --momentum 1", "0.3", "cuda"]);
    let learned = run("student", ["byol --momentum 1", "0.3", "cuda"]);
    // Of sixteen pictures one may be told otherwise in bf16.
    for got in still.iter().chain(&taught) {
        assert!((got - want[0]).abs() <= 6.3, "{still:?} {taught:?}, on the CPU {want:?}");
    }
    assert!((learned[1] - want[0]).abs() > 6.3, "{learned:?}");
}
