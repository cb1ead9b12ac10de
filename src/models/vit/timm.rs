//! timm's `config.json`: what it says of a ViT that its tensors do not show. Every key of `model_args` is used, known
//! to change nothing when features are computed, or refused.

use std::path::Path;

use serde_json::{Map, Value};

use super::VitConfig;
use super::keys::{self, Keys};
use super::preprocessing::Preprocessing;
use super::stated::Stated;
use crate::config::json;
use crate::error::Result;
use crate::{bail, say};

/// Name of the file.
pub(super) const CONFIG: &str = "config.json";

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

/// Side of the images that DINOv2's positions are of, where the name does not tell it.
const DINO_V2_SIZE: usize = 518;

/// `model_args` that change nothing when features are computed.
const HARMLESS: [&str; 13] = [
    "num_classes",
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
const FIXED: [(&str, Value); 13] = [
    ("class_token", Value::Bool(true)),
    ("qkv_bias", Value::Bool(true)),
    ("proj_bias", Value::Bool(true)),
    ("final_norm", Value::Bool(true)),
    ("scale_attn_norm", Value::Bool(false)),
    ("scale_mlp_norm", Value::Bool(false)),
    ("fc_norm", Value::Bool(false)),
    ("dynamic_img_pad", Value::Bool(false)),
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
/// `Data` when the file is no JSON, describes no ViT that pools its class token, or a value is of the wrong kind.
pub(super) fn read_config(path: &Path) -> Result<Stated> {
    let (shown, config) = (path.display().to_string(), keys::read(path)?);
    let Some(architecture) = config.get("architecture").and_then(Value::as_str) else {
        bail!(Data, "{shown}: no `architecture`; expected timm's config.json, e.g. \"vit_base_patch16_224\"");
    };
    let empty = Map::new();
    let args = match config.get("model_args") {
        None | Some(Value::Null) => &empty,
        Some(Value::Object(args)) => args,
        Some(other) => bail!(Data, "{shown}: model_args is {}, expected an object", json::placed(other)),
    };
    let args = Keys { map: args, file: &shown, within: "model_args." };
    for pool in [config.get("global_pool"), args.get("global_pool")].into_iter().flatten() {
        if !(pool.is_null() || pool == "token" || pool == "") {
            bail!(
                Data,
                "{shown}: global_pool is {}; only the class token (\"token\") is read as the feature here",
                json::placed(pool)
            );
        }
    }
    if architecture.contains("giant") && architecture.contains("dinov2") {
        bail!(Data, "{shown}: architecture {architecture} has SwiGLU in the place of an MLP, which is not supported");
    }
    let others = ["_relpos_", "_srelpos_", "_rope_", "_parallel_"];
    let plain = ["vit_", "deit_"].iter().any(|family| architecture.starts_with(family));
    if !plain || others.iter().any(|other| architecture.contains(other)) {
        bail!(
            Data,
            "{shown}: architecture {architecture} is none of timm's plain ViTs, vit_… and deit_…, which alone are read; do \
             the weights beside it belong to it?"
        );
    }
    let (named, is_clip) = (Named::parse(architecture).unwrap_or_default(), architecture.contains("_clip_"));
    check_args(args, is_clip, &shown)?;
    // Older files have the fields of `pretrained_cfg` at their top.
    let pretrained = config.get("pretrained_cfg").filter(|cfg| !cfg.is_null()).unwrap_or(&config);
    let of_pretrained = Keys { map: pretrained.as_object().unwrap_or(&empty), file: &shown, within: "" };
    let quick_gelu = match args.get("act_layer") {
        Some(act) => act == "quick_gelu",
        None => architecture.contains("quickgelu"),
    };
    if is_clip && !quick_gelu && of_pretrained.get("tag").is_some_and(|tag| tag == "openai") {
        say!(
            "note: {shown}: OpenAI's weights were trained with quick GELU; {architecture} has the exact one, as timm computes it \
             (…_clip_quickgelu_… is the other)"
        );
    }
    let image_size = args.number("img_size")?.or(named.image_size);
    let input = pretrained["input_size"].as_array().and_then(|sizes| sizes.last()?.as_u64());
    if let (Some(side), Some(input)) = (image_size, input.and_then(|side| usize::try_from(side).ok()))
        && side != input
    {
        say!(
            "note: {shown}: has positions for {side} pixels a side (img_size), while its input_size is {input}, at which timm \
             evaluates it: for the same give --image-size {input}"
        );
    }
    Ok(Stated {
        by: format!("{CONFIG} (architecture {architecture})"),
        image_size,
        patch_size: args.number("patch_size")?.or(named.patch_size),
        width: args.number("embed_dim")?.or(named.width),
        depth: args.number("depth")?.or(named.depth),
        heads: args.number("num_heads")?.or(named.heads),
        qk_norm: args.flag("qk_norm")?,
        registers: args.number("reg_tokens")?.or(named.registers),
        norm_pre: Some(is_clip),
        layer_scale: match args.map.get("init_values") {
            Some(value) => Some(!value.is_null() && value != 0),
            None => named.layer_scale,
        },
        quick_gelu: Some(quick_gelu),
        mean: of_pretrained.triple("mean")?,
        std: of_pretrained.triple("std")?,
        preprocessing: Some(Preprocessing::read(pretrained, &shown)?),
        ..Stated::default()
    })
}

/// Refuses what makes another network than those that are read.
fn check_args(args: Keys, is_clip: bool, shown: &str) -> Result<()> {
    const READ: [&str; 13] = [
        "qk_norm",
        "img_size",
        "patch_size",
        "embed_dim",
        "depth",
        "num_heads",
        "mlp_ratio",
        "in_chans",
        "act_layer",
        "reg_tokens",
        "init_values",
        "no_embed_class",
        "global_pool",
    ];
    let fixed = [&FIXED[..], &[("pos_embed", "learn".into()), ("pre_norm", is_clip.into())]];
    if let Some((key, value)) = args.unknown(&[&READ[..], &HARMLESS].concat(), &fixed.concat()) {
        bail!(
            Data,
            "{shown}: model_args.{key} is {}, which makes another network than the plain ViT; not supported",
            json::placed(value)
        );
    }
    if let Some(act) = args.get("act_layer").filter(|act| *act != "gelu" && *act != "quick_gelu") {
        bail!(
            Data,
            "{shown}: model_args.act_layer is {}; \"gelu\", the exact one, and \"quick_gelu\" are supported",
            json::placed(act)
        );
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
    registers: Option<usize>,
    layer_scale: Option<bool>,
}

impl Named {
    /// `vit_base_patch16_224.augreg_in21k`, with or without patch and size, `vit_base_patch16_clip_quickgelu_224`,
    /// `vit_base_patch14_reg4_dinov2`; `None` for names of other networks.
    fn parse(architecture: &str) -> Option<Self> {
        let name = architecture.split('.').next().unwrap_or_default();
        let (base, rest) = name.split_once("_patch").unwrap_or((name, ""));
        let &(_, width, depth, heads) = ARCHITECTURES.iter().find(|(known, ..)| *known == base)?;
        let mut this = Self { width: Some(width), depth: Some(depth), heads: Some(heads), ..Self::default() };
        if rest.is_empty() {
            return Some(this);
        }
        let (patch, rest) = rest.split_once('_')?;
        this.patch_size = Some(patch.parse().ok()?);
        let dino_v2 = rest.strip_suffix("dinov2");
        this.layer_scale = Some(dino_v2.is_some());
        if let Some(registers) = dino_v2 {
            this.image_size = Some(DINO_V2_SIZE);
            this.registers = Some(match registers {
                "" => 0,
                registers => registers.strip_prefix("reg")?.strip_suffix('_')?.parse().ok()?,
            });
            return Some(this);
        }
        this.registers = Some(0);
        let rest = rest.strip_prefix("clip_").unwrap_or(rest);
        let size = rest.strip_prefix("quickgelu_").unwrap_or(rest);
        let digits = size.find(|c: char| !c.is_ascii_digit()).unwrap_or(size.len());
        let (size, training) = size.split_at(digits);
        if !TRAININGS.contains(&training) {
            return None;
        }
        this.image_size = Some(size.parse().ok()?);
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
            ("vit_base_patch16_clip_224.openai", Some(12)),
            ("vit_large_patch14_clip_quickgelu_336", Some(16)),
            ("vit_base_patch16_clip_foo_224", None),
            ("vit_base_patch16_plus_clip_240", None),
            ("vit_small_patch14_dinov2.lvd142m", Some(6)),
            ("vit_small_patch14_dinov3", None),
            ("vit_small_r26_s32_224", None),
            ("swin_base_patch4_window7_224", None),
        ] {
            assert_eq!(heads(name), want, "{name}");
        }
        let named = Named::parse("vit_large_patch14_336").unwrap();
        assert_eq!((named.patch_size, named.image_size, named.depth), (Some(14), Some(336), Some(24)));
        let named = Named::parse("vit_base_patch16_clip_quickgelu_224.openai").unwrap();
        assert_eq!((named.width, named.registers, named.image_size), (Some(768), Some(0), Some(224)));
        let named = Named::parse("vit_large_patch14_reg4_dinov2").unwrap();
        assert_eq!((named.registers, named.layer_scale, named.image_size), (Some(4), Some(true), Some(518)));
    }
}
