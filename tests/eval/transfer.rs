use std::fs;

use serde_json::Value;
use stablerep::eval::dataset::published::{LAYOUTS, Layout};
use stablerep::eval::encoder::{ModelSource, Placement};
use stablerep::eval::few_shot::episode::{Protocol, Sizes};
use stablerep::eval::few_shot::{FewShotConfig, few_shot};
use stablerep::eval::logistic::LIMITS;
use stablerep::eval::transfer::protocol::{STRENGTHS, Task, Truth, lambdas};
use stablerep::eval::transfer::{TransferConfig, transfer};
use stablerep::models::vit::VitConfig;
use tempfile::TempDir;

use super::published::fixture;

pub fn model() -> ModelSource {
    let sizes = VitConfig {
        image_size: 8,
        patch_size: 4,
        width: 16,
        depth: 1,
        heads: 2,
        ..VitConfig::named("vit_tiny").unwrap()
    };
    ModelSource::Random { model: sizes, seed: 1 }
}

fn config(names: &[&str], output: &TempDir) -> TransferConfig {
    let data = names.iter().map(|name| (Layout::named(name).unwrap(), fixture(name))).collect();
    let (fit, resize, output) = (None, None, output.path().to_path_buf());
    TransferConfig {
        model: model(),
        placement: Placement::default(),
        data,
        max_bad: 0,
        fit,
        resize,
        max_iterations: 1000,
        seed: 0,
        output,
    }
}

/// Red and blue are told apart in every layout; there are means only where every data set is there.
#[test]
fn eleven_data_sets_have_two_means() {
    let output = TempDir::new().unwrap();
    let names: Vec<&str> = LAYOUTS.iter().map(|layout| layout.name).collect();
    let report = transfer(&config(&names, &output)).unwrap();
    for data in &report.data {
        // Of what a picture of VOC shows, its colour tells but a part.
        let least = if data.name == "voc2007" { 50.0 } else { 100.0 };
        assert!(data.score >= least && data.validation.len() == STRENGTHS, "{data:?}");
    }
    let mean = |skip| report.data[skip..].iter().map(|data| data.score).sum::<f64>() / (11 - skip) as f64;
    assert!((report.mean_of_11.unwrap() - mean(0)).abs() < 1e-6 && (report.mean_of_9.unwrap() - mean(2)).abs() < 1e-6);
    assert!(report.text(false).contains("mean of 9, without CIFAR") && report.text(true).contains("| 11-point mAP |"));
    assert_eq!((report.data[4].train, report.data[4].val, report.data[4].test, report.data[4].classes), (2, 2, 2, 2));
    assert_eq!((report.data[6].train, report.data[6].val, report.data[8].val), (5, 1, 12));
    let nine = transfer(&config(&names[2..], &output)).unwrap();
    assert_eq!((nine.mean_of_11, nine.mean_of_9), (None, report.mean_of_9));
    let written: Value = serde_json::from_slice(&fs::read(output.path().join("report.json")).unwrap()).unwrap();
    assert_eq!((written["data"].as_array().unwrap().len(), &written["mean_of_11"]), (9, &Value::Null));
}

/// A finished data set is taken from its file as long as everything it depends on is the same.
#[test]
fn what_is_finished_is_not_done_again() {
    let (output, data) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let text = |name: &str| fs::read_to_string(fixture("dtd").join(name)).unwrap();
    for name in ["labels/train1.txt", "labels/val1.txt", "labels/test1.txt"] {
        fs::create_dir_all(data.path().join("labels")).unwrap();
        fs::write(data.path().join(name), text(name)).unwrap();
        for line in text(name).lines() {
            let to = data.path().join("images").join(line);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(fixture("dtd").join("images").join(line), to).unwrap();
        }
    }
    let mut config = config(&["dtd"], &output);
    config.data[0].1 = data.path().to_path_buf();
    let first = transfer(&config).unwrap();
    let bytes = fs::read(output.path().join("report.json")).unwrap();
    // What the file says is believed, so a figure that no run gives tells that none was made.
    let kept = output.path().join("dtd.json");
    let marked = fs::read_to_string(&kept).unwrap().replace("\"score\": 100.0", "\"score\": 12.5");
    fs::write(&kept, &marked).unwrap();
    assert_eq!(transfer(&config).unwrap().data[0].score, 12.5);
    config.seed = 1;
    assert_eq!(transfer(&config).unwrap().data[0].score, first.data[0].score, "another seed");
    config.seed = 0;
    fs::write(&kept, &marked).unwrap();
    let image = data.path().join("images/banded/banded_0001.jpg");
    fs::copy(data.path().join("images/banded/banded_0002.jpg"), image).unwrap();
    assert_eq!(transfer(&config).unwrap().data[0].score, first.data[0].score, "another image");
    fs::copy(fixture("dtd/images/banded/banded_0001.jpg"), data.path().join("images/banded/banded_0001.jpg")).unwrap();
    fs::write(&kept, "{").unwrap();
    assert_eq!(transfer(&config).unwrap(), first);
    assert_eq!(fs::read(output.path().join("report.json")).unwrap(), bytes);
}

/// One feature per image, and its class.
fn task(parts: [&[(f32, u32)]; 3]) -> Task {
    Task {
        name: "numbers".into(),
        width: 1,
        features: parts.map(|part| part.iter().map(|(x, _)| *x).collect()),
        truth: Truth::Classes {
            labels: parts.map(|part| part.iter().map(|(_, y)| *y).collect()),
            mean_per_class: false,
        },
    }
}

#[test]
fn the_first_best_strength_wins() {
    let train = [(-2.0, 0), (-1.0, 0), (1.0, 900_000), (2.0, 900_000)];
    let mut strengths = 0;
    let found = task([&train, &train, &[(-5.0, 0), (9.0, 900_000), (0.5, 4)]]).run(LIMITS, |n| strengths += n).unwrap();
    assert_eq!((found.chosen, found.validation[0], strengths), (0, 100.0, STRENGTHS));
    // A class that was never shown is never right.
    assert!((found.test - 200.0 / 3.0).abs() < 1e-9, "{found:?}");
    let lambdas = lambdas();
    assert!((lambdas[0] / 1e-6 - 1.0).abs() < 1e-12 && (lambdas[44] / 1e5 - 1.0).abs() < 1e-12);
    assert!((lambdas[20] / 1e-1 - 1.0).abs() < 1e-12);
}

/// Train alone has never shown class 2, which only val has.
#[test]
fn the_last_fit_is_to_train_and_val() {
    let (train, val) = ([(-2.0, 0), (-1.8, 0), (0.0, 1), (0.2, 1)], [(-2.1, 0), (0.1, 1), (3.0, 2), (3.1, 2)]);
    let found = task([&train, &val, &[(3.05, 2), (3.2, 2)]]).run(LIMITS, |_| ()).unwrap();
    assert_eq!((found.validation[0], found.test), (50.0, 100.0));
}

#[test]
fn what_has_no_score_is_named() {
    let one = task([&[(1.0, 3), (2.0, 3)], &[(1.0, 3)], &[(1.0, 4)]]).run(LIMITS, |_| ()).unwrap_err();
    assert_eq!(one.exit_code(), 3);
    assert!(one.to_string().contains("numbers: its 2 train images are of one class"), "{one}");
    // A feature that all images have alike tells nothing, and disturbs nothing.
    let same =
        task([&[(0.1, 0), (0.1, 1), (0.1, 1)], &[(0.1, 1)], &[(0.7, 1), (-3.0, 0)]]).run(LIMITS, |_| ()).unwrap();
    assert_eq!((same.validation[0], same.test), (100.0, 50.0));
    let things = |present: [&[bool]; 3]| Task {
        truth: Truth::Things(vec![("dog".into(), present.map(<[bool]>::to_vec))]),
        ..task([&[(1.0, 0), (2.0, 0)], &[(1.0, 0), (2.0, 0)], &[(1.0, 0), (2.0, 0)]])
    };
    let found = things([&[true, false]; 3]).run(LIMITS, |_| ()).unwrap();
    assert_eq!(found.test, 100.0);
    let none = things([&[true, false], &[true, false], &[false, false]]).run(LIMITS, |_| ()).unwrap_err();
    assert!(none.to_string().contains("0 of its 2 test images show dog"), "{none}");
}

/// A run, again, is the same to the bit, and damaged images are named.
#[test]
fn few_shots_of_every_protocol() {
    let output = TempDir::new().unwrap();
    for protocol in [Protocol::SslTransfer, Protocol::Lgssl] {
        let config = |shots| FewShotConfig {
            model: model(),
            placement: Placement::default(),
            data: ["food101", "caltech101"].map(|name| (Layout::named(name).unwrap(), fixture(name))).to_vec(),
            max_bad: 0,
            fit: None,
            resize: None,
            protocol,
            sizes: Sizes { ways: 2, shots, queries: 3 },
            episodes: 300,
            seed: 0,
            output: output.path().to_path_buf(),
        };
        let report = few_shot(&config(2)).unwrap();
        assert_eq!(report, few_shot(&config(2)).unwrap());
        assert!(report.data.iter().all(|data| data.score.mean > 99.0 && data.score.interval < 1.0), "{report:?}");
        assert_eq!((report.data[0].score.mean, report.data[1].images, report.data[1].classes), (100.0, 62, 2));
        assert!((report.mean.unwrap() - 50.0 - 0.5 * report.data[1].score.mean).abs() < 1e-9);
        let error = few_shot(&config(4)).unwrap_err();
        let lacks = if protocol == Protocol::Lgssl { "3 images to train, expected 4" } else { "4 images, expected 5" };
        assert!(error.exit_code() == 3 && error.to_string().contains(lacks), "{error}");
        assert!(error.to_string().contains("food101: class \"apple_pie\""), "{error}");
        let ways = FewShotConfig { sizes: Sizes { ways: 3, shots: 1, queries: 1 }, ..config(1) };
        assert!(few_shot(&ways).unwrap_err().to_string().contains("--ways 3: food101 has 2 classes"));
        let voc = FewShotConfig { data: vec![(Layout::named("voc2007").unwrap(), fixture("voc2007"))], ..config(1) };
        assert_eq!(few_shot(&voc).unwrap_err().exit_code(), 2);
    }
}
