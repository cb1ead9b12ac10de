//! open_clip's `open_clip_config.json`: what it says of a CLIP that its tensors do not show. Every key of its towers is
//! used, known to change nothing when features are computed, or refused.

use std::path::Path;

use serde_json::{Map, Value, json as value};

use super::keys::{self, Keys};
use super::preprocessing::Preprocessing;
use super::stated::{Stated, StatedText};
use crate::bail;
use crate::config::json;
use crate::error::Result;

/// Name of the file.
pub(super) const CONFIG: &str = "open_clip_config.json";

/// Mean and standard deviation of the pixels (0 to 1) that OpenAI normalised with, and open_clip does by default.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// Values of a head of attention, unless `head_width` says otherwise; always in OpenAI's.
const HEAD_WIDTH: usize = 64;

/// open_clip's width of an image tower and heads of a text tower where its config does not say them.
const WIDTH: usize = 768;
const TEXT_HEADS: usize = 8;

/// Keys of `vision_cfg` that are read, that tensors tell, or that change no feature.
const VISION: [&str; 21] = [
    "image_size",
    "layers",
    "width",
    "head_width",
    "patch_size",
    "mlp_ratio",
    "ls_init_value",
    "pos_embed_type",
    "patch_dropout",
    "output_tokens",
    "image_seq_len",
    "attn_pooler_queries",
    "attn_pooler_heads",
    // The class token is pooled, before its norm or behind it.
    "final_ln_after_pool",
    "timm_model_pretrained",
    "timm_pool",
    "timm_proj",
    "timm_proj_bias",
    "timm_drop",
    "timm_drop_path",
    "timm_model_kwargs",
];

/// The same of `text_cfg`.
const TEXT: [&str; 17] = [
    "context_length",
    "vocab_size",
    "width",
    "heads",
    "layers",
    "hf_tokenizer_name",
    "tokenizer_mode",
    "tokenizer_kwargs",
    "tokenizer_type",
    "output_tokens",
    "pad_id",
    "hf_model_pretrained",
    "hf_proj_type",
    "hf_pooler_type",
    "hf_model_config",
    "bos_id",
    "eos_id",
];

/// Keys of both that make another network unless they have this value (or null).
fn fixed() -> Vec<(&'static str, Value)> {
    let off = [
        "attentional_pool",
        "no_ln_pre",
        "embed_cls",
        "no_causal_mask",
        "variable_text",
        "final_ln_after_pool",
        "proj_bias",
        "qk_norm",
        "scaled_cosine_attn",
        "scale_heads",
        "scale_attn_inner",
        "scale_attn",
        "scale_fc",
    ];
    let chosen = [
        ("block_type", value!("default")),
        ("pool_type", value!("tok")),
        ("pool_type", value!("argmax")),
        ("text_arch", value!("clip")),
        ("proj_type", value!("linear")),
        ("mlp_ratio", value!(4.0)),
        ("mlp_ratio", value!(4)),
    ];
    off.map(|key| (key, value!(false))).into_iter().chain(chosen).collect()
}

/// Reads an `open_clip_config.json`.
///
/// # Errors
/// `Data` when the file is no JSON, describes another image tower than a ViT that pools its class token, or a value is
/// of the wrong kind.
pub(super) fn read_config(path: &Path) -> Result<Stated> {
    let (file, config) = (path.display().to_string(), keys::read(path)?);
    let nothing = Map::new();
    let object = |of: Option<&'_ Value>, key: &str| match of.and_then(|of| of.get(key)) {
        Some(Value::Object(map)) => Ok(map.clone()),
        None | Some(Value::Null) if key == "preprocess_cfg" || key == "text_cfg" => Ok(nothing.clone()),
        other => {
            bail!(Data, "{file}: {key} is {}, expected an object", json::placed(other.unwrap_or(&Value::Null)))
        }
    };
    let model = object(Some(&config), "model_cfg")?;
    let of_model = config.get("model_cfg");
    let (vision, text) = (object(of_model, "vision_cfg")?, object(of_model, "text_cfg")?);
    let preprocess = object(Some(&config), "preprocess_cfg")?;
    let keys = |map, within| Keys { map, file: &file, within };
    let (model, vision) = (keys(&model, "model_cfg."), keys(&vision, "vision_cfg."));
    let (text, preprocess) = (keys(&text, "text_cfg."), keys(&preprocess, "preprocess_cfg."));
    if vision.get("layers").is_some_and(Value::is_array) {
        bail!(Data, "{file}: vision_cfg.layers is a list, as a ResNet's; only ViTs are read");
    }
    if let Some((key, value)) = vision.unknown(&VISION, &fixed()) {
        let what = match key {
            "no_ln_pre" => "leaves out the norm before the blocks (ln_pre); only ViTs with it are read",
            _ => "makes another network than open_clip's plain ViT; not supported",
        };
        bail!(Data, "{file}: vision_cfg.{key} is {}, which {what}", json::placed(value));
    }
    let (width, image_size) = (vision.number("width")?.unwrap_or(WIDTH), vision.number("image_size")?);
    let head_width = vision.number("head_width")?.unwrap_or(HEAD_WIDTH).max(1);
    if let Some((size, side)) = preprocess.number("size")?.zip(image_size).filter(|(size, side)| size != side) {
        bail!(Data, "{file}: preprocess_cfg.size is {size}, but vision_cfg.image_size {side}; they must be the same");
    }
    let quick_gelu = model.flag("quick_gelu")?.unwrap_or(false);
    Ok(Stated {
        by: CONFIG.into(),
        image_size,
        patch_size: vision.number("patch_size")?,
        width: Some(width),
        depth: vision.number("layers")?,
        heads: Some(width / head_width),
        registers: Some(0),
        norm_pre: Some(true),
        layer_scale: Some(vision.get("ls_init_value").is_some()),
        quick_gelu: Some(quick_gelu),
        mean: Some(preprocess.triple("mean")?.unwrap_or(MEAN)),
        std: Some(preprocess.triple("std")?.unwrap_or(STD)),
        preprocessing: Some(preprocessing(preprocess)?),
        text: Some(StatedText {
            heads: Some(text.number("heads")?.unwrap_or(TEXT_HEADS)),
            exact_gelu: !quick_gelu,
            refused: match model.flag("custom_text")? {
                Some(true) => Some("model_cfg.custom_text is true".into()),
                _ => text
                    .unknown(&TEXT, &fixed())
                    .map(|(key, value)| format!("text_cfg.{key} is {}", json::placed(value))),
            },
        }),
        ..Stated::default()
    })
}

/// What is known of the files that OpenAI published, of an image tower `width` wide; `by` tells that it is one.
pub(super) fn of_open_ai(by: String, width: usize) -> Stated {
    let empty = Map::new();
    let preprocess = Keys { map: &empty, file: "", within: "" };
    Stated {
        by,
        heads: Some(width / HEAD_WIDTH),
        quick_gelu: Some(true),
        mean: Some(MEAN),
        std: Some(STD),
        preprocessing: preprocessing(preprocess).ok(),
        text: Some(StatedText::default()),
        ..Stated::default()
    }
}

/// How open_clip prepares a photograph: the short side to the encoder's, bicubic, and the middle, unless it says
/// otherwise.
fn preprocessing(keys: Keys) -> Result<Preprocessing> {
    let mode = match keys.get("resize_mode").map(Value::as_str) {
        None | Some(Some("shortest")) => "center",
        Some(Some("squash")) => "squash",
        Some(_) => bail!(
            Data,
            "{}: preprocess_cfg.resize_mode is {}, expected shortest or squash: set one of these in the file",
            keys.file,
            json::placed(&keys.map["resize_mode"])
        ),
    };
    let interpolation = keys.get("interpolation").cloned().unwrap_or_else(|| value!("bicubic"));
    let timms = value!({"crop_pct": 1.0, "crop_mode": mode, "interpolation": interpolation});
    Preprocessing::read(&timms, keys.file)
}
