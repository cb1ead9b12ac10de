//! timm's `config.json`: what it says of a ViT that its tensors do not show. Every key of `model_args` is used, known
//! to change nothing when features are computed, or refused.

use std::path::Path;

use serde_json::{Map, Value};

use super::VitConfig;
use super::preprocessing::Preprocessing;
use super::stated::Stated;
use crate::bail;
use crate::config::json;
use crate::error::{Error, Result};
use crate::store;

/// timm's plain ViTs: name before `_patch`, width, depth, heads.
const ARCHITECTURES: [(&str, usize, usize, usize); 11] = [
    ("vit_tiny", 192, 12, 3),
    ("vit_small", 384, 12, 6),
    ("vit_medium", 512, 12, 8),
    ("vit_base", 768, 12, 12),
    ("vit_large", 1024, 24, 16),
    ("vit_huge", 1280, 32, 16),
    ("vit_giant", 1408, 40, 16),
    ("vit_gigantic", 1664, 48, 16),
    ("deit_tiny", 192, 12, 3),
    ("deit_small", 384, 12, 6),
    ("deit_base", 768, 12, 12),
];

/// What may follow the image size in a name without making it another network: the data or method it was trained with.
const TRAININGS: [&str; 6] = ["", "_in21k", "_in1k", "_dino", "_mae", "_sam"];

/// `model_args` that change nothing when features are computed.
const HARMLESS: [&str; 14] = [
    "num_classes",
    "global_pool",
    "drop_rate",
    "pos_drop_rate",
    "patch_drop_rate",
    "proj_drop_rate",
    "attn_drop_rate",
    "drop_path_rate",
    "weight_init",
    "fix_init",
    "dynamic_img_size",
    "strict_img_size",
    "device",
    "dtype",
];

/// `model_args` that make another network unless they have this value (null means timm's own, which is it).
const FIXED: [(&str, Value); 16] = [
    ("class_token", Value::Bool(true)),
    ("qkv_bias", Value::Bool(true)),
    ("proj_bias", Value::Bool(true)),
    ("final_norm", Value::Bool(true)),
    ("scale_attn_norm", Value::Bool(false)),
    ("scale_mlp_norm", Value::Bool(false)),
    ("no_embed_class", Value::Bool(false)),
    ("pre_norm", Value::Bool(false)),
    ("fc_norm", Value::Bool(false)),
    ("dynamic_img_pad", Value::Bool(false)),
    ("init_values", Value::Null),
    ("norm_layer", Value::Null),
    ("embed_layer", Value::Null),
    ("embed_norm_layer", Value::Null),
    ("block_fn", Value::Null),
    ("mlp_layer", Value::Null),
];

/// Name and heads of timm's plain ViT of the width, depth and MLP of `sizes`.
pub(super) fn standard(sizes: &VitConfig) -> Option<(&'static str, usize)> {
    let same = |(_, width, depth, _): &&(&str, usize, usize, usize)| (*width, *depth) == (sizes.width, sizes.depth);
    ARCHITECTURES.iter().find(same).filter(|_| sizes.mlp_ratio == 4).map(|&(name, _, _, heads)| (name, heads))
}

/// Reads a timm `config.json`.
///
/// # Errors
/// `Data` when the file is no JSON, describes no plain ViT that pools its class token, or a value is of the wrong kind.
pub(super) fn read_config(path: &Path) -> Result<Stated> {
    let shown = path.display();
    let bytes = store::read(path, store::RECORD).map_err(Error::io("read", path))?;
    let config: Value = json::parse(&bytes).map_err(|e| Error::Data(format!("{shown}: not JSON ({e})")))?;
    let Some(architecture) = config.get("architecture").and_then(Value::as_str) else {
        bail!(Data, "{shown}: no `architecture`; expected timm's config.json, e.g. \"vit_base_patch16_224\"");
    };
    let empty = Map::new();
    let args: &Map<String, Value> = match config.get("model_args") {
        None | Some(Value::Null) => &empty,
        Some(Value::Object(args)) => args,
        Some(other) => bail!(Data, "{shown}: model_args is {other}, expected an object"),
    };
    for pool in [config.get("global_pool"), args.get("global_pool")].into_iter().flatten() {
        if !(pool.is_null() || pool == "token" || pool == "") {
            bail!(Data, "{shown}: global_pool is {pool}; only the class token (\"token\") is read as the feature here");
        }
    }
    check_args(args, &shown.to_string())?;
    if architecture.contains("quickgelu") {
        bail!(
            Data,
            "{shown}: architecture {architecture} has the activation QuickGELU; only the exact GELU is supported"
        );
    }
    let number = |key: &str| -> Result<Option<usize>> {
        match args.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) => Ok(Some(number as usize)),
                // timm takes [height, width] too.
                None => match value.as_array().map(Vec::as_slice) {
                    Some([a, b]) if a == b && a.is_u64() => Ok(a.as_u64().map(|side| side as usize)),
                    _ => bail!(Data, "{shown}: model_args.{key} is {value}, expected a number"),
                },
            },
        }
    };
    let named = Named::parse(architecture).unwrap_or_default();
    // Older files have the fields of `pretrained_cfg` at their top.
    let pretrained = config.get("pretrained_cfg").filter(|cfg| !cfg.is_null()).unwrap_or(&config);
    let triple = |key: &str| -> Result<Option<[f32; 3]>> {
        let Some(value) = pretrained.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
        match serde_json::from_value::<[f32; 3]>(value.clone()) {
            Ok(three) if three.iter().all(|v| v.is_finite()) => Ok(Some(three)),
            _ => bail!(Data, "{shown}: {key} is {value}, expected three numbers"),
        }
    };
    Ok(Stated {
        by: format!("config.json (architecture {architecture})"),
        image_size: number("img_size")?.or(named.image_size),
        patch_size: number("patch_size")?.or(named.patch_size),
        width: number("embed_dim")?.or(named.width),
        depth: number("depth")?.or(named.depth),
        heads: number("num_heads")?.or(named.heads),
        qk_norm: match args.get("qk_norm") {
            None | Some(Value::Null) => None,
            Some(Value::Bool(norms)) => Some(*norms),
            Some(other) => bail!(Data, "{shown}: model_args.qk_norm is {other}, expected true or false"),
        },
        mean: triple("mean")?,
        std: triple("std")?,
        preprocessing: Some(Preprocessing::read(pretrained, &shown.to_string())?),
    })
}

/// Refuses what makes another network than the plain ViT.
fn check_args(args: &Map<String, Value>, shown: &str) -> Result<()> {
    const READ: [&str; 9] =
        ["qk_norm", "img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "in_chans", "act_layer"];
    for (key, value) in args.iter().filter(|(_, value)| !value.is_null()) {
        let fixed = FIXED.iter().find(|(name, _)| name == key).map(|(_, wanted)| wanted);
        let harmless = READ.contains(&key.as_str()) || HARMLESS.contains(&key.as_str());
        let none = matches!(key.as_str(), "reg_tokens" | "init_values") && value == 0;
        let learnt = key == "pos_embed" && value == "learn";
        if !(harmless || none || learnt || fixed == Some(value)) {
            bail!(
                Data,
                "{shown}: model_args.{key} is {value}, which makes another network than the plain ViT; not supported"
            );
        }
    }
    if let Some(act) = args.get("act_layer").filter(|act| !act.is_null() && *act != "gelu") {
        bail!(Data, "{shown}: model_args.act_layer is {act}; only the exact GELU (\"gelu\") is supported");
    }
    Ok(())
}

/// What the name of an architecture tells.
#[derive(Debug, Default, PartialEq)]
struct Named {
    image_size: Option<usize>,
    patch_size: Option<usize>,
    width: Option<usize>,
    depth: Option<usize>,
    heads: Option<usize>,
}

impl Named {
    /// `vit_base_patch16_224.augreg_in21k`, with or without patch and size; `None` for names of other networks.
    fn parse(architecture: &str) -> Option<Self> {
        let name = architecture.split('.').next().unwrap_or_default();
        let (base, rest) = name.split_once("_patch").unwrap_or((name, ""));
        let &(_, width, depth, heads) = ARCHITECTURES.iter().find(|(known, ..)| *known == base)?;
        let mut this = Self { width: Some(width), depth: Some(depth), heads: Some(heads), ..Self::default() };
        if !rest.is_empty() {
            let (patch, size) = rest.split_once('_')?;
            let digits = size.find(|c: char| !c.is_ascii_digit()).unwrap_or(size.len());
            let (size, training) = size.split_at(digits);
            if !TRAININGS.contains(&training) {
                return None;
            }
            (this.patch_size, this.image_size) = (Some(patch.parse().ok()?), Some(size.parse().ok()?));
        }
        Some(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(architecture: &str) -> Option<usize> {
        Named::parse(architecture)?.heads
    }

    /// timm's numbers: ViT-H has 16 heads at width 1280, which is not width / 64.
    #[test]
    fn heads_of_architectures() {
        for (name, want) in [
            ("vit_huge_patch14_224", Some(16)),
            ("vit_huge_patch14_224.orig_in21k", Some(16)),
            ("vit_giant_patch14_224", Some(16)),
            ("vit_base_patch16_384.augreg_in21k_ft_in1k", Some(12)),
            ("vit_small_patch8_224_dino", Some(6)),
            ("vit_medium_patch32_128", Some(8)),
            ("deit_tiny_patch16_224.fb_in1k", Some(3)),
            ("vit_base", Some(12)),
            ("vit_small_patch16_18x2_224", None),
            ("vit_base_patch16_plus_240", None),
            ("vit_base_patch16_clip_224.openai", None),
            ("vit_small_r26_s32_224", None),
            ("swin_base_patch4_window7_224", None),
        ] {
            assert_eq!(heads(name), want, "{name}");
        }
        let named = Named::parse("vit_large_patch14_336").unwrap();
        assert_eq!((named.patch_size, named.image_size, named.depth), (Some(14), Some(336), Some(24)));
    }
}
