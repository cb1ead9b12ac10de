//! Supervised fine-tuning on the simulated devices, against the CPU.

use std::path::Path;

use stablerep::weights::SafeTensors;
use tempfile::TempDir;

use crate::labelled::{of_classes, shards};
use crate::support::{Model, has_kernels};
use crate::train::{assert_tensors_follow, beside_the_cpu, finish, metrics, resumes_to_the_bit};

/// 26 pictures of 5 classes, all changes of them, and every picture as a test image.
fn words(data: &Path, settings: &str, output: &Path, device: &str, steps: &str) -> Vec<String> {
    let (data, output) = (data.display(), output.display());
    let line = format!(
        "train --method finetune --data {data} --output {output} --device {device} --model custom --image-size 32 --patch-size 8 \
         --width 64 --depth 2 --heads 2 --batch 10 --steps {steps} --warmup-steps 1 --lr 1e-3 --save-every 1000steps {settings}"
    );
    line.split_whitespace().map(str::to_owned).collect()
}

/// Losses, gradients, updates at every layer's rate, and the scores of the CPU, whole and in parts.
fn follows_the_cpu(model: Model, pool: &str, tensors: usize) {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    shards(folder.path(), 26, 5, &of_classes(5));
    let data = folder.path();
    let settings = format!("--pool {pool} --test {}", data.join("00000.tar").display());
    let pretrained = folder.path().join("pretrained");
    finish(model, &words(data, &settings, &pretrained, "cpu", "20"));
    let init = pretrained.join("checkpoint.safetensors");
    let settings = format!("{settings} --init-from {}", init.display());
    let (cpu, cuda) =
        beside_the_cpu(model, folder.path(), &|output, device| words(data, &settings, output, device, "6"));
    assert_tensors_follow(&init, &cpu, &cuda, 6, (tensors, 0));
    let parted = folder.path().join("parted");
    finish(model, &words(data, &format!("{settings} --chunk 4 --recompute"), &parted, "cuda", "6"));
    assert_tensors_follow(&init, &cpu, &parted, 6, (tensors, 0));
    let top5 = |run: &Path| metrics(run)[5]["test"]["top5"].as_f64().unwrap();
    assert_eq!([top5(&cpu), top5(&cuda), top5(&parted)], [100.0; 3]);
    let top1 = |run: &Path| metrics(run)[5]["test"]["top1"].as_f64().unwrap();
    assert!((top1(&cpu) - top1(&cuda)).abs() < 10.0 && top1(&cuda) == top1(&parted), "{} {}", top1(&cpu), top1(&cuda));
}

#[test]
fn means_on_hopper_follow_the_cpu() {
    follows_the_cpu(Model::H200, "mean", 34);
}

#[test]
fn means_on_ampere_follow_the_cpu() {
    follows_the_cpu(Model::A100, "mean", 34);
}

#[test]
fn class_tokens_on_hopper_follow_the_cpu() {
    follows_the_cpu(Model::H200, "class", 32);
}

#[test]
fn means_on_ada_follow_the_cpu() {
    follows_the_cpu(Model::Rtx4090, "mean", 34);
}

/// A moving average follows at its one rate on both devices.
#[test]
fn the_average_follows_the_cpu() {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    shards(folder.path(), 26, 5, &of_classes(5));
    let settings = "--ema 0.5";
    let [cpu, cuda] = ["cpu", "cuda"].map(|device| {
        let output = folder.path().join(device);
        finish(Model::H200, &words(folder.path(), settings, &output, device, "4"));
        SafeTensors::open(output.join("checkpoint.safetensors")).unwrap()
    });
    let mut compared = 0;
    for name in cpu.names().filter(|name| name.starts_with("momentum.")) {
        let [a, b] = [&cpu, &cuda].map(|file| file.f32(name, file.shape(name).unwrap()).unwrap());
        let far = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 2e-3, "{name}: {far}");
        compared += 1;
    }
    assert_eq!(compared, 34);
}

/// On the GPU, and on the CPU.
#[test]
fn a_resumed_run_has_the_same_bits() {
    let data = TempDir::new().unwrap();
    shards(data.path(), 26, 5, &of_classes(5));
    for device in ["cuda", "cpu"] {
        let settings = format!("--ema 0.9 --test {}", data.path().join("00000.tar").display());
        let words = |output: &Path| words(data.path(), &settings, output, device, "8");
        resumes_to_the_bit(&words, &["checkpoint.safetensors"]);
    }
}
