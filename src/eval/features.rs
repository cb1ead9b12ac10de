//! Photographs to frozen features: decode and transform on every core, and one batch at a time through the ViT while
//! the next is decoded.

use rayon::prelude::*;

use super::ahead::ahead;
use super::dataset::Dataset;
use super::encoder::Encoder;
use super::kept::Kept;
use super::stop::check_stop;
use super::transform::{Transform, crop_flip};
use crate::bail;
use crate::error::{Error, Result};
use crate::image::Rgb8;
use crate::metrics::Progress;
use crate::models::vit::VitConfig;
use crate::rng::{Domain, Stream};
use crate::say;

/// Images decoded and encoded together: bounds memory, and feeds the ViT whole batches.
pub const BATCH: usize = 128;

/// Images whose features are kept in one file: what an interrupted run computes again at most.
const PART: usize = 64 * BATCH;

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
    let batches: Vec<&[usize]> = indices.chunks(BATCH).collect();
    let mut outs = out.chunks_mut(BATCH * width);
    let prepare = |indices| prepared(dataset, indices, preparation, image_size);
    ahead(&batches, prepare, |indices, images| {
        let features = encoder.features(&images)?;
        outs.next().into_iter().for_each(|out| out.copy_from_slice(&features));
        check_finite(&features, width, |row| dataset.describe(indices[row]))?;
        done(indices.len());
        Ok(())
    })
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

/// Features `[N, D]` of the whole data set under the test transform, with a progress bar called `what`; those that
/// `encoder` keeps are read.
///
/// # Errors
/// As [`extract`]; `Io` when features cannot be kept.
pub fn extract_all(encoder: &Encoder, dataset: &Dataset, transform: Transform, what: &str) -> Result<Vec<f32>> {
    let width = encoder.vit().config().width;
    let mut features = vec![0.0; dataset.len() * width];
    let indices: Vec<usize> = (0..dataset.len()).collect();
    let progress = Progress::bar(dataset.len() as u64, what, ("image", 1));
    let mut known = 0;
    for (out, indices) in features.chunks_mut(PART * width).zip(indices.chunks(PART)) {
        check_stop()?;
        let key = encoder.kept().map(|kept| key(kept, dataset, indices, transform)).transpose()?;
        let kept = encoder.kept().zip(key.as_deref());
        if kept.is_some_and(|(kept, key)| kept.read(key, width, out)) {
            check_finite(out, width, |row| dataset.describe(indices[row]))?;
            known += indices.len();
            progress.advance(indices.len() as u64);
            continue;
        }
        extract(out, encoder, dataset, indices, Preparation::Test(transform), |n| progress.advance(n as u64))?;
        if let Some((kept, key)) = kept {
            kept.write(key, width, out, [("encoder", encoder.source()), ("pictures", dataset.name())])?;
        }
    }
    progress.finish();
    if known > 0 {
        say!("{what}: those of {known} of {} pictures were computed before", dataset.len());
    }
    Ok(features)
}

/// What the features of the images at `indices` are kept as.
fn key(kept: &Kept, dataset: &Dataset, indices: &[usize], transform: Transform) -> Result<String> {
    kept.key(&transform, &dataset.fingerprints(indices)?)
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
