//! Signals that meet a run while its device still has an update queued.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use stablerep::weights::SafeTensors;
use tempfile::TempDir;

use crate::support::{Model, has_kernels};
use crate::train::{command, finish, metrics, stopped_by, words};

/// So many that a run which is met early has some left.
const STEPS: &str = "8";

/// A run whose queued updates begin when the host waits for them, and never by themselves.
fn start(words: &[String]) -> Command {
    let mut command = command(Model::H200, words);
    command.env("CUDA_SIM_LAG_US", "3600000000");
    command
}

/// Every line of the metrics but for the speed.
fn numbers(folder: &Path) -> Vec<Value> {
    let mut lines = metrics(folder);
    lines.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("images_per_second")));
    lines
}

/// The updates that the checkpoint of `folder` has done, all of whose values can be read and are finite.
fn saved(folder: &Path) -> usize {
    let file = SafeTensors::open(folder.join("checkpoint.safetensors")).unwrap();
    for name in file.names() {
        let values = file.f32(name, file.shape(name).unwrap()).unwrap();
        assert!(values.iter().all(|value| value.is_finite()), "{name}");
    }
    file.metadata("step").unwrap().parse().unwrap()
}

/// Meets runs of `save_every` by `signals` after so many lines of metrics, and has each go on to its end: in the bits
/// of one that nobody disturbed. `met` is shown the folder and the exit code of what was met.
fn ends_in_the_same_bits(save_every: &str, until: &[usize], signals: &[&str], met: impl Fn(usize, &Path, i32)) {
    if !has_kernels() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let whole = folder.path().join("whole");
    finish(Model::H200, &words(&whole, "cuda", STEPS, save_every));
    for &until in until {
        let output = folder.path().join(format!("met{until}"));
        let words = words(&output, "cuda", STEPS, save_every);
        let code = stopped_by(signals, &|| start(&words), &output, until);
        assert!(!output.join("done.json").exists());
        met(until, &output, code);
        finish(Model::H200, &words);
        let bytes = |run: &Path| fs::read(run.join("checkpoint.safetensors")).unwrap();
        assert!(bytes(&whole) == bytes(&output), "{signals:?} after {until} updates: the checkpoint differs");
        assert_eq!(numbers(&whole), numbers(&output), "{signals:?} after {until} updates");
    }
}

/// When a line is there the update behind it is queued: it is waited for, written down and saved. A new run has no
/// checkpoint before.
#[test]
fn what_is_queued_is_saved() {
    ends_in_the_same_bits("1000steps", &[1, 3], &["INT"], |until, output, code| {
        assert_eq!(code, 75);
        let done = metrics(output).len();
        assert!(until < done, "{done} updates, of which {until} were there and another queued");
        assert_eq!(saved(output), done);
    });
}

/// A second signal ends the process at once, by 128 and its number; if both come before it looked at the first it may
/// still save. Either way what is there is a whole checkpoint, and the run goes on from it.
#[test]
fn a_second_signal_leaves_what_was_saved() {
    ends_in_the_same_bits("2steps", &[3], &["INT", "TERM"], |_, output, code| {
        assert!([75, 130, 143].contains(&code), "exit code {code}");
        assert!(saved(output) >= 2);
    });
}
