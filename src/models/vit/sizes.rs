//! Sizes of a ViT as its tensors have them.

use super::names::BackboneNames;
use super::{Variant, VitConfig};
use crate::bail;
use crate::error::Result;
use crate::models::positions;
use crate::weights::SafeTensors;

/// Sizes read from the tensors, with no heads.
///
/// # Errors
/// `Data` naming the tensor whose shape cannot be.
pub(super) fn sizes(file: &SafeTensors, names: &BackboneNames, shown: &str) -> Result<VitConfig> {
    let shape = |name: &str, ranks: &[usize]| -> Result<Vec<usize>> {
        let in_file = names.in_file(name);
        match file.shape(&in_file) {
            Some(shape) if ranks.contains(&shape.len()) && !shape.contains(&0) => Ok(shape.to_vec()),
            other => {
                bail!(Data, "{shown}: tensor `{in_file}` has shape {other:?}, expected {} sizes above 0", ranks[0])
            }
        }
    };
    let patch = shape("patch_embed.proj.weight", &[4])?;
    let positions = shape("pos_embed", if names.is_open_clip() { &[2] } else { &[3] })?;
    let positions = positions[positions.len() - 2];
    let hidden = shape("blocks.0.mlp.fc1.weight", &[2])?[0];
    let registers = if names.has().registers { shape("reg_token", &[3])?[1] } else { 0 };
    let (width, channels, patch_size) = (patch[0], patch[1], patch[2]);
    let Some((grid, _)) = positions::grid(positions).filter(|_| patch[3] == patch_size) else {
        bail!(
            Data,
            "{shown}: patches of {patch_size}×{} and {positions} positions are no square image of square patches with one class token",
            patch[3]
        );
    };
    if !hidden.is_multiple_of(width) || channels != 3 {
        bail!(
            Data,
            "{shown}: {channels} channels and an MLP of {hidden} for width {width}; expected 3 and a multiple of the width \
             (the architectures vit_giant and vit_gigantic, and DINOv2's giant with SwiGLU, have another MLP and are not supported)"
        );
    }
    Ok(VitConfig {
        image_size: grid * patch_size,
        patch_size,
        width,
        depth: names.depth(),
        heads: 0,
        mlp_ratio: hidden / width,
        channels,
        qk_norm: names.has().qk_norm,
        variant: Variant { registers, norm_pre: names.has().norm_pre, quick_gelu: false },
    })
}
