//! Methods with texts on the simulated devices, against the CPU.

use std::path::Path;

use tempfile::TempDir;

use crate::support::{Model, has_kernels, stablerep, text};
use crate::train::{assert_tensors_follow, finish, resumes_to_the_bit};

/// A run at so high a learning rate, of so many steps.
fn words(method: &str, output: &Path, device: &str, [lr, steps]: [&str; 2], init: Option<&Path>) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (data, tokenizer) =
        (root.join("tests/fixtures/train_run/stablerep"), root.join("tests/fixtures/tiny_tokenizer"));
    let (data, tokenizer, output) = (data.display(), tokenizer.display(), output.display());
    let line = format!(
        "train --method {method} --data {data} --tokenizer {tokenizer} --output {output} --device {device} --model custom \
         --image-size 32 --patch-size 8 --width 64 --depth 2 --heads 2 --context-length 16 --text-width 64 --text-depth 1 \
         --text-heads 2 --embed-dim 32 --batch 8 --augmentation none --steps {steps} --warmup-steps 1 --lr {lr} \
         --save-every 1000steps"
    );
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    if method != "clip" {
        words.extend(["--head-dims".into(), "64,32".into()]);
    }
    if method == "stablerep+" {
        words.extend(["--images-per-caption".into(), "4".into()]);
    }
    if let Some(init) = init {
        words.extend(["--init-from".into(), init.display().to_string()]);
    }
    words
}

/// Losses, gradients and updates of the CPU, but for what bf16 rounds otherwise. `counts` are the trained tensors and
/// the running statistics: 30 of the encoder, 16 of the tower, 2 projections and the scale; 10 and 4 of a head.
fn follows_the_cpu(model: Model, method: &str, counts: (usize, usize)) {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    // So long that the features tell the images apart: the batch norms of the head would blow up their last bits.
    finish(model, &words(method, &path("pretrained"), "cpu", ["1e-3", "200"], None));
    let init = path("pretrained").join("checkpoint.safetensors");
    // AdamW's first steps follow the signs of the gradients: at the rate of the first run rounding would decide where
    // the fourth step begins.
    for device in ["cpu", "cuda"] {
        finish(model, &words(method, &path(device), device, ["1e-5", "4"], Some(&init)));
    }
    assert_tensors_follow(&init, &path("cpu"), &path("cuda"), 4, counts);
}

#[test]
fn clip_on_hopper() {
    follows_the_cpu(Model::H200, "clip", (49, 0));
}

#[test]
fn clip_on_ada() {
    follows_the_cpu(Model::Rtx4090, "clip", (49, 0));
}

#[test]
fn clip_on_ampere() {
    follows_the_cpu(Model::A100, "clip", (49, 0));
}

#[test]
fn stablerep_plus_on_ada() {
    follows_the_cpu(Model::Rtx4090, "stablerep+", (59, 4));
}

#[test]
fn slip_on_ampere() {
    follows_the_cpu(Model::A100, "slip", (59, 4));
}

#[test]
fn slip_on_ada() {
    follows_the_cpu(Model::Rtx4090, "slip", (59, 4));
}

#[test]
fn stablerep_plus_on_hopper() {
    follows_the_cpu(Model::H200, "stablerep+", (59, 4));
}

#[test]
fn stablerep_plus_on_ampere() {
    follows_the_cpu(Model::A100, "stablerep+", (59, 4));
}

#[test]
fn slip_on_hopper() {
    follows_the_cpu(Model::H200, "slip", (59, 4));
}

#[test]
fn a_resumed_run_has_the_same_bits() {
    for method in ["clip", "slip", "stablerep+"] {
        let words = |output: &Path| words(method, output, "cuda", ["5e-4", "8"], None);
        resumes_to_the_bit(&words, &["checkpoint.safetensors"]);
    }
}

/// Heads of the tower for which there are no kernels are refused before anything is written.
#[test]
fn heads_without_kernels_are_refused() {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let mut words = words("clip", &folder.path().join("run"), "cuda", ["5e-4", "4"], None);
    let heads = words.iter().position(|word| word == "--text-heads").unwrap();
    words[heads + 1] = "4".into();
    let output = stablerep(Model::H200, &words.iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("--text-heads 1 or --device cpu"), "{}", text(&output));
    assert!(!folder.path().join("run").exists());
}
