//! Under which names files keep a ViT's tensors: timm's, DINOv2's, open_clip's (which are OpenAI's).

use super::style::Style;

/// What timm calls the first of a pair is the second in a file.
type Pair = (&'static str, &'static str);

/// One library's names, beside timm's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Naming {
    /// Tensors that tell where a ViT is.
    pub marks: [&'static str; 2],
    /// Beginnings of names outside the blocks.
    trunk: &'static [Pair],
    /// What stands before the number of a block.
    blocks: &'static str,
    /// Beginnings of names inside a block.
    block: &'static [Pair],
    /// Whether all other names are timm's.
    others: bool,
}

const TIMM_MARKS: [&str; 2] = ["cls_token", "patch_embed.proj.weight"];
const OWN: Style = Style::VIT;
const CLIPS: Style = Style::TEXT;

/// timm's, which most authors have.
pub(super) const TIMM: Naming = Naming { marks: TIMM_MARKS, trunk: &[], blocks: OWN.blocks, block: &[], others: true };

/// DINOv2's: timm's but for the register tokens.
pub(super) const DINO_V2: Naming = Naming { trunk: &[("reg_token", "register_tokens")], ..TIMM };

/// Those of open_clip's image tower.
pub(super) const OPEN_CLIP: Naming = Naming {
    marks: ["class_embedding", "conv1.weight"],
    trunk: &[
        ("cls_token", "class_embedding"),
        ("pos_embed", "positional_embedding"),
        ("patch_embed.proj", "conv1"),
        ("norm_pre", "ln_pre"),
        ("norm", "ln_post"),
    ],
    blocks: CLIPS.blocks,
    block: &[
        (OWN.norm1, CLIPS.norm1),
        (OWN.qkv[0], CLIPS.qkv[0]),
        (OWN.qkv[1], CLIPS.qkv[1]),
        (OWN.proj, CLIPS.proj),
        (OWN.norm2, CLIPS.norm2),
        (OWN.fc1, CLIPS.fc1),
        (OWN.fc2, CLIPS.fc2),
        ("ls1", "ls_1"),
        ("ls2", "ls_2"),
    ],
    others: false,
};

impl Naming {
    /// The file's name of the tensor that timm calls `timm`.
    pub fn in_file(&self, timm: &str) -> String {
        match timm.strip_prefix(OWN.blocks).and_then(|rest| rest.split_once('.')) {
            Some((number, inside)) => {
                let theirs = renamed(inside, self.block.iter().copied());
                format!("{}{number}.{}", self.blocks, theirs.unwrap_or_else(|| inside.to_owned()))
            }
            None => renamed(timm, self.trunk.iter().copied()).unwrap_or_else(|| timm.to_owned()),
        }
    }

    /// timm's name of what the file calls `name`; none where it has none.
    pub fn timm(&self, name: &str) -> Option<String> {
        let own = || self.others.then(|| name.to_owned());
        let turned = |pairs: &[Pair], name: &str| renamed(name, pairs.iter().map(|&(timm, theirs)| (theirs, timm)));
        match name.strip_prefix(self.blocks).and_then(|rest| rest.split_once('.')) {
            Some((number, inside)) => {
                turned(self.block, inside).map(|inside| format!("{}{number}.{inside}", OWN.blocks)).or_else(own)
            }
            None => turned(self.trunk, name).or_else(own),
        }
    }
}

/// `name` with the beginning that the first of a pair is, as the second has it.
fn renamed(name: &str, pairs: impl IntoIterator<Item = Pair>) -> Option<String> {
    pairs.into_iter().find_map(|(from, to)| {
        let rest = name.strip_prefix(from)?;
        (rest.is_empty() || rest.starts_with('.')).then(|| format!("{to}{rest}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for (timm, theirs) in [
            ("cls_token", "class_embedding"),
            ("patch_embed.proj.weight", "conv1.weight"),
            ("norm_pre.bias", "ln_pre.bias"),
            ("norm.weight", "ln_post.weight"),
            ("blocks.11.attn.qkv.bias", "transformer.resblocks.11.attn.in_proj_bias"),
            ("blocks.0.mlp.fc2.weight", "transformer.resblocks.0.mlp.c_proj.weight"),
            ("blocks.0.ls1.gamma", "transformer.resblocks.0.ls_1.gamma"),
        ] {
            assert_eq!((OPEN_CLIP.in_file(timm), OPEN_CLIP.timm(theirs).as_deref()), (theirs.to_owned(), Some(timm)));
            assert_eq!((TIMM.in_file(timm), TIMM.timm(timm).as_deref()), (timm.to_owned(), Some(timm)));
        }
        for unknown in ["proj", "cls_token", "transformer.resblocks.0.attn.qkv.weight", "ln_posts"] {
            assert_eq!(OPEN_CLIP.timm(unknown), None, "{unknown}");
        }
        assert_eq!(DINO_V2.in_file("reg_token"), "register_tokens");
        assert_eq!(DINO_V2.timm("register_tokens").as_deref(), Some("reg_token"));
    }
}
