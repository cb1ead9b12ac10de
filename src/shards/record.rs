//! What a sample says of its picture: the caption of its `txt` or `json`, and what `generate` remarks.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::SampleRef;
use crate::config::json;
use crate::error::Result;

/// The flag of a picture that has values which are no numbers.
const NOT_FINITE: &str = "not_finite";

/// The texts of a sample. Nothing in its json but a missing caption can make the sample useless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The `txt` member, else `caption` of the `json` member; not blank. Or why there is none, without the sample's
    /// name.
    pub caption: Result<String, String>,
    /// `captions` of the `json` member: texts that say the same, in the order they stand there.
    pub captions: Vec<String>,
    /// `caption_id` of the `json` member, when it is a whole number.
    pub caption_id: Option<u64>,
    /// `flags` of the `json` member: what the generator remarked about this image.
    pub flags: Vec<String>,
    /// What the picture was drawn from (caption number, seed, image index, model, sampler …) as one number, when the
    /// `json` member tells: with the same caption, equal numbers are one picture, however it is stored.
    pub drawn: Option<u64>,
    /// What is odd.
    pub remarks: Vec<Remark>,
}

/// Something odd in a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remark {
    UnreadableJson,
    OddCaptionId,
    OddCaptions,
    CaptionsDiffer,
    MorePictures,
    NotFinite,
}

impl Remark {
    /// Whether the sample is not used for it.
    pub(super) fn leaves_out(self) -> bool {
        self == Self::NotFinite
    }

    /// What is said of `count` samples, of which `example` is the first.
    pub(super) fn describe(self, count: usize, example: &str) -> String {
        let (samples, their) = if count == 1 { ("sample has", "its") } else { ("samples have", "their") };
        match self {
            Self::UnreadableJson => format!(
                "{count} {samples} a .json that is not an object, e.g. {example}; {their} caption is that of .txt"
            ),
            Self::OddCaptionId => format!(
                "{count} {samples} a caption_id that is no whole number, e.g. {example}; {their} text alone decides \
                 the group"
            ),
            Self::OddCaptions => format!(
                "{count} {samples} `captions` in .json that are no list of texts, e.g. {example}; what is no text is not read"
            ),
            Self::CaptionsDiffer => {
                format!("{count} {samples} another caption in .json than in .txt, e.g. {example}; .txt is taken")
            }
            Self::MorePictures => format!(
                "{count} {samples} pictures with names (such as .depth.png) beside {their} own, e.g. {example}; \
                 these are not used"
            ),
            Self::NotFinite => format!(
                "{count} {samples} the flag not_finite, e.g. {example}: there were values that are no numbers when the \
                 picture was drawn; left out"
            ),
        }
    }
}

impl SampleRef<'_> {
    /// Reads the texts of the sample.
    ///
    /// # Errors
    /// If the shard cannot be read.
    pub fn record(&self) -> Result<Record> {
        let text = self.read("txt")?.map(|bytes| {
            let text = String::from_utf8(bytes).map_err(|e| format!(".txt: caption is not UTF-8 ({})", e.utf8_error()));
            text.map(|text| text.trim_end_matches(['\r', '\n']).to_string())
        });
        let fields = self.read("json")?.map(|bytes| {
            let value = json::parse_note::<Value>(&bytes).map_err(|e| e.to_string());
            value.and_then(|value| match value {
                Value::Object(fields) => Ok(fields),
                other => Err(format!("it is {}", kind(&other))),
            })
        });
        Ok(Record::of(text, fields))
    }
}

impl Record {
    fn of(text: Option<Result<String, String>>, fields: Option<Result<Map<String, Value>, String>>) -> Self {
        let mut remarks = Vec::new();
        let blank = matches!(&text, Some(Ok(text)) if text.trim().is_empty());
        let (fields, broken) = match fields {
            Some(Ok(fields)) => (fields, None),
            Some(Err(why)) => (Map::new(), Some(why)),
            None => (Map::new(), None),
        };
        let in_json = fields.get("caption").and_then(Value::as_str).filter(|text| !text.trim().is_empty());
        let caption = match text {
            Some(Err(why)) => Err(why),
            Some(Ok(text)) if !blank => {
                if broken.is_some() {
                    remarks.push(Remark::UnreadableJson);
                }
                if in_json.is_some_and(|other| other.trim() != text.trim()) {
                    remarks.push(Remark::CaptionsDiffer);
                }
                Ok(text)
            }
            _ => match (in_json, &broken, fields.get("caption")) {
                (Some(text), ..) => Ok(text.to_string()),
                (None, Some(why), _) => {
                    Err(format!(".json: expected an object with `caption` and `caption_id` ({why})"))
                }
                (None, None, Some(Value::String(_))) => Err("its caption in .json is blank".into()),
                (None, None, Some(other)) => Err(format!("its caption in .json is {}, not a text", kind(other))),
                (None, None, None) if blank => Err("its .txt is blank, which is no caption".into()),
                (None, None, None) => Err("no caption (.txt, or \"caption\" in .json)".into()),
            },
        };
        let id = fields.get("caption_id");
        let caption_id = id.and_then(Value::as_u64);
        if caption_id.is_none() && id.is_some_and(|id| !id.is_null()) {
            remarks.push(Remark::OddCaptionId);
        }
        let flags = fields.get("flags").and_then(Value::as_array).into_iter().flatten();
        let flags: Vec<String> = flags.filter_map(|flag| flag.as_str().map(str::to_owned)).collect();
        if flags.iter().any(|flag| flag == NOT_FINITE) {
            remarks.push(Remark::NotFinite);
        }
        let listed = fields.get("captions");
        let captions = listed.and_then(Value::as_array).into_iter().flatten();
        let captions: Vec<String> = captions.filter_map(|text| text.as_str().map(str::to_owned)).collect();
        let texts = |list: &Value| list.as_array().is_some_and(|list| list.len() == captions.len());
        if listed.is_some_and(|list| !list.is_null() && !texts(list)) {
            remarks.push(Remark::OddCaptions);
        }
        Self { caption, captions, caption_id, flags, drawn: drawn(&fields), remarks }
    }
}

/// One number for what decides a drawn picture, but for how exactly it was computed and how it is stored. `None` when
/// the json does not tell which image of which caption and seed it is.
fn drawn(fields: &Map<String, Value>) -> Option<u64> {
    const MUST: [&str; 3] = ["caption_id", "seed", "image_index"];
    const MAY: [&str; 11] = [
        "model_sha256",
        "guidance_scale",
        "steps",
        "sampler",
        "generated_width",
        "generated_height",
        "negative_prompt",
        "initial_noise_sha256",
        "guidance_interval",
        "timestep_spacing",
        "cache_every",
    ];
    if !MUST.iter().all(|key| fields.get(*key).is_some_and(Value::is_u64)) {
        return None;
    }
    let mut hash = Sha256::new();
    for key in MUST.iter().chain(&MAY) {
        let value = fields.get(*key).map(Value::to_string).unwrap_or_default();
        hash.update((value.len() as u64).to_le_bytes());
        hash.update(value);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    Some(u64::from_le_bytes(first))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) if json::number(value).is_some() => "NaN or infinite",
        Value::Object(_) => "an object",
    }
}
