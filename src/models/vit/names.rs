//! Where a file has a ViT's tensors: under timm's names or those of [`super::naming`], alone or under a prefix, as
//! checkpoints have it that keep the backbone beside other things: the official StableRep code (`visual.` beside
//! `image_mlp.`, `module.visual.` when saved from several GPUs), MoCo v3 (`module.base_encoder.`), DINO
//! (`teacher.backbone.`), other trainers (`backbone.`, `model.`, `_orig_mod.`, …) and this program's.

use std::collections::{BTreeSet, HashSet};
use std::sync::OnceLock;

use super::naming::{DINO_V2, Naming, OPEN_CLIP, TIMM};
use super::whose::Whose;
use super::{Variant, Vit, VitConfig};
use crate::bail;
use crate::error::{Error, Result};
use crate::weights::{COPY, ParamTable};

/// Prefixes of copies that an optimizer keeps of every tensor.
const MOMENTS: &str = "adam.";

/// Beginnings of names that may lie beside a backbone under its prefix and are not part of it: classifier, projection,
/// heads, moments, a masked autoencoder's decoder and what stands for patches that are not seen.
const BESIDE: [&str; 7] = ["head.", "image_mlp.", MOMENTS, "head_dist.", "decoder_", "mask_token", "masked_embed"];

/// What takes the feature of open_clip's image tower to where it is compared with texts, beside the tower.
const OPEN_CLIP_PROJECTION: &str = "proj";

/// Names under which other libraries keep a ViT: a tensor's ending, and whose it is.
const FOREIGN: [(&str, &str); 3] = [
    ("embeddings.cls_token", "Hugging Face transformers' ViTModel"),
    ("embeddings.class_embedding", "Hugging Face transformers' CLIPModel"),
    ("encoder.pos_embedding", "torchvision's VisionTransformer"),
];

/// Layer scale: a gain for every value of what a branch adds, which is no tensor of the network, but a factor of its
/// last linear layer.
pub(super) const SCALES: [(&str, &str); 2] = [("attn.proj", "ls1.gamma"), ("mlp.fc2", "ls2.gamma")];

/// timm's names of a ViT: outside its blocks, and inside `blocks.N.`.
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
            variant: Variant { registers: 1, norm_pre: true, quick_gelu: false },
        };
        let mut parts = Parts { block: SCALES.map(|(_, gamma)| gamma.to_owned()).into(), ..Parts::default() };
        for (name, ..) in Vit::new(&config, "", &mut ParamTable::new()).iter().flat_map(Vit::tensors) {
            match name.strip_prefix("blocks.0.") {
                Some(inside) => parts.block.push(inside.to_owned()),
                None => parts.trunk.push(name.to_owned()),
            }
        }
        parts
    })
}

/// What of a ViT not every file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Has {
    pub qk_norm: bool,
    pub layer_scale: bool,
    pub registers: bool,
    pub norm_pre: bool,
    pub patch_bias: bool,
}

impl Has {
    /// Whether tensors called so, by timm's name, are there.
    fn part(&mut self, timm: &str) -> Option<&mut bool> {
        match timm {
            "reg_token" => Some(&mut self.registers),
            "patch_embed.proj.bias" => Some(&mut self.patch_bias),
            name if name.starts_with("norm_pre.") => Some(&mut self.norm_pre),
            name if ["attn.q_norm.", "attn.k_norm."].iter().any(|norm| name.contains(norm)) => Some(&mut self.qk_norm),
            name if SCALES.iter().any(|(_, gamma)| name.ends_with(gamma)) => Some(&mut self.layer_scale),
            _ => None,
        }
    }
}

/// Where the backbone of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackboneNames {
    prefix: String,
    naming: &'static Naming,
    depth: usize,
    has: Has,
}

impl BackboneNames {
    /// Finds the backbone among the tensor names of `file`; of a network and its momentum copy, the network.
    ///
    /// # Errors
    /// `Data` when there is none, when several are, when blocks are missing, or when it has tensors that no ViT that is
    /// known here has.
    pub fn find(names: &[&str], file: &str) -> Result<Self> {
        Ok(Self::find_of(names, file, None, Whose::Student)?.0)
    }

    /// The same of `asked`; where that is not said, of `usual`, or of DINO's files of the teacher. Tells whose there
    /// are where there is a copy.
    pub(super) fn find_of(
        names: &[&str],
        file: &str,
        asked: Option<Whose>,
        usual: Whose,
    ) -> Result<(Self, Option<Whose>)> {
        let all = candidates(names);
        let of = |whose| all.iter().filter(move |(prefix, _)| Whose::of_prefix(prefix) == whose);
        let (copies, originals) = (of(Whose::Teacher).count(), of(Whose::Student).count());
        let has_copy = copies > 0 || names.iter().any(|name| name.starts_with(COPY));
        let authors = of(Whose::Teacher).any(|(prefix, _)| prefix.split('.').any(|part| part == "teacher"));
        let whose = match asked {
            Some(_) if !has_copy => Whose::Teacher,
            Some(whose) => whose,
            None if authors || originals == 0 && copies > 0 => Whose::Teacher,
            None if has_copy => usual,
            None => Whose::Student,
        };
        let found: Vec<_> = of(whose).collect();
        let (prefix, naming) = match found[..] {
            [&found] => found,
            [] if whose == Whose::Teacher => bail!(
                Data,
                "{file}: holds no momentum copy of a ViT (`{COPY}visual.…`), as runs of mocov3, byol and dino do; leave out \
                 --weights or --init-weights, which say whose are read"
            ),
            [] if copies > 0 => {
                bail!(Data, "{file}: holds a teacher's weights alone; leave out --weights or --init-weights student")
            }
            [] => return Err(none(names, file)),
            _ => {
                let prefixes: Vec<&str> = found.iter().map(|(prefix, _)| *prefix).collect();
                bail!(
                    Data,
                    "{file}: holds several ViTs, under {prefixes:?}; keep the tensors of one of them in the file"
                )
            }
        };
        Ok((Self::read(names, prefix, naming, file)?, has_copy.then_some(whose)))
    }

    /// Takes account of every tensor under `prefix`.
    fn read(names: &[&str], prefix: &str, naming: &'static Naming, file: &str) -> Result<Self> {
        let known: HashSet<&str> = names.iter().copied().collect();
        let (mut depth, mut has) = (0, Has::default());
        for name in names.iter().filter_map(|name| name.strip_prefix(prefix)) {
            let timm = naming.timm(name).unwrap_or_default();
            match part_of(&timm) {
                Part::Block(block) => depth = depth.max(block.saturating_add(1)),
                Part::Trunk => {}
                Part::Other if BESIDE.iter().any(|start| name.starts_with(start)) => continue,
                Part::Other if naming == &OPEN_CLIP && name == OPEN_CLIP_PROJECTION => continue,
                Part::Other => bail!(
                    Data,
                    "{file}: tensor `{prefix}{name}` belongs to no ViT that is read here (class token, learned positions, pre-norm \
                     blocks); {}",
                    variant_of(name)
                ),
            }
            if let Some(part) = has.part(&timm) {
                *part = true;
            }
        }
        has.norm_pre |= naming == &OPEN_CLIP;
        // CLIP's image towers alone have none.
        has.patch_bias |= !has.norm_pre;
        let this = Self { prefix: prefix.to_owned(), naming, depth, has };
        match this.timm_names().map(|name| this.in_file(&name)).find(|name| !known.contains(name.as_str())) {
            _ if depth == 0 => {
                let (block, mark) = (this.in_file("blocks.0.…"), this.in_file("cls_token"));
                bail!(Data, "{file}: no blocks (`{block}`) beside `{mark}`")
            }
            Some(absent) if naming == &OPEN_CLIP && absent == this.in_file("norm_pre.weight") => bail!(
                Data,
                "{file}: no tensor `{absent}`: a tower without the norm before its blocks (no_ln_pre of \
                 open_clip_config.json), of which only those with it are read"
            ),
            Some(absent) => {
                bail!(Data, "{file}: no tensor `{absent}`, though it has blocks up to {depth}; is it whole, and a ViT?")
            }
            None => Ok(this),
        }
    }

    /// The file's name of the tensor that timm calls `timm`.
    pub fn in_file(&self, timm: &str) -> String {
        format!("{}{}", self.prefix, self.naming.in_file(timm))
    }

    /// timm's name of the file's tensor `name`; `None` when it is no part of the backbone (`image_mlp.…`, classifier,
    /// moments).
    pub fn timm(&self, name: &str) -> Option<String> {
        let timm = self.naming.timm(name.strip_prefix(self.prefix.as_str())?)?;
        match part_of(&timm) {
            Part::Trunk => Some(timm),
            Part::Block(block) if block < self.depth => Some(timm),
            _ => None,
        }
    }

    /// What stands before the backbone's names in the file.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What stands before names of what lies beside the backbone, such as `image_mlp.…`.
    pub fn beside(&self) -> &str {
        self.prefix.strip_suffix("visual.").unwrap_or(&self.prefix)
    }

    /// Whether it is named as open_clip names its image towers.
    pub fn is_open_clip(&self) -> bool {
        self.naming == &OPEN_CLIP
    }

    /// Name of the projection of an image tower of open_clip.
    pub fn open_clip_projection(&self) -> Option<String> {
        self.is_open_clip().then(|| format!("{}{OPEN_CLIP_PROJECTION}", self.prefix))
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// What of it not every ViT has.
    pub(super) fn has(&self) -> Has {
        self.has
    }

    /// Attention heads at `width`, where whose names these are tells them, and whose they are.
    pub(super) fn heads(&self, width: usize) -> Option<(usize, &'static str)> {
        let of_moco = self.prefix.split('.').any(|part| matches!(part, "base_encoder" | "momentum_encoder"));
        match width {
            384 | 768 if of_moco && self.depth == 12 => Some((12, "MoCo v3")),
            384 | 768 | 1024 if self.has.layer_scale && !self.is_open_clip() => Some((width / 64, "DINOv2")),
            _ => None,
        }
    }

    /// Every tensor of the backbone by timm's name.
    pub fn timm_names(&self) -> impl Iterator<Item = String> + use<> {
        let (depth, mut has) = (self.depth, self.has);
        let Parts { trunk, block } = parts();
        let blocks = (0..depth).flat_map(move |i| block.iter().map(move |name| format!("blocks.{i}.{name}")));
        let there = move |name: &String| has.part(name).is_none_or(|there| *there);
        trunk.iter().cloned().chain(blocks).filter(there)
    }
}

/// Where ViTs may be: what stands before their names, and whose names these are.
fn candidates<'a>(names: &[&'a str]) -> Vec<(&'a str, &'static Naming)> {
    let mut all = Vec::new();
    for naming in [&TIMM, &OPEN_CLIP] {
        let [class, patches] = naming.marks.map(|mark| prefixes(names, mark));
        for prefix in patches.intersection(&class).copied().filter(|prefix| !prefix.starts_with(MOMENTS)) {
            let registers = format!("{prefix}{}", DINO_V2.in_file("reg_token"));
            let is_dino_v2 = naming == &TIMM && names.contains(&registers.as_str());
            all.push((prefix, if is_dino_v2 { &DINO_V2 } else { naming }));
        }
    }
    all
}

/// What stands before `mark` in names that end in it: nothing, or something that ends in a dot.
fn prefixes<'a>(names: &[&'a str], mark: &str) -> BTreeSet<&'a str> {
    let before = names.iter().filter_map(|name| name.strip_suffix(mark));
    before.filter(|prefix| prefix.is_empty() || prefix.ends_with('.')).collect()
}

/// The error of a file without a backbone: what it holds instead, where that can be told.
fn none(names: &[&str], file: &str) -> Error {
    for (ending, whose) in FOREIGN {
        if let Some(name) = names.iter().find(|name| name.ends_with(ending)) {
            return Error::Data(format!(
                "{file}: tensor `{name}` is named as in {whose}; only timm's names are read (`cls_token`, `patch_embed.proj.weight`, \
                 `blocks.0.…`), and open_clip's and DINOv2's: load the model in one of these and save its state_dict"
            ));
        }
    }
    if let Some(name) = names.iter().find(|name| name.ends_with(TIMM.marks[1]) && !name.starts_with(MOMENTS)) {
        return Error::Data(format!(
            "{file}: `{name}` without a `cls_token` beside it: a ViT without class token, whose feature is another; such variants are \
             not supported"
        ));
    }
    if let Some(name) = names.iter().find(|name| name.contains("patch_embed.proj.0.")) {
        return Error::Data(format!("{file}: `{name}`: patches by several convolutions are not supported"));
    }
    Error::Data(format!(
        "{file}: no ViT among its {} tensors: expected `cls_token`, `patch_embed.proj.weight`, `blocks.0.…` as timm names them, or \
         open_clip's names, plain or under a prefix such as `visual.` or `module.visual.`",
        names.len()
    ))
}

/// What kind of ViT has a tensor of this name, for messages.
fn variant_of(name: &str) -> &'static str {
    let has = |part: &str| name.contains(part);
    if has("mlp.w12") || has("mlp.w3") || has("mlp.fc1_g") {
        "SwiGLU, which DINOv2's giant ViT has in the place of an MLP, is not supported"
    } else if has("gamma_") {
        "layer scale by these names is not supported (`ls1.gamma`, `ls2.gamma` are)"
    } else if name.starts_with("fc_norm") {
        "a feature that is the average of the tokens (fc_norm) is not supported"
    } else if name.starts_with("dist_token") {
        "a distillation token is not supported"
    } else if name.starts_with("attn_pool") {
        "a feature that attention makes of all tokens (attn_pool) is not supported"
    } else if has("rel_pos") || has("relative_position") {
        "relative positions are not supported"
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A ViT of twelve blocks under `prefix`, with layer scale where `scaled`.
    fn names(prefix: &str, scaled: bool) -> BackboneNames {
        let has = Has { layer_scale: scaled, patch_bias: true, ..Has::default() };
        let all = BackboneNames { prefix: prefix.to_owned(), naming: &TIMM, depth: 12, has };
        let names: Vec<String> = all.timm_names().map(|name| all.in_file(&name)).collect();
        let found = BackboneNames::find(&names.iter().map(String::as_str).collect::<Vec<_>>(), "file").unwrap();
        assert_eq!(found, all);
        found
    }

    /// MoCo v3's ViT-S has twelve heads, DINOv2's six; of others neither is known.
    #[test]
    fn heads_that_names_tell() {
        let heads = |prefix, scaled, width| names(prefix, scaled).heads(width).map(|(heads, _)| heads);
        assert_eq!(
            [384, 768, 192].map(|width| heads("module.base_encoder.", false, width)),
            [Some(12), Some(12), None]
        );
        assert_eq!([384, 768, 1024].map(|width| heads("", true, width)), [Some(6), Some(12), Some(16)]);
        assert_eq!(heads("visual.", false, 384), None);
    }
}
