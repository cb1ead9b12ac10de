//! Tokens with their ids and the merges of byte pairs, from `vocab.json` and `merges.txt`, or from `tokenizer.json`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::bail;
use crate::config::json;
use crate::error::{Error, Result};
use crate::models::settings::Settings;
use crate::weights;

/// How words are told apart in a `tokenizer.json`: as we do, or as OpenAI's file says it, which comes to the same.
const PATTERNS: [&str; 2] = [super::WORDS, r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"];

/// Largest id that is believed.
const LARGEST: u32 = 1 << 24;

/// What the byte-pair model is made of.
#[derive(Debug)]
pub(super) struct Vocabulary {
    pub ids: HashMap<String, u32>,
    pub merges: Vec<(String, String)>,
    /// Where the ids are from.
    pub source: PathBuf,
}

impl Vocabulary {
    /// Of a `tokenizer` folder; `vocab.json` and `merges.txt` first, where both are there.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let (vocab, merges, whole) =
            (folder.join("vocab.json"), folder.join("merges.txt"), folder.join("tokenizer.json"));
        let this = if vocab.exists() && merges.exists() {
            Self::of_pair(vocab, &merges)?
        } else if whole.exists() {
            Self::of_whole(&whole)?
        } else {
            bail!(
                Data,
                "{}: no tokenizer in this folder; expected vocab.json and merges.txt, or tokenizer.json",
                folder.display()
            );
        };
        if let Some((token, id)) = this.ids.iter().find(|(_, id)| **id > LARGEST) {
            bail!(Data, "{}: token {token:?} has id {id}; expected ids up to {LARGEST}", this.source.display());
        }
        Ok(this)
    }

    /// Id of `token`.
    pub(super) fn id(&self, token: &str) -> Result<u32> {
        self.ids.get(token).copied().ok_or_else(|| {
            Error::Data(format!(
                "{}: no token {token}; expected a CLIP vocabulary, which has it",
                self.source.display()
            ))
        })
    }

    fn of_pair(vocab: PathBuf, merges_path: &Path) -> Result<Self> {
        let bytes = read(&vocab)?;
        let ids: HashMap<String, u32> = json::parse(&bytes)
            .map_err(|e| Error::Data(format!("{}: {e}; expected an object of token to id", vocab.display())))?;
        let text = String::from_utf8(read(merges_path)?)
            .map_err(|e| Error::Data(format!("{}: not UTF-8: {e}; download it again", merges_path.display())))?;
        let mut merges = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with("#version") {
                continue;
            }
            let place = format!("{}:{}", merges_path.display(), number + 1);
            let Some((left, right)) = line.split_once(' ') else {
                bail!(Data, "{place}: expected two tokens with a blank between, found {line:?}");
            };
            let vocab = format!("in {}; the two files belong to different tokenizers", vocab.display());
            merges.push(merge(&ids, left, right, &place, &vocab)?);
        }
        Ok(Self { ids, merges, source: vocab })
    }

    fn of_whole(path: &Path) -> Result<Self> {
        let s = Settings::open(path)?;
        let not_clip = |key: &str, expected: &str| {
            Error::Data(format!("{}: not a CLIP tokenizer: {}", path.display(), {
                let found = s.get(key).map_or_else(|| "it is absent".to_owned(), brief);
                format!("`{key}`: expected {expected}, found {found}")
            }))
        };
        let model = s.get("model").and_then(Value::as_object).ok_or_else(|| not_clip("model", "a BPE model"))?;
        let ours: [(&str, &[Value]); 6] = [
            ("type", &[Value::from("BPE")]),
            ("end_of_word_suffix", &[Value::from("</w>")]),
            ("continuing_subword_prefix", &[Value::from(""), Value::Null]),
            ("fuse_unk", &[Value::Bool(false), Value::Null]),
            ("byte_fallback", &[Value::Bool(false), Value::Null]),
            ("ignore_merges", &[Value::Bool(false), Value::Null]),
        ];
        for (key, allowed) in ours {
            let found = model.get(key).unwrap_or(&Value::Null);
            // Files of old versions name no type.
            let silent = key == "type" && found.is_null();
            if !silent && !allowed.contains(found) {
                bail!(
                    Data,
                    "{}: not a CLIP tokenizer: `model`.`{key}`: expected {}, found {}",
                    path.display(),
                    allowed[0],
                    brief(found)
                );
            }
        }
        let known = ["vocab", "merges", "dropout", "unk_token"];
        if let Some(key) = model.keys().find(|key| !known.contains(&key.as_str()) && ours.iter().all(|(k, _)| k != key))
        {
            bail!(Data, "{}: `model`.`{key}` is no setting of a CLIP tokenizer; expected none", path.display());
        }
        let vocab = model.get("vocab").and_then(Value::as_object);
        let vocab = vocab.ok_or_else(|| not_clip("model", "`vocab`, an object of token to id"))?;
        let id = |(token, id): (&String, &Value)| Some((token.clone(), u32::try_from(id.as_u64()?).ok()?));
        let ids: Option<HashMap<String, u32>> = vocab.iter().map(id).collect();
        let ids = ids.ok_or_else(|| not_clip("model", "`vocab`, an object of token to id"))?;
        let mut merges = Vec::new();
        let list = model.get("merges").and_then(Value::as_array);
        for (number, entry) in list.ok_or_else(|| not_clip("model", "`merges`, a list"))?.iter().enumerate() {
            let place = format!("{}: merge {number}", path.display());
            let pair = match entry {
                Value::String(text) => text.split_once(' '),
                Value::Array(pair) if pair.len() == 2 => pair[0].as_str().zip(pair[1].as_str()),
                _ => None,
            };
            let Some((left, right)) = pair else {
                bail!(Data, "{place}: expected two tokens, found {}", brief(entry));
            };
            merges.push(merge(&ids, left, right, &place, "in its vocabulary; the file is damaged")?);
        }
        if !is_our_normalizer(s.get("normalizer")) {
            return Err(not_clip("normalizer", "NFC, white space to one blank, Lowercase"));
        }
        if !is_our_pre_tokenizer(s.get("pre_tokenizer")) {
            return Err(not_clip("pre_tokenizer", "a Split by CLIP's words, then ByteLevel without prefix space"));
        }
        // Start and end are set by hand, and nothing is decoded.
        s.finish(&["version", "truncation", "padding", "added_tokens", "post_processor", "decoder"])?;
        Ok(Self { ids, merges, source: path.to_path_buf() })
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    if weights::is_lfs_pointer(&bytes) {
        return Err(Error::Data(weights::lfs_pointer(path)));
    }
    Ok(bytes)
}

/// The merge of two tokens, if both and their sum are tokens.
fn merge(ids: &HashMap<String, u32>, left: &str, right: &str, place: &str, vocab: &str) -> Result<(String, String)> {
    let joined = format!("{left}{right}");
    if let Some(missing) = [left, right, &joined].into_iter().find(|token| !ids.contains_key(*token)) {
        bail!(Data, "{place}: token {missing:?} is not {vocab}");
    }
    Ok((left.to_owned(), right.to_owned()))
}

/// The steps of a part of a `tokenizer.json`, which may be one or a sequence.
fn steps<'a>(part: Option<&'a Value>, list: &str) -> Vec<&'a Value> {
    match part {
        Some(part) if part["type"] == "Sequence" => part[list].as_array().into_iter().flatten().collect(),
        Some(Value::Null) | None => Vec::new(),
        Some(part) => vec![part],
    }
}

fn is_our_normalizer(part: Option<&Value>) -> bool {
    match steps(part, "normalizers")[..] {
        [nfc, blank, lower] => {
            nfc["type"] == "NFC"
                && blank["type"] == "Replace"
                && blank["pattern"]["Regex"] == r"\s+"
                && blank["content"] == " "
                && lower["type"] == "Lowercase"
        }
        _ => false,
    }
}

fn is_our_pre_tokenizer(part: Option<&Value>) -> bool {
    match steps(part, "pretokenizers")[..] {
        [split, bytes] => {
            split["type"] == "Split"
                && split["pattern"]["Regex"].as_str().is_some_and(|pattern| PATTERNS.contains(&pattern))
                && split["behavior"] == "Removed"
                && split["invert"] == true
                && bytes["type"] == "ByteLevel"
                && bytes["add_prefix_space"] == false
                && bytes.get("use_regex").is_none_or(|on| *on == true)
        }
        _ => false,
    }
}

/// A value, cut where it is long.
fn brief(value: &Value) -> String {
    let text = json::shown(value).to_string();
    match text.char_indices().nth(200) {
        Some((at, _)) => format!("{} …", &text[..at]),
        None => text,
    }
}
