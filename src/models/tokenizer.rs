//! CLIP's byte-pair tokenizer, from `vocab.json` + `merges.txt` or from `tokenizer.json` of a diffusers folder.
//!
//! The text pipeline is transformers' CLIPTokenizer: NFC, white space to one blank, lower case, words / single digits /
//! runs of other signs, byte-level BPE with `</w>` at a word's end. Special and added tokens written inside a text are
//! recognised as such. As CLIPTokenizer does, it takes vocabulary and merges from the files and nothing else: padding
//! and truncation that a `tokenizer.json` remembers of an earlier use have no effect, and steps of its pipeline that
//! are not CLIP's are refused.

mod openai;
mod special;
mod vocabulary;

use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::bail;
use crate::error::{Error, Result};
use special::{Added, Special};
use vocabulary::{Vocabulary, WORDS};

/// Token ids of one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Start, text, end, padding: exactly the tokenizer's length.
    pub ids: Vec<u32>,
    /// Place of the end token.
    pub end: usize,
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
    size: usize,
    sha256: String,
}

/// The same ids for every text.
impl PartialEq for Tokenizer {
    fn eq(&self, other: &Self) -> bool {
        (&self.sha256, self.length) == (&other.sha256, other.length)
    }
}

impl Tokenizer {
    /// Opens the `tokenizer` folder of a diffusers model, or the file of OpenAI's merges; encodings get `length` ids
    /// (77 for CLIP).
    ///
    /// # Errors
    /// Data error naming file, key or line for anything but a CLIP tokenizer, and for settings that would change its
    /// ids.
    pub fn open(path: &Path, length: usize) -> Result<Self> {
        let (vocabulary, special) = match path.is_file() {
            true => {
                let vocabulary = Vocabulary::of_merges(path)?;
                let special = Special::of_clip(&vocabulary)?;
                (vocabulary, special)
            }
            false => {
                let mut vocabulary = Vocabulary::open(path)?;
                let special = Special::open(path, &mut vocabulary, length)?;
                (vocabulary, special)
            }
        };
        let source = vocabulary.source.display();
        let id = |token: &str| vocabulary.id(token);
        let (start, end, pad) = (id(&special.start)?, id(&special.end)?, id(&special.pad)?);
        vocabulary.check_merges(special.added.iter().map(Added::content))?;
        if let Some(around) = &vocabulary.around {
            for (found, token, id) in [(&around.start, &special.start, start), (&around.end, &special.end, end)] {
                if (found.0.as_str(), found.1) != (token.as_str(), u64::from(id)) {
                    bail!(
                        Data,
                        "{}: `post_processor` puts {:?} (id {}) around a text where the tokenizer's own token is {token:?} (id {id}); \
                         the files belong to different tokenizers",
                        around.path.display(),
                        found.0,
                        found.1
                    );
                }
            }
        }
        if length < 3 {
            bail!(Usage, "{source}: a text of {length} tokens holds no word; expected 77");
        }
        let size = vocabulary.ids.values().max().map_or(0, |last| *last as usize + 1);
        let pipeline = json!({
            "version": "1.0",
            "added_tokens": special.added.iter().collect::<Vec<_>>(),
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
                "type": "BPE", "unk_token": special.unknown, "continuing_subword_prefix": "", "end_of_word_suffix": "</w>",
                "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary.ids,
                "merges": vocabulary.merges
            }
        });
        // Whatever else the files say, this decides the ids.
        let mut ids: Vec<(&String, &u32)> = vocabulary.ids.iter().collect();
        ids.sort();
        let decisive = json!([ids, vocabulary.merges, pipeline["added_tokens"], start, end]).to_string();
        let sha256 = format!("{:x}", Sha256::digest(decisive));
        let inner = tokenizers::Tokenizer::from_bytes(pipeline.to_string())
            .map_err(|e| Error::Data(format!("{source}: not a CLIP tokenizer: {e}")))?;
        Ok(Self { inner, start, end, pad, length, size, sha256 })
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
        Ok(Encoding { ids, end: kept + 1, truncated: words.len() - kept })
    }

    /// Ids of every text.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Hash of what decides the ids of a text.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// One more than the largest id: entries of the vocabulary, special and added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.size
    }
}
