//! The loss of a masked autoencoder (He et al. 2022, arXiv 2111.06377, §3.2 and "norm-pix"): the mean square between
//! what was predicted of the patches that were removed and their pixels, each patch normalised by its own mean and
//! standard deviation.
//!
//! With x the P = 3p² normalised pixels of a patch in the order (row, column, channel):
//! target = (x − mean)/√(var + 1e-6), var over P − 1; loss = Σ over removed patches of mean((prediction − target)²),
//! over their number in the whole batch.
//!
//! FLOPs: 10 per value of a removed patch. Bytes: [`Shape::bytes`].

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

/// Added to the variance of a patch.
pub const EPS: f32 = 1e-6;

/// Sizes: `n` images of `side²` pixels in patches of `patch²`, of which an encoder was given `kept` each; they are some
/// of a step's `of` images, whose loss is one mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    pub of: usize,
    pub side: usize,
    pub patch: usize,
    pub kept: usize,
}

impl Shape {
    /// Patches of an image.
    pub fn patches(self) -> usize {
        (self.side / self.patch).pow(2)
    }

    /// Rows of an image: of the class token, which predicts nothing, and of its patches.
    pub fn rows(self) -> usize {
        1 + self.patches()
    }

    /// Values of one patch, P.
    pub fn patch_len(self) -> usize {
        3 * self.patch * self.patch
    }

    /// Values of an image.
    pub fn image_len(self) -> usize {
        3 * self.side * self.side
    }

    /// Patches removed from all images of the step.
    pub fn removed(self) -> usize {
        self.of * (self.patches() - self.kept)
    }

    /// Bytes moved, with predictions of `size` bytes and pixels of `pixel`.
    pub fn bytes(self, size: usize, pixel: usize) -> f64 {
        ((size + pixel) * self.removed() * self.patch_len() + size * self.n * self.rows() * self.patch_len()) as f64
    }

    /// Whether row `t` of an image whose `rows [1 + patches]` say what the decoder was given is one that was removed.
    fn is_removed(self, rows: &[u32], t: usize) -> bool {
        t > 0 && rows[t] as usize > self.kept
    }

    /// What the mean square of a removed patch is multiplied by, so that the mean over all rows of the step is the
    /// loss.
    fn share(self) -> f32 {
        ((self.of * self.rows()) as f64 / self.removed() as f64) as f32
    }

    /// What the difference from the target is multiplied by to be the gradient.
    fn slope(self) -> f32 {
        (2.0 / (self.patch_len() * self.removed()) as f64) as f32
    }
}

/// Mean of the pixels `x` of a patch, and √(var + 1e-6) with their variance over one less than their number.
pub fn statistics(x: &[f32]) -> [f32; 2] {
    let mean = (x.iter().map(|&x| f64::from(x)).sum::<f64>() / x.len() as f64) as f32;
    let squares = x.iter().map(|&x| f64::from(x - mean).powi(2)).sum::<f64>();
    [mean, ((squares / (x.len() - 1) as f64) as f32 + EPS).sqrt()]
}

/// The pixels `[P]` of patch `index` of an image `[side, side, 3]`, in the order (row, column, channel).
pub fn pixels(out: &mut Vec<f32>, image: &[f32], index: usize, shape: Shape) {
    let Shape { side, patch, .. } = shape;
    let (top, left) = (index / (side / patch) * patch, index % (side / patch) * patch);
    out.clear();
    (top..top + patch).for_each(|y| out.extend_from_slice(&image[3 * (y * side + left)..][..3 * patch]));
}

/// `dprediction [P] = slope·(prediction − target)` for the pixels `x [P]`; returns the mean square.
fn of_patch(dprediction: &mut [f32], prediction: &[f32], x: &[f32], slope: f32) -> f32 {
    let [mean, std] = statistics(x);
    let mut squares = 0.0f64;
    for ((d, &prediction), &x) in dprediction.iter_mut().zip(prediction).zip(x) {
        let difference = prediction - (x - mean) / std;
        squares += f64::from(difference).powi(2);
        *d = slope * difference;
    }
    (squares / x.len() as f64) as f32
}

/// Compares `predictions [N, 1 + patches, P]` with `images [N, side, side, 3]`: `dpredictions` is the gradient of the
/// loss. `rows [N, 1 + patches]` says which rows of the encoder the decoder was given: those above `kept` were removed.
/// `losses [N, 1 + patches]` gets numbers whose mean over the step ([`mean`]) is the loss, 0 where nothing was removed.
///
/// # Panics
/// If lengths do not fit.
pub fn loss(
    dpredictions: &mut [f32],
    losses: &mut [f32],
    predictions: &[f32],
    images: &[f32],
    rows: &[u32],
    shape: Shape,
) {
    let (count, len) = (shape.rows(), shape.patch_len());
    let fits = predictions.len() == shape.n * count * len && images.len() == shape.n * shape.image_len();
    assert!(fits && dpredictions.len() == predictions.len() && rows.len() == losses.len(), "patch loss: {shape:?}");
    assert!(rows.len() == shape.n * count && shape.removed() > 0, "patch loss: {shape:?}");
    let of_image = |(image, (dpredictions, losses)): (usize, (&mut [f32], &mut [f32]))| {
        let rows = &rows[image * count..][..count];
        let pixels_of_image = &images[image * shape.image_len()..][..shape.image_len()];
        let mut x = Vec::with_capacity(len);
        for (t, (d, loss)) in dpredictions.chunks_exact_mut(len).zip(losses).enumerate() {
            if shape.is_removed(rows, t) {
                pixels(&mut x, pixels_of_image, t - 1, shape);
                let prediction = &predictions[(image * count + t) * len..][..len];
                *loss = shape.share() * of_patch(d, prediction, &x, shape.slope());
            } else {
                d.fill(0.0);
                *loss = 0.0;
            }
        }
    };
    dpredictions.par_chunks_mut(count * len).zip(losses.par_chunks_mut(count)).enumerate().for_each(of_image);
}

/// The loss of a step by what [`loss`] gave for all of its images.
pub fn mean(losses: &[f32]) -> f64 {
    losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// f(a)[i][j] = sin(a + 1 + 4i + j).
    fn f(a: usize) -> Vec<f32> {
        (0..12).map(|i| ((a + 1 + i) as f64).sin() as f32).collect()
    }

    /// By NumPy in f64: rows 0 and 2 of three patches of four values are removed.
    #[test]
    fn a_patch_is_normalised_by_its_own_mean_and_standard_deviation() {
        let (x, prediction) = (f(0), f(50));
        let [mean, std] = statistics(&x[..4]);
        for (x, want) in x[..4].iter().zip([0.718_897_8, 0.806_328_9, -0.183_883_68, -1.341_343]) {
            assert!(((x - mean) / std - want).abs() < 1e-6, "{} {want}", (x - mean) / std);
        }
        let mut d = [0.0; 4];
        let losses = [0, 8].map(|at| of_patch(&mut d, &prediction[at..at + 4], &x[at..at + 4], 0.5));
        assert!(((losses[0] + losses[1]) / 2.0 - 0.232_337_15).abs() < 1e-6, "{losses:?}");
    }
}
