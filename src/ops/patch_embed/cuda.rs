//! Launches of `kernels/patch_embed.cu`: what surrounds the matrix product of the embedding.
//!
//! Forward: [`unfold`] → product with the weights, without bias → [`tokens`]. Backward: [`backward`] → weight gradient
//! from `dembedded` and the patches.

use half::bf16;

use super::Shape;
use crate::device::cuda::kernels::patch_embed::{GATHER_IMAGES, THREADS, TOKEN_IMAGES};
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;
use crate::ops::augment::Scales;
use crate::ops::reduce;

/// Values per thread.
fn width_of(wide: bool) -> usize {
    if wide { 8 } else { 1 }
}

/// A block per 256 threads' worth of an image.
fn unfold_plan(shape: Shape, wide: bool) -> Launch {
    let threads = shape.patches() * shape.patch_len() / if wide { 3 * 8 } else { 1 };
    Launch::grid([shape.n, threads.div_ceil(THREADS), 1], THREADS as u32)
}

/// Blocks over the values of one image's tokens and over groups of `images`.
fn tokens_plan(shape: Shape, wide: bool, images: usize) -> Launch {
    let vectors = shape.tokens() * shape.dim / width_of(wide);
    Launch::grid([vectors.div_ceil(THREADS), shape.n.div_ceil(images), 1], THREADS as u32)
}

fn check(shape: Shape) {
    let Shape { n, height, width, channels, patch, dim, leading } = shape;
    let fits =
        n > 0 && channels == 3 && dim > 0 && leading > 0 && shape.tokens() * dim < 1 << 31 && height * width < 1 << 29;
    assert!(
        fits && patch > 0 && height >= patch && width >= patch && n < 1 << 19,
        "patch embedding: {shape:?} (the kernels take images of 3 channels)"
    );
    assert!(height.is_multiple_of(patch) && width.is_multiple_of(patch), "patch embedding: {shape:?}");
}

/// `patches [N·patches, 3·p·p]` from `images [N, H, W, 3]`, normalised by `scales`.
pub fn unfold(gpu: &Gpu, patches: View<bf16>, images: View<u8>, scales: Scales, shape: Shape) -> Result<()> {
    check(shape);
    let Shape { n, height, width, patch, .. } = shape;
    assert!(
        images.len() == n * height * width * 3 && patches.len() == n * shape.patches() * shape.patch_len(),
        "unfold: images {} and patches {} do not fit {shape:?}",
        images.len(),
        patches.len()
    );
    let wide = patch.is_multiple_of(8) && images.is_aligned(8) && patches.is_aligned(16);
    let at = unfold_plan(shape, wide);
    let Scales { scale: [scale0, scale1, scale2], shift: [shift0, shift1, shift2] } = scales;
    let (height, width, patch) = (height as u32, width as u32, patch as u32);
    kernels::PatchEmbedUnfold { patches, images, height, width, patch, scale0, scale1, scale2, shift0, shift1, shift2 }
        .launch(gpu, at, width_of(wide))
}

/// Parameters apart from the weight: `b [D]`, `cls [leading, D]`, `pos [T, D]`.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    pub b: View<f32>,
    pub cls: View<f32>,
    pub pos: View<f32>,
}

impl Weights {
    fn check(self, shape: Shape) {
        let Shape { dim, leading, .. } = shape;
        let fits = self.b.len() == dim && self.cls.len() == leading * dim && self.pos.len() == shape.tokens() * dim;
        assert!(fits, "patch embedding: parameters of {shape:?}");
    }

    fn aligned(self) -> bool {
        [self.b, self.cls, self.pos].iter().all(|view| view.is_aligned(16))
    }
}

/// `tokens [N, T, D]` from `embedded [N·patches, D]`, the product of patches and weights: the leading tokens first,
/// positions and bias added.
pub fn tokens(gpu: &Gpu, tokens: View<bf16>, embedded: View<bf16>, weights: Weights, shape: Shape) -> Result<()> {
    check(shape);
    weights.check(shape);
    let Shape { n, dim, .. } = shape;
    assert!(
        tokens.len() == n * shape.tokens() * dim && embedded.len() == n * shape.patches() * dim,
        "tokens {} and embedded {} do not fit {shape:?}",
        tokens.len(),
        embedded.len()
    );
    let wide = dim.is_multiple_of(8) && tokens.is_aligned(16) && embedded.is_aligned(16) && weights.aligned();
    let at = tokens_plan(shape, wide, TOKEN_IMAGES);
    let Weights { b: bias, cls, pos } = weights;
    let (n, count, leading, d) = (n as u32, shape.tokens() as u32, shape.leading as u32, dim as u32);
    kernels::PatchEmbedTokens { out: tokens, embedded, cls, pos, bias, n, count, leading, d }.launch(
        gpu,
        at,
        width_of(wide),
    )
}

/// f32 values that [`backward`] needs as scratch.
pub fn scratch_len(shape: Shape) -> usize {
    shape.n.div_ceil(GATHER_IMAGES) * shape.tokens() * shape.dim
}

/// Adds to the gradients of bias, leading tokens and positions, and writes `dembedded [N·patches, D]`: `dtokens`
/// without the leading tokens.
pub fn backward(
    gpu: &Gpu,
    gradients: Weights,
    dembedded: View<bf16>,
    dtokens: View<bf16>,
    scratch: View<f32>,
    shape: Shape,
) -> Result<()> {
    check(shape);
    gradients.check(shape);
    let Shape { n, dim, .. } = shape;
    let values = shape.tokens() * dim;
    assert!(
        dtokens.len() == n * values && dembedded.len() == n * shape.patches() * dim,
        "dtokens {} and dembedded {} do not fit {shape:?}",
        dtokens.len(),
        dembedded.len()
    );
    assert!(scratch.len() >= scratch_len(shape), "patch embedding: scratch {} of {shape:?}", scratch.len());
    let wide = dim.is_multiple_of(8) && [dtokens, dembedded].iter().all(|v| v.is_aligned(16)) && scratch.is_aligned(16);
    let at = tokens_plan(shape, wide, GATHER_IMAGES);
    let pieces = n.div_ceil(GATHER_IMAGES);
    let (n, count, leading, d) = (n as u32, shape.tokens() as u32, shape.leading as u32, dim as u32);
    kernels::PatchEmbedGather { dembedded, partials: scratch, dtokens, n, count, leading, d }.launch(
        gpu,
        at,
        width_of(wide),
    )?;
    let Weights { b, cls: dcls, pos: dpos } = gradients;
    let (at, pieces) = (Launch::new(values.div_ceil(THREADS), THREADS as u32), pieces as u32);
    kernels::PatchEmbedPositions { dpos, dcls, partials: scratch, pieces, count, leading, d }.launch(gpu, at)?;
    reduce::cuda::add_partials(gpu, b, None, scratch.slice(shape.leading * dim..values))
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use crate::ops::augment::{Normalize, Scales};

    #[test]
    fn normalisation_rounds_as_the_cpus_for_every_pixel() {
        let Scales { scale, shift } = Scales::default();
        let normalize = Normalize::default();
        for v in 0..=255u8 {
            let mut want = [0.0; 3];
            normalize.apply(&mut want, &[v; 3]);
            for c in 0..3 {
                let got = f32::from(v).mul_add(scale[c], shift[c]);
                assert_eq!(bf16::from_f32(got), bf16::from_f32(want[c]), "{v} of channel {c}");
            }
        }
    }
}
