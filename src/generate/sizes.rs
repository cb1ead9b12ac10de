//! Sizes of models and pictures that must fit each other.

use std::path::Path;

use super::settings::Settings;
use crate::bail;
use crate::error::{Error, Result};
use crate::models::{clip_text, unet, vae};

/// Largest width and height, pixels.
const MAX_SIDE: usize = 4096;

/// The shorter side brought to `side`, never enlarged.
pub(super) fn stored_size((width, height): (usize, usize), side: usize) -> (usize, usize) {
    let short = width.min(height);
    if side >= short {
        return (width, height);
    }
    let scaled = |edge: usize| ((edge * side) as f64 / short as f64).round() as usize;
    (scaled(width), scaled(height))
}

/// The parts must be of one model.
pub(super) fn check_fit(model: &Path, text: &clip_text::Config, unet: &unet::Config, vae: &vae::Config) -> Result<()> {
    let fits = [
        ("unet `cross_attention_dim`", unet.context, "text_encoder `hidden_size`", text.width),
        ("unet `in_channels`", unet.in_channels, "vae `latent_channels`", vae.latent_channels),
        ("unet `out_channels`", unet.out_channels, "vae `latent_channels`", vae.latent_channels),
        ("vae `out_channels`", vae.out_channels, "the channels of an RGB picture,", 3),
    ];
    for (what, found, other, expected) in fits {
        if found != expected {
            bail!(
                Data,
                "{}: {what} is {found}, expected {other} {expected}; is this a text-to-image model of Stable Diffusion 1.x or 2.x?",
                model.display()
            );
        }
    }
    Ok(())
}

/// Height and width of the latent for the pictures asked for.
pub(super) fn latent_size(settings: &Settings<'_>, unet: &unet::Config, vae: &vae::Config) -> Result<(usize, usize)> {
    let factor = vae.factor();
    let side = |flag: &str, wanted: Option<usize>, own: Option<usize>| -> Result<usize> {
        let Some(pixels) = wanted else {
            return own.filter(|own| (1..=MAX_SIDE).contains(&(own * factor))).ok_or_else(|| {
                let config = settings.model.join("unet/config.json");
                Error::Usage(format!("{}: no usable `sample_size`; give --width and --height", config.display()))
            });
        };
        if pixels == 0 || pixels > MAX_SIDE || !pixels.is_multiple_of(factor) {
            bail!(Usage, "--{flag} {pixels}: expected a multiple of {factor} from {factor} to {MAX_SIDE}");
        }
        Ok(pixels / factor)
    };
    let (height, width) = unet.sample_size.unzip();
    Ok((side("height", settings.drawing.height, height)?, side("width", settings.drawing.width, width)?))
}
