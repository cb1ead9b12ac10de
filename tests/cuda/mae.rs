//! Masked autoencoders on the simulated devices, against the CPU.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::support::{Model, has_kernels, stablerep, text};
use crate::train::{assert_tensors_follow, finish, resumes_to_the_bit};

fn words(output: &Path, device: &str, steps: &str, init: Option<&Path>) -> Vec<String> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/train_run/simclr");
    let (data, output) = (data.display(), output.display());
    let line = format!(
        "train --method mae --data {data} --output {output} --device {device} --model custom --image-size 32 --patch-size 8 --width 64 \
         --depth 2 --heads 2 --decoder-width 32 --decoder-depth 2 --decoder-heads 1 --batch 10 --steps {steps} --warmup-steps 1 --lr 1e-3 \
         --save-every 1000steps"
    );
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    if let Some(init) = init {
        words.extend(["--init-from".into(), init.display().to_string()]);
    }
    words
}

/// Losses, gradients and updates of the CPU; the same pictures, but for what bf16 rounds otherwise.
fn follows_the_cpu(model: Model) {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    finish(model, &words(&path("pretrained"), "cpu", "20", None));
    let init = path("pretrained").join("checkpoint.safetensors");
    for device in ["cpu", "cuda"] {
        finish(model, &words(&path(device), device, "6", Some(&init)));
    }
    // 30 of the encoder, of which the positions stand still, and 32 of the decoder.
    assert_tensors_follow(&init, &path("cpu"), &path("cuda"), 6, (62, 0));
    // In parts, the last of them smaller, of which norms and GELUs are computed again.
    let mut parted = words(&path("parted"), "cuda", "6", Some(&init));
    parted.extend(["--chunk", "4", "--recompute"].map(str::to_owned));
    finish(model, &parted);
    assert_tensors_follow(&init, &path("cpu"), &path("parted"), 6, (62, 0));
    let sheet = |device: &str| {
        let bytes = fs::read(path(device).join("reconstructions.png")).unwrap();
        stablerep::image::decode(&bytes, device).unwrap()
    };
    let (cpu, cuda) = (sheet("cpu"), sheet("cuda"));
    assert_eq!((cpu.width, cpu.height), (cuda.width, cuda.height));
    let apart = cpu.data.iter().zip(&cuda.data).map(|(&a, &b)| a.abs_diff(b)).max().unwrap();
    assert!((1..12).contains(&apart), "{apart} of 255");
}

#[test]
fn hopper_follows_the_cpu() {
    follows_the_cpu(Model::H200);
}

#[test]
fn ampere_follows_the_cpu() {
    follows_the_cpu(Model::A100);
}

#[test]
fn ada_follows_the_cpu() {
    follows_the_cpu(Model::Rtx4090);
}

#[test]
fn a_resumed_run_has_the_same_bits() {
    let files = ["checkpoint.safetensors", "reconstructions.png"];
    resumes_to_the_bit(&|output| words(output, "cuda", "8", None), &files);
}

/// Heads for which there are no kernels, the decoder's too, are refused before anything is written.
#[test]
fn heads_without_kernels_are_refused() {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    let mut words = words(&output, "cuda", "2", None);
    *words.iter_mut().find(|word| *word == "1").unwrap() = "2".into();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = stablerep(Model::H200, &words).output().unwrap();
    let said = text(&result);
    assert!(result.status.code() == Some(2) && said.contains("--decoder-width 32 with --decoder-heads 2"), "{said}");
    assert!(!output.join("config.json").exists());
}
