//! Supervised segmentation on the simulated devices, against the CPU.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::scenes::shards;
use crate::support::{Model, has_kernels, stablerep, text};
use crate::train::{assert_tensors_follow, beside_the_cpu, finish, resumes_to_the_bit};

/// Eight pictures of three colours.
fn words(data: &Path, settings: &str, output: &Path, device: &str, steps: &str) -> Vec<String> {
    let (data, output) = (data.display(), output.display());
    let line = format!(
        "train --method segment --data {data} --output {output} --device {device} --model custom --image-size 32 --patch-size 8 \
         --width 64 --depth 3 --heads 2 --batch 2 --steps {steps} --warmup-steps 1 --lr 1e-3 --classes 3 --save-every 1000steps \
         {settings}"
    );
    line.split_whitespace().map(str::to_owned).collect()
}

/// Losses, gradients, updates at every layer's rate and running statistics of the CPU; then the classes of pixels.
fn follows_the_cpu(model: Model, head: &str, tensors: (usize, usize)) {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    shards(folder.path(), 8);
    let data = folder.path();
    let settings = format!("--segmentation-head {head}");
    let pretrained = folder.path().join("pretrained");
    finish(model, &words(data, &settings, &pretrained, "cpu", "12"));
    let init = pretrained.join("checkpoint.safetensors");
    let settings = format!("{settings} --init-from {}", init.display());
    let (cpu, cuda) =
        beside_the_cpu(model, folder.path(), &|output, device| words(data, &settings, output, device, "4"));
    assert_tensors_follow(&init, &cpu, &cuda, 4, tensors);
    let miou = |device: &str| {
        let scores = folder.path().join(format!("scores-{device}"));
        let [run, data, output] = [&cuda, &data.join("00000.tar"), &scores].map(|path| path.display().to_string());
        let words = ["eval", "segment", "--checkpoint", &run, "--data", &data, "--output", &output, "--device", device];
        let mut command: Command = stablerep(model, &words);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let report: Value = serde_json::from_slice(&std::fs::read(scores.join("report.json")).unwrap()).unwrap();
        report["miou"].as_f64().unwrap()
    };
    let (want, got) = (miou("cpu"), miou("cuda"));
    assert!((want - got).abs() < 1.0, "{want} on the CPU, {got} on the device");
}

#[test]
fn uper_net_on_hopper_follows_the_cpu() {
    follows_the_cpu(Model::H200, "uper", (93, 28));
}

#[test]
fn uper_net_on_ampere_follows_the_cpu() {
    follows_the_cpu(Model::A100, "uper", (93, 28));
}

#[test]
fn a_linear_head_on_hopper_follows_the_cpu() {
    follows_the_cpu(Model::H200, "linear", (46, 2));
}

#[test]
fn a_resumed_run_has_the_same_bits() {
    let data = TempDir::new().unwrap();
    shards(data.path(), 8);
    for head in ["uper", "linear"] {
        let words = |output: &Path| words(data.path(), &format!("--segmentation-head {head}"), output, "cuda", "8");
        resumes_to_the_bit(&words, &["checkpoint.safetensors"]);
    }
}
