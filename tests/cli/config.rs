//! `--config`: every flag of a command from a file, and the file that a run writes of itself.

use std::fs;

use crate::bad_train::Case;
use crate::common::{fails, fixture, succeeds, text};

/// A run from a file alone, and again from the file it wrote: the same bits.
#[test]
fn a_run_can_be_fed_back() {
    let case = Case::new();
    let first = case.path("first");
    let words = case.words(&["--output", &text(&first), "--save-every", "2steps", "--threads", "1"]);
    let mut toml = String::new();
    for pair in words[1..].chunks(2) {
        toml += &format!("{} = \"{}\"\n", pair[0].trim_start_matches("--"), pair[1]);
    }
    let file = case.path("mine.toml");
    fs::write(&file, &toml).unwrap();
    succeeds(&["train", "--config", &text(&file)]);
    let written = first.join("config.toml");
    let second = case.path("second");
    succeeds(&["train", "--config", &text(&written), "--output", &text(&second)]);
    let bytes = |run: &std::path::Path, name: &str| fs::read(run.join(name)).unwrap();
    for name in ["checkpoint.safetensors", "config.json"] {
        assert!(bytes(&first, name) == bytes(&second, name), "{name} differs");
    }
    let lines = |run: &std::path::Path| String::from_utf8(bytes(run, "config.toml")).unwrap();
    assert_eq!(lines(&first).replace(&text(&first), &text(&second)), lines(&second));
    assert!(lines(&first).contains("save-every = \"2steps\"") && lines(&first).contains("head-dims = [32, 16]"));
    // The file belongs to the run: with it alone, the run is found finished.
    succeeds(&["train", "--config", &text(&written)]);
}

/// The largest seed, a switched flag and a list survive the way through the file.
#[test]
fn odd_settings_survive() {
    let case = Case::new();
    let flags = ["--seed", "9223372036854775807", "--no-shuffle", "--crop-scale", "0.5,1", "--augmentation", "weak"];
    case.succeeds(&flags);
    let (run, again) = (case.path("run"), case.path("again"));
    succeeds(&["train", "--config", &text(&run.join("config.toml")), "--output", &text(&again)]);
    assert_eq!(fs::read(run.join("config.json")).unwrap(), fs::read(again.join("config.json")).unwrap());
    // What does not apply is not in the file, which would be refused with it.
    let (simclr, plain) = (case.path("simclr"), case.path("plain"));
    case.succeeds(&["--method", "simclr", "--images-per-caption", "UNSET", "--output", &text(&simclr)]);
    succeeds(&["train", "--config", &text(&simclr.join("config.toml")), "--output", &text(&plain)]);
    assert_eq!(fs::read(simclr.join("config.json")).unwrap(), fs::read(plain.join("config.json")).unwrap());
    case.refuses(&["--seed", "9223372036854775808"], 2, &["--seed", "9223372036854775807"]);
}

/// What only some methods are told comes back too.
#[test]
fn settings_of_every_method_survive() {
    let case = Case::new();
    let tokenizer = text(&fixture("tiny_tokenizer"));
    let texts = format!(
        "--tokenizer {tokenizer} --context-length 12 --text-width 16 --text-depth 1 --text-heads 2 --embed-dim 8"
    );
    let one = "--images-per-caption UNSET --head-dims 32,16";
    for (name, flags) in [
        ("clip", format!("--method clip --images-per-caption UNSET --head-dims UNSET {texts}")),
        ("plus", format!("--method stablerep+ --projection mlp --text-weight 0.5 {texts}")),
        ("queue", "--queue 24 --crops 2 --drop-path 0.2 --qk-norm --depth 2 --positives caption".to_owned()),
        ("byol", format!("--method byol --optimizer lars --momentum 0.9 {one}")),
        (
            "dino",
            format!("--method dino --augmentation byol --local-crops 2 --local-size 16 --local-scale 0.1,0.4 {one}"),
        ),
        (
            "mae",
            "--method mae --images-per-caption UNSET --head-dims UNSET --decoder-width 16 --decoder-heads 2".to_owned(),
        ),
    ] {
        let (run, again) = (case.path(name), case.path(&format!("{name}-again")));
        let output = text(&run);
        let words: Vec<&str> = flags.split_whitespace().chain(["--output", &output, "--threads", "1"]).collect();
        case.succeeds(&words);
        succeeds(&["train", "--config", &text(&run.join("config.toml")), "--output", &text(&again), "--threads", "1"]);
        for file in ["checkpoint.safetensors", "config.json"] {
            assert!(fs::read(run.join(file)).unwrap() == fs::read(again.join(file)).unwrap(), "{name}: {file}");
        }
    }
}

#[test]
fn other_commands_take_files_too() {
    let case = Case::new();
    let file = case.path("odd.toml");
    fs::write(&file, "images-per-caption = 2\nstep = 4\n").unwrap();
    fails(&["generate", "--config", &text(&file)], 2, &["odd.toml", "line 2", "step", "--steps"]);
    fs::write(&file, "knn = \"many\"\n").unwrap();
    fails(&["probe", "--config", &text(&file)], 2, &["odd.toml", "line 1", "knn", "many"]);
    fs::write(&file, b"\xff\xfe").unwrap();
    fails(&["probe", "--config", &text(&file)], 2, &["odd.toml", "UTF-8"]);
    // Two keys of which only one may be given.
    fs::write(&file, "checkpoint = \"src\"\nknn = 3\nrandom-init = \"vit_tiny\"\n").unwrap();
    fails(&["probe", "--config", &text(&file)], 2, &["odd.toml", "line 3", "`random-init`", "`checkpoint` (line 1)"]);
    fs::write(&file, "checkpoint = \"nowhere/at/all\"\n").unwrap();
    fails(&["probe", "--config", &text(&file)], 2, &["odd.toml", "line 1", "`checkpoint`", "does not exist"]);
    fails(&["probe", "--config", "nowhere.toml"], 2, &["--config", "nowhere.toml", "does not exist"]);
    // What is missing in both is asked for as ever.
    fs::write(&file, "images-per-caption = 2\n").unwrap();
    fails(&["generate", "--config", &text(&file)], 2, &["--model", "--captions", "--output"]);
}
