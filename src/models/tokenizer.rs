//! CLIP's byte-pair tokenizer, from `vocab.json` + `merges.txt` or from `tokenizer.json` of a diffusers folder.
//!
//! The text pipeline is transformers' CLIPTokenizer: NFC, white space to one blank, lower case, words / single digits / runs of other
//! signs, byte-level BPE with `</w>` at a word's end. Special tokens written inside a text are recognised as such.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::bail;
use crate::error::{Error, Result};

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// Words, single digits, runs of other signs; the special tokens first.
const WORDS: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Token ids of one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Start, text, end, padding: exactly the tokenizer's length.
    pub ids: Vec<u32>,
    /// How many ids of the text did not fit.
    pub truncated: usize,
}

/// Text to token ids of a fixed length.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    start: u32,
    end: u32,
    pad: u32,
    length: usize,
}

impl Tokenizer {
    /// Opens the `tokenizer` folder of a diffusers model; encodings get `length` ids (77 for CLIP).
    pub fn open(folder: &Path, length: usize) -> Result<Self> {
        let (vocab, merges, whole) =
            (folder.join("vocab.json"), folder.join("merges.txt"), folder.join("tokenizer.json"));
        let (pipeline, source) = if vocab.exists() && merges.exists() {
            (pipeline(&vocab, &merges)?, vocab)
        } else if whole.exists() {
            (read(&whole)?, whole)
        } else {
            bail!(
                Data,
                "{}: no tokenizer in this folder; expected vocab.json and merges.txt, or tokenizer.json",
                folder.display()
            );
        };
        let inner = tokenizers::Tokenizer::from_bytes(pipeline.as_bytes())
            .map_err(|e| Error::Data(format!("{}: not a CLIP tokenizer: {e}", source.display())))?;
        let id = |token: &str| {
            inner.token_to_id(token).ok_or_else(|| {
                Error::Data(format!("{}: no token {token}; expected a CLIP vocabulary, which has it", source.display()))
            })
        };
        let (start, end) = (id(START)?, id(END)?);
        let pad = match pad_token(folder)? {
            Some(token) => id(&token)?,
            None => end,
        };
        if length < 3 {
            bail!(Usage, "{}: a text of {length} tokens holds no word; expected 77", source.display());
        }
        Ok(Self { inner, start, end, pad, length })
    }

    /// Ids of `text` between start and end, cut to fit, padded.
    pub fn encode(&self, text: &str) -> Result<Encoding> {
        let encoded =
            self.inner.encode_fast(text, false).map_err(|e| Error::Data(format!("cannot tokenize {text:?}: {e}")))?;
        let words = encoded.get_ids();
        let kept = words.len().min(self.length - 2);
        let mut ids = Vec::with_capacity(self.length);
        ids.push(self.start);
        ids.extend_from_slice(&words[..kept]);
        ids.push(self.end);
        ids.resize(self.length, self.pad);
        Ok(Encoding { ids, truncated: words.len() - kept })
    }

    /// Entries of the vocabulary, special tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io("read", path))
}

/// The `tokenizer.json` that transformers would make of these two files.
fn pipeline(vocab_path: &Path, merges_path: &Path) -> Result<String> {
    let vocab: HashMap<String, u32> = serde_json::from_str(&read(vocab_path)?)
        .map_err(|e| Error::Data(format!("{}: {e}; expected an object of token to id", vocab_path.display())))?;
    let id = |token: &str| {
        vocab.get(token).copied().ok_or_else(|| {
            Error::Data(format!("{}: no token {token}; expected CLIP's vocab.json, which has it", vocab_path.display()))
        })
    };
    let special = |token: &str| {
        Ok::<_, Error>(json!({
            "id": id(token)?, "content": token, "special": true,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false
        }))
    };
    let text = read(merges_path)?;
    let mut merges = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with("#version") {
            continue;
        }
        let Some((left, right)) = line.split_once(' ') else {
            bail!(
                Data,
                "{}:{}: expected two tokens with a blank between, found {line:?}",
                merges_path.display(),
                number + 1
            );
        };
        let joined = format!("{left}{right}");
        if let Some(missing) = [left, right, &joined].into_iter().find(|token| !vocab.contains_key(*token)) {
            bail!(
                Data,
                "{}:{}: token {missing:?} is not in {}; the two files belong to different tokenizers",
                merges_path.display(),
                number + 1,
                vocab_path.display()
            );
        }
        merges.push(json!([left, right]));
    }
    Ok(json!({
        "version": "1.0",
        "added_tokens": [special(START)?, special(END)?],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"}
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
        ]},
        "model": {
            "type": "BPE", "unk_token": END, "continuing_subword_prefix": "", "end_of_word_suffix": "</w>",
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges
        }
    })
    .to_string())
}

/// The padding token the folder names, if it names one (Stable Diffusion 1.5: the end token; 2.x: "!").
fn pad_token(folder: &Path) -> Result<Option<String>> {
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        let path = folder.join(name);
        if !path.exists() {
            continue;
        }
        let config: Value = serde_json::from_str(&read(&path)?)
            .map_err(|e| Error::Data(format!("{}: {e}; expected JSON", path.display())))?;
        // A plain string, or an object with the token's properties.
        let token = &config["pad_token"];
        if let Some(text) = token.as_str().or_else(|| token["content"].as_str()) {
            return Ok(Some(text.to_owned()));
        }
    }
    Ok(None)
}
