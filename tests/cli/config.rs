//! `--config`: every flag of a command from a file, and the file that a run writes of itself.

use std::fs;

use crate::bad_train::Case;
use crate::common::{fails, succeeds, text};

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
