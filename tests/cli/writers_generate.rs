//! Several processes on one output folder of `generate`, and where a process takes its rank from.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::common::{command, root, text};
use crate::process::{freezes, thaw};

/// Captions `count` times, a folder for the output, and the command line without more flags.
fn words(folder: &Path, count: usize, more: &[&str]) -> Vec<String> {
    let captions = folder.join("captions.txt");
    fs::write(&captions, "a photo of a coat\n".repeat(count)).unwrap();
    let (model, captions, output) = (text(&root().join("assets/tiny-sd")), text(&captions), text(&folder.join("out")));
    let line = ["generate", "--model", &model, "--captions", &captions, "--output", &output, "--steps", "4", "-w", "1"];
    line.iter().chain(more).map(|&word| word.to_owned()).collect()
}

fn start(words: &[String]) -> Command {
    command(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Exit code and what was said.
fn ends(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Names in the output folder that tell of a running or a killed process.
fn traces(folder: &Path) -> Vec<String> {
    let names =
        fs::read_dir(folder.join("out")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

#[test]
fn one_process_of_a_rank_and_ranks_of_one_run() {
    let folder = TempDir::new().unwrap();
    let ranks = |rank, of, more: &[&str]| {
        let all: Vec<&str> =
            ["--images-per-shard", "40", "--rank", rank, "--world-size", of].iter().chain(more).copied().collect();
        words(folder.path(), 120, &all)
    };
    let mut first = start(&ranks("0", "2", &[])).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Held where it is while it writes its first shard.
    let writes = || folder.path().join("out/.00000.tar.partial").exists();
    assert!(freezes(&mut first, writes), "ended before it was seen writing");
    let (code, said) = ends(start(&ranks("0", "2", &[])));
    assert!(code == Some(2) && said.contains("another process is writing into this folder as rank 0 of 2"), "{said}");
    for (rank, of) in [("0", "1"), ("1", "3")] {
        let (code, said) = ends(start(&ranks(rank, of, &[])));
        let expected = format!(
            "another process is writing into this folder, of a run of another --world-size (rank 0 of 2; this one is rank {rank} of {of})"
        );
        assert!(code == Some(2) && said.contains(&expected), "{said}");
    }
    // The other rank of the run works, and leaves alone what the first one is writing.
    let (code, said) = ends(start(&ranks("1", "2", &[])));
    assert!(code == Some(0) && said.contains("not finished: 1 of 3 shards are done"), "{said}");
    assert!(folder.path().join("out/.00000.tar.partial").exists());
    // Whoever is killed holds nothing; the next one clears up, whichever shards it draws.
    first.kill().unwrap();
    first.wait().unwrap();
    fs::write(folder.path().join("out/.99999.tar.partial"), "left by a killed run").unwrap();
    let (code, said) = ends(start(&ranks("0", "1", &[])));
    assert!(code == Some(0) && said.contains("3 shards, 1 already whole"), "{said}");
    assert_eq!(traces(folder.path()), Vec::<String>::new());
}

#[test]
fn ranks_come_from_real_launchers_and_are_said() {
    let drawn = |environment: &[(&str, &str)]| {
        let folder = TempDir::new().unwrap();
        let words = words(folder.path(), 4, &["--images-per-shard", "1"]);
        let mut command = start(&words);
        command.envs(environment.iter().copied());
        let (code, said) = ends(command);
        assert_eq!(code, Some(0), "{said}");
        let shards = (0..4).filter(|i| folder.path().join(format!("out/{i:05}.tar")).exists()).collect::<Vec<_>>();
        (shards, said)
    };
    let batch = [("SLURM_JOB_ID", "7"), ("SLURM_PROCID", "0"), ("SLURM_NTASKS", "2"), ("SLURM_LOCALID", "0")];
    assert_eq!(drawn(&batch).0, [0, 1, 2, 3]);
    let step: Vec<_> = batch.iter().copied().chain([("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "2")]).collect();
    let (shards, said) = drawn(&step);
    assert!(said.contains("rank 0 of 2, from SLURM_PROCID and SLURM_STEP_NUM_TASKS"), "{said}");
    assert!(shards == [0, 2] && said.contains("not finished: 2 of 4 shards are done"), "{shards:?} {said}");
    let array = [
        ("SLURM_ARRAY_TASK_ID", "6"),
        ("SLURM_ARRAY_TASK_MIN", "2"),
        ("SLURM_ARRAY_TASK_MAX", "6"),
        ("SLURM_ARRAY_TASK_STEP", "4"),
        ("SLURM_ARRAY_TASK_COUNT", "2"),
    ];
    let (shards, said) = drawn(&array);
    assert!(said.contains("rank 1 of 2, from SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT"), "{said}");
    assert_eq!(shards, [1, 3]);
}

/// Training takes no part of anything: it says so.
#[test]
fn train_says_that_ranks_are_nothing_to_it() {
    let folder = TempDir::new().unwrap();
    let (data, run) = (text(folder.path()), text(&folder.path().join("run")));
    let mut command = command(&["train", "--data", &data, "--output", &run]);
    let (_, said) = ends({
        command.env("RANK", "1").env("WORLD_SIZE", "4");
        command
    });
    assert!(said.contains("training uses one device: rank 1 of 4, from RANK and WORLD_SIZE, is ignored"), "{said}");
}

/// A shard that somebody takes away while the others are drawn is no work for other ranks: there are none.
#[test]
fn a_shard_that_is_lost_meanwhile_is_an_error() {
    let folder = TempDir::new().unwrap();
    let words = words(folder.path(), 24, &["--images-per-shard", "8"]);
    let first = folder.path().join("out/00000.tar");
    let mut child = start(&words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    assert!(freezes(&mut child, || first.exists()), "ended before its first shard was seen");
    fs::remove_file(&first).unwrap();
    thaw(&child);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("00000.tar; run the same command again"), "{said}");
    assert!(!folder.path().join("out/stats.json").exists());
    let (code, said) = ends(start(&words));
    assert!(code == Some(0) && first.exists(), "{said}");
}
