//! Sizes of a ViT.

use serde::{Deserialize, Serialize};

use super::shape::{BlockShape, Span};
use super::variant::Variant;
use crate::bail;
use crate::error::Result;
use crate::ops::patch_embed;

/// Sizes of a vision transformer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Height and width of an image, pixels.
    pub image_size: usize,
    /// Height and width of a patch, pixels.
    pub patch_size: usize,
    /// Values of one token, D.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads, G.
    pub heads: usize,
    /// Width of the hidden layer of the MLP, in widths.
    pub mlp_ratio: usize,
    /// Values of one pixel.
    pub channels: usize,
    /// Whether every head's queries and keys are normalised before their products.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub qk_norm: bool,
    /// What it has that timm's plain ViT does not.
    #[serde(default, skip_serializing_if = "Variant::is_plain")]
    pub variant: Variant,
}

impl VitConfig {
    /// What [`VitConfig::named`] knows.
    pub const NAMES: [&str; 4] = ["vit_tiny", "vit_small", "vit_base", "vit_large"];

    /// `vit_{tiny,small,base,large}_patch16_224`, or without the ending.
    pub fn named(name: &str) -> Option<Self> {
        let (width, depth, heads) = match name.strip_suffix("_patch16_224").unwrap_or(name) {
            "vit_tiny" => (192, 12, 3),
            "vit_small" => (384, 12, 6),
            "vit_base" => (768, 12, 12),
            "vit_large" => (1024, 24, 16),
            _ => return None,
        };
        let (qk_norm, variant) = (false, Variant::default());
        Some(Self { image_size: 224, patch_size: 16, width, depth, heads, mlp_ratio: 4, channels: 3, qk_norm, variant })
    }

    /// timm's name of these sizes (`vit_small_patch16_224`), if they are one of the standard ones up to image and patch
    /// size.
    pub fn timm_name(&self) -> Option<String> {
        Self::NAMES.into_iter().find_map(|name| {
            let standard = Self::named(name)?;
            let same = Self { image_size: self.image_size, patch_size: self.patch_size, ..standard } == *self;
            same.then(|| format!("{name}_patch{}_{}", self.patch_size, self.image_size))
        })
    }

    /// # Errors
    /// Usage error naming the flag if a size is zero, absurd, or does not divide another.
    pub fn validate(&self) -> Result<()> {
        for (flag, value, most) in [
            ("--image-size", self.image_size, 4096),
            ("--patch-size", self.patch_size, 4096),
            ("--width", self.width, 16_384),
            ("--depth", self.depth, 256),
            ("--heads", self.heads, 1024),
            ("mlp_ratio", self.mlp_ratio, 64),
            ("channels", self.channels, 16),
        ] {
            if value == 0 || value > most {
                bail!(Usage, "{flag} {value}: expected 1 to {most}");
            }
        }
        if self.variant.registers > 256 {
            bail!(Usage, "{} register tokens: expected 0 to 256", self.variant.registers);
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            bail!(
                Usage,
                "--image-size {} is not a multiple of --patch-size {}; choose sizes that divide",
                self.image_size,
                self.patch_size
            );
        }
        if !self.width.is_multiple_of(self.heads) {
            bail!(
                Usage,
                "--width {} is not a multiple of --heads {}; every head takes an equal share of the width",
                self.width,
                self.heads
            );
        }
        Ok(())
    }

    /// Tokens before the patches: the class token and registers.
    pub fn leading(&self) -> usize {
        1 + self.variant.registers
    }

    /// Tokens of an image: the leading ones and its patches.
    pub fn tokens(&self) -> usize {
        self.patch_shape(1).tokens()
    }

    /// Values of an image.
    pub fn image_len(&self) -> usize {
        self.image_size * self.image_size * self.channels
    }

    /// FLOPs (two per multiply-accumulate) of the products and attention of one image's forward; its backward has twice
    /// as many. The network as published: every token leaves every block.
    pub fn flops(&self) -> f64 {
        self.patch_shape(1).flops().0 + self.depth as f64 * self.block_flops()
    }

    fn block_flops(&self) -> f64 {
        let (&Self { width, heads, .. }, tokens) = (self, self.tokens());
        let shape = BlockShape {
            n: 1,
            tokens,
            queries: tokens,
            width,
            heads,
            hidden: self.hidden(),
            causal: false,
            qk_norm: self.qk_norm,
        };
        shape.linears().iter().map(|linear| linear.flops()).sum::<f64>() + shape.attention().flops().0
    }

    /// All tokens of `n` images, of which the class token leaves the last block.
    pub(super) fn class_span(&self, n: usize) -> Span {
        Span { n, tokens: self.tokens(), leaving: 1 }
    }

    /// All tokens of `n` images, which all leave the last block.
    pub fn token_span(&self, n: usize) -> Span {
        Span { n, tokens: self.tokens(), leaving: self.tokens() }
    }

    /// Of block number `block` over `span`.
    pub(super) fn block_shape(&self, Span { n, tokens, leaving }: Span, block: usize) -> BlockShape {
        let &Self { width, heads, depth, .. } = self;
        let queries = if block + 1 == depth { leaving } else { tokens };
        BlockShape { n, tokens, queries, width, heads, hidden: self.hidden(), causal: false, qk_norm: self.qk_norm }
    }

    pub(super) fn hidden(&self) -> usize {
        self.width * self.mlp_ratio
    }

    /// How `n` images become patches.
    pub fn patch_shape(&self, n: usize) -> patch_embed::Shape {
        let Self { image_size, patch_size: patch, width: dim, channels, .. } = *self;
        let leading = self.leading();
        patch_embed::Shape { n, height: image_size, width: image_size, channels, patch, dim, leading }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::training::Layout;
    use crate::layers::training::count::Tally;
    use crate::models::vit::{Vit, VitActs};
    use crate::weights::ParamTable;

    /// ViT-B/16 at 224²: 17.56 billion multiply-accumulates (timm lists 17.58).
    #[test]
    fn flops_of_vit_base() {
        let config = VitConfig::named("vit_base").unwrap();
        let giga_macs = config.flops() / 2e9;
        assert!((giga_macs / 17.56 - 1.0).abs() < 2e-3, "{giga_macs}");
        // As computed here, where the last block ends in the class token.
        let vit = Vit::new(&config, "", &mut ParamTable::new()).unwrap();
        let mut tally = Tally::default();
        vit.forward(&mut tally, &VitActs::new(&mut Layout::default(), &config, 1), 0).unwrap();
        let computed = tally.flops();
        let saved = (config.flops() - computed) / config.block_flops();
        assert!((0.6..1.0).contains(&saved), "{saved} of a block");
    }
}
