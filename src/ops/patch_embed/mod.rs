//! Images to tokens: a convolution whose stride is its kernel, i.e. one linear layer over cut-out patches, then the
//! class token in front and the position embedding on top (Dosovitskiy et al. 2021, arXiv 2010.11929); behind the class
//! token there may be registers (Darcet et al. 2023, arXiv 2309.16588).
//!
//! [`unfold`] only reorders the image (a patch becomes a row, in the order of the weight `[D, C, p, p]`); nothing is
//! duplicated.
//!
//! FLOPs: 2·N·patches·C·p²·D forward, the same for the weight gradient; images need no gradient.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::gemm::{Mat, Target, Threads, raw, tn};
use super::reduce::add;
use super::simd::vectorize;

/// Rows of patches per task, at least one image.
const ROWS: usize = 256;

/// Sizes: `n` images of `height × width` pixels and `channels`, cut into squares of `patch`, embedded in `dim` values
/// behind so many `leading` tokens: the class token and registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub patch: usize,
    pub dim: usize,
    pub leading: usize,
}

impl Shape {
    /// Patches per image.
    pub fn patches(self) -> usize {
        (self.height / self.patch) * (self.width / self.patch)
    }

    /// Tokens per image: the leading ones and the patches.
    pub fn tokens(self) -> usize {
        self.leading + self.patches()
    }

    /// Values of one patch.
    pub fn patch_len(self) -> usize {
        self.channels * self.patch * self.patch
    }

    /// FLOPs of forward and backward.
    pub fn flops(self) -> (f64, f64) {
        let product = 2.0 * (self.n * self.patches() * self.patch_len()) as f64 * self.dim as f64;
        (product, product)
    }

    /// Bytes moved by forward and backward.
    pub fn bytes(self) -> (f64, f64) {
        let pixels = (self.n * self.patches() * self.patch_len()) as f64;
        let (tokens, weight) = ((self.n * self.tokens() * self.dim) as f64, (self.patch_len() * self.dim) as f64);
        (4.0 * (3.0 * pixels + weight + tokens), 4.0 * (pixels + weight + 3.0 * tokens))
    }

    fn images_per_task(self) -> usize {
        (ROWS / self.patches()).max(1)
    }

    fn check(self, patches: &[f32], tokens: &[f32], w: &[f32]) {
        assert!(
            self.height.is_multiple_of(self.patch)
                && self.width.is_multiple_of(self.patch)
                && patches.len() == self.n * self.patches() * self.patch_len()
                && tokens.len() == self.n * self.tokens() * self.dim
                && w.len() == self.patch_len() * self.dim,
            "patch embedding: patches {}, tokens {}, w {} do not fit {self:?}",
            patches.len(),
            tokens.len(),
            w.len()
        );
    }
}

/// Parameters: `w [D, C, p, p]`, `b [D]`, `cls [leading, D]`, `pos [T, D]`.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    pub w: &'a [f32],
    pub b: &'a [f32],
    pub cls: &'a [f32],
    pub pos: &'a [f32],
}

/// Gradients of [`Weights`], added to.
#[derive(Debug)]
pub struct Gradients<'a> {
    pub w: &'a mut [f32],
    pub b: &'a mut [f32],
    pub cls: &'a mut [f32],
    pub pos: &'a mut [f32],
}

/// `patches [N·patches, C·p·p]` from `images [N, H, W, C]`; patches in reading order, values of a patch in the order
/// (C, row, column).
pub fn unfold(patches: &mut [f32], images: &[f32], shape: Shape) {
    let Shape { height, width, channels, patch, .. } = shape;
    let per_image = shape.patches() * shape.patch_len();
    let pixels = height * width * channels;
    assert!(
        images.len() == shape.n * pixels && patches.len() == shape.n * per_image,
        "unfold: images {} and patches {} do not fit {shape:?}",
        images.len(),
        patches.len()
    );
    patches.par_chunks_mut(per_image).zip(images.par_chunks(pixels)).for_each(|(patches, image)| {
        for (i, values) in patches.chunks_exact_mut(shape.patch_len()).enumerate() {
            let (top, left) = (i / (width / patch) * patch, i % (width / patch) * patch);
            for (row, y) in (top..top + patch).enumerate() {
                let line = &image[(y * width + left) * channels..][..patch * channels];
                for (column, pixel) in line.chunks_exact(channels).enumerate() {
                    for (c, &value) in pixel.iter().enumerate() {
                        values[(c * patch + row) * patch + column] = value;
                    }
                }
            }
        }
    });
}

/// `tokens [N, T, D]`: the leading tokens first, then the embedded patches, positions added.
pub fn forward(tokens: &mut [f32], patches: &[f32], weights: Weights, shape: Shape) {
    shape.check(patches, tokens, weights.w);
    let (dim, inputs, images) = (shape.dim, shape.patch_len(), shape.images_per_task());
    let leading = shape.leading * dim;
    assert!(weights.cls.len() == leading && weights.pos.len() == shape.tokens() * dim);
    let start: Vec<f32> = weights.cls.iter().zip(weights.pos).map(|(cls, pos)| cls + pos).collect();
    let blocks = tokens.par_chunks_mut(images * shape.tokens() * dim);
    blocks.zip(patches.par_chunks(images * shape.patches() * inputs)).for_each_init(
        || vec![0.0f32; images * shape.patches() * dim],
        |embedded, (tokens, patches)| {
            let rows = patches.len() / inputs;
            let (a, b) = (Mat::rows(patches, inputs), Mat::rows(weights.w, inputs).t());
            assert!(embedded.len() >= rows * dim);
            // SAFETY: `embedded` holds rows·dim values and belongs to this task; `check` proved the sizes of patches
            // and w.
            unsafe { raw(Target::of(embedded, dim, false), a, b, (rows, dim, inputs), Threads::One) }
            let embedded = embedded.chunks_exact(shape.patches() * dim);
            for (tokens, embedded) in tokens.chunks_exact_mut(shape.tokens() * dim).zip(embedded) {
                tokens[..leading].copy_from_slice(&start);
                tokens[leading..].copy_from_slice(embedded);
                vectorize(
                    #[inline(always)]
                    || {
                        add(&mut tokens[leading..], &weights.pos[leading..]);
                        tokens[leading..].chunks_exact_mut(dim).for_each(|row| add(row, weights.b));
                    },
                );
            }
        },
    );
}

/// Adds the gradients of the parameters. `scratch [N·patches, D]` receives `dtokens` without the leading tokens.
pub fn backward(gradients: Gradients, scratch: &mut [f32], dtokens: &[f32], patches: &[f32], shape: Shape) {
    shape.check(patches, dtokens, gradients.w);
    let (dim, inputs, tokens) = (shape.dim, shape.patch_len(), shape.tokens());
    let leading = shape.leading * dim;
    assert!(scratch.len() == shape.n * shape.patches() * dim && gradients.pos.len() == tokens * dim);
    let mut sums = vec![0.0f32; tokens * dim];
    sums.par_chunks_mut(dim).enumerate().for_each(|(t, sum)| {
        vectorize(
            #[inline(always)]
            || dtokens.chunks_exact(tokens * dim).for_each(|image| add(sum, &image[t * dim..(t + 1) * dim])),
        );
    });
    vectorize(
        #[inline(always)]
        || {
            add(gradients.pos, &sums);
            add(gradients.cls, &sums[..leading]);
            sums[leading..].chunks_exact(dim).for_each(|row| add(gradients.b, row));
        },
    );
    let per_image = shape.patches() * dim;
    scratch
        .par_chunks_mut(per_image)
        .zip(dtokens.par_chunks(tokens * dim))
        .for_each(|(scratch, image)| scratch.copy_from_slice(&image[leading..]));
    tn(gradients.w, scratch, patches, (dim, inputs, shape.n * shape.patches()), true, Threads::All);
}
