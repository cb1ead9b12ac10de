//! What `generate` makes of caption files: which samples there are, what they are called, what is said.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::Value;
use stablerep::shards::Shards;
use tempfile::TempDir;

use crate::common::{command, fails, root, succeeds, text};

/// A folder for caption files and what is drawn from them.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) -> String {
        fs::write(self.path(name), content).unwrap();
        text(&self.path(name))
    }

    /// The words of a short run into `output`.
    fn words(&self, captions: &str, output: &str, extra: &[&str]) -> Vec<String> {
        let model = text(&root().join("assets/tiny-sd"));
        let output = text(&self.path(output));
        let words = ["generate", "--model", &model, "--captions", captions, "--output", &output];
        let short = ["--steps", "1", "--guidance-scale", "1"];
        words.iter().chain(&short).chain(extra).map(|&word| word.to_owned()).collect()
    }

    /// Draws, and returns (key, caption) of every sample and what was said.
    fn draw(&self, captions: &str, output: &str, extra: &[&str]) -> (Vec<(String, String)>, String) {
        let words = self.words(captions, output, extra);
        let done = command(&words.iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap();
        self.drawn(output, &done)
    }

    fn drawn(&self, output: &str, done: &Output) -> (Vec<(String, String)>, String) {
        let said =
            [done.stdout.as_slice(), &done.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
        assert!(done.status.success(), "{said}");
        let shards = Shards::open(&[self.path(output).join("00000.tar")]).unwrap();
        let pair =
            |sample: stablerep::shards::SampleRef| (sample.key().to_owned(), sample.record().unwrap().caption.unwrap());
        (shards.iter().map(pair).collect(), said)
    }
}

fn pairs(samples: &[(String, String)]) -> Vec<(&str, &str)> {
    samples.iter().map(|(key, caption)| (key.as_str(), caption.as_str())).collect()
}

#[test]
fn blank_rows_leave_gaps_and_are_counted() {
    let scratch = Scratch::new();
    let captions = scratch.write("a.csv", "caption\r\na bag\r\n\r\na coat\r\n");
    let (samples, said) = scratch.draw(&captions, "out", &[]);
    assert_eq!(pairs(&samples), [("00000000_000", "a bag"), ("00000002_000", "a coat")]);
    assert!(said.contains("skipped 1 empty lines") && said.contains("csv with a header"), "{said}");
}

/// The command in the help, on a list like the one it names: tab-separated, no header, the address first.
#[test]
fn the_example_of_the_help_runs() {
    let help = succeeds(&["generate", "--help"]);
    let example = help.split("Example").nth(1).unwrap().replace("\\\n", " ");
    let words: Vec<&str> =
        example.lines().find(|line| line.contains("stablerep generate")).unwrap().split_whitespace().collect();
    let at = |flag: &str| words.iter().position(|word| *word == flag).unwrap();
    assert_eq!(words[at("--captions") + 1], "cc12m.tsv");
    let scratch = Scratch::new();
    let captions =
        scratch.write("cc12m.tsv", "http://x.org/1.jpg\ta photo, of a bag\nhttp://x.org/2.jpg\ta \"coat\"\n");
    let column = words[at("--caption-column") + 1];
    let (samples, _) = scratch.draw(&captions, "out", &["--caption-column", column]);
    assert_eq!(pairs(&samples), [("00000000_000", "a photo, of a bag"), ("00000001_000", "a \"coat\"")]);
}

/// Names change, pictures do not.
#[test]
fn a_key_column_names_the_samples() {
    let scratch = Scratch::new();
    let captions = scratch.write("a.csv", "id,caption\nbag-7,a bag\ncoat_9,a coat\n");
    let (named, _) = scratch.draw(&captions, "named", &["--key-column", "id"]);
    assert_eq!(pairs(&named), [("bag-7_000", "a bag"), ("coat_9_000", "a coat")]);
    let (numbered, _) = scratch.draw(&captions, "numbered", &[]);
    assert_eq!(pairs(&numbered), [("00000000_000", "a bag"), ("00000001_000", "a coat")]);
    let open = |name: &str| Shards::open(&[scratch.path(name).join("00000.tar")]).unwrap();
    for (a, b) in open("named").iter().zip(open("numbered").iter()) {
        assert_eq!(a.read("png").unwrap().unwrap(), b.read("png").unwrap().unwrap());
        let json: Value = serde_json::from_slice(&a.read("json").unwrap().unwrap()).unwrap();
        assert_eq!(
            (json["caption_id"].as_u64(), json["caption_key"].as_str()),
            (Some(a.index() as u64), a.key().strip_suffix("_000"))
        );
        let json: Value = serde_json::from_slice(&b.read("json").unwrap().unwrap()).unwrap();
        assert!(json.get("caption_key").is_none());
    }
    let words = [
        "inspect",
        &text(&scratch.path("named")),
        "--regenerate",
        "coat_9_000",
        "--model",
        &text(&root().join("assets/tiny-sd")),
    ];
    assert!(succeeds(&words).contains("byte for byte"));
}

#[test]
fn captions_that_were_cut_are_named() {
    let scratch = Scratch::new();
    let long = "a photo of a bag ".repeat(40);
    let captions = scratch.write("a.csv", &format!("id,caption\nshort,a bag\nlong-one,{long}\n"));
    for (output, extra, name) in [("numbered", &[][..], "00000001"), ("named", &["--key-column", "id"], "long-one")] {
        let (_, said) = scratch.draw(&captions, output, &[extra, &["-m", "2"]].concat());
        assert!(said.contains(&format!("cut: {name} (")), "{said}");
        let counts = ["00000_stats.json", "stats.json"].map(|file| scratch.path(output).join(file));
        let before = counts.each_ref().map(|path| fs::read(path).unwrap());
        for bytes in &before {
            let stats: Value = serde_json::from_slice(bytes).unwrap();
            assert_eq!((&stats["truncated_captions"], &stats["truncated"]), (&1.into(), &vec![name].into()));
        }
        // Counts that were lost are made again, names and all.
        counts.iter().for_each(|path| fs::remove_file(path).unwrap());
        scratch.draw(&captions, output, &[extra, &["-m", "2"]].concat());
        assert_eq!(counts.map(|path| fs::read(path).unwrap()), before);
    }
}

#[test]
fn standard_input_and_a_limit() {
    let scratch = Scratch::new();
    let words = scratch.words("-", "out", &["--caption-format", "txt", "--limit", "2"]);
    let mut child = command(&words.iter().map(String::as_str).collect::<Vec<_>>())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"a bag\na coat\na dress\n").unwrap();
    let (samples, _) = scratch.drawn("out", &child.wait_with_output().unwrap());
    assert_eq!(pairs(&samples), [("00000000_000", "a bag"), ("00000001_000", "a coat")]);
    // The same captions and limit are the same run; fewer captions are not.
    let captions = scratch.write("a.txt", "a bag\na coat\na dress\n");
    scratch.draw(&captions, "out", &["--limit", "2"]);
    assert_eq!(scratch.draw(&captions, "all", &[]).0.len(), 3);
    let refuses = |output: &str, limit: &str, needle: &str| {
        let words = scratch.words(&captions, output, &["--limit", limit]);
        fails(&words.iter().map(String::as_str).collect::<Vec<_>>(), 2, &[needle]);
    };
    refuses("all", "2", "was 3, now 2");
    refuses("none", "0", "--limit 0");
}

/// No flag of any command takes a path that the shell was to complete.
#[test]
fn a_tilde_is_no_path() {
    for (words, fix) in [
        (&["generate", "--model", "x", "--captions", "-", "--output=~/out"][..], "$HOME/out"),
        (&["generate", "--model", "x", "--captions=~/c.txt", "--output", "o"], "$HOME/c.txt"),
        (&["train", "--data", "tests", "~/b", "--output", "o"], "$HOME/b"),
        (&["train", "--data", "tests", "--output", "o", "--init-from=~"], "./~"),
        (&["inspect", "~somebody/shards"], "./~somebody/shards"),
        (&["export", "--checkpoint", "~/x.safetensors", "--output", "o"], "$HOME/x.safetensors"),
        (&["bench", "generate", "--model=~/sd", "--json", "x"], "$HOME/sd"),
    ] {
        fails(words, 2, &["~", fix]);
        assert!(!Path::new("~").exists());
    }
}

#[test]
fn arguments_that_are_not_utf8_are_refused() {
    let mut command = command(&["generate", "--model", "x", "--captions", "c", "--output", "o", "--negative-prompt"]);
    let done = command.arg(OsStr::from_bytes(b"caf\xE9")).output().unwrap();
    assert_eq!(done.status.code(), Some(2), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("UTF-8"), "{done:?}");
}
