//! `kill -9` at random files of `generate`: the run ends in the same bytes as one that was never disturbed.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::{assert_same_files, command, files, root, succeeds, text};
use crate::process::{freezes, meets, signal, thaw};
use stablerep::rng::{Domain, Stream};
use tempfile::TempDir;

/// How far a run is: files of its folder, those being written included.
fn written(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count) + fs::read_dir(folder.join("latents")).map_or(0, Iterator::count)
}

#[test]
fn generate_survives_kills() {
    let folder = TempDir::new().unwrap();
    let captions = folder.path().join("captions.txt");
    let lines: Vec<String> =
        (0..24).map(|i| format!("a photo of a {} dress number {i}", ["dark", "light"][i % 2])).collect();
    fs::write(&captions, lines.join("\n")).unwrap();
    let (model, captions) = (text(&root().join("assets/tiny-sd")), text(&captions));
    let args = |output: &str| -> Vec<String> {
        let line =
            ["generate", "--model", &model, "--captions", &captions, "--output", output, "-m", "2", "--steps", "6"];
        let more = ["--images-per-shard", "4", "--batch", "3", "--save-latents", "--threads", "1"];
        line.iter().chain(&more).map(|&word| word.to_owned()).collect()
    };
    let run = |output: &str| {
        let words = args(output);
        succeeds(&words.iter().map(String::as_str).collect::<Vec<_>>());
    };

    let reference = folder.path().join("reference");
    run(&text(&reference));
    let whole = written(&reference);

    let mut random = Stream::new(11, Domain::Shuffle, [0; 3]);
    let mut landed = 0;
    for round in 0.. {
        let output = folder.path().join(format!("killed{round}"));
        for _ in 0..4 {
            let words = args(&text(&output));
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let until = random.uniform_in(0.0, 0.8 * whole as f32) as usize;
            let mut child = command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            if meets(&mut child, || written(&output) >= until) {
                child.kill().unwrap();
            }
            landed += usize::from(!child.wait().unwrap().success());
            if output.exists() {
                for name in files(&output).into_keys().filter(|name| !name.contains(".partial")) {
                    // Whatever has its final name has its final bytes.
                    assert_eq!(
                        fs::read(output.join(&name)).unwrap(),
                        fs::read(reference.join(&name)).unwrap(),
                        "{name}"
                    );
                }
            }
        }
        run(&text(&output));
        assert_same_files(&reference, &output, &format!("round {round}"));
        if landed >= 20 {
            return;
        }
        assert!(round < 100, "only {landed} kills of 400 met a running process");
    }
}

/// SIGTERM, and the SIGHUP of a closed terminal: exit code 75, whole shards kept, and the same command ends the run.
#[test]
fn generate_stops_on_a_signal_and_says_how_to_go_on() {
    for name in ["TERM", "HUP"] {
        let (folder, child) = begun(false);
        signal(&child, name);
        thaw(&child);
        let result = child.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&result.stderr).into_owned();
        assert_eq!(result.status.code(), Some(75), "{message}");
        let kept = fs::read_dir(folder.path().join("out")).unwrap().flatten();
        let kept = kept.filter(|entry| entry.path().extension().is_some_and(|e| e == "tar")).count();
        assert!(message.contains(&format!("{kept} finished shards kept, ")), "{kept}: {message}");
        assert!(message.contains("dropped; run the same command again"), "{message}");
    }
}

/// What `nohup` starts goes on when the terminal is closed.
#[test]
fn generate_outlives_the_terminal_under_nohup() {
    let (folder, child) = begun(true);
    signal(&child, "HUP");
    thaw(&child);
    let result = child.wait_with_output().unwrap();
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
    assert!(folder.path().join("out/stats.json").exists());
}

/// A run of some shards, held where it has finished its first one; `nohup` with SIGHUP ignored, and few shards.
fn begun(nohup: bool) -> (TempDir, Child) {
    let folder = TempDir::new().unwrap();
    let captions = folder.path().join("captions.txt");
    fs::write(&captions, "a photo of a bag\n".repeat(if nohup { 12 } else { 400 })).unwrap();
    let output = text(&folder.path().join("out"));
    let (model, captions) = (text(&root().join("assets/tiny-sd")), text(&captions));
    let words =
        ["generate", "--model", &model, "--captions", &captions, "--output", &output, "--images-per-shard", "4"];
    let run = command(&words);
    // Whatever these tests themselves were started with.
    let mut command = Command::new("env");
    command.arg(if nohup { "--ignore-signal=HUP" } else { "--default-signal=HUP" });
    command.arg(run.get_program()).args(run.get_args());
    for (name, _) in run.get_envs().filter(|(_, value)| value.is_none()) {
        command.env_remove(name);
    }
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let shard = folder.path().join("out/00000.tar");
    assert!(freezes(&mut child, || shard.exists()), "all shards were drawn before the first of them was seen");
    (folder, child)
}

/// A signal that comes while a run still reads its captions ends it before it takes its folder.
#[test]
fn generate_stops_before_it_has_begun() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("captions.txt");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let output = folder.path().join("out");
    let (model, captions, out) = (text(&root().join("assets/tiny-sd")), text(&pipe), text(&output));
    let words = ["generate", "--model", &model, "--captions", &captions, "--output", &out, "--steps", "1"];
    let child = command(&words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // Opened as soon as the run opens it; what it reads comes after the signal.
    let mut captions = OpenOptions::new().write(true).open(&pipe).unwrap();
    signal(&child, "TERM");
    captions.write_all(b"a photo of a bag\n").unwrap();
    drop(captions);
    let result = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&result.stderr).into_owned();
    assert_eq!(result.status.code(), Some(75), "{message}");
    assert!(message.contains("nothing was drawn yet; run the same command again"), "{message}");
    assert!(!output.exists());
}
