//! Flags that name a path: what is not there, and what is a file where a folder is written or the other way round, is
//! said by the flag's name before anything is done.

use std::fs;

use crate::bad_train::Case;
use crate::common::{fails, fixture, succeeds, text};

#[test]
fn inputs_that_are_not_there() {
    let case = Case::new();
    fs::write(case.path("captions.txt"), "a\n").unwrap();
    let (near, far) = (text(&case.path("caption.txt")), text(&case.path("no/such/place")));
    let out = text(&case.path("out"));
    let model = "bundled";
    let captions = text(&case.path("captions.txt"));
    let generate = ["generate", "--model", model, "--output", &out];
    let probe = ["probe", "--random-init", "vit_tiny"];
    let photos = text(&fixture("train_run"));
    for (flag, words) in [
        ("--captions", [&generate[..], &["--captions"]].concat()),
        ("--initial-noise", [&generate[..], &["--captions", &captions, "--initial-noise"]].concat()),
        ("--fp8", [&generate[..], &["--captions", &captions, "--fp8"]].concat()),
        ("--data", vec!["train", "--output", &out, "--data"]),
        ("--config", vec!["train", "--config"]),
        ("--train", [&probe[..], &["--test", &photos, "--train"]].concat()),
        ("--test", [&probe[..], &["--train", &photos, "--test"]].concat()),
        ("--train-labels", [&probe[..], &["--train", &photos, "--test", &photos, "--train-labels"]].concat()),
        ("--checkpoint", vec!["probe", "--train", &photos, "--test", &photos, "--checkpoint"]),
        ("--checkpoint", vec!["export", "--output", &out, "--checkpoint"]),
        ("", vec!["inspect"]),
    ] {
        let words = |path| [&words[..], &[path]].concat();
        let said = format!("did you mean {captions}?");
        let named = |path: &str| format!("error: {flag} {path}: does not exist; expected").replace(":  ", ": ");
        fails(&words(&near), 2, &[&named(&near), &said]);
        let only = format!("only {} is there", text(case.path("x").parent().unwrap()));
        fails(&words(&far), 2, &[&named(&far), &only]);
        assert!(!case.path("out").exists(), "{flag}");
    }
}

/// Of every kind: what is below a file is not there, a folder is no file, and a file no folder.
#[test]
fn inputs_of_the_other_kind() {
    let case = Case::new();
    let file = text(&case.path("captions.txt"));
    fs::write(case.path("captions.txt"), "a\n").unwrap();
    let folder = text(case.path("x").parent().unwrap());
    let below = format!("{file}/x");
    let out = text(&case.path("out"));
    let encoder = text(&fixture("train_run/init.safetensors"));
    let generate = ["generate", "--model", "bundled", "--output", &out];
    let lists = ["eval", "aro", "--checkpoint", &encoder];
    let is_folder = |flag: &str| format!("{flag} {folder}: is a folder; expected ");
    for (flag, words) in [
        ("--captions", &generate[..]),
        ("--fp8", &[&generate[..], &["--captions", &file]].concat()),
        ("--config", &["train"]),
        ("--list", &[&lists[..], &["--images", &folder]].concat()),
        ("--leave-out", &[&lists[..], &["--images", &folder, "--list", &file]].concat()),
        ("--inception", &["eval", "fid", "--real", &folder, "--generated", &folder]),
        ("--class-names", &["eval", "zero-shot", "--checkpoint", &encoder, "--data", &folder]),
        ("--class-names", &["eval", "segment", "--checkpoint", &encoder, "--data", &folder, "--output", &out]),
        ("--attention", &["inspect", &encoder, "--sheet", "none.png"]),
        ("--nearest", &["inspect", &encoder, "--data", &folder]),
    ] {
        fails(&[words, &[flag, &folder]].concat(), 2, &[&is_folder(flag)]);
        fails(&[words, &[flag, &below]].concat(), 2, &[&format!("{flag} {below}: does not exist; expected ")]);
    }
    let images = format!("--images {file}: is a file; expected the folder");
    fails(&[&lists[..], &["--list", &file, "--images", &file]].concat(), 2, &[&images]);
    fails(&["compare", &file, &file], 2, &["is a file; expected the folder of a training run"]);
    for (flag, words) in [
        ("--checkpoint", vec!["export", "--output", &out]),
        ("--train", vec!["probe", "--random-init", "vit_tiny", "--test", &folder]),
        ("--features", vec!["eval", "diversity", "--random-init", "vit_tiny", "--sets", &folder]),
    ] {
        fails(&[&words[..], &[flag, &below]].concat(), 2, &[flag, &below]);
    }
    fails(&["inspect", &below], 2, &[&below, "does not exist"]);
    fails(&["report", &below], 2, &[&below, "does not exist"]);
    assert!(!case.path("out").exists());
}

/// Initial weights are asked for when a run begins; one that goes on has read them.
#[test]
fn initial_weights_are_there_when_a_run_begins() {
    let case = Case::new();
    let init = case.path("init.safetensors");
    let named = ["--init-from", &text(&init)];
    case.refuses(&named, 2, &["--init-from", "init.safetensors", "does not exist", "no such name in"]);
    assert!(!case.path("run").exists());
}

#[test]
fn outputs_of_the_other_kind() {
    let case = Case::new();
    let file = text(&case.path("captions.txt"));
    fs::write(case.path("captions.txt"), "a\n").unwrap();
    let folder = text(case.path("x").parent().unwrap());
    let photos = text(&fixture("train_run"));
    let file_for_folder = ["--output", "captions.txt", "is a file; expected a folder"];
    fails(&["export", "--checkpoint", &photos, "--output", &file], 2, &file_for_folder);
    fails(&["generate", "--model", "bundled", "--captions", &file, "--output", &file], 2, &file_for_folder);
    case.refuses(&["--output", &file], 2, &file_for_folder);
    fails(&["inspect", &photos, "--sheet", &folder], 2, &["--sheet", "is a folder; expected a name for a file"]);
    let bench = ["bench", "generate", "--model", "bundled", "--json", &folder];
    fails(&bench, 2, &["--json", "is a folder"]);
    assert_eq!(fs::read_to_string(case.path("captions.txt")).unwrap(), "a\n");
    // A new name, and a folder that is there, are fine.
    let (new, weights) = (text(&case.path("new")), text(&fixture("train_run/init.safetensors")));
    for _ in 0..2 {
        succeeds(&["export", "--checkpoint", &weights, "--output", &new, "--heads", "3"]);
    }
}

/// Who reads in any order would wait for who writes into it.
#[test]
fn pipes_are_no_data() {
    let case = Case::new();
    let pipe = text(&case.path("pipe"));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let out = text(&case.path("out"));
    for words in [
        vec!["eval", "diversity", "--checkpoint", &pipe, "--sets", &pipe],
        vec!["probe", "--random-init", "vit_tiny", "--test", &pipe, "--train", &pipe],
        vec!["train", "--output", &out, "--data", &pipe],
    ] {
        fails(&words, 2, &["pipe: is a pipe or a device; expected "]);
    }
}
