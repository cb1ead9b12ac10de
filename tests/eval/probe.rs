use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use stablerep::eval::dataset::{Dataset, idx};
use stablerep::eval::encoder::{Encoder, ModelSource};
use stablerep::eval::knn::KnnConfig;
use stablerep::eval::linear_probe::{Augmentation, BatchNorm, LinearConfig, Select};
use stablerep::eval::report::ProbeReport;
use stablerep::eval::transform::Fit;
use stablerep::eval::{DataSource, ProbeConfig, ProbeSettings, probe, probe_encoder};
use stablerep::models::vit::VitConfig;
use stablerep::rng::{Domain, Stream};
use tempfile::TempDir;

const SIDE: usize = 12;

/// `count` noisy gray pictures of four classes: a bright quarter each.
fn pictures(count: usize, id: u32) -> (Vec<u8>, Vec<u8>) {
    let mut stream = Stream::new(1, Domain::Probe, [id, 0, 0]);
    let (mut images, mut labels) = (vec![0, 0, 8, 3], vec![0, 0, 8, 1]);
    for size in [count, SIDE, SIDE] {
        images.extend((size as u32).to_be_bytes());
    }
    labels.extend((count as u32).to_be_bytes());
    for i in 0..count {
        let class = i % 4;
        labels.push(class as u8);
        for y in 0..SIDE {
            for x in 0..SIDE {
                let bright = (y * 2 / SIDE) * 2 + x * 2 / SIDE == class;
                images.push((if bright { 150 } else { 20 }) + stream.below(60) as u8);
            }
        }
    }
    (images, labels)
}

fn dataset(count: usize, id: u32) -> Dataset {
    let (images, labels) = pictures(count, id);
    idx::from_bytes(&images, &labels, "quarters").unwrap()
}

fn model() -> VitConfig {
    VitConfig { image_size: 16, patch_size: 4, width: 32, depth: 2, heads: 2, mlp_ratio: 4, channels: 3 }
}

fn settings(augmentation: Augmentation) -> ProbeSettings {
    let linear = LinearConfig {
        base_lrs: vec![0.1, 1.0],
        batch: 32,
        epochs: 8,
        eval_every: 4,
        augmentation,
        ..LinearConfig::default()
    };
    ProbeSettings { fit: Fit::Pad, resize: None, linear: Some(linear), knn: Some(KnnConfig::default()), seed: 4 }
}

#[test]
fn a_random_vit_tells_bright_quarters_apart() {
    let encoder = Encoder::random(&model(), 0).unwrap();
    let (train, test) = (dataset(160, 1), || dataset(80, 2));
    let settings = settings(Augmentation::None);
    let report = probe_encoder(&settings, &encoder, &train, test()).unwrap();
    assert!(report.linear_top1().unwrap() > 95.0, "{}", report.text());
    assert!(report.knn.as_ref().unwrap().test > 95.0, "{}", report.text());
    assert_eq!(report, probe_encoder(&settings, &encoder, &train, test()).unwrap());
    assert_eq!((report.train.images, report.test.images, report.test.classes), (160, 80, 4));
}

/// Crops and flips of training images are keyed by epoch and image: the same run gives the same report, another seed another one.
/// They hide which quarter is bright, so the probe does worse than without them.
#[test]
fn augmentation_is_keyed_and_changes_the_features() {
    let encoder = Encoder::random(&model(), 0).unwrap();
    let (train, test) = (dataset(96, 1), || dataset(48, 2));
    let settings = settings(Augmentation::CropFlip);
    let report = probe_encoder(&settings, &encoder, &train, test()).unwrap();
    assert_eq!(report, probe_encoder(&settings, &encoder, &train, test()).unwrap());
    let other = probe_encoder(&ProbeSettings { seed: 5, ..settings }, &encoder, &train, test()).unwrap();
    assert_ne!(report.linear, other.linear);
    assert!(report.linear[0].heads[1].train_loss > 0.3, "{report:?}");
}

#[test]
fn the_report_is_written_and_reads_back() {
    let root = TempDir::new().unwrap();
    let (images, labels) = pictures(40, 1);
    for name in ["train", "t10k"] {
        fs::write(root.path().join(format!("{name}-images-idx3-ubyte")), &images).unwrap();
        fs::write(root.path().join(format!("{name}-labels-idx1-ubyte")), &labels).unwrap();
    }
    let source = DataSource { path: root.path().to_path_buf(), labels: None };
    let output = root.path().join("scores/run");
    let mut settings = settings(Augmentation::None);
    if let Some(linear) = &mut settings.linear {
        linear.select = Select::Val;
    }
    let config = ProbeConfig {
        model: ModelSource::Random { model: model(), seed: 3 },
        train: source.clone(),
        test: source,
        settings,
        output: Some(output.clone()),
    };
    let report = probe(&config).unwrap();
    let read: ProbeReport = serde_json::from_slice(&fs::read(output.join("report.json")).unwrap()).unwrap();
    assert_eq!(read, report);
    for table in [report.text(), report.markdown()] {
        for part in [
            "linear, batch norm",
            "20-NN",
            "random weights (seed 3)",
            "held out",
            "padded to 16×16",
            "(40 images, 4 classes)",
        ] {
            assert!(table.contains(part), "{part}: {table}");
        }
        assert!(table.contains(&format!("{:.2}", report.linear_top1().unwrap())));
    }
}

#[test]
fn only_what_is_asked_for_is_measured() {
    let encoder = Encoder::random(&model(), 0).unwrap();
    let base = settings(Augmentation::None);
    let off = LinearConfig { batch_norm: BatchNorm::Off, ..base.linear.clone().unwrap() };
    let linear = ProbeSettings { knn: None, linear: Some(off), ..base.clone() };
    let report = probe_encoder(&linear, &encoder, &dataset(20, 1), dataset(20, 2)).unwrap();
    assert_eq!((report.linear.len(), report.linear[0].batch_norm, report.knn.is_none()), (1, false, true));
    let knn = ProbeSettings { linear: None, ..base.clone() };
    let report = probe_encoder(&knn, &encoder, &dataset(20, 1), dataset(20, 2)).unwrap();
    assert!(report.linear.is_empty() && report.knn.is_some());
    let nothing = ProbeSettings { linear: None, knn: None, ..base };
    let error = probe_encoder(&nothing, &encoder, &dataset(20, 1), dataset(20, 2)).unwrap_err();
    assert_eq!(error.exit_code(), 2);
}

fn stablerep(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stablerep")).args(arguments).output().unwrap()
}

#[track_caller]
fn fails(arguments: &[&str], code: i32, parts: &[&str]) {
    let output = stablerep(arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
}

fn path(root: &Path, name: &str) -> String {
    root.join(name).display().to_string()
}

#[test]
fn the_command_line_probes_and_exports() {
    let root = TempDir::new().unwrap();
    let (images, labels) = pictures(80, 1);
    let (pixels, classes) = (path(root.path(), "pixels"), path(root.path(), "classes"));
    fs::write(&pixels, images).unwrap();
    fs::write(&classes, labels).unwrap();
    let data = ["--train", &pixels, "--train-labels", &classes, "--test", &pixels, "--test-labels", &classes];
    let quick = ["--epochs", "4", "--lrs", "0.5", "--augmentation", "none", "--fit", "pad", "--knn", "5"];
    let sizes = ["--image-size", "16", "--patch-size", "4", "--width", "32", "--depth", "2", "--heads", "2"];
    let output = stablerep(&[&["probe", "--random-init", "vit_tiny"][..], &data, &quick, &sizes].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let random = String::from_utf8(output.stdout).unwrap();
    assert!(random.contains("linear, batch norm") && random.contains("5-NN"), "{random}");

    // The same encoder from files: the same figures.
    let encoder = Encoder::random(&model(), 0).unwrap();
    let (first, second) = (root.path().join("first"), path(root.path(), "second"));
    stablerep::eval::timm::export(&encoder, &first).unwrap();
    let output = stablerep(&["export", "--checkpoint", &first.display().to_string(), "--output", &second]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for file in ["model.safetensors", "config.json"] {
        assert_eq!(fs::read(first.join(file)).unwrap(), fs::read(Path::new(&second).join(file)).unwrap(), "{file}");
    }
    let output = stablerep(&[&["probe", "--checkpoint", &second][..], &data, &quick].concat());
    let loaded = String::from_utf8(output.stdout).unwrap();
    let figures = |text: &str| text.lines().skip(1).map(str::to_string).collect::<Vec<_>>();
    assert_eq!(figures(&loaded), figures(&random));
    assert!(loaded.contains(&second));
}

#[test]
fn the_command_line_refuses_with_the_right_code() {
    let root = TempDir::new().unwrap();
    let (images, labels) = pictures(20, 1);
    let pixels = path(root.path(), "train-images-idx3-ubyte");
    fs::write(&pixels, &images).unwrap();
    fs::write(path(root.path(), "train-labels-idx1-ubyte"), labels).unwrap();
    let with = |more: &[&'static str]| -> Vec<String> {
        let data = ["probe", "--train", &pixels, "--test", &pixels];
        data.iter().chain(more).map(|word| word.to_string()).collect()
    };
    let check = |more: &[&'static str], code: i32, parts: &[&str]| {
        let words = with(more);
        fails(&words.iter().map(String::as_str).collect::<Vec<_>>(), code, parts);
    };
    check(&[], 2, &["--checkpoint", "--random-init"]);
    check(&["--random-init", "resnet50"], 2, &["resnet50", "vit_small"]);
    check(&["--random-init", "vit_tiny", "--patch-size", "15"], 2, &["--image-size 224", "--patch-size 15"]);
    check(&["--random-init", "vit_tiny", "--epochs", "0"], 2, &["--epochs 0"]);
    check(&["--random-init", "vit_tiny", "--lrs", "0.1,-2"], 2, &["--lrs"]);
    check(&["--random-init", "vit_tiny", "--no-linear"], 2, &["nothing to measure"]);
    check(&["--random-init", "vit_tiny", "--resize", "100"], 2, &["--resize 100", "224"]);
    check(&["--checkpoint", "official.pth"], 3, &["official.pth", "pickle"]);
    check(&["--checkpoint", "nowhere.safetensors"], 1, &["nowhere.safetensors"]);
    fs::write(&pixels, &images[..images.len() - 1]).unwrap();
    check(&["--random-init", "vit_tiny"], 3, &["train-images-idx3-ubyte", "truncated"]);
    fails(&["export", "--checkpoint", "official.pth", "--output", "x"], 3, &["official.pth", "safetensors"]);
}
