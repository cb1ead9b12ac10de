//! Special and added tokens of a `tokenizer` folder, by transformers' precedence: where `tokenizer_config.json` lists
//! its added tokens, it alone counts; else `special_tokens_map.json` overrules it, and `added_tokens.json` and
//! `tokenizer.json` list what was added.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::openai::{END, START};
use super::vocabulary::Vocabulary;
use crate::bail;
use crate::error::Result;
use crate::models::settings::Settings;

/// Named tokens beside start, end, unknown and padding, and lists of more.
const MORE: [&str; 5] = ["sep_token", "cls_token", "mask_token", "additional_special_tokens", "extra_special_tokens"];

/// Classes whose files hold what CLIPTokenizer reads.
const CLASSES: [&str; 5] =
    ["CLIPTokenizer", "CLIPTokenizerFast", "PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend"];

/// Keys of `tokenizer_config.json` without effect on the ids of one text: records of how it was saved or called,
/// decoding, and what CLIPTokenizer does not read. (It lowers the case and adds start and end whatever these say.)
const IRRELEVANT: [&str; 31] = [
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "auto_map",
    "backend",
    "chat_template",
    "clean_up_tokenization_spaces",
    "device_map",
    "do_lower_case",
    "errors",
    "init_inputs",
    "is_local",
    "legacy",
    "local_files_only",
    "max_length",
    "merges_file",
    "model_input_names",
    "name_or_path",
    "pad_to_multiple_of",
    "pad_token_type_id",
    "padding",
    "processor_class",
    "special_tokens_map_file",
    "stride",
    "tokenizer_file",
    "torch_dtype",
    "trim_offsets",
    "truncation",
    "truncation_strategy",
    "use_fast",
    "vocab_file",
];

/// A token that is looked for in a text before it is taken apart, as `tokenizers` writes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Added {
    id: u32,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

/// Tokens that are looked for, each once, in the order in which they came last.
#[derive(Debug, Default)]
pub(super) struct AllAdded {
    by_order: BTreeMap<usize, Added>,
    /// By text.
    orders: HashMap<String, usize>,
}

impl AllAdded {
    fn contains(&self, content: &str) -> bool {
        self.orders.contains_key(content)
    }

    /// Adds a token, in place of one with its text.
    fn push(&mut self, added: Added) {
        let next = self.by_order.last_key_value().map_or(0, |(last, _)| last + 1);
        if let Some(before) = self.orders.insert(added.content.clone(), next) {
            self.by_order.remove(&before);
        }
        self.by_order.insert(next, added);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Added> {
        self.by_order.values()
    }
}

/// The special tokens, and all that are looked for.
#[derive(Debug)]
pub(super) struct Special {
    pub start: String,
    pub end: String,
    pub unknown: String,
    pub pad: String,
    pub added: AllAdded,
}

impl Special {
    /// CLIP's own, of a vocabulary that comes without any settings.
    pub(super) fn of_clip(vocabulary: &Vocabulary) -> Result<Self> {
        let [start, end] = [START, END].map(str::to_owned);
        let mut added = AllAdded::default();
        for token in [&start, &end] {
            add_special(&mut added, vocabulary, (None, ""), &Value::from(token.as_str()))?;
        }
        Ok(Self { start, unknown: end.clone(), pad: end.clone(), end, added })
    }

    /// Of `folder`; added tokens join the vocabulary.
    pub(super) fn open(folder: &Path, vocabulary: &mut Vocabulary, length: usize) -> Result<Self> {
        let config = Settings::open_if_there(folder.join("tokenizer_config.json"))?;
        let listed = config.as_ref().is_some_and(|config| config.get("added_tokens_decoder").is_some());
        let map = match listed {
            true => None,
            false => Settings::open_if_there(folder.join("special_tokens_map.json"))?,
        };
        if let Some(config) = &config {
            check(config, length)?;
        }
        // A key of the map overrules the config even if it is null.
        let files: Vec<&Settings> = map.iter().chain(&config).collect();
        let find = |key: &str| files.iter().find_map(|file| Some((*file, file.get(key)?)));

        let mut this = Self {
            start: START.to_owned(),
            end: END.to_owned(),
            unknown: END.to_owned(),
            pad: END.to_owned(),
            added: AllAdded::default(),
        };
        match &config {
            Some(config) if listed => this.add_decoder(config, vocabulary)?,
            _ => {
                let more: HashSet<String> =
                    MORE.into_iter().filter_map(find).flat_map(|(_, v)| tokens(v)).map(text).collect();
                this.add_file(folder, vocabulary, &more)?;
                this.add_whole(folder, vocabulary)?;
            }
        }
        for (key, place) in [
            ("bos_token", &mut this.start),
            ("eos_token", &mut this.end),
            ("unk_token", &mut this.unknown),
            ("pad_token", &mut this.pad),
        ] {
            let default = Value::from(place.as_str());
            let (file, value) = find(key).map_or((None, &default), |(file, value)| (Some(file), value));
            *place = text(value);
            add_special(&mut this.added, vocabulary, (file, key), value)?;
        }
        for key in MORE {
            let Some((file, value)) = find(key) else { continue };
            for token in tokens(value) {
                add_special(&mut this.added, vocabulary, (Some(file), key), token)?;
            }
        }
        for file in &files {
            let named = ["bos_token", "eos_token", "unk_token", "pad_token"];
            let known: Vec<&str> = named.into_iter().chain(MORE).chain(IRRELEVANT).collect();
            file.finish(&known)?;
        }
        Ok(this)
    }

    fn push(&mut self, added: Added, vocabulary: &mut Vocabulary, file: &Path) -> Result<()> {
        let Added { id, content, .. } = &added;
        match vocabulary.ids.get(content) {
            Some(known) if known != id => bail!(
                Data,
                "{}: token {content:?} has id {id}, and {known} in {}; they belong to different tokenizers",
                file.display(),
                vocabulary.source.display()
            ),
            Some(_) => {}
            None => {
                if let Some(other) = vocabulary.token(*id) {
                    bail!(
                        Data,
                        "{}: tokens {content:?} and {other:?} have one id, {id}; expected one each",
                        file.display()
                    );
                }
                vocabulary.insert(content.clone(), *id);
            }
        }
        self.added.push(added);
        Ok(())
    }

    /// `added_tokens_decoder` of `tokenizer_config.json`: an object of id to token.
    fn add_decoder(&mut self, config: &Settings, vocabulary: &mut Vocabulary) -> Result<()> {
        let wrong = || config.wrong("added_tokens_decoder", "an object of id to token");
        let list = config.get("added_tokens_decoder").and_then(Value::as_object).ok_or_else(wrong)?;
        for (id, token) in list {
            let id = id.parse().ok().filter(|id| *id <= 1 << 24).ok_or_else(wrong)?;
            let content = text(token);
            let token = token.as_object().filter(|_| !content.is_empty()).ok_or_else(wrong)?;
            self.push(Added::of(id, &content, Some(token), true, false), vocabulary, config.path())?;
        }
        Ok(())
    }

    /// `added_tokens.json`: an object of token to id.
    fn add_file(&mut self, folder: &Path, vocabulary: &mut Vocabulary, special: &HashSet<String>) -> Result<()> {
        let Some(file) = Settings::open_if_there(folder.join("added_tokens.json"))? else { return Ok(()) };
        let keys: Vec<String> = file.keys().map(str::to_owned).collect();
        for content in keys {
            let id = file.get(&content).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
            let id = id.filter(|id| *id <= 1 << 24).ok_or_else(|| file.wrong(&content, "the id of this token"))?;
            let special = special.contains(&content) || [START, END].contains(&content.as_str());
            let added = Added::of(id, &content, None, !special, special);
            self.push(added, vocabulary, file.path())?;
        }
        Ok(())
    }

    /// `added_tokens` of `tokenizer.json`: a list of objects with their ids.
    fn add_whole(&mut self, folder: &Path, vocabulary: &mut Vocabulary) -> Result<()> {
        let Some(file) = Settings::open_if_there(folder.join("tokenizer.json"))? else { return Ok(()) };
        let wrong = || file.wrong("added_tokens", "a list of tokens with their ids");
        for token in
            file.get("added_tokens").map(|list| list.as_array().ok_or_else(wrong)).transpose()?.into_iter().flatten()
        {
            let id = token["id"].as_u64().and_then(|id| u32::try_from(id).ok()).filter(|id| *id <= 1 << 24);
            let (id, content) = id.zip(token["content"].as_str()).ok_or_else(wrong)?;
            self.push(Added::of(id, content, token.as_object(), true, false), vocabulary, file.path())?;
        }
        Ok(())
    }
}

/// Has the special token `value`, of that key of a file, looked for too.
fn add_special(
    added: &mut AllAdded,
    vocabulary: &Vocabulary,
    (file, key): (Option<&Settings>, &str),
    value: &Value,
) -> Result<()> {
    let content = text(value);
    if added.contains(&content) {
        return Ok(());
    }
    let id = match (vocabulary.ids.get(&content), file) {
        (Some(id), _) => *id,
        (None, Some(file)) => {
            return Err(file.wrong(key, "a token of the vocabulary (a text, or an object with its `content`)"));
        }
        (None, None) => vocabulary.id(&content)?,
    };
    added.push(Added::of(id, &content, value.as_object(), false, true));
    Ok(())
}

impl Added {
    /// Its text.
    pub(super) fn content(&self) -> &str {
        &self.content
    }

    /// With the properties that `token` has, or else is given.
    fn of(id: u32, content: &str, token: Option<&Map<String, Value>>, normalized: bool, special: bool) -> Self {
        let flag = |key: &str, default: bool| {
            token.and_then(|token| token.get(key)).and_then(Value::as_bool).unwrap_or(default)
        };
        Self {
            id,
            content: content.to_owned(),
            single_word: flag("single_word", false),
            lstrip: flag("lstrip", false),
            rstrip: flag("rstrip", false),
            normalized: flag("normalized", normalized),
            special: special || flag("special", false),
        }
    }
}

/// Refuses settings that would change the ids, and keys nobody knows.
fn check(config: &Settings, length: usize) -> Result<()> {
    if config.non_null("tokenizer_class").is_some() {
        config.choice("tokenizer_class", &CLASSES)?;
    }
    for side in ["padding_side", "truncation_side"] {
        if config.non_null(side).is_some() {
            config.choice(side, &["right"])?;
        }
    }
    config.only("split_special_tokens", Value::Bool(false))?;
    match config.non_null("model_max_length").map(Value::as_f64) {
        Some(Some(most)) if most >= length as f64 => Ok(()),
        None => Ok(()),
        Some(_) => Err(config.wrong("model_max_length", &format!("{length}, the tokens that the text encoder reads"))),
    }
}

/// The tokens of a value: one, or those of a list.
fn tokens(value: &Value) -> &[Value] {
    match value {
        Value::Null => &[],
        Value::Object(map) if map.is_empty() => &[],
        Value::Array(list) => list,
        one => std::slice::from_ref(one),
    }
}

/// A token's text: itself, or its `content`; empty for what is no token.
fn text(value: &Value) -> String {
    value.as_str().or_else(|| value["content"].as_str()).unwrap_or_default().to_owned()
}
