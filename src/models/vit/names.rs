//! Names of a ViT's tensors in files: timm's plain names, alone or under a prefix, as checkpoints have it that keep the
//! backbone beside other things: the official StableRep code (`visual.` beside `image_mlp.`, `module.visual.` when
//! saved from several GPUs), other trainers (`backbone.`, `model.`, `_orig_mod.`, …) and this program's.

use std::collections::{BTreeSet, HashSet};
use std::sync::OnceLock;

use super::{Vit, VitConfig};
use crate::bail;
use crate::error::Result;
use crate::weights::{COPY, ParamTable};

/// Tensors that tell where the backbone is.
const MARKS: [&str; 2] = ["cls_token", "patch_embed.proj.weight"];

/// Prefixes of copies that an optimizer keeps of every tensor.
const MOMENTS: &str = "adam.";

/// Beginnings of names that may lie beside an unprefixed backbone and are not part of it: classifier, projection head,
/// moments.
const BESIDE: [&str; 4] = ["head.", "image_mlp.", MOMENTS, "head_dist."];

/// Names under which other libraries keep a ViT: a tensor's ending, and whose it is.
const FOREIGN: [(&str, &str); 3] = [
    ("embeddings.cls_token", "Hugging Face transformers' ViTModel"),
    ("class_embedding", "OpenAI's CLIP or open_clip"),
    ("encoder.pos_embedding", "torchvision's VisionTransformer"),
];

/// timm's names of a plain ViT: outside its blocks, and inside `blocks.N.`.
#[derive(Debug, Default)]
struct Parts {
    trunk: Vec<String>,
    block: Vec<String>,
}

/// As the network itself names its tensors.
fn parts() -> &'static Parts {
    static PARTS: OnceLock<Parts> = OnceLock::new();
    PARTS.get_or_init(|| {
        let config = VitConfig {
            image_size: 1,
            patch_size: 1,
            width: 1,
            depth: 1,
            heads: 1,
            mlp_ratio: 1,
            channels: 1,
            qk_norm: true,
        };
        let mut parts = Parts::default();
        for (name, ..) in Vit::new(&config, "", &mut ParamTable::new()).iter().flat_map(Vit::tensors) {
            match name.strip_prefix("blocks.0.") {
                Some(inside) => parts.block.push(inside.to_owned()),
                None => parts.trunk.push(name.to_owned()),
            }
        }
        parts
    })
}

/// Where the backbone of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackboneNames {
    prefix: String,
    depth: usize,
    qk_norm: bool,
}

impl BackboneNames {
    /// Finds the backbone among the tensor names of `file`.
    ///
    /// # Errors
    /// `Data` when there is none, when several are, when blocks are missing, or when it has tensors that a plain ViT
    /// (class token, learned positions, pre-norm blocks without layer scale) does not.
    pub fn find(names: &[&str], file: &str) -> Result<Self> {
        Self::find_of(names, false, file)
    }

    /// The same of its momentum copy.
    ///
    /// # Errors
    /// As [`BackboneNames::find`].
    pub fn find_copy(names: &[&str], file: &str) -> Result<Self> {
        Self::find_of(names, true, file)
    }

    fn find_of(names: &[&str], copied: bool, file: &str) -> Result<Self> {
        let known: HashSet<&str> = names.iter().copied().collect();
        let has = |wanted: &str| known.contains(wanted);
        let with_class = prefixes(names, MARKS[0]);
        let found: Vec<&str> =
            prefixes(names, MARKS[1]).intersection(&with_class).copied().filter(|p| is_wanted(p, copied)).collect();
        let prefix = match found[..] {
            [prefix] => prefix,
            [] if copied => bail!(
                Data,
                "{file}: holds no momentum copy of a ViT (`{COPY}visual.…`), as runs of mocov3, byol and dino do; leave out \
                 --weights or --init-weights, which say whose are read"
            ),
            [] => return none(names, file),
            _ => {
                bail!(Data, "{file}: holds several ViTs, under {found:?}; keep the tensors of one of them in the file")
            }
        };
        let (mut depth, mut qk_norm) = (0, false);
        for name in names.iter().filter_map(|name| name.strip_prefix(prefix)) {
            match part_of(name) {
                Part::Block(block) => {
                    depth = depth.max(block.saturating_add(1));
                    qk_norm |= is_qk_norm(name);
                }
                Part::Trunk => {}
                Part::Other if BESIDE.iter().any(|start| name.starts_with(start)) => {}
                Part::Other => bail!(
                    Data,
                    "{file}: tensor `{prefix}{name}` belongs to no plain ViT (class token, learned positions, pre-norm blocks); {}",
                    variant_of(name)
                ),
            }
        }
        let this = Self { prefix: prefix.to_owned(), depth, qk_norm };
        match this.timm_names().find(|name| !has(&this.in_file(name))) {
            Some(absent) => {
                bail!(
                    Data,
                    "{file}: no tensor `{prefix}{absent}`, though it has blocks up to {depth}; is it whole, and a plain ViT?"
                )
            }
            None if depth == 0 => bail!(Data, "{file}: no blocks (`{prefix}blocks.0.…`) beside `{prefix}cls_token`"),
            None => Ok(this),
        }
    }

    /// The file's name of the tensor that timm calls `timm`.
    pub fn in_file(&self, timm: &str) -> String {
        format!("{}{timm}", self.prefix)
    }

    /// timm's name of the file's tensor `name`; `None` when it is no part of the backbone (`image_mlp.…`, classifier,
    /// moments).
    pub fn timm<'a>(&self, name: &'a str) -> Option<&'a str> {
        let name = name.strip_prefix(self.prefix.as_str())?;
        match part_of(name) {
            Part::Trunk => Some(name),
            Part::Block(block) if block < self.depth => Some(name),
            _ => None,
        }
    }

    /// What stands before timm's names in the file.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What stands before names of what lies beside the backbone, such as `image_mlp.…`.
    pub fn beside(&self) -> &str {
        self.prefix.strip_suffix("visual.").unwrap_or(&self.prefix)
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Whether its queries and keys have norms.
    pub fn qk_norm(&self) -> bool {
        self.qk_norm
    }

    /// Every tensor of the backbone by timm's name.
    pub fn timm_names(&self) -> impl Iterator<Item = String> + use<> {
        let (depth, qk_norm) = (self.depth, self.qk_norm);
        let Parts { trunk, block } = parts();
        let block = move || block.iter().filter(move |name| qk_norm || !is_qk_norm(name));
        let blocks = (0..depth).flat_map(move |i| block().map(move |name| format!("blocks.{i}.{name}")));
        trunk.iter().cloned().chain(blocks)
    }
}

/// Whether a name is of a norm of queries or keys.
fn is_qk_norm(name: &str) -> bool {
    ["attn.q_norm.", "attn.k_norm."].iter().any(|norm| name.contains(norm))
}

/// Whether a name is of the network's tensors, or of their momentum copy where `copied`.
fn is_wanted(name: &str, copied: bool) -> bool {
    !name.starts_with(MOMENTS) && name.starts_with(COPY) == copied
}

/// What stands before `mark` in names that end in it: nothing, or something that ends in a dot.
fn prefixes<'a>(names: &[&'a str], mark: &str) -> BTreeSet<&'a str> {
    let before = names.iter().filter_map(|name| name.strip_suffix(mark));
    before.filter(|prefix| prefix.is_empty() || prefix.ends_with('.')).collect()
}

/// The error of a file without a backbone: what it holds instead, where that can be told.
fn none(names: &[&str], file: &str) -> Result<BackboneNames> {
    for (ending, whose) in FOREIGN {
        if let Some(name) = names.iter().find(|name| name.ends_with(ending)) {
            bail!(
                Data,
                "{file}: tensor `{name}` is named as in {whose}; only timm's names are read (`cls_token`, `patch_embed.proj.weight`, \
                 `blocks.0.…`): load the model in timm and save its state_dict"
            );
        }
    }
    if let Some(name) = names.iter().find(|name| name.ends_with(MARKS[1]) && !name.starts_with(MOMENTS)) {
        bail!(
            Data,
            "{file}: `{name}` without a `cls_token` beside it: a ViT without class token, whose feature is another; such variants are \
             not supported"
        );
    }
    bail!(
        Data,
        "{file}: no ViT among its {} tensors: expected `cls_token`, `patch_embed.proj.weight`, `blocks.0.…` as timm names them, plain or \
         under a prefix such as `visual.` or `module.visual.`",
        names.len()
    )
}

/// What kind of ViT has a tensor of this name, for messages.
fn variant_of(name: &str) -> &'static str {
    let has = |part: &str| name.contains(part);
    if has(".ls1") || has(".ls2") || has("gamma_") {
        "layer scale is not supported"
    } else if has("reg_token") {
        "register tokens are not supported"
    } else if name.starts_with("fc_norm") {
        "a feature that is the average of the tokens (fc_norm) is not supported"
    } else if name.starts_with("norm_pre") {
        "a norm before the blocks, as CLIP has it, is not supported"
    } else if name.starts_with("dist_token") {
        "a distillation token is not supported"
    } else if has("rel_pos") || has("relative_position") {
        "relative positions are not supported"
    } else if name.starts_with("decoder") || name.starts_with("mask_token") {
        "it is a masked autoencoder's: keep the encoder's tensors alone in the file"
    } else {
        "such variants are not supported"
    }
}

enum Part {
    Trunk,
    Block(usize),
    Other,
}

fn part_of(name: &str) -> Part {
    let Parts { trunk, block: inside } = parts();
    if trunk.iter().any(|part| part == name) {
        return Part::Trunk;
    }
    let block = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
    match block.map(|(number, rest)| (number, number.parse::<usize>(), rest)) {
        // Above any real depth it is damage; the limit keeps the search for missing names short.
        Some((text, Ok(number), rest))
            if number < 1000 && number.to_string() == text && inside.iter().any(|part| part == rest) =>
        {
            Part::Block(number)
        }
        _ => Part::Other,
    }
}
