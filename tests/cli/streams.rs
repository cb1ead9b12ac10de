//! Standard output and error that are full, closed, or have lost their reader: no panic, no work lost, an exit code
//! that means something.

use std::fs::{self, OpenOptions};
use std::io::pipe;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::common::{assert_same_files, command, fixture, root, succeeds, text};

/// The end of a pipe that nobody reads any more.
fn unread() -> Stdio {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A disk without room.
fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// Exit code and what was said on standard error.
fn ends(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    (output.status.code(), text)
}

/// Commands whose answer is on standard output: whole, as help, as version.
fn answers() -> [Vec<String>; 4] {
    let weights = text(&fixture("loss.safetensors"));
    [
        vec!["inspect".into(), weights],
        vec!["--help".into()],
        vec!["train".into(), "--help".into()],
        vec!["--version".into()],
    ]
}

fn with(words: &[String]) -> Command {
    command(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for words in answers() {
        let mut command = with(&words);
        command.stdout(unread());
        assert_eq!(ends(command), (Some(0), String::new()), "{words:?}");
    }
}

#[test]
fn an_answer_that_is_lost_on_a_full_disk_fails_and_says_why() {
    for words in answers() {
        let mut command = with(&words);
        command.stdout(full());
        let (code, text) = ends(command);
        assert_eq!(code, Some(1), "{words:?}: {text}");
        assert!(text.contains("standard output could not be written (No space left on device"), "{words:?}: {text}");
    }
}

/// The shell closes them; the program must neither fail nor write its answer into a file that it opens later.
#[test]
fn closed_streams_change_nothing() {
    for words in answers() {
        let mut shell = Command::new("sh");
        shell.args(["-c", r#""$0" "$@" <&- >&- 2>&-"#, env!("CARGO_BIN_EXE_stablerep")]).args(&words);
        assert_eq!(ends(shell).0, Some(0), "{words:?}");
    }
}

#[test]
fn a_mistake_keeps_its_exit_code_when_it_cannot_be_said() {
    for words in [&["frobnicate"][..], &["train", "--nope"], &["inspect", "/no/such/file"]] {
        let code = command(words).output().unwrap().status.code();
        for stderr in [full, unread] {
            let mut command = command(words);
            command.stderr(stderr());
            assert_eq!(command.status().unwrap().code(), code, "{words:?}");
        }
    }
}

/// Drawing and training go on without anybody who listens, and leave the same files.
#[test]
fn jobs_go_on_without_their_messages() {
    let folder = TempDir::new().unwrap();
    let captions = folder.path().join("captions.txt");
    fs::write(&captions, "a photo of a bag\na photo of a boot\n").unwrap();
    let output = |name: &str| folder.path().join(name);
    let generate = |name: &str| {
        let (model, captions, output) = (text(&root().join("assets/tiny-sd")), text(&captions), text(&output(name)));
        command(&[
            "generate",
            "--model",
            &model,
            "--captions",
            &captions,
            "--output",
            &output,
            "--steps",
            "1",
            "-w",
            "1",
            "--images-per-shard",
            "1",
        ])
    };
    let train = |name: &str| {
        let (data, output) = (text(&fixture("train_run/stablerep")), text(&output(name)));
        let flags = format!(
            "train --data {data} --output {output} --model custom --image-size 32 --patch-size 8 --width 24 --depth 1 \
             --heads 3 --head-dims 32,16 --batch 4 --images-per-caption 3 --steps 3 --warmup-steps 1 --lr 1e-3"
        );
        command(&flags.split_whitespace().collect::<Vec<_>>())
    };
    assert_eq!(ends(generate("shards")).0, Some(0));
    for (name, stderr) in [("shards-full", full()), ("shards-unread", unread())] {
        let mut command = generate(name);
        command.stderr(stderr).stdout(unread());
        assert_eq!(command.status().unwrap().code(), Some(0), "{name}");
        assert_same_files(&output("shards"), &output(name), name);
    }
    assert_eq!(ends(train("run")).0, Some(0));
    for (name, stderr) in [("run-full", full()), ("run-unread", unread())] {
        let mut command = train(name);
        command.stderr(stderr).stdout(unread());
        assert_eq!(command.status().unwrap().code(), Some(0), "{name}");
        let checkpoint = |name: &str| fs::read(output(name).join("checkpoint.safetensors")).unwrap();
        assert!(checkpoint("run") == checkpoint(name), "{name}");
        assert!(output(name).join("done.json").exists(), "{name}");
    }
}

#[test]
fn the_version_says_what_the_build_can_compute_on() {
    let version = succeeds(&["--version"]);
    assert!(version.starts_with(&format!("stablerep {} (", env!("CARGO_PKG_VERSION"))), "{version}");
    assert!(version.contains("CUDA kernels"), "{version}");
}

/// Widths that no terminal has.
#[test]
fn odd_terminals_get_their_help() {
    for columns in ["0", "1", "7", "100000", "wide", ""] {
        for words in [&["--help"][..], &["generate", "--help"], &[]] {
            let mut command = command(words);
            command.env("COLUMNS", columns).env("TERM", "dumb");
            let (code, text) = ends(command);
            assert_eq!(code, Some(if words.is_empty() { 2 } else { 0 }), "COLUMNS={columns}: {text}");
        }
    }
}
