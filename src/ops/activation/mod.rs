//! Elementwise activations on their own: of inference in place, of training from what they were of, and their
//! gradients. FLOPs per value: about 20. Bytes: one read, one write; backward two reads, one write.

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

/// Of [`quick_gelu`].
const SLOPE: f32 = 1.702;

/// `x·sigmoid(1.702·x)`: the approximation of GELU (Hendrycks & Gimpel 2016) that OpenAI's CLIP was trained with.
pub fn quick_gelu(x: &mut [f32]) {
    vectorize(
        #[inline(always)]
        || x.iter_mut().for_each(|x| *x *= sigmoid(SLOPE * *x)),
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

/// `y = x·sigmoid(1.702·x)`, in the bits of [`quick_gelu`].
///
/// # Panics
/// If the lengths differ.
pub fn quick_gelu_of(y: &mut [f32], x: &[f32]) {
    assert_eq!(y.len(), x.len(), "quick gelu: y and x");
    y.par_chunks_mut(VALUES).zip(x.par_chunks(VALUES)).for_each(|(y, x)| {
        y.copy_from_slice(x);
        quick_gelu(y);
    });
}

/// `dx` holds the gradient of [`quick_gelu_of`]'s output and becomes that of its input `x`.
///
/// # Panics
/// If the lengths differ.
pub fn quick_gelu_backward(dx: &mut [f32], x: &[f32]) {
    assert_eq!(dx.len(), x.len(), "quick gelu: dx and x");
    dx.par_chunks_mut(VALUES).zip(x.par_chunks(VALUES)).for_each(|(dx, x)| {
        vectorize(
            #[inline(always)]
            || {
                for (dx, &x) in dx.iter_mut().zip(x) {
                    let gate = sigmoid(SLOPE * x);
                    *dx *= (SLOPE * x * gate).mul_add(1.0 - gate, gate);
                }
            },
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
