//! `kill -9` and SIGTERM at random instants of `train`: the run ends in the same bits as one that was never disturbed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use stablerep::rng::{Domain, Stream};
use tempfile::TempDir;

use crate::common::{command, fails, fixture, succeeds, text};

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
    assert_eq!(metrics(a), metrics(b), "{what}");
    assert!(b.join("done.json").exists());
}

#[test]
fn train_survives_kills() {
    let folder = TempDir::new().unwrap();
    let reference = folder.path().join("reference");
    let (steps, save_every) = ("240", "7steps");
    let started = Instant::now();
    finish(&words(&reference, steps, save_every));
    let whole = started.elapsed().as_secs_f32();
    assert_eq!(metrics(&reference).len(), 240);

    let mut random = Stream::new(5, Domain::Shuffle, [0; 3]);
    let mut landed = 0;
    let mut went_on = 0;
    for round in 0..7 {
        let output = folder.path().join(format!("killed{round}"));
        for _ in 0..4 {
            let mut child = start(&words(&output, steps, save_every)).spawn().unwrap();
            sleep(Duration::from_secs_f32(random.uniform_in(0.03, 0.35) * whole));
            child.kill().unwrap();
            landed += usize::from(!child.wait().unwrap().success());
        }
        went_on += usize::from(output.join("checkpoint.safetensors").exists());
        finish(&words(&output, steps, save_every));
        assert_same_run(&reference, &output, &format!("round {round}"));
    }
    assert!(landed >= 20, "only {landed} kills met a running process");
    assert!(went_on >= 3, "only {went_on} of 7 runs had saved something before they were finished");
}

/// SIGTERM: exit code 75 with the state saved between two intervals, and the same command ends the run.
#[cfg(unix)]
#[test]
fn train_stops_on_a_signal_and_goes_on() {
    let folder = TempDir::new().unwrap();
    let (reference, output) = (folder.path().join("reference"), folder.path().join("stopped"));
    let (steps, save_every) = ("400", "1000steps");
    finish(&words(&reference, steps, save_every));
    let mut child = start(&words(&output, steps, save_every)).spawn().unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    while fs::read_to_string(output.join("metrics.jsonl")).map_or(0, |text| text.lines().count()) < 20 {
        assert!(Instant::now() < limit, "no 20 steps after a minute");
        sleep(Duration::from_millis(2));
    }
    let again = words(&output, steps, save_every);
    fails(&again.iter().map(String::as_str).collect::<Vec<_>>(), 2, &["another process is writing", "stopped"]);
    let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert!(output.join("checkpoint.safetensors").exists() && !output.join("done.json").exists());
    let done = metrics(&output).len();
    assert!((20..400).contains(&done), "{done}");
    finish(&words(&output, steps, save_every));
    assert_same_run(&reference, &output, "after SIGTERM");
}
