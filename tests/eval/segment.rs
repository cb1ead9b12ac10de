//! Segmentation networks by sliding windows: PyTorch's logits and classes, both layouts of data, and bad pictures.

use std::fs;
use std::path::{Path, PathBuf};

use stablerep::device::Device;
use stablerep::eval::segment::network::Network;
use stablerep::eval::segment::{Confusion, SegmentConfig, segment};
use stablerep::image::{Rgb8, encode_png};
use stablerep::models::segmenter::HeadKind;
use stablerep::weights::{SafeTensors, write_safetensors};
use tempfile::TempDir;

use crate::scene_data::{ade, bad_shard};
use crate::scenes::{png_of, shards};

fn golden(head: &str) -> SafeTensors {
    let path = format!("{}/tests/fixtures/segmenter_{head}.safetensors", env!("CARGO_MANIFEST_DIR"));
    SafeTensors::open(path).unwrap()
}

/// The golden network as a checkpoint of a run, whose first class has this number.
fn checkpoint(head: &str, first_label: u8, folder: &Path) -> PathBuf {
    let file = golden(head);
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> = file
        .names()
        .filter_map(|name| {
            let plain = name.strip_prefix("param.").or_else(|| name.strip_prefix("stat."))?;
            let shape = file.shape(name).unwrap().to_vec();
            Some((plain.to_owned(), shape.clone(), file.f32(name, &shape).unwrap()))
        })
        .collect();
    let views: Vec<_> =
        tensors.iter().map(|(name, shape, values)| (name.clone(), shape.clone(), &values[..])).collect();
    let model =
        r#"{"image_size": 48, "patch_size": 4, "width": 16, "depth": 3, "heads": 2, "mlp_ratio": 4, "channels": 3}"#;
    let segment = format!(r#"{{"head": "{head}", "classes": 5, "first_label": {first_label}}}"#);
    let config = format!(r#"{{"method": "segment", "segment": {segment}}}"#);
    let path = folder.join(format!("{head}.safetensors"));
    write_safetensors(&path, &views, &[("config", config), ("model", model.into())]).unwrap();
    path
}

fn config(checkpoint: PathBuf, data: &Path, output: &Path) -> SegmentConfig {
    SegmentConfig {
        checkpoint,
        device: Device::Cpu,
        data: data.to_owned(),
        class_names: None,
        stride: None,
        windows: 2,
        max_bad: 0,
        output: output.to_owned(),
    }
}

#[test]
fn logits_by_running_statistics_are_pytorch_s() {
    let folder = TempDir::new().unwrap();
    for (head, kind, side) in [("uper", HeadKind::Uper, 48), ("linear", HeadKind::Linear, 12)] {
        let file = golden(head);
        let pixels = file.f32("pixels", &[2, 48, 48, 3]).unwrap();
        let windows: Vec<Rgb8> = pixels
            .chunks_exact(48 * 48 * 3)
            .map(|pixels| Rgb8 { width: 48, height: 48, data: pixels.iter().map(|&pixel| pixel as u8).collect() })
            .collect();
        let mut network = Network::open(&checkpoint(head, 1, folder.path()), Device::Cpu, 2).unwrap();
        assert_eq!((network.head, network.side()), (kind, side));
        let want = file.f32("logits", &[2, side, side, 5]).unwrap();
        let most = want.iter().map(|value| value.abs()).fold(0.0, f32::max);
        for (got, want) in network.logits(&windows).unwrap().iter().zip(&want) {
            assert!((got - want).abs() < 2e-5 * most, "{head}: {got}, PyTorch {want}");
        }
    }
}

/// Every count of PyTorch's confusion matrix of a picture that two windows overlap on.
#[test]
fn sliding_windows_tell_what_pytorch_s_do() {
    let folder = TempDir::new().unwrap();
    for head in ["uper", "linear"] {
        let file = golden(head);
        let (height, width) = (37, 70);
        let bytes = |name: &str, shape: &[usize]| -> Vec<u8> {
            file.f32(name, shape).unwrap().into_iter().map(|value| value as u8).collect()
        };
        let data = bytes("picture", &[height, width, 3]);
        let (numbers, taken) = (bytes("numbers", &[height, width]), bytes("taken", &[height, width]));
        let root = folder.path().join(head);
        for (what, png) in [
            ("images", encode_png(&Rgb8 { width, height, data }).unwrap()),
            ("annotations", png_of(width, height, &numbers)),
        ] {
            fs::create_dir_all(root.join(what).join("validation")).unwrap();
            fs::write(root.join(what).join("validation/one.png"), png).unwrap();
        }
        let report =
            segment(&config(checkpoint(head, 1, folder.path()), &root, &folder.path().join(format!("{head}-scores"))))
                .unwrap();
        let mut confusion = Confusion::new(5);
        let labels: Vec<u8> = numbers.iter().map(|number| number.wrapping_sub(1)).collect();
        confusion.add(&labels, &taken);
        let want = confusion.scores(&[]).unwrap();
        assert_eq!(report.scores, want, "{head}");
        assert!(report.scores.classes.iter().filter(|class| class.iou > Some(0.0)).count() > 1, "{head}");
        assert_eq!((report.window, report.stride, report.images), (48, 32, 1));
    }
}

/// Shards and a folder of the same pictures have one score; class names are told, and a picture of it is drawn.
#[test]
fn both_layouts_score_alike() {
    let folder = TempDir::new().unwrap();
    let (data, packed) = (folder.path().join("ade"), folder.path().join("shards"));
    ade(&data, "validation", 5);
    fs::create_dir(&packed).unwrap();
    shards(&packed, 5);
    let names = folder.path().join("names.txt");
    fs::write(&names, "red\ngreen\nblue\ngray\nblack\n").unwrap();
    let score = |data: &Path, output: &str| {
        let output = folder.path().join(output);
        let config = config(checkpoint("linear", 1, folder.path()), data, &output);
        let report = segment(&SegmentConfig { class_names: Some(names.clone()), ..config }).unwrap();
        assert!(output.join("report.json").exists() && output.join("segmented.png").exists());
        assert!(!output.join("segment.json").exists());
        report
    };
    let (one, two) = (score(&data, "a"), score(&packed, "b"));
    assert_eq!(one.scores, two.scores);
    assert_eq!(one.scores.classes[2].name, "blue");
    assert!(one.text(false).contains("blue") && one.text(true).contains("| mean"), "{}", one.text(true));
}

#[test]
fn bad_pictures_are_named_and_counted() {
    let folder = TempDir::new().unwrap();
    bad_shard(&folder.path().join("00000.tar"));
    let mut config =
        config(checkpoint("linear", 1, folder.path()), &folder.path().join("00000.tar"), &folder.path().join("scores"));
    let error = segment(&config).unwrap_err();
    assert!(error.to_string().contains("--max-bad allows 0") && error.exit_code() == 3, "{error}");
    config.max_bad = 4;
    let report = segment(&config).unwrap();
    assert_eq!((report.images, report.bad), (1, 4));
}

/// In a folder too, where an annotation is missing, and another one is cut.
#[test]
fn pictures_without_annotation_are_named_and_counted() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("ade");
    ade(&data, "validation", 4);
    let annotation = |i: usize| data.join(format!("annotations/validation/ADE_{i:08}.png"));
    fs::remove_file(annotation(1)).unwrap();
    let bytes = fs::read(annotation(2)).unwrap();
    fs::write(annotation(2), &bytes[..bytes.len() / 2]).unwrap();
    let mut config = config(checkpoint("linear", 1, folder.path()), &data, &folder.path().join("scores"));
    let refused = |config: &SegmentConfig, needle: &str| {
        let error = segment(config).unwrap_err();
        assert!(error.to_string().contains(needle) && error.exit_code() == 3, "{error}");
    };
    refused(&config, "ADE_00000001.png: has no annotation");
    config.max_bad = 1;
    refused(&config, "ADE_00000002.png, class numbers");
    config.max_bad = 2;
    let report = segment(&config).unwrap();
    assert_eq!((report.images, report.bad), (2, 2));
    assert!(report.text(false).contains("(2 pictures, 2 bad left out)"), "{}", report.text(false));
}

/// Numbers beyond the classes are ignored as those without a class are, but said, with how many there are.
#[test]
fn numbers_beyond_the_classes_are_counted() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("ade");
    ade(&data, "validation", 2);
    let write = |numbers: &[u8]| {
        let (width, height) = (44, 40);
        let numbers: Vec<u8> = (0..width * height).map(|at| numbers[at % numbers.len()]).collect();
        fs::write(data.join("annotations/validation/ADE_00000000.png"), png_of(width, height, &numbers)).unwrap();
    };
    let score = || segment(&config(checkpoint("linear", 1, folder.path()), &data, &folder.path().join("scores")));
    write(&[1, 5, 0, 255]);
    let report = score().unwrap();
    assert_eq!((report.pixels_beyond, report.remarks.len()), (0, 0));
    let plain = report.scores;
    write(&[1, 5, 9, 6]);
    let report = score().unwrap();
    assert_eq!((report.pixels_beyond, &report.scores), (880, &plain));
    let said = &report.remarks[0];
    assert!(said.contains("880 pixel(s) of 1 picture(s) have numbers beyond the 5 classes, 1 to 5"), "{said}");
    assert!(said.contains("9 in ") && said.contains("ADE_00000000.png)"), "{said}");
    assert!(report.text(false).ends_with(said), "{}", report.text(false));
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("ade");
    ade(&data, "validation", 1);
    let run = |change: &dyn Fn(&mut SegmentConfig), says: &str, code: u8| {
        let mut config = config(checkpoint("linear", 1, folder.path()), &data, &folder.path().join("scores"));
        change(&mut config);
        let error = segment(&config).unwrap_err();
        assert!(error.to_string().contains(says) && error.exit_code() == code, "{error}");
    };
    run(&|config| config.windows = 0, "--windows 0", 2);
    run(&|config| config.stride = Some(49), "--stride 49: expected 1 to 48", 2);
    run(&|config| config.data = folder.path().join("nothing"), "no such file or folder", 3);
    run(&|config| config.checkpoint = checkpoint("linear", 200, folder.path()), "no pixel has one of the 5 classes", 3);
    let plain = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vit_32_patch8.safetensors");
    run(&|config| config.checkpoint = plain.into(), "vit_32_patch8.safetensors", 3);
    fs::write(folder.path().join("names"), "one\n").unwrap();
    run(
        &|config| config.class_names = Some(folder.path().join("names")),
        "1 line(s), expected one name for each of the 5 classes",
        3,
    );
    fs::copy(data.join("images/validation/ADE_00000000.png"), data.join("images/validation/ADE_00000000.jpg")).unwrap();
    run(&|_| {}, "ADE_00000000.png: two pictures of one annotation", 3);
    fs::remove_file(data.join("images/validation/ADE_00000000.jpg")).unwrap();
    fs::remove_file(data.join("annotations/validation/ADE_00000000.png")).unwrap();
    run(&|_| {}, "has no annotation", 3);
    fs::remove_dir(data.join("annotations/validation")).unwrap();
    run(&|_| {}, "annotations/validation: no such folder", 3);
    fs::remove_dir_all(data.join("images/validation")).unwrap();
    run(&|_| {}, "images/validation: no such folder", 3);
}
