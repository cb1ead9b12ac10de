//! Photographs to frozen features: decode and transform on every core, normalise, one batch at a time through the ViT.

use rayon::prelude::*;

use super::dataset::Dataset;
use super::encoder::Encoder;
use super::stop::check_stop;
use super::transform::{Transform, crop_flip};
use crate::bail;
use crate::error::{Error, Result};
use crate::image::Rgb8;
use crate::metrics::Progress;
use crate::models::vit::VitConfig;
use crate::rng::{Domain, Stream};

/// Images decoded and encoded together: bounds memory, and feeds the ViT whole batches.
pub const BATCH: usize = 128;

/// What a photograph goes through before the encoder.
#[derive(Clone, Copy, Debug)]
pub enum Preparation {
    /// The test transform.
    Test(Transform),
    /// [`crop_flip`], keyed by seed, epoch and the image's index.
    CropFlip { seed: u64, epoch: usize },
}

/// Features `[indices.len(), D]` of the images at `indices`, written to `out`; `done` is told after each batch how many
/// are new.
///
/// # Errors
/// `Data` or `Io` naming the image that cannot be read, decoded or resized; `Diverged` naming the image whose features
/// are not finite; `Interrupted` on a signal.
pub fn extract(
    out: &mut [f32],
    encoder: &Encoder,
    dataset: &Dataset,
    indices: &[usize],
    preparation: Preparation,
    mut done: impl FnMut(usize),
) -> Result<()> {
    let VitConfig { width, image_size, .. } = *encoder.vit().config();
    assert_eq!(out.len(), indices.len() * width);
    for (out, indices) in out.chunks_mut(BATCH * width).zip(indices.chunks(BATCH)) {
        check_stop()?;
        out.copy_from_slice(&encoder.features(&prepared(dataset, indices, preparation, image_size)?)?);
        check_finite(out, width, |row| dataset.describe(indices[row]))?;
        done(indices.len());
    }
    Ok(())
}

/// The images at `indices` as the encoder takes them, `[side, side]` each.
///
/// # Errors
/// `Data` or `Io` naming the image that cannot be read, decoded or resized.
pub fn prepared(dataset: &Dataset, indices: &[usize], preparation: Preparation, side: usize) -> Result<Vec<Rgb8>> {
    let prepare = |&index: &usize| {
        let image = dataset.image(index)?;
        let prepared = match preparation {
            Preparation::Test(transform) => transform.apply(&image),
            Preparation::CropFlip { seed, epoch } => {
                let mut stream = Stream::new(seed, Domain::Probe, [epoch as u32, index as u32, 0]);
                crop_flip(&image, side, &mut stream)
            }
        };
        prepared.map_err(|e| Error::Data(format!("{}: {e}", dataset.describe(index))))
    };
    indices.par_iter().map(prepare).collect()
}

/// Features `[N, D]` of the whole data set under the test transform, with a progress bar called `what`.
///
/// # Errors
/// As [`extract`].
pub fn extract_all(encoder: &Encoder, dataset: &Dataset, transform: Transform, what: &str) -> Result<Vec<f32>> {
    let mut features = vec![0.0; dataset.len() * encoder.vit().config().width];
    let indices: Vec<usize> = (0..dataset.len()).collect();
    let progress = Progress::bar(dataset.len() as u64, what, ("image", 1));
    extract(&mut features, encoder, dataset, &indices, Preparation::Test(transform), |n| progress.advance(n as u64))?;
    progress.finish();
    Ok(features)
}

/// Refuses `features[N, width]` that are not finite; `image` says which image a row is of.
///
/// # Errors
/// `Diverged` naming the image and the feature.
pub fn check_finite(features: &[f32], width: usize, image: impl Fn(usize) -> String) -> Result<()> {
    match features.iter().position(|v| !v.is_finite()) {
        Some(at) => bail!(
            Diverged,
            "{}: its feature {} is {}, which is not finite: the encoder's weights or its mean and std are not usable",
            image(at / width),
            at % width,
            features[at]
        ),
        None => Ok(()),
    }
}
