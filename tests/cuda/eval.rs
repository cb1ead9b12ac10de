//! Evaluations on the simulated devices, against the CPU.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::labelled::{of_classes, shards};
use crate::support::{Model, has_kernels, stablerep, text};

const ENCODER: &str = "--random-init vit_tiny --image-size 32 --patch-size 8 --width 64 --depth 2 --heads 2";

/// The report of `eval linear` on 60 pictures of 5 classes, a share of them held out.
fn report(model: Model, data: &Path, output: &Path, device: &str, settings: &str) -> Value {
    let line = format!(
        "eval linear {ENCODER} --train {} --holdout 0.3 --device {device} --epochs 6 --batch 16 --eval-every 3 \
         --lrs 0.1,0.5,2 --output {} {settings}",
        data.display(),
        output.display()
    );
    let words: Vec<&str> = line.split_whitespace().collect();
    let done = stablerep(model, &words).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    serde_json::from_slice(&fs::read(output.join("report.json")).unwrap()).unwrap()
}

/// Features by the GPU's encoder, heads on the GPU with and without batch norm: losses of every head after the last
/// epoch and its top-1 as on the CPU, but for the rounding of bf16.
fn follows_the_cpu(model: Model, settings: &str) {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    shards(folder.path(), 60, 5, &of_classes(5));
    let run = |device: &str| report(model, folder.path(), &folder.path().join(device), device, settings);
    let (cpu, cuda) = (run("cpu"), run("cuda"));
    let mut compared = 0;
    for (a, b) in cpu["linear"].as_array().unwrap().iter().zip(cuda["linear"].as_array().unwrap()) {
        assert_eq!(a["batch_norm"], b["batch_norm"]);
        for (a, b) in a["heads"].as_array().unwrap().iter().zip(b["heads"].as_array().unwrap()) {
            let [loss, other] = [a, b].map(|head| head["train_loss"].as_f64().unwrap());
            assert!((loss - other).abs() < 0.005 * loss.max(0.5), "losses {loss} and {other} of {a} and {b}");
            let [first, second] = [a, b].map(|head| head["evaluations"][1]["test"].as_f64().unwrap());
            // Two of twenty.
            assert!((first - second).abs() < 10.1, "{first} % and {second} % of {a} and {b}");
            compared += 1;
        }
    }
    assert_eq!(compared, 6);
    // Again from what is kept: the same report.
    let again = fs::read(folder.path().join("cuda/report.json")).unwrap();
    run("cuda");
    assert_eq!(fs::read(folder.path().join("cuda/report.json")).unwrap(), again);
}

#[test]
fn a_linear_probe_on_hopper_follows_the_cpu() {
    follows_the_cpu(Model::H200, "--augmentation none --knn 5");
}

#[test]
fn a_linear_probe_with_crops_follows_the_cpu() {
    follows_the_cpu(Model::H200, "--select val");
}

#[test]
fn a_linear_probe_on_ampere_follows_the_cpu() {
    follows_the_cpu(Model::A100, "--augmentation none");
}

#[test]
fn a_linear_probe_on_ada_follows_the_cpu() {
    follows_the_cpu(Model::Rtx4090, "--augmentation none");
}

/// What the kernels do not take is refused before a picture is read.
#[test]
fn sizes_without_kernels_are_refused() {
    if !has_kernels() {
        return;
    }
    let line = "eval linear --random-init vit_tiny --image-size 32 --patch-size 8 --width 60 --depth 1 --heads 3 \
                --train nowhere --test nowhere --device cuda";
    let folder = TempDir::new().unwrap();
    let line = line.replace("nowhere", &folder.path().display().to_string());
    let done = stablerep(Model::H200, &line.split_whitespace().collect::<Vec<_>>()).output().unwrap();
    let said = text(&done);
    assert!(done.status.code() == Some(2) && said.contains("heads of 20") && said.contains("--device cpu"), "{said}");
}
