//! Layer norms whose backward nobody asks for, into 16 bits or e4m3.

use super::{Affine, FORWARD_VALUES, Shape, WIDEST_INFERENCE};
use crate::device::cuda::{E4m3, Element, Gpu, Half, Launch, View, kernels};
use crate::error::Result;

/// Vectors of a lane and blocks of an inference, checked.
fn inference<Y: Element, T: Half>(
    y: View<Y>,
    x: View<T>,
    affine: Affine,
    rows: usize,
    d: usize,
) -> (Option<usize>, Launch) {
    let shape = Shape::dense(rows, d);
    shape.check();
    assert!(x.len() == rows * d && y.len() == rows * d, "layernorm: {shape:?}");
    affine.check(shape);
    let addresses = [y.address(), x.address(), affine.gamma.address(), affine.beta.address()];
    (shape.vectors(FORWARD_VALUES, WIDEST_INFERENCE, &addresses), shape.plan())
}

/// `y [rows, d] = norm(x)`, as [`crate::ops::layernorm::infer`]: nothing is kept for a backward.
pub fn infer<T: Half>(gpu: &Gpu, y: View<T>, x: View<T>, affine: Affine, rows: usize, d: usize) -> Result<()> {
    let (vectors, at) = inference(y, x, affine, rows, d);
    let (Affine { gamma, beta, eps }, rows, d) = (affine, rows as u32, d as u32);
    let kernel = match vectors {
        Some(vectors) => kernels::LayernormInferKernel::Rows(vectors),
        None => kernels::LayernormInferKernel::Any,
    };
    kernels::LayernormInfer { y, x, gamma, beta, rows, d, eps }.launch(gpu, at, kernel)
}

/// [`infer`] into e4m3: times `inverse`, ±448 at most.
///
/// # Errors
/// Device error on cards without e4m3 ([`Gpu::has_e4m3`]).
pub fn infer_e4m3<T: Half>(
    gpu: &Gpu,
    y: View<E4m3>,
    inverse: f32,
    x: View<T>,
    affine: Affine,
    rows: usize,
    d: usize,
) -> Result<()> {
    gpu.needs_e4m3()?;
    let (vectors, at) = inference(y, x, affine, rows, d);
    let (Affine { gamma, beta, eps }, rows, d) = (affine, rows as u32, d as u32);
    let kernel = match vectors {
        Some(vectors) => kernels::LayernormE4m3Kernel::Rows(vectors),
        None => kernels::LayernormE4m3Kernel::Any,
    };
    kernels::LayernormE4m3 { y, inverse, x, gamma, beta, rows, d, eps }.launch(gpu, at, kernel)
}
