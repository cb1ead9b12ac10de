//! Names of a ViT's tensors in files: timm's plain names, and those of checkpoints that keep the backbone beside other things:
//! the official StableRep code (`visual.` beside `image_mlp.`, `module.visual.` when saved from several GPUs) and this program's.

use crate::bail;
use crate::error::Result;

/// Prefixes a backbone is found under; what follows is timm's name.
const PREFIXES: [&str; 6] = ["", "visual.", "module.visual.", "module.", "params.visual.", "params."];

/// Tensors that tell where the backbone is.
const MARKS: [&str; 2] = ["cls_token", "patch_embed.proj.weight"];

/// Beginnings of names that may lie beside an unprefixed backbone and are not part of it: classifier, projection head, moments.
const BESIDE: [&str; 4] = ["head.", "image_mlp.", "adam.", "head_dist."];

/// timm's names of a plain ViT outside its blocks.
const TRUNK: [&str; 6] =
    ["cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"];

/// timm's names inside `blocks.N.`.
const BLOCK: [&str; 12] = [
    "norm1.weight",
    "norm1.bias",
    "attn.qkv.weight",
    "attn.qkv.bias",
    "attn.proj.weight",
    "attn.proj.bias",
    "norm2.weight",
    "norm2.bias",
    "mlp.fc1.weight",
    "mlp.fc1.bias",
    "mlp.fc2.weight",
    "mlp.fc2.bias",
];

/// Where the backbone of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackboneNames {
    prefix: &'static str,
    depth: usize,
}

impl BackboneNames {
    /// Finds the backbone among the tensor names of `file`.
    ///
    /// # Errors
    /// `Data` when there is none, when several are, when blocks are missing, or when it has tensors that a plain ViT (class token,
    /// learned positions, pre-norm blocks without layer scale) does not.
    pub fn find(names: &[&str], file: &str) -> Result<Self> {
        let has = |wanted: &str| names.contains(&wanted);
        let found: Vec<&'static str> =
            PREFIXES.into_iter().filter(|prefix| MARKS.iter().all(|mark| has(&format!("{prefix}{mark}")))).collect();
        let [prefix] = found[..] else {
            let count = names.len();
            if found.is_empty() {
                bail!(
                    Data,
                    "{file}: no ViT among its {count} tensors: expected `cls_token`, `patch_embed.proj.weight`, `blocks.0.…` as timm \
                     names them, plain or under `visual.` or `module.visual.`"
                );
            }
            bail!(Data, "{file}: holds several ViTs, under {found:?}; keep one of them in the file");
        };
        let mut depth = 0;
        for name in names.iter().filter_map(|name| name.strip_prefix(prefix)) {
            match part_of(name) {
                Part::Block(block) => depth = depth.max(block.saturating_add(1)),
                Part::Trunk => {}
                Part::Other if BESIDE.iter().any(|start| name.starts_with(start)) => {}
                Part::Other => bail!(
                    Data,
                    "{file}: tensor `{prefix}{name}` belongs to no plain ViT (class token, learned positions, pre-norm blocks); \
                     such variants are not supported"
                ),
            }
        }
        let this = Self { prefix, depth };
        match this.timm_names().find(|name| !has(&this.in_file(name))) {
            Some(absent) => {
                bail!(Data, "{file}: no tensor `{prefix}{absent}`, though it has blocks up to {depth}; is it whole?")
            }
            None if depth == 0 => bail!(Data, "{file}: no blocks (`{prefix}blocks.0.…`) beside `{prefix}cls_token`"),
            None => Ok(this),
        }
    }

    /// The file's name of the tensor that timm calls `timm`.
    pub fn in_file(&self, timm: &str) -> String {
        format!("{}{timm}", self.prefix)
    }

    /// timm's name of the file's tensor `name`; `None` when it is no part of the backbone (`image_mlp.…`, classifier, moments).
    pub fn timm<'a>(&self, name: &'a str) -> Option<&'a str> {
        let name = name.strip_prefix(self.prefix)?;
        match part_of(name) {
            Part::Trunk => Some(name),
            Part::Block(block) if block < self.depth => Some(name),
            _ => None,
        }
    }

    /// What stands before timm's names in the file.
    pub fn prefix(&self) -> &'static str {
        self.prefix
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Every tensor of the backbone by timm's name.
    pub fn timm_names(&self) -> impl Iterator<Item = String> {
        let blocks = (0..self.depth).flat_map(|block| BLOCK.iter().map(move |name| format!("blocks.{block}.{name}")));
        TRUNK.iter().map(|name| (*name).to_string()).chain(blocks)
    }
}

enum Part {
    Trunk,
    Block(usize),
    Other,
}

fn part_of(name: &str) -> Part {
    if TRUNK.contains(&name) {
        return Part::Trunk;
    }
    let block = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
    match block.map(|(number, rest)| (number.parse(), rest)) {
        // Above any real depth it is damage; the limit keeps the search for missing names short.
        Some((Ok(number), rest)) if number < 1000 && BLOCK.contains(&rest) => Part::Block(number),
        _ => Part::Other,
    }
}
