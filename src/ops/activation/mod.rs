//! Elementwise activations on their own: of inference in place, of training computed again from what they were of.
//! FLOPs per value: about 20. Bytes: one read, one write.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::gelu;
use super::math::sigmoid;
use super::simd::vectorize;

/// What is done to the results of a product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    #[default]
    None,
    Silu,
    Gelu,
    /// `x·sigmoid(1.702·x)`.
    QuickGelu,
    /// `value·gelu(gate)` of columns that are values, then gates.
    Geglu,
}

/// `x·sigmoid(x)` (SiLU, Elfwing et al. 2018).
pub fn silu(x: &mut [f32]) {
    vectorize(
        #[inline(always)]
        || x.iter_mut().for_each(|x| *x *= sigmoid(*x)),
    );
}

/// `x·sigmoid(1.702·x)`: the approximation of GELU that OpenAI's CLIP was trained with.
pub fn quick_gelu(x: &mut [f32]) {
    vectorize(
        #[inline(always)]
        || x.iter_mut().for_each(|x| *x *= sigmoid(1.702 * *x)),
    );
}

/// Exact GELU.
pub fn gelu(x: &mut [f32]) {
    vectorize(
        #[inline(always)]
        || x.iter_mut().for_each(|x| *x *= gelu::normal_cdf(*x)),
    );
}

/// Values per task.
const VALUES: usize = 1 << 14;

/// `y = gelu(x)`, in the bits of [`super::linear::forward_gelu`].
///
/// # Panics
/// If the lengths differ.
pub fn gelu_of(y: &mut [f32], x: &[f32]) {
    assert_eq!(y.len(), x.len(), "gelu: y and x");
    y.par_chunks_mut(VALUES).zip(x.par_chunks(VALUES)).for_each(|(y, x)| {
        vectorize(
            #[inline(always)]
            || gelu::forward(y, x),
        );
    });
}

/// `y [rows, F] = a·gelu(b)` where a row of `x [rows, 2F]` is `a` then `b` (GEGLU, Shazeer 2020, arXiv 2002.05202).
pub fn geglu(y: &mut [f32], x: &[f32], width: usize) {
    assert!(x.len() == 2 * y.len() && width > 0 && y.len().is_multiple_of(width), "geglu: x {} y {}", x.len(), y.len());
    vectorize(
        #[inline(always)]
        || {
            for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(2 * width)) {
                let (a, b) = x.split_at(width);
                for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                    *y = a * b * gelu::normal_cdf(b);
                }
            }
        },
    );
}
