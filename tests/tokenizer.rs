//! Token ids against transformers' CLIPTokenizer on 206 awkward captions, and folders that must be refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use stablerep::models::tokenizer::Tokenizer;
use tempfile::TempDir;

#[derive(Deserialize)]
struct Row {
    text: String,
    tokens: usize,
    ids: Vec<u32>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).into()
}

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures").join(name)
}

fn rows(name: &str) -> Vec<Row> {
    serde_json::from_slice(&fs::read(fixture(name)).unwrap()).unwrap()
}

fn check(tokenizer: &Tokenizer, name: &str) {
    let rows = rows(name);
    assert!(rows.len() >= 200);
    for row in rows {
        let encoding = tokenizer.encode(&row.text).unwrap();
        assert_eq!(encoding.ids, row.ids, "{:?}", row.text);
        assert_eq!(encoding.truncated, row.tokens.saturating_sub(77), "{:?}", row.text);
    }
}

/// CLIP's vocab.json follows from its merges: byte signs, the same at a word's end, merges, two special tokens.
fn write_vocab(folder: &Path, merges: &str) {
    let printable = |b: &u32| (33..127).contains(b) || (161..173).contains(b) || (174..256).contains(b);
    let mut signs: Vec<u32> = (0..256).filter(printable).collect();
    signs.extend(256..256 + (256 - signs.len() as u32));
    let signs: Vec<String> = signs.into_iter().map(|c| char::from_u32(c).unwrap().to_string()).collect();
    let mut tokens = signs.clone();
    tokens.extend(signs.iter().map(|sign| format!("{sign}</w>")));
    tokens.extend(merges.lines().skip(1).filter(|line| !line.is_empty()).map(|line| line.replace(' ', "")));
    tokens.extend(["<|startoftext|>".to_owned(), "<|endoftext|>".to_owned()]);
    assert_eq!(tokens.len(), 49_408);
    let vocab: BTreeMap<&String, usize> = tokens.iter().enumerate().map(|(id, token)| (token, id)).collect();
    fs::write(folder.join("vocab.json"), serde_json::to_string(&vocab).unwrap()).unwrap();
    fs::write(folder.join("merges.txt"), merges).unwrap();
}

#[test]
fn the_real_clip_vocabulary() {
    let folder = TempDir::new().unwrap();
    write_vocab(folder.path(), &fs::read_to_string(fixture("clip_tokenizer/merges.txt")).unwrap());
    let tokenizer = Tokenizer::open(folder.path(), 77).unwrap();
    assert_eq!(tokenizer.vocab_size(), 49_408);
    check(&tokenizer, "tokenizer_real.json");
}

#[test]
fn the_tiny_vocabulary_in_both_forms() {
    check(&Tokenizer::open(&root().join("assets/tiny-sd/tokenizer"), 77).unwrap(), "tokenizer_tiny.json");
    check(&Tokenizer::open(&fixture("tiny_tokenizer"), 77).unwrap(), "tokenizer_tiny.json");
}

#[test]
fn padding_follows_the_folder() {
    let folder = TempDir::new().unwrap();
    for name in ["vocab.json", "merges.txt"] {
        fs::copy(root().join("assets/tiny-sd/tokenizer").join(name), folder.path().join(name)).unwrap();
    }
    let pads = |config: &str| {
        fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        Tokenizer::open(folder.path(), 77).unwrap().encode("a").unwrap().ids[3..].to_vec()
    };
    assert_eq!(pads(r#"{"pad_token": "!"}"#), [0; 74]);
    assert_eq!(pads(r#"{"pad_token": {"content": "!"}}"#), [0; 74]);
    assert_eq!(pads("{}"), [587; 74]);
}

#[test]
fn broken_folders_are_refused_by_file_and_line() {
    let refuse = |files: &[(&str, &str)], needles: &[&str]| {
        let folder = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let error = Tokenizer::open(folder.path(), 77).unwrap_err();
        assert_eq!(error.exit_code(), 3, "{error}");
        for needle in needles {
            assert!(error.to_string().contains(needle), "{error} lacks {needle}");
        }
    };
    let vocab = r#"{"a": 0, "b": 1, "ab": 2, "<|startoftext|>": 3, "<|endoftext|>": 4}"#;
    refuse(&[], &["no tokenizer", "vocab.json"]);
    refuse(&[("vocab.json", "[1]"), ("merges.txt", "")], &["vocab.json", "token to id"]);
    refuse(&[("vocab.json", r#"{"a": 0}"#), ("merges.txt", "")], &["<|startoftext|>"]);
    refuse(&[("vocab.json", vocab), ("merges.txt", "#version: 0.2\nab\n")], &["merges.txt:2", "two tokens"]);
    refuse(
        &[("vocab.json", vocab), ("merges.txt", "#version: 0.2\na c\n")],
        &["merges.txt:2", "\"c\"", "different tokenizers"],
    );
    refuse(&[("tokenizer.json", "{}")], &["tokenizer.json", "not a CLIP tokenizer"]);
    refuse(
        &[("vocab.json", vocab), ("merges.txt", ""), ("tokenizer_config.json", r#"{"pad_token": "<pad>"}"#)],
        &["<pad>"],
    );
}
