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
            let mut png =
                encode_png(&Rgb8::filled(32, 32, [(caption as u8).wrapping_mul(20), 100 * image as u8, 9])).unwrap();
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

    /// `train` in the case's folder into `run`; what `flags` say again replaces what is said here.
    fn command(&self, flags: &str) -> Command {
        let base = "--output run --model custom --image-size 32 --patch-size 16 --width 12 --depth 1 --heads 1 \
                    --head-dims 8,4 --batch 4 --images-per-caption 2 --lr 1e-3 --threads 1";
        let base: Vec<&str> = base.split_whitespace().collect();
        let given: Vec<&str> = flags.split_whitespace().collect();
        let kept = base.chunks(2).filter(|pair| !given.contains(&pair[0])).flatten();
        let words: Vec<&str> = ["train"].iter().chain(kept).chain(&given).copied().collect();
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

/// A sample as `generate` describes it.
fn drawn(shard: &mut ShardWriter, caption: u64, image: usize, seed: u64, flags: &str) {
    let color = [caption as u8 * 20, 60 * image as u8, seed as u8];
    let png = encode_png(&Rgb8::filled(32, 32, color)).unwrap();
    let words = format!("caption {caption}");
    let json = format!(
        r#"{{"caption_id":{caption},"image_index":{image},"caption":"{words}","seed":{seed},"flags":[{flags}]}}"#
    );
    let members: [(&str, &[u8]); 3] = [("png", &png), ("txt", words.as_bytes()), ("json", json.as_bytes())];
    shard.add(&image_key(caption, image), &members).unwrap();
}

#[test]
fn pictures_that_were_not_finite_are_left_out_and_said() {
    let case = Case::new();
    let write = |spoiled: std::ops::Range<u64>| {
        let mut shard = ShardWriter::create(case.path("data/00000.tar")).unwrap();
        for caption in 0..6 {
            for image in 0..3 {
                let bad = spoiled.contains(&caption) && image == 1;
                drawn(&mut shard, caption, image, 0, if bad { r#""truncated","not_finite""# } else { "" });
            }
        }
        shard.finish().unwrap();
    };
    write(2..4);
    let said = "2 samples have the flag not_finite, e.g. data/00000.tar: 00000002_001";
    case.says("--data data --steps 1", 0, &["note: ", said, "left out", "6 captions with 16 images"]);
    let output = command(&["inspect", "data"]).current_dir(case.folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.contains(said), "{text}");
    assert!(!text.contains("indexing"), "{text}");
    // Where it is why too little is left, the error says so.
    write(0..6);
    let refused = ["6 of 6 captions have fewer than 3 images", "6 samples have the flag not_finite"];
    case.says("--data data --steps 1 --images-per-caption 3 --output other", 3, &refused);
}

/// A second folder whose `--seed` was forgotten holds no new pictures.
#[test]
fn pictures_that_were_drawn_twice_are_used_once_and_said() {
    let case = Case::new();
    for (folder, images, seed) in [("data", 2, 0), ("more", 3, 0), ("other", 3, 1)] {
        fs::create_dir_all(case.path(folder)).unwrap();
        let mut shard = ShardWriter::create(case.path(folder).join("00000.tar")).unwrap();
        (0..6).for_each(|caption| (0..images).for_each(|image| drawn(&mut shard, caption, image, seed, "")));
        shard.finish().unwrap();
    }
    let twice = "12 sample(s) were drawn with the caption, model, seed and image index of another one, e.g. \
                 more/00000.tar: 00000000_000 as data/00000.tar: 00000000_000";
    case.says("--data data more --steps 1", 0, &[twice, "another --seed", "6 captions with 18 images"]);
    let said = case.says("--data data other --steps 1 --output run2", 0, &["6 captions with 30 images"]);
    assert!(!said.contains("were drawn with"), "{said}");
    case.says("--data data more --steps 1 --images-per-caption 4 --output run3", 3, &[twice, "fewer than 4 images"]);
    // The same settings in both: whole shards are copies.
    fs::create_dir(case.path("again")).unwrap();
    fs::copy(case.path("data/00000.tar"), case.path("again/00000.tar")).unwrap();
    let copies = ["again/00000.tar is a copy of data/00000.tar and is used once", "another --seed"];
    case.says("--data data again --steps 1 --output run4", 0, &copies);
}

/// Weights to start from are those that the file holds, under whatever name.
#[test]
fn a_run_belongs_to_the_weights_it_started_from() {
    let case = Case::new();
    case.says("--data data --steps 1 --warmup-steps 0 --output first", 0, &[]);
    case.says("--data data --steps 1 --warmup-steps 0 --output second --seed 1", 0, &[]);
    let flags = "--data data --steps 2 --init-from";
    case.says(&format!("{flags} first"), 0, &["starting from first/checkpoint.safetensors"]);
    for same in ["first/", "./first/checkpoint.safetensors"] {
        case.says(&format!("{flags} {same}"), 0, &["is finished already"]);
    }
    fs::rename(case.path("first"), case.path("moved")).unwrap();
    case.says(&format!("{flags} moved"), 0, &["is finished already"]);
    case.says(
        &format!("{flags} second"),
        2,
        &["started from other weights", "--init-from", "was ", "another --output"],
    );
    case.says("--data data --steps 2", 2, &["started from other weights", "now random weights"]);
    // What is gone is not needed any more.
    let gone = ["note: --init-from cannot be compared", "first", "is finished already"];
    case.says(&format!("{flags} first"), 0, &gone);
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
    let flags =
        "--data data --no-shuffle --steps 2 --save-every 1steps --images-per-caption 1 --method simclr --max-bad";
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
    // Shards that are named one by one are of the same folder.
    for data in ["data/00001.tar", "data/{00000..00001}.tar"] {
        case.says(
            &format!("--data {data} --steps 1 --output new"),
            3,
            &["data: all 3 shards are there", "--allow-partial"],
        );
    }
    let mut command = case.command("--data ../data/00000.tar --steps 1 --output ../new --allow-partial");
    let said = command.current_dir(case.path("run")).output().unwrap();
    assert!(String::from_utf8_lossy(&said.stderr).contains("note: ../data: all 3 shards are there"), "{said:?}");
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
    case.says(
        "--data data --min-images 1 --steps 1",
        2,
        &["--min-images 1", "2 different images are drawn", "leave it out"],
    );
}

/// What a message about --min-images tells to do works.
#[test]
fn advice_about_min_images_leads_somewhere() {
    let case = Case::new();
    let mut shard = ShardWriter::create(case.path("data/00000.tar")).unwrap();
    (0..6).for_each(|caption| (0..4).for_each(|image| drawn(&mut shard, caption, image, 0, "")));
    shard.finish().unwrap();
    let says = |flags: &str, code, part: &str| case.says(&format!("--data data --steps 1 {flags}"), code, &[part]);
    says("--min-images 5", 3, "6 have 4 or more: --min-images 4");
    says("--min-images 4 --output four", 0, "6 captions with 24 images");
    says("--min-images 5 --images-per-caption 4", 3, "6 have 4 or more: leave --min-images out");
    says("--min-images 6 --images-per-caption 5", 3, "6 have 4 or more: --images-per-caption 4, without --min-images");
    says("--images-per-caption 5", 3, "6 have 4 or more: --images-per-caption 4");
    says("--images-per-caption 4 --output four_each", 0, "6 captions");
    says("--min-images 5 --images-per-caption 1 --method simclr", 3, "6 have 4 or more: --min-images 4");
    says("--min-images 5 --batch 7", 3, "use a smaller --batch or more data, with a smaller --min-images");
    // As many as are drawn anyway is no other setting.
    says("--min-images 2", 0, "6 captions");
    says("", 0, "is finished already");
    let config = fs::read_to_string(case.path("run/config.json")).unwrap();
    let earlier = config.replacen('{', "{\"min_images\": 2,", 1);
    fs::write(case.path("run/config.json"), earlier).unwrap();
    says("--min-images 2", 0, "is finished already");
    case.says("--data data --steps 1 --min-images 3", 2, &["--min-images: was not set, now 3"]);
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

/// The same sample twice in one tar is one; another one of the same name is not.
#[test]
fn a_sample_that_comes_twice_in_a_tar_is_used_once() {
    let case = Case::new();
    let png = |shade: u8| encode_png(&Rgb8::filled(32, 32, [shade, 9, 40])).unwrap();
    let mut shard = ShardWriter::create(case.path("data/00001.tar")).unwrap();
    for (key, shade) in [("a", 10), ("b", 20), ("a", 10), ("c", 30), ("b", 20)] {
        shard.add(key, &[("png", &png(shade)), ("txt", b"twice")]).unwrap();
    }
    shard.finish().unwrap();
    let out = String::from_utf8(run(&["inspect", &text(&case.path("data"))]).stdout).unwrap();
    assert!(out.lines().any(|line| line.starts_with("samples") && line.ends_with(" 19")), "{out}");
    let (code, said) = case.train("--data data --steps 2");
    assert!(code == 0 && said.contains("2 sample(s) come a second time") && said.contains("e.g. a;"), "{said}");
}
