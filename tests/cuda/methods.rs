//! Whole runs of the methods with a momentum copy on the simulated devices, against the CPU.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

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
    let line = format!(
        "train --method {method} --data {data} --output {output} --device {device} --model custom --image-size 32 --patch-size 8 \
         --width 64 --depth 2 --heads 2 --head-dims 64,32 --augmentation byol --momentum 0.9 --batch 16 --steps {steps} \
         --warmup-steps {warmup} --lr {lr} --save-every 1000steps"
    );
    line.split_whitespace().map(str::to_owned).collect()
}

/// Initial weights that tell the images apart, with heads that do: those of a new network differ in their last bits,
/// which batch norms blow up.
fn pretrained(folder: &Path, method: &str) -> [String; 2] {
    let output = folder.join("pretrained");
    finish(Model::H200, &words_at(["1e-3", "10"], method, &output, "cpu", "200"));
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
    // LARS keeps none, so that nothing but zeros is compared.
    let lars = fs::read_to_string(cpu.join("config.json")).unwrap().contains("lars");
    let second = parts.remove("second moments").unwrap();
    assert!(if lars { second.value().is_nan() } else { second.value() < 2e-2 }, "second moments: {second:?}");
    let only = if want.contains("centre") { ("centre", 1e-4) } else { ("running statistics", 1e-4) };
    for (part, bound) in [("copied encoder", 4e-2), ("encoder", 4e-2), ("first moments", 5e-2), ("heads", 4e-2), only] {
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
    for method in ["mocov3", "byol --optimizer lars", "dino --local-crops 3 --local-size 16 --drop-path 0.3"] {
        resumes_to_the_bit(&|output| words(method, output, "cuda", "8"), &["checkpoint.safetensors"]);
    }
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
