//! `kill -9` and SIGTERM at random steps of `train`: the run ends in the same bits as one that was never disturbed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use stablerep::rng::{Domain, Stream};
use tempfile::TempDir;

use crate::common::{command, fails, fixture, succeeds, text};
use crate::labelled::{of_classes, shards};
use crate::process::{freezes, meets, signal, thaw};

fn words(output: &Path, steps: &str, save_every: &str) -> Vec<String> {
    let (data, output) = (text(&fixture("train_run/stablerep")), text(output));
    let line = format!(
        "train --data {data} --output {output} --model custom --image-size 32 --patch-size 8 --width 24 --depth 2 --heads 3 \
         --head-dims 32,16 --batch 4 --images-per-caption 3 --steps {steps} --lr 1e-3 --save-every {save_every} --threads 1"
    );
    line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn start(words: &[String]) -> Command {
    let mut command = command(&words.iter().map(String::as_str).collect::<Vec<_>>());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn finish(words: &[String]) {
    succeeds(&words.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Every line of the metrics but for the speed.
fn metrics(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let parse = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        value.as_object_mut().unwrap().remove("images_per_second").unwrap();
        value
    };
    text.lines().map(parse).collect()
}

fn assert_same_run(a: &Path, b: &Path, what: &str) {
    for name in ["checkpoint.safetensors", "config.json"] {
        assert!(fs::read(a.join(name)).unwrap() == fs::read(b.join(name)).unwrap(), "{what}: {name} differs");
    }
    let pictures = |folder: &Path| fs::read(folder.join("reconstructions.png")).ok();
    assert!(pictures(a) == pictures(b), "{what}: reconstructions.png differs");
    assert_eq!(metrics(a), metrics(b), "{what}");
    assert!(b.join("done.json").exists());
}

/// Steps that have their whole line.
fn steps_done(folder: &Path) -> usize {
    fs::read_to_string(folder.join("metrics.jsonl")).map_or(0, |text| text.matches('\n').count())
}

#[test]
fn train_survives_kills() {
    survives_kills(&words, 20);
}

/// With masks drawn for every step, and pictures beside the checkpoint.
#[test]
fn a_masked_autoencoder_survives_kills() {
    let mae = |output: &Path, steps: &str, save_every: &str| {
        let (data, output) = (text(&fixture("train_run/simclr")), text(output));
        let line = format!(
            "train --method mae --data {data} --output {output} --model custom --image-size 32 --patch-size 8 --width 24 --depth 2 \
             --heads 3 --decoder-width 16 --decoder-depth 1 --decoder-heads 2 --batch 8 --steps {steps} --lr 1e-3 \
             --save-every {save_every} --threads 1"
        );
        line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    survives_kills(&mae, 6);
}

/// Runs of `words` (of a folder, steps, and how often they save) until so many kills have met one.
fn survives_kills(words: &dyn Fn(&Path, &str, &str) -> Vec<String>, kills: usize) {
    const STEPS: usize = 240;
    let folder = TempDir::new().unwrap();
    let reference = folder.path().join("reference");
    let (steps, save_every) = (STEPS.to_string(), "7steps");
    finish(&words(&reference, &steps, save_every));
    assert_eq!(metrics(&reference).len(), STEPS);

    let mut random = Stream::new(5, Domain::Shuffle, [0; 3]);
    let (mut landed, mut went_on) = (0, 0);
    for round in 0.. {
        let output = folder.path().join(format!("killed{round}"));
        for _ in 0..4 {
            // A run that goes on finds the lines of the one before: then the kill meets it while it starts.
            let until = random.uniform_in(0.0, STEPS as f32) as usize;
            let mut child = start(&words(&output, &steps, save_every)).spawn().unwrap();
            if meets(&mut child, || steps_done(&output) >= until) {
                child.kill().unwrap();
            }
            landed += usize::from(!child.wait().unwrap().success());
        }
        went_on += usize::from(output.join("checkpoint.safetensors").exists());
        finish(&words(&output, &steps, save_every));
        assert_same_run(&reference, &output, &format!("round {round}"));
        if landed >= kills && went_on >= 3 {
            return;
        }
        assert!(round < 100, "only {landed} kills of 400 met a running process, {went_on} runs had saved something");
    }
}

/// What follows with momentum, and a queue of its keys, are kept with the rest.
#[test]
fn momentum_copies_survive_kills() {
    for method in ["mocov3", "byol", "dino --local-crops 2 --local-size 16", "simclr --queue 100"] {
        survives_two_kills(&format!(
            "--method {method} --data {} --head-dims 32,16 --augmentation byol --depth 2 --drop-path 0.3",
            text(&fixture("train_run/simclr"))
        ));
    }
}

/// Towers of texts and what they share with the images are kept with the rest.
#[test]
fn towers_of_texts_survive_kills() {
    for method in ["clip", "slip --head-dims 32,16", "stablerep+ --head-dims 32,16 --images-per-caption 3"] {
        survives_two_kills(&format!(
            "--method {method} --data {} --tokenizer {} --context-length 12 --text-width 16 --text-depth 1 --text-heads 2 \
             --embed-dim 8 --depth 1",
            text(&fixture("train_run/stablerep")),
            text(&fixture("tiny_tokenizer"))
        ));
    }
}

/// Views changed by chance, mixed batches, moving averages and scores go on where they were.
#[test]
fn fine_tuning_survives_kills() {
    let data = TempDir::new().unwrap();
    shards(data.path(), 26, 4, &of_classes(4));
    survives_two_kills(&format!(
        "--method finetune --data {0} --test {0}/00000.tar --test-every 9steps --ema 0.9 --depth 2",
        text(data.path())
    ));
}

/// A run of these settings that was killed twice after it had saved ends as one that was not.
fn survives_two_kills(settings: &str) {
    const STEPS: usize = 60;
    let folder = TempDir::new().unwrap();
    let words = |name: &str| {
        let line = format!(
            "train {settings} --output {} --model custom --image-size 32 --patch-size 8 --width 24 --heads 3 --batch 8 \
             --steps {STEPS} --lr 1e-3 --save-every 7steps --threads 1",
            text(&folder.path().join(name))
        );
        line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    finish(&words("reference"));
    let mut random = Stream::new(6, Domain::Shuffle, [0; 3]);
    let (mut landed, output) = (0, folder.path().join("killed"));
    for _ in 0..100 {
        let until = random.uniform_in(8.0, STEPS as f32) as usize;
        let mut child = start(&words("killed")).spawn().unwrap();
        if meets(&mut child, || steps_done(&output) >= until) {
            child.kill().unwrap();
        }
        let killed = !child.wait().unwrap().success();
        landed += usize::from(killed && output.join("checkpoint.safetensors").exists());
        if landed == 2 {
            break;
        }
        if !killed {
            fs::remove_dir_all(&output).unwrap();
            landed = 0;
        }
    }
    assert_eq!(landed, 2, "no kill met a run that had saved something: {settings}");
    finish(&words("killed"));
    assert_same_run(&folder.path().join("reference"), &output, settings);
}

/// SIGTERM: exit code 75 with the state saved between two intervals, and the same command ends the run. While it is
/// there, a second run in its folder is refused.
#[cfg(unix)]
#[test]
fn train_stops_on_a_signal_and_goes_on() {
    let folder = TempDir::new().unwrap();
    let reference = folder.path().join("reference");
    let (steps, save_every) = ("400", "1000steps");
    finish(&words(&reference, steps, save_every));
    // A run that ended before it was met is no trial.
    for trial in 0..100 {
        let output = folder.path().join(format!("stopped{trial}"));
        let again = words(&output, steps, save_every);
        let mut child = start(&again).spawn().unwrap();
        if !freezes(&mut child, || steps_done(&output) >= 20) {
            continue;
        }
        fails(&again.iter().map(String::as_str).collect::<Vec<_>>(), 2, &["another process is writing", "stopped"]);
        signal(&child, "TERM");
        thaw(&child);
        if child.wait().unwrap().code() == Some(0) {
            // It was past its last look at the signal.
            continue;
        }
        assert_eq!(child.wait().unwrap().code(), Some(75));
        assert!(output.join("checkpoint.safetensors").exists() && !output.join("done.json").exists());
        let done = metrics(&output).len();
        assert!((20..400).contains(&done), "{done}");
        finish(&again);
        assert_same_run(&reference, &output, "after SIGTERM");
        return;
    }
    panic!("no run of 400 steps was met after 20 of them, in 100 trials");
}
