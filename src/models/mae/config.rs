//! Sizes of a masked autoencoder.

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::error::Result;
use crate::models::vit::VitConfig;

/// What a masked autoencoder has beside its encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaeConfig {
    pub decoder_width: usize,
    pub decoder_depth: usize,
    pub decoder_heads: usize,
    /// Share of the patches that are removed.
    pub mask_ratio: f64,
}

impl MaeConfig {
    /// Patches that the encoder is given of an image: ⌊L·(1 − ratio)⌋.
    pub fn kept(&self, encoder: &VitConfig) -> usize {
        ((encoder.tokens() - 1) as f64 * (1.0 - self.mask_ratio)) as usize
    }

    /// The decoder's blocks, as if they were a ViT's.
    pub fn decoder(&self, encoder: &VitConfig) -> VitConfig {
        let &Self { decoder_width: width, decoder_depth: depth, decoder_heads: heads, .. } = self;
        VitConfig { width, depth, heads, mlp_ratio: 4, qk_norm: false, ..encoder.clone() }
    }

    /// # Errors
    /// Usage error naming the flag if a size is absurd or does not go with the `encoder`'s.
    pub fn validate(&self, encoder: &VitConfig) -> Result<()> {
        let &Self { decoder_width, decoder_depth, decoder_heads, mask_ratio } = self;
        for (flag, value, most) in [
            ("--decoder-width", decoder_width, 16_384),
            ("--decoder-depth", decoder_depth, 256),
            ("--decoder-heads", decoder_heads, 1024),
        ] {
            if value == 0 || value > most {
                bail!(Usage, "{flag} {value}: expected 1 to {most}");
            }
        }
        if !decoder_width.is_multiple_of(decoder_heads) {
            bail!(
                Usage,
                "--decoder-width {decoder_width} is not a multiple of --decoder-heads {decoder_heads}; every head takes an \
                 equal share of the width"
            );
        }
        for (flag, width) in [("--width", encoder.width), ("--decoder-width", decoder_width)] {
            if !width.is_multiple_of(4) {
                bail!(
                    Usage,
                    "{flag} {width} with --method mae: its positions are sines and cosines for rows and columns, so a \
                     width must be a multiple of 4"
                );
            }
        }
        let patches = encoder.tokens() - 1;
        if !(mask_ratio > 0.0 && mask_ratio < 1.0) {
            bail!(Usage, "--mask-ratio {mask_ratio}: expected a share of the patches between 0 and 1, e.g. 0.75");
        }
        let kept = self.kept(encoder);
        if kept == 0 || kept == patches {
            bail!(
                Usage,
                "--mask-ratio {mask_ratio} leaves {kept} of the {patches} patches of --image-size {} with --patch-size {}; \
                 at least one must be left and one removed: give another ratio, or smaller patches",
                encoder.image_size,
                encoder.patch_size
            );
        }
        Ok(())
    }
}
