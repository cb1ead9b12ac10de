//! What is at the edge of what a data set may be, for the linear probe and for FID alike: few pictures, odd labels, odd
//! pictures; each has the right figures or is refused by name.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use stablerep::eval::encoder::Encoder;
use stablerep::eval::timm;
use stablerep::image::{Rgb8, encode_jpeg, encode_png};
use stablerep::models::vit::VitConfig;
use stablerep::rng::{Domain, Stream};
use stablerep::shards::ShardWriter;
use tempfile::TempDir;

use crate::probe::{fails, stablerep};

/// A small encoder with random weights, and few epochs.
const ENCODER: [&str; 12] = [
    "--random-init",
    "vit_tiny",
    "--image-size",
    "16",
    "--patch-size",
    "8",
    "--width",
    "16",
    "--depth",
    "1",
    "--heads",
    "1",
];
const QUICK: [&str; 6] = ["--epochs", "2", "--eval-every", "1", "--lrs", "0.1,1"];

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Noise around gray `level`.
fn picture(id: u32, level: u8, width: usize, height: usize) -> Rgb8 {
    let mut stream = Stream::new(3, Domain::Probe, [id, 0, 0]);
    Rgb8 { width, height, data: (0..3 * width * height).map(|_| level + stream.below(40) as u8).collect() }
}

/// The report of a probe that succeeds, and what it says.
fn probe(root: &TempDir, more: &[&str]) -> (Value, String) {
    let output = root.path().join("scores");
    let given = ["--output", &text(&output), "--augmentation", "none", "--knn", "3"];
    let ran = stablerep(&[&["probe"][..], &ENCODER, &QUICK, &given, more].concat());
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{said}");
    (serde_json::from_slice(&fs::read(output.join("report.json")).unwrap()).unwrap(), said)
}

/// The best top-1 of each kind of head, and of the neighbours.
fn figures(report: &Value) -> Vec<f64> {
    let kinds = report["linear"].as_array().unwrap().iter();
    kinds.map(|kind| kind["best"]["test"].as_f64().unwrap()).chain(report["knn"]["test"].as_f64()).collect()
}

/// `count` dark and bright pictures in turn, labelled by `labels` in turn.
fn shard(folder: &Path, count: u32, labels: &[u32]) -> String {
    fs::create_dir_all(folder).unwrap();
    let mut shard = ShardWriter::create(folder.join("00000.tar")).unwrap();
    for i in 0..count {
        let png = encode_png(&picture(i, if i % 2 == 0 { 10 } else { 200 }, 16, 16)).unwrap();
        let label = labels[i as usize % labels.len()].to_string();
        shard.add(&format!("{i:05}"), &[("png", &png), ("cls", label.as_bytes())]).unwrap();
    }
    shard.finish().unwrap();
    text(folder)
}

/// One picture more than a block of 64, and fewer than a batch of the probe; classes far apart by their numbers.
#[test]
fn sixty_five_pictures_of_two_classes_with_numbers_far_apart() {
    let root = TempDir::new().unwrap();
    let data = shard(&root.path().join("data"), 65, &[0, 900_000]);
    let (report, _) = probe(&root, &["--train", &data, "--test", &data]);
    for set in ["train", "test"] {
        assert_eq!((&report[set]["images"], &report[set]["classes"]), (&65.into(), &2.into()), "{set}");
    }
    assert_eq!(figures(&report), [100.0; 3]);
    // A class that is not in the training images is refused by its number.
    let other = shard(&root.path().join("other"), 65, &[0, 900_001]);
    let words = [&["probe"][..], &ENCODER, &["--knn", "3", "--no-linear", "--train", &data, "--test", &other]].concat();
    fails(&words, 3, &["900001", "same classes"]);
}

#[test]
fn one_class_is_always_right_and_said_to_be() {
    let root = TempDir::new().unwrap();
    let data = shard(&root.path().join("data"), 65, &[7]);
    let (report, said) = probe(&root, &["--train", &data, "--test", &data]);
    assert_eq!(figures(&report), [100.0; 3]);
    assert!(said.contains("one class only"), "{said}");
}

/// Every kind of PNG and JPEG that there is a fixture of, lines of pixels, and single ones, in class folders `a` and
/// `b` of as many each.
fn of_every_kind(root: &Path) -> Vec<PathBuf> {
    let mut sources: Vec<(String, Vec<u8>)> = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".safetensors") {
            sources.push((name, fs::read(&path).unwrap()));
        }
    }
    for kind in ["palette.png", "rgb16.png", "cmyk.jpg", "turned.jpg", "gray_alpha16.png", "ycck.jpg"] {
        assert!(sources.iter().any(|(name, _)| name == kind), "{kind}");
    }
    for (width, height) in [(1, 100), (100, 1), (1, 1)] {
        let image = picture(9, 90, width, height);
        sources.push((format!("{width}x{height}.png"), encode_png(&image).unwrap()));
        sources.push((format!("{width}x{height}.jpg"), encode_jpeg(&image, 90).unwrap()));
    }
    let mut all = Vec::new();
    for class in ["a", "b"] {
        let folder = root.join(class);
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in &sources {
            let path = folder.join(name);
            fs::write(&path, bytes).unwrap();
            all.push(path);
        }
    }
    all
}

#[test]
fn pictures_of_every_kind_are_probed_and_compared() {
    let root = TempDir::new().unwrap();
    let folder = root.path().join("odd");
    let all = of_every_kind(&folder);
    let data = text(&folder);
    for fit in ["crop", "stretch", "pad"] {
        let (report, said) = probe(&root, &["--train", &data, "--test", &data, "--fit", fit]);
        assert_eq!((&report["test"]["images"], &report["test"]["bad"]), (&all.len().into(), &Value::Null), "{fit}");
        // Both classes hold the same pictures: whatever is said of one of a pair is wrong of the other.
        for figure in figures(&report) {
            assert_eq!(figure, 50.0, "{fit}: {said}");
        }
    }
    // The same pictures as both sets of FID are at no distance.
    let output = root.path().join("fid");
    let (encoder, output_text) = (fresh_encoder(&root), text(&output));
    let fid = ["eval", "fid", "--encoder", &encoder, "--real", &data, "--generated", &data, "--output", &output_text];
    let ran = stablerep(&fid);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let report: Value = serde_json::from_slice(&fs::read(output.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["generated"][0]["images"], all.len());
    assert!(report["generated"][0]["frechet"].as_f64().unwrap() < 1e-9, "{report}");

    // Whatever is cut is named, by both.
    for path in &all {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() * 2 / 3]).unwrap();
    }
    let names: Vec<String> = all.iter().map(|path| text(path)).collect();
    let parts: Vec<&str> = names.iter().map(String::as_str).collect();
    let probe = [&["probe"][..], &ENCODER, &["--knn", "3", "--train", &data, "--holdout", "0.5"]].concat();
    fails(&probe, 3, &[&parts[..], &[&format!("{} bad picture(s)", all.len())]].concat());
    fails(&fid, 3, &parts);
}

/// A timm folder of the encoder that the probe draws.
fn fresh_encoder(root: &TempDir) -> String {
    let model = VitConfig {
        image_size: 16,
        patch_size: 8,
        width: 16,
        depth: 1,
        heads: 1,
        mlp_ratio: 4,
        channels: 3,
        qk_norm: false,
        variant: Default::default(),
    };
    let folder = root.path().join("encoder");
    timm::export(&Encoder::random(&model, 0).unwrap(), &folder).unwrap();
    text(&folder)
}
