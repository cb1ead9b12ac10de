//! `calibrate` and `generate --fp8` on the simulated devices.

use std::fs;

use stablerep::generate::CalibrationFile;
use stablerep::image::Difference;

use crate::run::Run;
use crate::support::{Model, has_kernels, text};

/// A calibration of two captions, its file's path, and what the command said.
fn calibrate(run: &Run, model: Model, options: &str) -> (String, String) {
    let (captions, file) = (run.path("captions.txt"), run.path("fp8.json"));
    let files = format!("--captions {} --output {}", captions.display(), file.display());
    let output = run.call(model, &format!("calibrate {files} --steps 1 {options}"));
    assert!(output.status.success(), "{}", text(&output));
    (file.display().to_string(), text(&output))
}

/// Calibrated pictures stay near the CPU's, which 16 bits hardly change (e4m3 emulated in PyTorch takes them as far),
/// have the same bits in every batch, and are remade from their records.
fn draws(model: Model, batches: &[usize]) {
    if !has_kernels() {
        return;
    }
    let run = Run::new();
    let (file, said) = calibrate(&run, model, &format!("--sheet {}", run.path("sheet.png").display()));
    let ranges = CalibrationFile::open(file.as_ref()).unwrap().calibration.ranges;
    // Two of each of 8 residual blocks, five of each of 4 transformers.
    assert_eq!(ranges.len(), 2 * 8 + 5 * 4);
    assert!(said.contains(&format!("{} layers in fp8, 0 more stay", ranges.len())), "{said}");
    assert!(ranges.keys().any(|name| name.ends_with("ff.net.2")) && run.path("sheet.png").exists(), "{said}");

    let wide = run.draw(model, "wide", "--steps 1");
    let whole = run.draw(model, "four", &format!("--device cuda --steps 1 --fp8 {file} --batch 4"));
    for (key, wide) in &wide {
        let difference = Difference::of(&whole[key], wide).unwrap();
        println!("{key}: {difference:?}, {:.1} dB", difference.psnr());
        assert!(difference.mean > 0.0 && difference.mean < 2.0, "{key}: {difference:?}");
    }
    let shard = |name: &str| fs::read(run.path(name).join("00000.tar")).unwrap();
    for batch in batches {
        let name = format!("batch-{batch}");
        run.draw(model, &name, &format!("--device cuda --steps 1 --fp8 {file} --batch {batch}"));
        assert!(shard(&name) == shard("four"), "batch {batch}");
    }
    // The folder has its own copy.
    fs::remove_file(&file).unwrap();
    let key = whole.keys().next().unwrap();
    let output = run.call(model, &format!("inspect {} --regenerate {key} --device cuda", run.path("four").display()));
    assert!(output.status.success() && text(&output).contains("byte for byte"), "{}", text(&output));
}

#[test]
fn hopper_draws() {
    // Three, and the one that is left.
    draws(Model::H200, &[3]);
}

#[test]
fn ada_draws() {
    draws(Model::Rtx4090, &[]);
}

#[test]
fn layers_stay_wide_when_asked_to() {
    if !has_kernels() {
        return;
    }
    let run = Run::new();
    let (file, said) = calibrate(&run, Model::H200, "--limit 1 --keep-wide up_blocks --keep-wide ff.net.0");
    let ranges = CalibrationFile::open(file.as_ref()).unwrap().calibration.ranges;
    assert!(!ranges.is_empty() && said.contains("more stay in 16 bits"), "{said}");
    // What would read the gated layer's results stays wide with it.
    assert!(ranges.keys().all(|name| !name.contains("up_blocks") && !name.contains("ff.net")), "{:?}", ranges.keys());
    run.draw(Model::H200, "mixed", &format!("--device cuda --steps 1 --fp8 {file} --limit 1"));
}

#[test]
fn what_cannot_be_run_is_refused() {
    if !has_kernels() {
        return;
    }
    let run = Run::new();
    let (file, _) = calibrate(&run, Model::H200, "--limit 1");
    let good = fs::read_to_string(&file).unwrap();
    let refused = |model, what: &str, text_of_file: &str, code: i32, words: &str| {
        fs::write(&file, text_of_file).unwrap();
        let output = run.try_draw(model, "refused", &format!("--device cuda --fp8 {file}"));
        let said = text(&output);
        assert!(output.status.code() == Some(code) && said.contains(words), "{what}: {said}");
        assert!(!run.path("refused/00000.tar").exists(), "{what}");
    };
    let gate = good.lines().find(|line| line.contains("ff.net.0.proj")).unwrap();
    refused(Model::A100, "a device without e4m3", &good, 2, "has no e4m3");
    refused(Model::H200, "cut short", &good[..good.len() / 2], 3, "calibrate");
    refused(
        Model::H200,
        "another model",
        &good.replace("\"model_sha256\": \"", "\"model_sha256\": \"0"),
        2,
        "another model",
    );
    refused(Model::H200, "a layer that is none", &good.replacen("resnets.0.conv1", "resnets.0.conv9", 1), 3, "conv9");
    refused(Model::H200, "a gated layer that is missing", &good.replacen(gate, "", 1), 3, "ff.net.2");
    let range = gate.split(": ").nth(1).unwrap().trim_end_matches(',');
    refused(Model::H200, "no range", &good.replacen(gate, &gate.replace(range, "0.0"), 1), 3, "expected a number");
    fs::remove_file(&file).unwrap();
    let output = run.try_draw(Model::H200, "refused", &format!("--device cuda --fp8 {file}"));
    assert!(output.status.code() == Some(2) && text(&output).contains("does not exist"), "{}", text(&output));
    let captions = run.path("captions.txt").display().to_string();
    for (option, words) in [("--limit 0", "--limit"), ("--steps 0", "--steps"), ("-w nan", "--guidance-scale")] {
        let output = run.call(Model::H200, &format!("calibrate --captions {captions} --output {file} {option}"));
        assert!(output.status.code() == Some(2) && text(&output).contains(words), "{option}: {}", text(&output));
    }
    let typo =
        run.call(Model::H200, &format!("calibrate --captions {captions} --output {file} --keep-wide up_block.3"));
    assert!(typo.status.code() == Some(2) && text(&typo).contains("no layer's name has that"), "{}", text(&typo));
    assert!(!run.path("fp8.json").exists(), "a refused calibration wrote its file");
    // The CPU has no e4m3; a folder drawn in 16 bits does not go on in 8.
    fs::write(&file, &good).unwrap();
    let output = run.try_draw(Model::H200, "refused", &format!("--fp8 {file}"));
    assert!(output.status.code() == Some(2) && text(&output).contains("--device cuda"), "{}", text(&output));
    run.draw(Model::H200, "wide", "--device cuda --limit 1");
    let output = run.try_draw(Model::H200, "wide", &format!("--device cuda --limit 1 --fp8 {file}"));
    assert!(
        output.status.code() == Some(2) && text(&output).contains("--fp8 (hash of the file): was not set"),
        "{}",
        text(&output)
    );
}
