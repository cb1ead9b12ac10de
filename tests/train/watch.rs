//! What is scored while a run trains.

use std::fs;
use std::path::{Path, PathBuf};

use stablerep::eval::encoder::{ModelSource, Placement};
use stablerep::eval::knn::KnnConfig;
use stablerep::eval::{DataSource, ProbeConfig, ProbeSettings, TestSource, probe};
use stablerep::image::{Rgb8, encode_png};
use stablerep::shards::ShardWriter;
use stablerep::train::method::Name;
use stablerep::train::{CHECKPOINT, Config, Length, Rate, SaveEvery, WatchConfig, run};
use tempfile::TempDir;

use crate::language::{job, metrics};

fn photographs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/fashion-mnist")
}

fn watch(every: SaveEvery, train: PathBuf, test: PathBuf) -> WatchConfig {
    WatchConfig { every, train, test: Some(test), class_names: None, templates: vec!["{}".into()] }
}

/// The probe's k-NN of the encoder at the end; and training is not changed by being looked at.
#[test]
fn scores_are_those_of_the_probe() {
    let plain = TempDir::new().unwrap();
    run(&job(Name::Clip, plain.path())).unwrap();
    let folder = TempDir::new().unwrap();
    let watched = Config {
        watch: Some(watch(SaveEvery::Steps(4), photographs(), photographs())),
        ..job(Name::Clip, folder.path())
    };
    run(&watched).unwrap();
    let read = |folder: &TempDir| fs::read(folder.path().join(CHECKPOINT)).unwrap();
    assert!(read(&plain) == read(&folder));
    // Numbers are no names.
    let lines = metrics(folder.path());
    assert!(lines.iter().all(|line| line.get("zero_shot").is_none()));
    let scored: Vec<usize> = (0..10).filter(|&step| lines[step].get("knn").is_some()).collect();
    assert_eq!(scored, [3, 7, 9]);

    // What a signal kept from being scored is made up by the next run.
    let path = folder.path().join("metrics.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    let cut = whole.rfind(",\"knn\"").unwrap();
    fs::write(&path, format!("{}}}\n", &whole[..cut])).unwrap();
    fs::remove_file(folder.path().join("done.json")).unwrap();
    run(&watched).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), whole);

    let report = probe(&ProbeConfig {
        model: ModelSource::Checkpoint { path: folder.path().to_owned(), heads: None, weights: None, image_size: None },
        placement: Placement::default(),
        train: DataSource { path: photographs(), labels: None },
        test: TestSource::Images(DataSource { path: photographs(), labels: None }),
        max_bad: 0,
        settings: ProbeSettings { fit: None, resize: None, linear: None, knn: Some(KnnConfig::default()), seed: 0 },
        output: None,
    })
    .unwrap();
    assert_eq!(lines[9]["knn"], report.scores[0].found["test"]);
}

const COLOURS: [(&str, [u8; 3]); 8] = [
    ("red", [220, 20, 20]),
    ("green", [20, 200, 20]),
    ("blue", [20, 20, 220]),
    ("yellow", [220, 220, 20]),
    ("violet", [200, 20, 200]),
    ("cyan", [20, 200, 200]),
    ("white", [240, 240, 240]),
    ("black", [10, 10, 10]),
];

/// Shards of coloured squares with their names, and a folder of them for each colour.
fn squares(shards: &Path, classes: &Path) {
    fs::create_dir_all(shards).unwrap();
    let mut shard = ShardWriter::create(shards.join("00000.tar")).unwrap();
    for (number, (name, colour)) in COLOURS.iter().enumerate() {
        let png = encode_png(&Rgb8::filled(32, 32, *colour)).unwrap();
        shard.add(name, &[("png", &png), ("txt", name.as_bytes())]).unwrap();
        let folder = classes.join(number.to_string());
        fs::create_dir_all(&folder).unwrap();
        // Held out is one of two.
        ["a.png", "b.png"].iter().for_each(|name| fs::write(folder.join(name), &png).unwrap());
    }
    shard.finish().unwrap();
}

/// What CLIP has learned by heart it finds by name, and by no other name.
#[test]
fn texts_that_were_learned_name_their_images() {
    let root = TempDir::new().unwrap();
    let [shards, classes] = ["shards", "classes"].map(|name| root.path().join(name));
    squares(&shards, &classes);
    let mut names = COLOURS.map(|(name, _)| name);
    let mut scores = Vec::new();
    for turn in [0, 1] {
        names.rotate_left(turn);
        let list = root.path().join(format!("names-{turn}"));
        fs::write(&list, names.join("\n")).unwrap();
        let watch = WatchConfig {
            class_names: Some(list),
            templates: vec!["{}".into(), "{} ".into()],
            test: None,
            ..watch(SaveEvery::Epochs(1000.0), classes.clone(), classes.clone())
        };
        let mut job = Config { watch: Some(watch), ..job(Name::Clip, &root.path().join(format!("run-{turn}"))) };
        job.recipe.data = vec![shards.clone()];
        job.recipe.init_from = None;
        job.recipe.length = Length::Steps(150);
        job.recipe.rate = Rate::Peak(2e-3);
        run(&job).unwrap();
        let lines = metrics(&job.output);
        assert!(lines[..149].iter().all(|line| line.get("zero_shot").is_none()));
        assert_eq!(lines[149]["knn"], 100.0);
        scores.push(lines[149]["zero_shot"].as_f64().unwrap());
    }
    assert_eq!(scores, [100.0, 0.0]);
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let folder = TempDir::new().unwrap();
    let names = folder.path().join("names");
    fs::write(&names, "one\n\nthree\n").unwrap();
    let base = watch(SaveEvery::Steps(1), photographs(), photographs());
    let with = |method, watch| Config { watch: Some(watch), ..job(method, &folder.path().join("run")) };
    let seconds = with(Name::Clip, WatchConfig { every: SaveEvery::Seconds(60.0), ..base.clone() });
    let template = WatchConfig { templates: vec!["a photo".into()], ..base.clone() };
    let letters = folder.path().join("ten");
    fs::write(&letters, "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n").unwrap();
    let template = with(Name::Clip, WatchConfig { class_names: Some(letters), ..template });
    let alike = folder.path().join("alike");
    fs::write(&alike, "bag\n".repeat(10)).unwrap();
    let alike = with(Name::Clip, WatchConfig { class_names: Some(alike), ..base.clone() });
    let mut said_nowhere = with(Name::StableRep, base.clone());
    (said_nowhere.recipe.language, said_nowhere.recipe.init_from, said_nowhere.tokenizer) = (None, None, None);
    let single = folder.path().join("single");
    for class in ["ant", "bee"] {
        fs::create_dir_all(single.join(class)).unwrap();
        fs::write(single.join(class).join("0.png"), encode_png(&Rgb8::filled(9, 9, [7; 3])).unwrap()).unwrap();
    }
    let single = with(Name::Clip, WatchConfig { train: single, test: None, ..base.clone() });
    let named = WatchConfig { class_names: Some(names), ..base };
    let mut no_texts = with(Name::StableRep, named.clone());
    no_texts.recipe.language = None;
    no_texts.recipe.init_from = None;
    no_texts.tokenizer = None;
    for (job, code, words) in [
        (seconds, 2, "--knn-every 60s: expected steps or epochs"),
        (template, 2, "--template \"a photo\": expected {}"),
        (alike, 3, "0 (\"bag\") and 1 (\"bag\") read alike for zero-shot accuracy; give them other names, or shorter"),
        (said_nowhere, 2, "--template: --method stablerep reads no texts"),
        (single, 2, "no class has two images, so none can be held out; give test images"),
        (with(Name::Clip, named), 3, "3 line(s), the 2. blank, expected one name for each of the 10 classes"),
        (no_texts, 2, "--class-names: --method stablerep reads no texts"),
    ] {
        let error = run(&job).unwrap_err();
        assert!(error.exit_code() == code && error.to_string().contains(words), "{error}");
        assert!(!job.output.exists(), "{words}");
    }
}

/// A run that goes on is scored on what it was: by content, however often.
#[test]
fn scores_of_a_run_are_of_one_measure() {
    let root = TempDir::new().unwrap();
    let [shards, classes, moved, others] = ["shards", "classes", "moved", "others"].map(|name| root.path().join(name));
    [&classes, &moved, &others].iter().for_each(|folder| squares(&shards, folder));
    fs::write(others.join("0/b.png"), encode_png(&Rgb8::filled(32, 32, [1; 3])).unwrap()).unwrap();
    let names = |turn: usize| {
        let (list, mut names) = (root.path().join(format!("names-{turn}")), COLOURS.map(|(name, _)| name));
        names.rotate_left(turn);
        fs::write(&list, names.join("\n")).unwrap();
        Some(list)
    };
    let first = WatchConfig { class_names: names(0), ..watch(SaveEvery::Steps(4), classes.clone(), classes.clone()) };
    let with = |watch: Option<WatchConfig>| Config { watch, ..job(Name::Clip, &root.path().join("run")) };
    run(&with(Some(first.clone()))).unwrap();
    let again = |watch: WatchConfig| {
        // As if it had been stopped before it was done.
        let _ = fs::remove_file(root.path().join("run/done.json"));
        run(&with(Some(watch)))
    };
    for (watch, flag) in [
        (WatchConfig { train: others.clone(), ..first.clone() }, "--knn-train: was 16 pictures of 8 classes (sha256 "),
        (
            WatchConfig { test: Some(others.clone()), ..first.clone() },
            "--knn-test: was 16 pictures of 8 classes (sha256 ",
        ),
        (WatchConfig { test: None, ..first.clone() }, "--knn-test: was 16 pictures of 8 classes (sha256 "),
        (WatchConfig { class_names: names(1), ..first.clone() }, "--class-names: was 8 names (sha256 "),
        (WatchConfig { templates: vec!["a {}".into()], ..first.clone() }, "--template: was [\"{}\"], now [\"a {}\"]"),
    ] {
        let error = again(watch).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(flag), "{error}");
    }
    // Elsewhere, by another name, more often.
    let other = WatchConfig { train: moved.clone(), test: Some(moved), every: SaveEvery::Steps(1), ..first };
    let names = root.path().join("renamed");
    fs::rename(other.class_names.as_ref().unwrap(), &names).unwrap();
    again(WatchConfig { class_names: Some(names), ..other }).unwrap();
    run(&with(None)).unwrap();
}
