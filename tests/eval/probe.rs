use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde::Deserialize;
use serde_json::Value;
use stablerep::eval::dataset::{Dataset, idx};
use stablerep::eval::encoder::{Encoder, ModelSource, Placement};
use stablerep::eval::knn::{KnnConfig, KnnReport};
use stablerep::eval::linear_probe::{Augmentation, BatchNorm, LinearConfig, LinearReport, Select};
use stablerep::eval::report::ProbeReport;
use stablerep::eval::timm;
use stablerep::eval::transform::Fit;
use stablerep::eval::{DataSource, ProbeConfig, ProbeSettings, TestSource, probe, probe_encoder};
use stablerep::image::{Rgb8, encode_png};
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
    VitConfig {
        image_size: 16,
        patch_size: 4,
        width: 32,
        depth: 2,
        heads: 2,
        mlp_ratio: 4,
        channels: 3,
        qk_norm: false,
        variant: Default::default(),
    }
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
    ProbeSettings { fit: Some(Fit::Pad), resize: None, linear: Some(linear), knn: Some(KnnConfig::default()), seed: 4 }
}

fn linear(report: &ProbeReport) -> Vec<LinearReport> {
    report.found("linear").unwrap().unwrap()
}

/// Top-1 of the better kind of heads, percent.
fn best(kinds: &[LinearReport]) -> f64 {
    kinds.iter().map(|kind| kind.best.evaluation.test).fold(0.0, f64::max)
}

#[test]
fn a_random_vit_tells_bright_quarters_apart() {
    let encoder = Encoder::random(&model(), 0).unwrap();
    let (train, test) = (dataset(160, 1), || dataset(80, 2));
    let settings = settings(Augmentation::None);
    let report = probe_encoder(&settings, &encoder, &train, test(), None).unwrap();
    assert!(best(&linear(&report)) > 95.0, "{}", report.text());
    let knn: KnnReport = report.found("knn").unwrap().unwrap();
    assert!(knn.test > 95.0, "{}", report.text());
    assert_eq!(report, probe_encoder(&settings, &encoder, &train, test(), None).unwrap());
    assert_eq!((report.train.images, report.test.images, report.test.classes), (160, 80, 4));
}

/// Features are found again by weights and pictures, wherever those lie, and by nothing else.
#[test]
fn features_are_kept_by_weights_and_pictures() {
    let root = TempDir::new().unwrap();
    let place = |name: &str, count: usize, id: u32| {
        let folder = root.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        let (images, labels) = pictures(count, id);
        fs::write(folder.join("train-images-idx3-ubyte"), images).unwrap();
        fs::write(folder.join("train-labels-idx1-ubyte"), labels).unwrap();
        folder
    };
    let (train, test) = (place("a", 40, 1), place("b", 30, 2));
    let kept = root.path().join("kept");
    let run = |model: u64, train: &Path, fit| {
        let source = |path: &Path| DataSource { path: path.join("train-images-idx3-ubyte"), labels: None };
        let settings = ProbeSettings { fit: Some(fit), ..settings(Augmentation::None) };
        probe(&ProbeConfig {
            model: ModelSource::Random { model: self::model(), seed: model },
            placement: Placement { features: Some(kept.clone()), ..Placement::default() },
            train: source(train),
            test: TestSource::Images(source(&test)),
            max_bad: 0,
            settings,
            output: None,
        })
        .unwrap()
    };
    let files = || {
        let mut all: Vec<_> = fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all
    };
    let first = run(0, &train, Fit::Pad);
    let of_first = files();
    assert_eq!(of_first.len(), 2);
    // Elsewhere, under another name: the same files serve.
    let moved = root.path().join("elsewhere");
    fs::rename(&train, &moved).unwrap();
    let again = run(0, &moved, Fit::Pad);
    assert_eq!((again.scores, files()), (first.scores.clone(), of_first.clone()));
    // Other weights, another way to prepare, one other picture among the same file names: each has its own.
    let mut known = of_first.len();
    let others: [&dyn Fn() -> ProbeReport; 3] =
        [&|| run(1, &moved, Fit::Pad), &|| run(0, &moved, Fit::Stretch), &|| {
            run(0, &place("elsewhere", 40, 3), Fit::Pad)
        }];
    for (i, other) in others.iter().enumerate() {
        assert_ne!(other().scores, first.scores, "{i}");
        known += if i < 2 { 2 } else { 1 };
        assert_eq!(files().len(), known, "{i}");
    }
    // What is kept is what is used; what is damaged is made anew.
    place("elsewhere", 40, 1);
    for path in &of_first {
        let mut bytes = fs::read(path).unwrap();
        let half = bytes.len() / 2;
        bytes[half..].fill(0);
        fs::write(path, bytes).unwrap();
    }
    assert_ne!(run(0, &moved, Fit::Pad).scores, first.scores);
    for path in &of_first {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 5]).unwrap();
    }
    assert_eq!(run(0, &moved, Fit::Pad).scores, first.scores);
}

/// Crops and flips of training images are keyed by epoch and image: the same run gives the same report, another seed
/// another one. They hide which quarter is bright, so the probe does worse than without them.
#[test]
fn augmentation_is_keyed_and_changes_the_features() {
    let encoder = Encoder::random(&model(), 0).unwrap();
    let (train, test) = (dataset(96, 1), || dataset(48, 2));
    let settings = settings(Augmentation::CropFlip);
    let report = probe_encoder(&settings, &encoder, &train, test(), None).unwrap();
    assert_eq!(report, probe_encoder(&settings, &encoder, &train, test(), None).unwrap());
    let other = probe_encoder(&ProbeSettings { seed: 5, ..settings }, &encoder, &train, test(), None).unwrap();
    assert_ne!(linear(&report), linear(&other));
    assert!(linear(&report)[0].heads[1].train_loss.unwrap() > 0.3, "{report:?}");
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
    let scores = TempDir::new().unwrap();
    let output = scores.path().join("scores/run");
    let mut settings = settings(Augmentation::None);
    if let Some(linear) = &mut settings.linear {
        linear.select = Select::Val;
    }
    let config = ProbeConfig {
        model: ModelSource::Random { model: model(), seed: 3 },
        placement: Placement::default(),
        train: source.clone(),
        test: TestSource::Images(source),
        max_bad: 0,
        settings,
        output: Some(output.clone()),
    };
    let report = probe(&config).unwrap();
    let read: Value = serde_json::from_slice(&fs::read(output.join("report.json")).unwrap()).unwrap();
    let mut report_again: Value = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    report_again["evaluation"] = "linear".into();
    assert_eq!(read, report_again);
    assert_eq!(Vec::<LinearReport>::deserialize(&read["linear"]).unwrap(), linear(&report));
    assert_eq!((read["knn"]["k"].as_u64(), read["knn"]["temperature"].as_f64()), (Some(20), Some(0.07)));
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
        assert!(table.contains(&format!("{:.2}", best(&linear(&report)))));
    }
}

#[test]
fn only_what_is_asked_for_is_measured() {
    let encoder = Encoder::random(&model(), 0).unwrap();
    let base = settings(Augmentation::None);
    let off = LinearConfig { batch_norm: BatchNorm::Off, ..base.linear.clone().unwrap() };
    let alone = ProbeSettings { knn: None, linear: Some(off), ..base.clone() };
    let report = probe_encoder(&alone, &encoder, &dataset(20, 1), dataset(20, 2), None).unwrap();
    let kinds = linear(&report);
    assert_eq!((report.scores.len(), kinds.len(), kinds[0].batch_norm), (1, 1, false));
    let knn = ProbeSettings { linear: None, ..base.clone() };
    let report = probe_encoder(&knn, &encoder, &dataset(20, 1), dataset(20, 2), None).unwrap();
    assert_eq!(report.scores.iter().map(|score| score.key).collect::<Vec<_>>(), ["knn"]);
    let nothing = ProbeSettings { linear: None, knn: None, ..base };
    let error = probe_encoder(&nothing, &encoder, &dataset(20, 1), dataset(20, 2), None).unwrap_err();
    assert_eq!(error.exit_code(), 2);
}

pub fn stablerep(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stablerep")).args(arguments).output().unwrap()
}

#[track_caller]
pub fn fails(arguments: &[&str], code: i32, parts: &[&str]) {
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
    check(&["--checkpoint", "nowhere.safetensors"], 2, &["--checkpoint", "nowhere.safetensors", "does not exist"]);
    let pickle = path(root.path(), "official.pth");
    fs::write(&pickle, b"\x80\x02}q\x00.").unwrap();
    fails(&["probe", "--train", &pixels, "--test", &pixels, "--checkpoint", &pickle], 3, &["official.pth", "pickle"]);
    fs::write(&pixels, &images[..images.len() - 1]).unwrap();
    check(&["--random-init", "vit_tiny"], 3, &["train-images-idx3-ubyte", "truncated"]);
    fails(&["export", "--checkpoint", &pickle, "--output", "x"], 3, &["official.pth", "safetensors"]);
}

const TINY: [&str; 14] = [
    "probe",
    "--random-init",
    "vit_tiny",
    "--image-size",
    "16",
    "--patch-size",
    "8",
    "--width",
    "32",
    "--depth",
    "1",
    "--heads",
    "1",
    "--no-linear",
];

fn noise(seed: u32) -> Vec<u8> {
    let mut stream = Stream::new(2, Domain::Probe, [seed, 0, 0]);
    encode_png(&Rgb8 { width: 20, height: 16, data: (0..960).map(|_| stream.below(256) as u8).collect() }).unwrap()
}

/// Two classes of `count` pictures each below `root/name`.
fn classes(root: &Path, name: &str, count: u32, first: u32) -> String {
    for (number, class) in ["ant", "bee"].into_iter().enumerate() {
        let folder = root.join(name).join(class);
        fs::create_dir_all(&folder).unwrap();
        for i in 0..count {
            fs::write(folder.join(format!("{i}.png")), noise(first + 100 * number as u32 + i)).unwrap();
        }
    }
    path(root, name)
}

/// All damaged pictures of both sets are told before the work begins, or left out as far as --max-bad allows.
#[test]
fn damaged_pictures_are_listed_or_left_out() {
    let root = TempDir::new().unwrap();
    let (train, test) = (classes(root.path(), "a", 4, 0), classes(root.path(), "b", 3, 50));
    fs::write(root.path().join("a/ant/7.png"), &noise(7)[..400]).unwrap();
    fs::write(root.path().join("a/bee/8.jpg"), b"").unwrap();
    fs::write(root.path().join("b/bee/9.jpg"), b"<html>not found</html>").unwrap();
    let data = ["--knn", "1", "--train", &train, "--test", &test];
    let all = ["ant/7.png: corrupt PNG", "bee/8.jpg: an empty file", "bee/9.jpg: neither JPEG nor PNG"];
    fails(&[&TINY[..], &data].concat(), 3, &[&all[..], &["3 bad picture(s)", "--max-bad allows 0"]].concat());
    fails(&[&TINY[..], &data, &["--max-bad", "2"]].concat(), 3, &all);
    let output = stablerep(&[&TINY[..], &data, &["--max-bad", "3"]].concat());
    let (said, table) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success() && all.iter().all(|part| said.contains(part)), "{said}");
    assert!(table.contains("(8 images, 2 classes, 2 damaged left out)"), "{table}");
    assert!(table.contains("(6 images, 2 classes, 1 damaged left out)"), "{table}");
    fs::remove_dir_all(root.path().join("b")).unwrap();
    fs::create_dir_all(root.path().join("b/ant")).unwrap();
    fs::write(root.path().join("b/ant/9.jpg"), b"").unwrap();
    fails(&[&TINY[..], &data, &["--max-bad", "9"]].concat(), 3, &["none of its pictures can be used"]);
}

#[test]
fn a_share_can_be_held_out_for_the_test() {
    let root = TempDir::new().unwrap();
    let all = classes(root.path(), "all", 10, 0);
    let run = |more: &[&str]| {
        let output = stablerep(&[&TINY[..], &["--knn", "3", "--train", &all], more].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        (String::from_utf8(output.stdout).unwrap(), said)
    };
    let (table, said) = run(&["--holdout", "0.2"]);
    for part in ["the rest (16 images, 2 classes)", "20 % of every class held out (4 images, 2 classes)"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(run(&["--holdout", "0.2"]).0, table);
    let (_, said) = run(&["--test", &all]);
    assert!(said.contains("every test picture") && said.contains("--holdout 0.2"), "{said}");
    // One copy among others.
    let test = classes(root.path(), "test", 2, 60);
    fs::copy(root.path().join("all/ant/3.png"), root.path().join("test/ant/other-name.png")).unwrap();
    let (_, said) = run(&["--test", &test]);
    assert!(said.contains("1 of 5 test pictures are also training pictures"), "{said}");
    for wrong in ["0", "1", "-0.5", "nan"] {
        fails(
            &[&TINY[..], &["--knn", "3", "--train", &all, &format!("--holdout={wrong}")]].concat(),
            2,
            &["--holdout"],
        );
    }
    fails(&[&TINY[..], &["--knn", "3", "--train", &all]].concat(), 2, &["--test", "--holdout"]);
    fails(
        &[&TINY[..], &["--knn", "3", "--train", &all, "--test", &test, "--holdout", "0.2"]].concat(),
        2,
        &["--holdout"],
    );
}

/// Weights so large that the features overflow: no way through the probe makes figures of them, and the picture is
/// named.
#[test]
fn features_that_overflow_are_refused() {
    let root = TempDir::new().unwrap();
    let train = classes(root.path(), "a", 3, 0);
    let random = Encoder::random(&model(), 0).unwrap();
    let mut params = random.params().to_vec();
    for (name, _, param) in random.vit().tensors() {
        if name == "norm.weight" {
            param.of_mut(&mut params).fill(3e38);
        }
    }
    let encoder = Encoder::from_params(&model(), params, [0.5; 3], [0.5; 3], "large").unwrap();
    timm::export(&encoder, &root.path().join("large")).unwrap();
    let checkpoint = path(root.path(), "large");
    let augmented = |how: &'static str| ["--epochs", "1", "--augmentation", how];
    for more in [&["--knn", "3", "--no-linear"][..], &augmented("none"), &augmented("crop-flip")] {
        let arguments = [&["probe", "--checkpoint", &checkpoint, "--train", &train, "--test", &train][..], more];
        fails(&arguments.concat(), 5, &["ant/0.png", "not finite"]);
    }
}

/// A link to nothing is a bad picture like a damaged one: named with where it leads, and left out if that is allowed.
#[cfg(unix)]
#[test]
fn links_to_nothing_are_bad_pictures() {
    let root = TempDir::new().unwrap();
    let train = classes(root.path(), "a", 4, 0);
    let absent = root.path().join("absent.png").display().to_string();
    std::os::unix::fs::symlink(&absent, Path::new(&train).join("ant/lost.png")).unwrap();
    let data = ["--train", &train, "--test", &train, "--knn", "3"];
    fails(&[&TINY[..], &data].concat(), 3, &["ant/lost.png", &format!("a link to {absent}"), "2 bad picture(s)"]);
    stablerep(&[&TINY[..], &data, &["--max-bad", "2"]].concat());
}

/// A stopped probe says how to go on, and goes on.
#[cfg(unix)]
#[test]
fn a_signal_stops_the_probe_where_it_goes_on() {
    let root = TempDir::new().unwrap();
    let train = classes(root.path(), "a", 8, 0);
    let output = path(root.path(), "out");
    let endless =
        ["--epochs", "1000000000", "--augmentation", "none", "--train", &train, "--test", &train, "--output", &output];
    for waited in ["train features", "linear probe: goes on at epoch", "linear probe: goes on at epoch"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stablerep"))
            .args(TINY[..13].iter().chain(&endless))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        // The heads come after this line.
        assert!(said.any(|line| line.contains(waited)), "no {waited}");
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        let last: Vec<String> = said.collect();
        assert_eq!(child.wait().unwrap().code(), Some(75));
        let error = last.iter().find(|line| line.starts_with("error")).unwrap();
        assert!(error.contains("stopped by a signal") && error.contains("same command again"), "{error}");
        assert!(!Path::new(&output).join("report.json").exists());
        assert!(Path::new(&output).join("linear.safetensors").exists());
    }
}
