//! Token ids against transformers' CLIPTokenizer on 206 awkward captions, and folders that must be refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
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
    // OpenAI's file holds these merges, packed.
    let packed = folder.path().join("bpe_simple_vocab_16e6.txt.gz");
    let mut to = flate2::write::GzEncoder::new(fs::File::create(&packed).unwrap(), flate2::Compression::fast());
    to.write_all(&fs::read(fixture("clip_tokenizer/merges.txt")).unwrap()).unwrap();
    to.finish().unwrap();
    for alone in [&packed, &fixture("clip_tokenizer/merges.txt")] {
        let alone = Tokenizer::open(alone, 77).unwrap();
        check(&alone, "tokenizer_real.json");
        assert_eq!((alone.vocab_size(), alone.sha256()), (49_408, tokenizer.sha256()));
    }
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

/// A folder of the tiny vocabulary with further `files`.
fn tiny_with(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in ["vocab.json", "merges.txt"] {
        fs::copy(root().join("assets/tiny-sd/tokenizer").join(name), folder.path().join(name)).unwrap();
    }
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// The tiny `tokenizer.json` with `edit` applied to it, alone in a folder.
fn whole_with(edit: impl FnOnce(&mut serde_json::Value)) -> TempDir {
    let mut whole: serde_json::Value =
        serde_json::from_slice(&fs::read(fixture("tiny_tokenizer/tokenizer.json")).unwrap()).unwrap();
    edit(&mut whole);
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("tokenizer.json"), whole.to_string()).unwrap();
    folder
}

/// Ids of `text` in ten places.
fn ids(folder: &TempDir, text: &str) -> Vec<u32> {
    Tokenizer::open(folder.path(), 10).unwrap().encode(text).unwrap().ids
}

/// Start and end as `added_tokens_decoder` lists them.
const LISTED: &str = r#""586": {"content": "<|startoftext|>", "special": true, "normalized": false},
    "587": {"content": "<|endoftext|>", "special": true, "normalized": false}"#;

/// As transformers 4.49 and 5.24 have it.
#[test]
fn the_padding_token_by_precedence() {
    let (config, map) = ("tokenizer_config.json", "special_tokens_map.json");
    let mark = r#"{"pad_token": "!"}"#;
    let end = r#"{"pad_token": {"content": "<|endoftext|>"}}"#;
    let listed = format!(r#"{{"pad_token": "<|endoftext|>", "added_tokens_decoder": {{{LISTED}}}}}"#);
    for (files, pad) in [
        (vec![(config, end), (map, mark)], 0),
        (vec![(config, mark), (map, end)], 587),
        (vec![(config, mark), (map, "{}")], 0),
        (vec![(map, mark)], 0),
        (vec![(config, listed.as_str()), (map, mark)], 587),
        (vec![(config, r#"{"model_max_length": 1000000000000000019884624838656, "clean_up": null}"#)], 587),
    ] {
        assert_eq!(ids(&tiny_with(&files), "a bag"), [vec![586, 320, 554, 587], vec![pad; 6]].concat(), "{files:?}");
    }
    // A special token is found in the text, wherever it stands.
    let folder = tiny_with(&[(config, mark)]);
    assert_eq!(ids(&folder, "a bag!! !"), [586, 320, 554, 0, 0, 0, 587, 0, 0, 0]);
    assert_ne!(ids(&tiny_with(&[]), "a bag!")[3], 0);
}

#[test]
fn added_tokens_are_tokens() {
    let toy = r#""588": {"content": "<cat-toy>", "special": false, "normalized": false}"#;
    let decoder = format!(r#"{{"added_tokens_decoder": {{{LISTED}, {toy}}}}}"#);
    for files in [
        [("added_tokens.json", r#"{"<cat-toy>": 588}"#), ("tokenizer_config.json", "{}")],
        [("added_tokens.json", "{}"), ("tokenizer_config.json", decoder.as_str())],
    ] {
        let folder = tiny_with(&files);
        assert_eq!(ids(&folder, "a <cat-toy>bag"), [586, 320, 588, 554, 587, 587, 587, 587, 587, 587], "{files:?}");
        assert_eq!(Tokenizer::open(folder.path(), 77).unwrap().vocab_size(), 589);
    }
}

/// Very many of them are found by their texts and ids; to compare each with all others would be billions of looks.
#[test]
fn many_added_tokens_are_tokens() {
    let many: Vec<String> = (588..60_000).map(|id| format!(r#""<t{id}>": {id}"#)).collect();
    let folder =
        tiny_with(&[("added_tokens.json", &format!("{{{}}}", many.join(","))), ("tokenizer_config.json", "{}")]);
    assert_eq!(ids(&folder, "a <t50000>bag")[..4], [586, 320, 50_000, 554]);
    let listed: Vec<String> = (588..60_000).map(|id| format!(r#""{id}": {{"content": "<t{id}>"}}"#)).collect();
    let decoder = format!(r#"{{"added_tokens_decoder": {{{LISTED}, {}}}}}"#, listed.join(","));
    let folder = tiny_with(&[("tokenizer_config.json", &decoder)]);
    assert_eq!(ids(&folder, "a <t50000>bag")[..4], [586, 320, 50_000, 554]);
}

#[test]
fn cutting_and_padding_of_a_tokenizer_json_have_no_effect() {
    let texts = ["a photo of a bag", "bag bag bag bag bag bag bag bag bag bag bag bag", ""];
    let plain = whole_with(|_| ());
    let used = whole_with(|whole| {
        whole["padding"] = serde_json::json!({"strategy": {"Fixed": 2_000_000_000}, "direction": "Left", "pad_to_multiple_of": 8,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "!"});
        whole["truncation"] =
            serde_json::json!({"direction": "Left", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
        whole["model"]["dropout"] = serde_json::json!(0.0);
        whole["post_processor"] = serde_json::json!({"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<|startoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}], "pair": [],
            "special_tokens": {"<|startoftext|>": {"id": "<|startoftext|>", "ids": [586], "tokens": ["<|startoftext|>"]},
                "<|endoftext|>": {"id": "<|endoftext|>", "ids": [587], "tokens": ["<|endoftext|>"]}}});
        whole["decoder"] = serde_json::json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": ""}, "content": ""},
            {"type": "Strip", "content": "", "start": 9, "stop": 9}, {"type": "CTC", "cleanup": 3}]});
    });
    let [plain, used] = [plain, used].map(|folder| Tokenizer::open(folder.path(), 10).unwrap());
    for text in texts {
        assert_eq!(used.encode(text).unwrap(), plain.encode(text).unwrap(), "{text}");
    }
}

#[test]
fn settings_that_change_ids_are_refused_by_name() {
    let refuse = |folder: TempDir, needles: &[&str]| {
        let error = Tokenizer::open(folder.path(), 77).unwrap_err();
        assert!(error.exit_code() == 3 && needles.iter().all(|word| error.to_string().contains(word)), "{error}");
    };
    let config = "tokenizer_config.json";
    for (text, key) in [
        (r#"{"padding_side": "left"}"#, "padding_side"),
        (r#"{"truncation_side": "left"}"#, "truncation_side"),
        (r#"{"split_special_tokens": true}"#, "split_special_tokens"),
        (r#"{"model_max_length": 32}"#, "model_max_length"),
        (r#"{"tokenizer_class": "BertTokenizer"}"#, "BertTokenizer"),
        (r#"{"pad_token": null}"#, "pad_token"),
        (r#"{"magic": 7}"#, "magic"),
        (r#"{"additional_special_tokens": ["<unheard-of>"]}"#, "<unheard-of>"),
        (r#"{"added_tokens_decoder": {"x": {"content": "y"}}}"#, "added_tokens_decoder"),
        (r#"{"added_tokens_decoder": {"5": {"content": "<|endoftext|>"}}}"#, "different tokenizers"),
        (r#"{"pad_token": "#, "not JSON"),
        ("version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
    ] {
        refuse(tiny_with(&[(config, text)]), &[config, key]);
    }
    refuse(tiny_with(&[("added_tokens.json", r#"{"<new>": 0}"#)]), &["added_tokens.json", "<new>", "one id"]);
    let json = "tokenizer.json";
    refuse(whole_with(|whole| whole["normalizer"] = serde_json::json!({"type": "NFKC"})), &[json, "normalizer"]);
    refuse(
        whole_with(|whole| whole["pre_tokenizer"] = serde_json::json!({"type": "Whitespace"})),
        &[json, "pre_tokenizer"],
    );
    // What the crate would panic on when it reads or uses it: it is never given any of it.
    let parts = ["pre_tokenizer", "normalizer"];
    for (key, part) in [
        (parts[0], serde_json::json!({"type": "FixedLength", "length": 0})),
        (parts[1], serde_json::json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
        (parts[1], serde_json::json!({"type": "Replace", "pattern": {"Regex": "("}, "content": ""})),
    ] {
        let sequence = if key == parts[0] { "pretokenizers" } else { "normalizers" };
        refuse(whole_with(|whole| whole[key] = part.clone()), &[json, key]);
        refuse(whole_with(|whole| whole[key][sequence][0] = part.clone()), &[json, key]);
    }
    for pattern in [serde_json::json!({"Regex": ""}), serde_json::json!({"String": ""}), serde_json::json!(null)] {
        refuse(
            whole_with(|whole| whole["pre_tokenizer"]["pretokenizers"][0]["pattern"] = pattern.clone()),
            &[json, "pre_tokenizer"],
        );
    }
    refuse(whole_with(|whole| whole["model"]["type"] = "WordPiece".into()), &[json, "model", "type", "WordPiece"]);
    refuse(whole_with(|whole| whole["model"]["ignore_merges"] = true.into()), &[json, "ignore_merges"]);
    refuse(whole_with(|whole| whole["model"]["merges"][0] = "a b c".into()), &[json, "merge 0"]);
    refuse(whole_with(|whole| whole["model"]["dropout"] = 0.9.into()), &[json, "dropout", "0.9"]);
    refuse(whole_with(|whole| whole["post_processor"] = serde_json::Value::Null), &[json, "post_processor", "null"]);
    refuse(
        whole_with(|whole| whole["post_processor"]["sep"] = serde_json::json!(["!", 0])),
        &[json, "post_processor", "\"!\"", "<|endoftext|>"],
    );
    refuse(whole_with(|whole| whole["model"]["vocab"]["<|endoftext|>"] = (-1).into()), &[json, "vocab"]);
    refuse(whole_with(|whole| whole["model"]["vocab"]["a"] = 4_000_000_000u32.into()), &[json, "4000000000"]);
    for text in [
        "{\"decoder\":{",
        "{\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Strip\"",
        "{\"model\":{}}",
        "[]",
        "{\"added_tokens\": 3}",
        "\u{0}",
    ] {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join(json), text).unwrap();
        refuse(folder, &[json]);
    }
}

/// Every token of several signs is made by a merge, or listed as one to look for: else the merges are not all there.
#[test]
fn tokens_that_no_merge_makes_are_refused() {
    let refuse = |folder: TempDir, needles: &[&str]| {
        let error = Tokenizer::open(folder.path(), 77).unwrap_err();
        assert!(error.exit_code() == 3 && needles.iter().all(|word| error.to_string().contains(word)), "{error}");
    };
    let merges = fs::read_to_string(root().join("assets/tiny-sd/tokenizer/merges.txt")).unwrap();
    let lines: Vec<&str> = merges.lines().collect();
    let half = lines[..lines.len() / 2].join("\n");
    let last = lines.last().unwrap().replace(' ', "");
    refuse(tiny_with(&[("merges.txt", "")]), &["merges.txt", "0 merges", "id 512", "vocab.json"]);
    refuse(tiny_with(&[("merges.txt", &half)]), &["merges.txt", "do not make token"]);
    refuse(tiny_with(&[("merges.txt", &lines[..lines.len() - 1].join("\n"))]), &[&format!("{last:?}"), "nor 0 others"]);
    refuse(whole_with(|whole| whole["model"]["merges"] = serde_json::json!([])), &["tokenizer.json", "0 merges"]);
}

/// A `tokenizer.json` beside `vocab.json` and `merges.txt` says the same.
#[test]
fn files_of_one_folder_agree() {
    let whole: serde_json::Value =
        serde_json::from_slice(&fs::read(fixture("tiny_tokenizer/tokenizer.json")).unwrap()).unwrap();
    let beside = |edit: &dyn Fn(&mut serde_json::Value)| {
        let mut whole = whole.clone();
        edit(&mut whole);
        tiny_with(&[("tokenizer.json", &whole.to_string())])
    };
    check(&Tokenizer::open(beside(&|_| ()).path(), 77).unwrap(), "tokenizer_tiny.json");
    let refuse = |edit: &dyn Fn(&mut serde_json::Value), needles: &[&str]| {
        let error = Tokenizer::open(beside(edit).path(), 77).unwrap_err();
        let said = error.to_string();
        assert!(error.exit_code() == 3 && said.contains("tokenizer.json"), "{said}");
        assert!(needles.iter().all(|word| said.contains(word)), "{said}");
    };
    let swap = |whole: &mut serde_json::Value, a: &str, b: &str| {
        let vocab = &mut whole["model"]["vocab"];
        (vocab[a], vocab[b]) = (vocab[b].clone(), vocab[a].clone());
    };
    refuse(&|whole| swap(whole, "a", "b"), &["has id", "vocab.json", "fast tokenizer"]);
    refuse(
        &|whole| whole["model"]["merges"].as_array_mut().unwrap().swap(3, 4),
        &["merge 3", "merges.txt", "fast tokenizer"],
    );
    refuse(&|whole| whole["normalizer"] = serde_json::json!({"type": "NFKC"}), &["normalizer"]);
    refuse(&|whole| whole["post_processor"] = serde_json::Value::Null, &["post_processor"]);
}
