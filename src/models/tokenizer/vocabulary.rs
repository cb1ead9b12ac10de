//! Tokens with their ids and the merges of byte pairs, from `vocab.json` and `merges.txt`, or from `tokenizer.json`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::openai;
use crate::bail;
use crate::config::json;
use crate::error::{Error, Result};
use crate::models::settings::Settings;
use crate::store;
use crate::weights;

/// Words, single digits, runs of other signs; the special tokens first.
pub(super) const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// How words are told apart in a `tokenizer.json`: as we do, or as OpenAI's file says it, which comes to the same.
const PATTERNS: [&str; 2] = [WORDS, r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"];

/// Largest id that is believed.
const LARGEST: u32 = 1 << 24;

/// What the byte-pair model is made of.
#[derive(Debug)]
pub(super) struct Vocabulary {
    pub ids: HashMap<String, u32>,
    pub merges: Vec<(String, String)>,
    /// The same by their ids, once they are asked for so.
    tokens: Option<HashMap<u32, String>>,
    /// Where the ids are from.
    pub source: PathBuf,
    /// Where the merges are from.
    merges_source: PathBuf,
    /// What a `tokenizer.json` puts before and behind a text.
    pub around: Option<Around>,
    /// What a `tokenizer.json` lists as added, which need not be among its ids.
    added: HashSet<String>,
}

/// Tokens with their ids that a `tokenizer.json` puts before and behind a text.
#[derive(Debug)]
pub(super) struct Around {
    pub path: PathBuf,
    pub start: (String, u64),
    pub end: (String, u64),
}

impl Vocabulary {
    /// Of a `tokenizer` folder; `vocab.json` and `merges.txt` first, where both are there. A `tokenizer.json` beside
    /// them has to say the same: transformers' tokenizers read the one or the other.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let (vocab, merges, whole) =
            (folder.join("vocab.json"), folder.join("merges.txt"), folder.join("tokenizer.json"));
        let this = if vocab.exists() && merges.exists() {
            let this = Self::of_pair(vocab, &merges)?;
            match whole.exists() {
                true => this.beside(Self::of_whole(&whole)?)?,
                false => this,
            }
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

    /// From the file of OpenAI's merges.
    pub(super) fn of_merges(path: &Path) -> Result<Self> {
        let (tokens, merges) = openai::read(path)?;
        let ids: HashMap<String, u32> = tokens.into_iter().zip(0..).collect();
        for (number, (left, right)) in merges.iter().enumerate() {
            let place = format!("{}:{}", path.display(), number + 2);
            merge(&ids, left, right, &place, "made by an earlier line, nor the sign of a byte")?;
        }
        let (source, merges_source) = (path.to_path_buf(), path.to_path_buf());
        Ok(Self { ids, tokens: None, merges, source, merges_source, around: None, added: HashSet::new() })
    }

    /// A token that has this id.
    pub(super) fn token(&mut self, id: u32) -> Option<&str> {
        let of = |(token, id): (&String, &u32)| (*id, token.clone());
        self.tokens.get_or_insert_with(|| self.ids.iter().map(of).collect()).get(&id).map(String::as_str)
    }

    /// Adds a token.
    pub(super) fn insert(&mut self, token: String, id: u32) {
        if let Some(tokens) = &mut self.tokens {
            tokens.insert(id, token.clone());
        }
        self.ids.insert(token, id);
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

    /// Refuses a vocabulary with tokens that no text becomes: of several signs, made by no merge, and not `listed` as
    /// tokens to look for. Its merges were cut, or are another tokenizer's.
    pub(super) fn check_merges<'a>(&self, listed: impl Iterator<Item = &'a str>) -> Result<()> {
        let mut made: HashSet<String> = self.merges.iter().map(|(left, right)| format!("{left}{right}")).collect();
        made.extend(listed.map(str::to_owned));
        let signs = |token: &str| token.strip_suffix("</w>").unwrap_or(token).chars().count();
        let unmade = || self.ids.iter().filter(|(token, _)| signs(token) > 1 && !made.contains(*token));
        let Some((token, id)) = unmade().min_by_key(|(_, id)| **id) else { return Ok(()) };
        bail!(
            Data,
            "{}: its {} merges do not make token {token:?} (id {id} in {}), nor {} others: the file is cut, or of another \
             tokenizer; download it again",
            self.merges_source.display(),
            self.merges.len(),
            self.source.display(),
            unmade().count() - 1
        )
    }

    /// With what `whole`, the `tokenizer.json` in the same folder, says beside vocabulary and merges, which are to be
    /// the same.
    fn beside(mut self, whole: Self) -> Result<Self> {
        let (pair, json) = (self.source.display(), whole.source.display());
        let fix = "transformers' fast tokenizer reads tokenizer.json, the other one vocab.json and merges.txt: remove \
            what is not meant";
        let other = |(token, id): &(&String, &u32)| match self.ids.get(*token) {
            Some(known) => known != *id,
            None => !whole.added.contains(*token),
        };
        let absent = |(token, _): &(&String, &u32)| !whole.ids.contains_key(*token) && !whole.added.contains(*token);
        if let Some((token, id)) = whole.ids.iter().filter(other).min_by_key(|(_, id)| **id) {
            let known = self.ids.get(token).map_or("none".to_owned(), u32::to_string);
            bail!(Data, "{json}: token {token:?} has id {id}, and {known} in {pair}; {fix}");
        }
        if let Some((token, id)) = self.ids.iter().filter(absent).min_by_key(|(_, id)| **id) {
            bail!(Data, "{json}: has no token {token:?}, which has id {id} in {pair}; {fix}");
        }
        let merges = self.merges_source.display();
        if let Some(at) =
            (0..self.merges.len().max(whole.merges.len())).find(|&i| self.merges.get(i) != whole.merges.get(i))
        {
            let shown = |list: &[(String, String)]| {
                list.get(at).map_or("absent".to_owned(), |(left, right)| format!("{:?}", format!("{left} {right}")))
            };
            bail!(
                Data,
                "{json}: merge {at} is {}, and {} in {merges}; {fix}",
                shown(&whole.merges),
                shown(&self.merges)
            );
        }
        self.around = whole.around;
        Ok(self)
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
        Ok(Self {
            ids,
            tokens: None,
            merges,
            source: vocab,
            merges_source: merges_path.to_path_buf(),
            around: None,
            added: HashSet::new(),
        })
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
        let ours: [(&str, &[Value]); 7] = [
            ("type", &[Value::from("BPE")]),
            ("end_of_word_suffix", &[Value::from("</w>")]),
            ("continuing_subword_prefix", &[Value::from(""), Value::Null]),
            ("dropout", &[Value::Null, Value::from(0), Value::from(0.0)]),
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
        let known = ["vocab", "merges", "unk_token"];
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
        // Texts are cut and padded by hand, and nothing is decoded.
        s.finish(&["version", "truncation", "padding", "added_tokens", "post_processor", "decoder"])?;
        let around = Around::of(s.get("post_processor"), path).ok_or_else(|| {
            not_clip("post_processor", "one token before a text and one behind it, as RobertaProcessing puts them")
        })?;
        let listed = s.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
        let added = listed.filter_map(|token| token["content"].as_str().map(str::to_owned)).collect();
        let (source, merges_source) = (path.to_path_buf(), path.to_path_buf());
        Ok(Self { ids, tokens: None, merges, source, merges_source, around: Some(around), added })
    }
}

impl Around {
    /// Of a `post_processor` that puts one token before a text and one behind it.
    fn of(part: Option<&Value>, path: &Path) -> Option<Self> {
        let steps: Vec<&Value> = steps(part, "processors").into_iter().filter(|s| s["type"] != "ByteLevel").collect();
        let [step] = steps[..] else { return None };
        let pair = |value: &Value| Some((value[0].as_str()?.to_owned(), value[1].as_u64()?));
        let special = |value: &Value| {
            let name = value["SpecialToken"]["id"].as_str()?;
            Some((name.to_owned(), step["special_tokens"][name]["ids"][0].as_u64()?))
        };
        let (start, end) = match step["type"].as_str()? {
            "RobertaProcessing" | "BertProcessing" => (pair(&step["cls"])?, pair(&step["sep"])?),
            "TemplateProcessing" => match &step["single"].as_array()?[..] {
                [start, text, end] if text["Sequence"]["id"] == "A" => (special(start)?, special(end)?),
                _ => return None,
            },
            _ => return None,
        };
        Some(Self { path: path.to_path_buf(), start, end })
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = store::read(path, store::RECORD).map_err(Error::io("read", path))?;
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
