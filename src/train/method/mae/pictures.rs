//! What a masked autoencoder was shown and what it made of it, side by side.

use crate::error::Result;
use crate::image::Rgb8;
use crate::image::sheet::{SheetRow, contact_sheet};
use crate::models::mae::Masks;
use crate::ops::augment::Normalize;
use crate::ops::patch_loss::{Shape, pixels, statistics};
use crate::train::loader::Batch;
use crate::train::views::Augmenter;

/// Images of a step that are shown.
const SHOWN: usize = 8;
/// The colour of what was removed.
const GRAY: [u8; 3] = [127; 3];

/// Of the first images of the part of a step that `masks` are of: the picture, what the encoder saw of it, and the same
/// with the predictions (`predictions` gives those of so many images, `[images, 1 + patches, P]`) in the place of the
/// rest. Predictions are of normalised patches: each is put back by its own patch's mean and standard deviation.
///
/// # Errors
/// Whatever making the views, or `predictions`, refuses.
pub(super) fn sheet(
    batch: &Batch,
    numbers: &[u32],
    masks: Masks,
    shape: Shape,
    mut predictions: impl FnMut(usize) -> Result<Vec<f32>>,
) -> Result<Rgb8> {
    let images = SHOWN.min(shape.n);
    let all = predictions(images)?;
    let mut augmenter = Augmenter::default();
    let mut rows = Vec::with_capacity(images);
    let shown = batch.rows.iter().skip(masks.first);
    for (image, (row, predictions)) in shown.zip(all.chunks_exact(all.len() / images)).enumerate() {
        let data = augmenter.pixels(&row.image, &row.params, batch.side())?.to_vec();
        let whole = Rgb8 { width: batch.side(), height: batch.side(), data };
        let (masked, drawn) = of_image(&whole, &masks.seen(numbers, image), predictions, shape);
        rows.push(SheetRow::new(format!("image {}", masks.first + image + 1), vec![whole, masked, drawn]));
    }
    contact_sheet("the picture, what the encoder saw of it, and what the decoder drew in the place of the rest", &rows)
}

/// The picture without its removed patches, and with `predictions [1 + patches, P]` in their place.
fn of_image(whole: &Rgb8, seen: &[bool], predictions: &[f32], shape: Shape) -> (Rgb8, Rgb8) {
    let mut normalised = vec![0.0; whole.data.len()];
    Normalize::default().apply(&mut normalised, &whole.data);
    let (mut masked, mut drawn, mut x) = (whole.clone(), whole.clone(), Vec::new());
    let (patch, across) = (shape.patch, shape.side / shape.patch);
    for (index, _) in seen.iter().enumerate().filter(|(_, seen)| !**seen) {
        pixels(&mut x, &normalised, index, shape);
        let [mean, std] = statistics(&x);
        let prediction = &predictions[(1 + index) * shape.patch_len()..][..shape.patch_len()];
        for (i, pixel) in prediction.chunks_exact(3).enumerate() {
            let (x, y) = (index % across * patch + i % patch, index / across * patch + i / patch);
            let at = 3 * (y * whole.width + x);
            masked.data[at..at + 3].copy_from_slice(&GRAY);
            for (c, value) in pixel.iter().enumerate() {
                let value = (value * std + mean) * Normalize::IMAGENET_STD[c] + Normalize::IMAGENET_MEAN[c];
                drawn.data[at + c] = (255.0 * value).round().clamp(0.0, 255.0) as u8;
            }
        }
    }
    (masked, drawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Perfect predictions give the picture back, whatever the patches' contrast; what was seen is left as it is.
    #[test]
    fn predictions_are_put_back_by_their_own_patch() {
        let shape = Shape { n: 1, of: 1, side: 4, patch: 2, kept: 1 };
        let data: Vec<u8> =
            (0..48).map(|i| if i % 24 < 12 { 90 + (i * 7 % 5) as u8 } else { (i * 53) as u8 }).collect();
        let whole = Rgb8 { width: 4, height: 4, data };
        let mut normalised = vec![0.0; 48];
        Normalize::default().apply(&mut normalised, &whole.data);
        let (mut predictions, mut x) = (vec![7.0; 12], Vec::new());
        for index in 0..4 {
            pixels(&mut x, &normalised, index, shape);
            let [mean, std] = statistics(&x);
            // The patch that is seen is not drawn.
            predictions.extend(x.iter().map(|x| if index == 2 { 9.0 } else { (x - mean) / std }));
        }
        let (masked, drawn) = of_image(&whole, &[false, false, true, false], &predictions, shape);
        assert_eq!(drawn, whole);
        assert_eq!((masked.pixel(0, 2), masked.pixel(1, 3)), (whole.pixel(0, 2), whole.pixel(1, 3)));
        assert_eq!([masked.pixel(0, 0), masked.pixel(3, 1), masked.pixel(2, 3)], [GRAY; 3]);
    }
}
