//! Output folders of `generate` that lost something, or that are to hold more.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::common::{assert_same_files, command, files, root, text};

const LINES: [&str; 6] = [
    "a photo of a dark patterned slim dress",
    "a photo of a bag",
    "",
    "a light plain wide ankle boot",
    "a photo of a gray t-shirt",
    "a photo of a coat",
];

struct Run {
    folder: TempDir,
}

impl Run {
    /// Captions of `lines` and a folder `out` for them.
    fn new(lines: &[&str]) -> Self {
        let run = Self { folder: TempDir::new().unwrap() };
        run.captions(lines);
        run
    }

    fn captions(&self, lines: &[&str]) {
        fs::write(self.path("captions.txt"), lines.join("\n") + "\n").unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Exit code and what was said of a run into `output`.
    fn draw(&self, output: &str, more: &[&str]) -> (Option<i32>, String) {
        let (model, captions) = (text(&root().join("assets/tiny-sd")), text(&self.path("captions.txt")));
        let output = text(&self.path(output));
        let mut words =
            vec!["generate", "--model", &model, "--captions", &captions, "--output", &output, "--steps", "2"];
        if !more.contains(&"-m") {
            words.extend(["-m", "2", "--images-per-shard", "4"]);
        }
        words.extend(["--save-latents"].iter().chain(more));
        let output = command(&words).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn cut(path: &Path, from: u64, to: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    assert_eq!(file.metadata().unwrap().len() % 512, 0);
    file.set_len(file.metadata().unwrap().len().min(from) - to).unwrap();
}

/// A picture that cannot be read is met when the contact sheet is drawn: what is said there ends in a whole folder.
#[test]
fn advice_about_a_damaged_shard_leads_to_a_whole_one() {
    let run = Run::new(&LINES);
    assert_eq!(run.draw("whole", &[]).0, Some(0));
    assert_eq!(run.draw("out", &[]).0, Some(0));
    let tar = run.path("out/00000.tar");
    let mut bytes = fs::read(&tar).unwrap();
    let png = bytes.windows(4).position(|four| four == b"IDAT").unwrap();
    bytes[png + 12] ^= 0xff;
    fs::write(&tar, bytes).unwrap();
    let (code, said) = run.draw("out", &[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("00000.tar: damaged") && said.contains("remove it and run the same command again"), "{said}");
    fs::remove_file(&tar).unwrap();
    assert_eq!(run.draw("out", &[]).0, Some(0));
    assert_same_files(&run.path("out"), &run.path("whole"), "drawn again");
}

/// Zeros in place of the last bytes.
fn hole(path: &Path, bytes: usize) {
    let mut tar = fs::read(path).unwrap();
    let from = tar.len() - bytes;
    tar[from..].fill(0);
    fs::write(path, tar).unwrap();
}

/// What is done to a finished folder, under a name, and what the next run says of it.
type Damage<'a> = (&'a str, &'a dyn Fn(), &'a [&'a str]);

#[test]
fn what_was_lost_or_cut_is_made_again_in_the_same_bytes() {
    let long = "a very long caption ".repeat(30);
    let mut lines = LINES;
    lines[1] = &long;
    let run = Run::new(&lines);
    assert_eq!(run.draw("out", &[]).0, Some(0));
    let (out, whole) = (run.path("out"), run.path("whole"));
    for (name, bytes) in files(&out) {
        let path = whole.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let copy = |from: &str, to: &str| {
        fs::copy(out.join(from), out.join(to)).unwrap();
    };
    let another = "is another shard: sample 00000000_000 stands where 00000003_000 belongs; drawn again";
    let damages: [Damage; 13] = [
        ("another shard", &|| copy("00000.tar", "00001.tar"), &["00001.tar: ", another, "2 already whole"]),
        (
            "another shard without counts",
            &|| {
                copy("00000.tar", "00001.tar");
                fs::remove_file(out.join("00001_stats.json")).unwrap();
            },
            &["00001.tar: ", another],
        ),
        ("a hole before the end", &|| hole(&out.join("00001.tar"), 1024 + 512), &["00001.tar: ", "drawn again"]),
        ("a large hole", &|| hole(&out.join("00001.tar"), 4096), &["00001.tar: ", "drawn again"]),
        (
            "gone",
            &|| fs::remove_file(out.join("00001.tar")).unwrap(),
            &["1 shards have their counts", "2 already whole"],
        ),
        ("empty", &|| cut(&out.join("00001.tar"), 0, 0), &["00001.tar: is empty; drawn again", "2 already whole"]),
        ("no end", &|| cut(&out.join("00001.tar"), u64::MAX, 1024), &["00001.tar: ends without", "drawn again"]),
        ("half an end", &|| cut(&out.join("00001.tar"), u64::MAX, 512), &["00001.tar: ends without", "drawn again"]),
        ("odd length", &|| cut(&out.join("00001.tar"), u64::MAX, 5), &["00001.tar: is cut short; drawn again"]),
        (
            "counts",
            &|| fs::remove_file(out.join("00000_stats.json")).unwrap(),
            &["00000.tar: its counts", "3 already whole"],
        ),
        (
            "bad counts",
            &|| fs::write(out.join("00000_stats.json"), "{").unwrap(),
            &["00000.tar: its counts", "3 already whole"],
        ),
        (
            "latents",
            &|| fs::remove_file(out.join("latents/00002.safetensors")).unwrap(),
            &["00002.safetensors is missing"],
        ),
        ("end", &|| fs::remove_file(out.join("stats.json")).unwrap(), &["3 already whole"]),
    ];
    for (what, damage, expected) in damages {
        damage();
        let (code, said) = run.draw("out", &[]);
        assert_eq!(code, Some(0), "{what}: {said}");
        assert!(expected.iter().all(|part| said.contains(part)), "{what}: expected {expected:?} in {said}");
        assert_same_files(&whole, &out, what);
    }
    // Zeros that another tar program fills up with are no hole.
    let shard = out.join("00001.tar");
    let padded = [fs::read(&shard).unwrap(), vec![0; 4096]].concat();
    fs::write(&shard, &padded).unwrap();
    let (code, said) = run.draw("out", &[]);
    assert!(code == Some(0) && said.contains("3 already whole"), "{said}");
    assert!(fs::read(&shard).unwrap() == padded);
}

#[test]
fn shards_that_were_moved_away_are_done_by_their_counts() {
    let run = Run::new(&LINES);
    assert_eq!(run.draw("out", &[]).0, Some(0));
    let out = run.path("out");
    let mut whole = files(&out);
    // To a bucket, latents and all.
    for name in ["00000.tar", "00002.tar", "latents/00000.safetensors"] {
        fs::remove_file(out.join(name)).unwrap();
        whole.remove(name);
    }
    fs::remove_file(out.join("stats.json")).unwrap();
    let (code, said) = run.draw("out", &["--done-by-stats"]);
    assert!(code == Some(0) && said.contains("3 already whole"), "{said}");
    assert!(said.contains("stays as it is"), "{said}");
    assert_eq!(files(&out), whole);
    // No counts, no shard: then it is drawn.
    fs::remove_file(out.join("00002_stats.json")).unwrap();
    let (code, said) = run.draw("out", &["--done-by-stats"]);
    assert!(code == Some(0) && said.contains("2 already whole") && out.join("00002.tar").exists(), "{said}");
}

#[test]
fn a_folder_grows_by_captions_at_the_end() {
    let run = Run::new(&LINES);
    assert_eq!(run.draw("at once", &[]).0, Some(0));
    // Three captions in two shards, the last of them half full, then five in three.
    run.captions(&LINES[..4]);
    assert_eq!(run.draw("grown", &[]).0, Some(0));
    run.captions(&LINES);
    let (code, said) = run.draw("grown", &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("grows from 3 captions to 5") && said.contains("3 shards, 1 already whole"), "{said}");
    assert!(said.contains("00001.tar: holds 1 of its 2 captions; drawn again"), "{said}");
    assert_same_files(&run.path("at once"), &run.path("grown"), "grown");

    let before = files(&run.path("grown"));
    // One before the end is another list, and so are fewer.
    let mut other = LINES.to_vec();
    other.insert(1, "a photo of a sandal");
    for lines in [&other[..], &LINES[..4]] {
        run.captions(lines);
        let (code, said) = run.draw("grown", &[]);
        assert!(code == Some(2) && said.contains("--captions (how many): was 5"), "{said}");
    }
    // More images of each: said what to do instead.
    run.captions(&LINES);
    let (code, said) = run.draw("grown", &["-m", "3", "--images-per-shard", "6"]);
    assert!(code == Some(2) && said.contains("--images-per-caption: was 2, now 3"), "{said}");
    assert!(said.contains("a second folder with another --seed"), "{said}");
    assert_eq!(files(&run.path("grown")), before);
}
