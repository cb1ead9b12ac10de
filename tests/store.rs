//! Files with one writer, folders with one writer of each rank, and what folders remember.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use stablerep::store::{AtomicFile, claim_folder, lock_folder, occupy_folder, write_atomic};
use tempfile::TempDir;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_has_one_writer() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a");
    fs::write(folder.path().join(".a.partial"), "a longer leftover of a killed writer").unwrap();
    let mut first = AtomicFile::create(&path).unwrap();
    first.write_all(b"first").unwrap();
    let refused = AtomicFile::create(&path).unwrap_err();
    assert_eq!(refused.exit_code(), 2);
    assert!(refused.to_string().contains("another process is writing this file"), "{refused}");
    first.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"first");
    // One that gives up leaves the old file and nothing else.
    drop(AtomicFile::create(&path).unwrap());
    assert_eq!((fs::read(&path).unwrap(), names(folder.path())), (b"first".to_vec(), vec!["a".to_owned()]));
    write_atomic(&path, b"second").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
}

#[test]
fn a_folder_has_one_writer_of_each_rank_of_one_run() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out");
    let take = |rank, of| occupy_folder(&out, rank, of);
    let first = take(0, 2).unwrap();
    fs::write(out.join(".00000.tar.partial"), "being written").unwrap();
    let second = take(1, 2).unwrap();
    assert!(first.alone && !second.alone);
    for (rank, of) in [(0, 2), (1, 2), (0, 1), (2, 3)] {
        let refused = take(rank, of).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        assert!(refused.to_string().contains("another process is writing into this folder"), "{refused}");
    }
    assert!(out.join(".00000.tar.partial").exists());
    drop(first);
    assert!(!take(0, 2).unwrap().alone);
    assert!(take(0, 3).is_err());
    drop(second);
    // Nobody is there: what was left is removed, and so is the trace of who is killed.
    fs::write(out.join(".running-rank-7-of-9"), "").unwrap();
    let alone = take(2, 3).unwrap();
    assert!(alone.alone);
    assert_eq!(names(&out), [".running-rank-2-of-3"]);
    drop(alone);
    assert_eq!(names(&out), [""; 0]);
}

#[test]
fn who_waits_for_a_folder_gets_it() {
    let folder = TempDir::new().unwrap();
    let held = lock_folder(folder.path()).unwrap();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| lock_folder(folder.path()).map(drop))).collect();
        drop(held);
        waiting.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    });
    assert_eq!(names(folder.path()), [""; 0]);
}

#[derive(Serialize, Deserialize)]
struct Settings {
    scale: f32,
    steps: usize,
    #[serde(default)]
    later: bool,
    from: Option<String>,
}

#[test]
fn a_folder_remembers_values_and_not_their_spelling() {
    let folder = TempDir::new().unwrap();
    let settings = |steps| Settings { scale: 2.1, steps, later: false, from: None };
    let claim = |steps| claim_folder(folder.path(), "settings.json", &settings(steps), &[("steps", "--how-many")]);
    claim(4).unwrap();
    let record = folder.path().join("settings.json");
    assert!(fs::read_to_string(&record).unwrap().contains("\"scale\": 2.1,"));
    for same in [
        "{\"steps\": 4.0, \"scale\": 2.0999999046325684}",
        "{\"from\": null, \"scale\": 2.1, \"steps\": 4, \"later\": false}",
    ] {
        fs::write(&record, same).unwrap();
        claim(4).unwrap();
        assert_eq!(fs::read_to_string(&record).unwrap(), same);
    }
    let text = claim(5).unwrap_err().to_string();
    assert!(text.contains("--how-many: was 4, now 5") && !text.contains("scale"), "{text}");
    fs::write(&record, "{\"scale\": 2.1, \"steps\": 4, \"newer\": 1}").unwrap();
    let text = claim(4).unwrap_err().to_string();
    assert!(text.contains("--newer: was 1, now not set"), "{text}");
    fs::write(&record, "{").unwrap();
    assert_eq!(claim(4).unwrap_err().exit_code(), 3);
}
