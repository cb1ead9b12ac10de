//! The data of `train` through the binary: what a run belongs to, what is left out and said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use stablerep::image::{Rgb8, encode_png};
use stablerep::shards::{ShardWriter, image_key, shard_name};
use tempfile::TempDir;

use crate::common::{command, run, text};

/// A shard of two pictures for each of some captions; `spoil` may change the file of one.
fn write_shard(path: &Path, captions: std::ops::Range<u64>, spoil: &dyn Fn(u64, usize, &mut Vec<u8>)) {
    let mut shard = ShardWriter::create(path).unwrap();
    for caption in captions {
        for image in 0..2usize {
            let mut png = encode_png(&Rgb8::filled(32, 32, [caption as u8 * 20, 100 * image as u8, 9])).unwrap();
            spoil(caption, image, &mut png);
            let words = format!("caption {caption}");
            shard.add(&image_key(caption, image), &[("png", &png), ("txt", words.as_bytes())]).unwrap();
        }
    }
    shard.finish().unwrap();
}

struct Case {
    folder: TempDir,
}

impl Case {
    /// `data` with one shard of captions 0–7.
    fn new() -> Self {
        let case = Self { folder: TempDir::new().unwrap() };
        fs::create_dir(case.path("data")).unwrap();
        write_shard(&case.path("data/00000.tar"), 0..8, &|_, _, _| {});
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `train` in the case's folder into `run`.
    fn command(&self, flags: &str) -> Command {
        let line = format!(
            "train --output run --model custom --image-size 32 --patch-size 16 --width 12 --depth 1 --heads 1 \
             --head-dims 8,4 --batch 4 \
             --images-per-caption 2 --lr 1e-3 --threads 1 {flags}"
        );
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = command(&words);
        command.current_dir(self.folder.path());
        command
    }

    /// Exit code and messages.
    fn train(&self, flags: &str) -> (i32, String) {
        let output = self.command(flags).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// Runs and checks the exit code and that every part is said.
    fn says(&self, flags: &str, code: i32, parts: &[&str]) -> String {
        let (got, said) = self.train(flags);
        assert_eq!(got, code, "{flags}\n{said}");
        for part in parts {
            assert!(said.contains(part), "{flags}\nexpected `{part}` in:\n{said}");
        }
        said
    }
}

#[test]
fn a_run_belongs_to_what_the_shards_hold() {
    let case = Case::new();
    case.says("--data data --steps 2", 0, &[]);
    let finished = ["is finished already"];
    case.says("--data ./data/ --steps 2", 0, &finished);
    case.says("--data data/00000.tar --steps 2", 0, &finished);
    fs::rename(case.path("data"), case.path("moved")).unwrap();
    fs::rename(case.path("moved/00000.tar"), case.path("moved/renamed.tar")).unwrap();
    case.says("--data moved --steps 2", 0, &finished);

    write_shard(&case.path("moved/z.tar"), 8..12, &|_, _, _| {});
    let said = case.says(
        "--data moved --steps 2",
        2,
        &["other data than --data holds", "1 shard(s) added: z.tar (8 samples)"],
    );
    assert!(said.contains("was 16 samples in 1 shard(s), now 24 in 2") && said.contains("--init-from"), "{said}");
    case.says("--data moved/z.tar --steps 2", 2, &["1 shard(s) removed: 00000.tar (16 samples)"]);
    fs::remove_file(case.path("moved/z.tar")).unwrap();
    // The same names and lengths, another picture.
    fs::rename(case.path("moved/renamed.tar"), case.path("moved/00000.tar")).unwrap();
    write_shard(&case.path("moved/00000.tar"), 0..8, &|caption, image, png| {
        if (caption, image) == (3, 1) {
            let last = png.len() - 20;
            png[last] ^= 1;
        }
    });
    case.says("--data moved --steps 2", 2, &["1 shard(s) changed: 00000.tar (16 samples)"]);
    // A run of a version that recorded no data goes on; its checkpoint still knows.
    fs::remove_file(case.path("run/data.json")).unwrap();
    fs::remove_file(case.path("run/done.json")).unwrap();
    case.says("--data moved --steps 2", 3, &["checkpoint.safetensors: was written by a run over other data"]);
}

/// How many bad samples a run tolerates changes none of its numbers, and what it counted goes on after a stop.
#[test]
fn the_count_of_bad_samples_survives_a_stop() {
    let case = Case::new();
    write_shard(&case.path("data/00000.tar"), 0..9, &|caption, image, png| {
        if image == 0 && [0, 4].contains(&caption) {
            png.truncate(50);
        }
    });
    let flags = "--data data --no-shuffle --steps 2 --save-every 1steps --method simclr --max-bad";
    for _ in 0..2 {
        case.says(&format!("{flags} 1"), 3, &["00000004_000", "2 bad sample(s), --max-bad allows 1"]);
    }
    let said = case.says(
        &format!("{flags} 2"),
        0,
        &["the last 1 are never taken", "only the first 1 images", "going on after step 1"],
    );
    assert!(said.contains("bad sample 2 of 2"), "{said}");
}

#[test]
fn a_folder_that_is_not_finished_is_refused() {
    let case = Case::new();
    fs::write(case.path("data/generate.json"), br#"{"captions": 24, "captions_per_shard": 8}"#).unwrap();
    case.says(
        "--data data --steps 1",
        3,
        &["data: ", "2 of 3 shards are missing (00001.tar, 00002.tar)", "--allow-partial"],
    );
    assert!(!case.path("run").exists());
    case.says(
        "--data data --steps 1 --allow-partial",
        0,
        &["note: data: ", "2 of 3 shards are missing", "8 captions with 16"],
    );
    for i in 1..3 {
        write_shard(&case.path(&format!("data/{}", shard_name(i))), 8 * i as u64..9 * i as u64, &|_, _, _| {});
    }
    fs::write(case.path("data/stats.json"), b"{}").unwrap();
    fs::remove_dir_all(case.path("run")).unwrap();
    case.says("--data data --steps 1", 0, &["11 captions with 22 images"]);
}

#[test]
fn captions_that_are_short_twice_or_blank_are_said() {
    let case = Case::new();
    let mut shard = ShardWriter::create(case.path("data/00001.tar")).unwrap();
    let png = encode_png(&Rgb8::filled(32, 32, [1, 2, 3])).unwrap();
    shard.add("alone", &[("png", &png), ("txt", b"one picture")]).unwrap();
    shard.add("blank", &[("png", &png), ("txt", b" \n")]).unwrap();
    shard.finish().unwrap();
    let flags = "--data data data/00000.tar --steps 1";
    case.says(flags, 3, &["00001.tar: blank: its .txt is blank", "--max-bad allows 0"]);
    let said = case.says(
        &format!("{flags} --max-bad 1"),
        0,
        &["8 captions with 16 images", "named twice", "warning: bad sample"],
    );
    assert!(
        said.contains("1 of 9 captions have fewer than 2 images (e.g. that of data/00001.tar: alone has 1)"),
        "{said}"
    );
    case.says("--data data --min-images 1 --steps 1", 2, &["--min-images 1", "2 different images are drawn"]);
}

#[test]
fn folders_and_files_that_are_no_shards_are_named() {
    let case = Case::new();
    fs::create_dir_all(case.path("photos/cats")).unwrap();
    fs::write(case.path("photos/cats/1.jpg"), b"").unwrap();
    case.says("--data photos --steps 1", 3, &["folder(s) of pictures such as photos/cats", "webdataset"]);
    let parent = text(case.folder.path());
    case.says(&format!("--data {parent} --steps 1"), 3, &["hold shards: name them", "data"]);
    fs::write(case.path("x.tar.gz"), [0x1F, 0x8B, 8, 0, 0, 0]).unwrap();
    case.says("--data x.tar.gz --steps 1", 3, &["gzip-compressed", "gunzip"]);
    let output = run(&["inspect", &text(&case.path("x.tar.gz"))]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(3) && said.contains("gzip-compressed"), "{said}");
    let output = run(&["inspect", &text(&case.path("photos"))]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("folder(s) of pictures"));
}
