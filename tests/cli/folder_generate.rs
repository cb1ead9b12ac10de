//! What an output folder of `generate` belongs to: everything that decides a picture, and nothing else.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::common::{command, fails, files, root, succeeds, text};

struct Case(TempDir);

impl Case {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes captions.
    fn write(&self, name: &str, bytes: &str) -> String {
        fs::write(self.path(name), bytes).unwrap();
        text(&self.path(name))
    }

    fn words(&self, captions: &str, more: &[&str]) -> Vec<String> {
        let (model, output) = (text(&root().join("assets/tiny-sd")), text(&self.path("out")));
        let mut words = vec!["generate", "--captions", captions, "--steps", "1"];
        for (flag, value) in [("--model", model.as_str()), ("--output", &output)] {
            if !more.contains(&flag) {
                words.extend([flag, value]);
            }
        }
        words.iter().chain(more).map(|&word| word.to_owned()).collect()
    }

    fn draws(&self, captions: &str, more: &[&str]) {
        let words = self.words(captions, more);
        succeeds(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn refuses(&self, captions: &str, more: &[&str], exit_code: i32, needles: &[&str]) {
        let words = self.words(captions, more);
        fails(&words.iter().map(String::as_str).collect::<Vec<_>>(), exit_code, needles);
    }

    fn record(&self) -> Map<String, Value> {
        serde_json::from_slice(&fs::read(self.path("out/generate.json")).unwrap()).unwrap()
    }

    fn set_record(&self, record: &Map<String, Value>) {
        fs::write(self.path("out/generate.json"), serde_json::to_vec(record).unwrap()).unwrap();
    }
}

const TABLE: &str = "caption,alt\na photo of a bag,a photo of a coat\na photo of a dress,a photo of a sandal\n";

#[test]
fn other_captions_of_the_same_file_are_other_captions() {
    let case = Case::new();
    let table = case.write("two.csv", TABLE);
    case.draws(&table, &["--caption-column", "caption"]);
    let before = files(&case.path("out"));
    let needles = ["--captions (hash of the captions): was", "--caption-column (number): was 0, now 1"];
    case.refuses(&table, &["--caption-column", "alt"], 2, &needles);
    // What makes no other picture makes no other folder.
    let same = case.write("same.txt", "a photo of a bag  \r\na photo of a dress\r\n\r\n");
    case.draws(&same, &["--batch", "3"]);
    assert_eq!(files(&case.path("out")), before);
}

/// Records of versions that knew fewer keys, wrote numbers otherwise, and took the file's hash for the captions'.
#[test]
fn folders_of_earlier_versions_go_on() {
    let case = Case::new();
    let table = case.write("two.csv", TABLE);
    let column = ["--caption-column", "alt", "-w", "2.1"];
    case.draws(&table, &column);
    let now = case.record();
    assert_eq!(
        fs::read_to_string(case.path("out/generate.json")).unwrap().matches("\"guidance_scale\": 2.1,").count(),
        1
    );
    let before = files(&case.path("out"));

    let mut old: Map<String, Value> = now.clone().into_iter().rev().collect();
    for key in ["caption_list_sha256", "captions_read", "precision"] {
        old.remove(key).unwrap();
    }
    let hash: String = Sha256::digest(TABLE).iter().map(|byte| format!("{byte:02x}")).collect();
    old.insert("captions_sha256".into(), hash.into());
    old.insert("guidance_scale".into(), json!(2.099_999_904_632_568_4));
    case.set_record(&old);
    case.refuses(
        &table,
        &["-w", "2.1", "--caption-column", "caption"],
        2,
        &["other captions", "a photo of a coat", "00000.tar"],
    );
    case.draws(&table, &column);
    assert_eq!(files(&case.path("out")), before, "the record is brought up to date");

    // A later version knows more.
    let mut later = now;
    later.insert("dither".into(), json!("blue"));
    case.set_record(&later);
    case.refuses(&table, &column, 2, &["--dither: was \"blue\""]);
}

/// The advice that a refusal gives can be followed: nothing was taken that the advice would be refused for.
#[test]
fn a_run_that_does_not_fit_takes_no_folder() {
    let case = Case::new();
    let captions = case.write("one.txt", "a photo of a bag\n");
    // 6 TiB.
    let huge = ["--width", "4096", "--height", "4096", "--batch", "4096"];
    case.refuses(&captions, &huge, 4, &["out of memory before the first step", "lower --batch, --width or --height"]);
    assert!(!case.path("out").exists());
    case.draws(&captions, &[]);
}

#[test]
fn what_is_not_its_own_is_not_written_over() {
    let case = Case::new();
    let captions = case.write("one.txt", "a photo of a bag\n");
    let refused = |output: &Path, needles: &[&str]| {
        let before = output.is_dir().then(|| files(output));
        case.refuses(&captions, &["--output", &text(output)], 2, needles);
        assert_eq!(output.is_dir().then(|| files(output)), before);
    };
    refused(Path::new(&captions), &["one.txt: is a file; expected a folder"]);
    for (name, file, needle) in [
        ("tars", "00000.tar", "holds 00000.tar and no generate.json"),
        ("sizes", "sizes.json", "holds sizes.json and no generate.json"),
        ("run", "metrics.jsonl", "holds a run of `stablerep train`"),
        ("demo", "demo.json", "holds a `stablerep demo`"),
        ("model", "model_index.json", "holds a diffusers model"),
    ] {
        fs::create_dir(case.path(name)).unwrap();
        fs::write(case.path(name).join(file), "{}").unwrap();
        refused(&case.path(name), &[name, needle]);
    }
    // One w of a sweep that cannot be: none is begun.
    case.draws(&captions, &["--output", &text(&case.path("sweep/w=3.0")), "--seed", "9"]);
    case.refuses(
        &captions,
        &["--output", &text(&case.path("sweep")), "--sweep-guidance", "2,3"],
        2,
        &["w=3.0", "--seed: was 9, now 0"],
    );
    assert!(!case.path("sweep/w=2.0").exists());
}

/// A byte of the weights changed, with the length and the time of modification as before.
#[test]
fn a_kept_hash_is_not_taken_for_changed_weights() {
    let case = Case::new();
    let captions = case.write("one.txt", "a photo of a bag\n");
    let (model, cache) = (case.path("model"), text(&case.path("cache")));
    for (name, bytes) in files(&root().join("assets/tiny-sd")) {
        fs::create_dir_all(model.join(&name).parent().unwrap()).unwrap();
        fs::write(model.join(name), bytes).unwrap();
    }
    let hash = |output: &str, cache: &str| {
        let (model, output) = (text(&model), text(&case.path(output)));
        let words = case.words(&captions, &["--model", &model, "--output", &output]);
        let mut command = command(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(command.env("STABLEREP_CACHE", cache).output().unwrap().status.success());
        let record: Value =
            serde_json::from_slice(&fs::read(Path::new(&output).join("generate.json")).unwrap()).unwrap();
        record["model_sha256"].as_str().unwrap().to_owned()
    };
    let before = hash("1", &cache);
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
    assert_eq!(hash("2", &cache), before);
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
    let path = model.join("vae/diffusion_pytorch_model.safetensors");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let (kept, new) = (hash("3", &cache), hash("4", "off"));
    assert!(kept == new && new != before);
}

/// Drawing one sample again does not pass over damage of its shards.
#[test]
fn damage_is_told_when_a_sample_is_drawn_again() {
    let case = Case::new();
    let captions = case.write("two.txt", "a photo of a bag\na photo of a coat\n");
    case.draws(&captions, &[]);
    let (out, model) = (text(&case.path("out")), text(&root().join("assets/tiny-sd")));
    let tar = case.path("out/00000.tar");
    let bytes = fs::read(&tar).unwrap();
    fs::write(&tar, &bytes[..bytes.len() - 2048]).unwrap();
    let words = |key| ["inspect", out.as_str(), "--regenerate", key, "--model", model.as_str()];
    fails(&words("00000000_000"), 3, &["1 problem(s)", "00000.tar"]);
    fails(&words("00000001_000"), 3, &["00000001_000", "00000.tar", "cut short"]);
    // A record that no drawing had.
    let at = bytes.windows(9).position(|window| window == b"\"steps\":1").unwrap();
    let mut spoiled = bytes;
    spoiled[at + 8] = b'0';
    fs::write(&tar, spoiled).unwrap();
    fails(&words("00000000_000"), 3, &["00000000_000.json", "--steps 0"]);
}
