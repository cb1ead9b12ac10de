//! Layer norms whose backward nobody asks for, into 16 bits or e4m3.

use super::{FORWARD_VALUES, Shape, WIDEST_INFERENCE};
use crate::device::cuda::{DType, E4m3, Element, Gpu, Half, Launch, View, kernels};
use crate::error::Result;

/// Vectors of a lane and blocks of an inference, checked.
fn inference<Y: Element, T: Half>(
    y: View<Y>,
    x: View<T>,
    affine: [View<f32>; 2],
    rows: usize,
    d: usize,
) -> (Option<usize>, Launch) {
    let shape = Shape::dense(rows, d);
    shape.check();
    assert!(x.len() == rows * d && y.len() == rows * d, "layernorm: {shape:?}");
    let [gamma, beta] = affine;
    assert!(gamma.len() == d && beta.len() == d, "layernorm: gamma {}, beta {}, {shape:?}", gamma.len(), beta.len());
    let addresses = [y.address(), x.address(), gamma.address(), beta.address()];
    (shape.vectors(FORWARD_VALUES, WIDEST_INFERENCE, &addresses), shape.plan())
}

/// `y [rows, d] = norm(x)`, as [`crate::ops::layernorm::infer`]: nothing is kept for a backward.
#[allow(clippy::too_many_arguments)]
pub fn infer<T: Half>(
    gpu: &Gpu,
    y: View<T>,
    x: View<T>,
    gamma: View<f32>,
    beta: View<f32>,
    eps: f32,
    rows: usize,
    d: usize,
) -> Result<()> {
    let (vectors, at) = inference(y, x, [gamma, beta], rows, d);
    let (rows, d) = (rows as u32, d as u32);
    macro_rules! launch {
        ([$($number:literal => $kernel:ident),+ $(,)?], $any:ident) => {
            match vectors {
                Some(vectors) => by_vectors!(vectors, [$($number => $kernel),+](gpu, at, y, x, gamma, beta, rows, d, eps)),
                None => kernels::$any(gpu, at, y, x, gamma, beta, rows, d, eps),
            }
        };
    }
    match T::DTYPE {
        DType::F16 => launch!(
            [
                1 => layernorm_infer_rows1_f16,
                2 => layernorm_infer_rows2_f16,
                3 => layernorm_infer_rows3_f16,
                4 => layernorm_infer_rows4_f16,
                5 => layernorm_infer_rows5_f16,
                6 => layernorm_infer_rows6_f16,
                7 => layernorm_infer_rows7_f16,
                8 => layernorm_infer_rows8_f16,
                9 => layernorm_infer_rows9_f16,
                10 => layernorm_infer_rows10_f16,
            ],
            layernorm_infer_any_f16
        ),
        DType::Bf16 => launch!(
            [
                1 => layernorm_infer_rows1_bf16,
                2 => layernorm_infer_rows2_bf16,
                3 => layernorm_infer_rows3_bf16,
                4 => layernorm_infer_rows4_bf16,
                5 => layernorm_infer_rows5_bf16,
                6 => layernorm_infer_rows6_bf16,
                7 => layernorm_infer_rows7_bf16,
                8 => layernorm_infer_rows8_bf16,
                9 => layernorm_infer_rows9_bf16,
                10 => layernorm_infer_rows10_bf16,
            ],
            layernorm_infer_any_bf16
        ),
    }
}

/// [`infer`] into e4m3: times `inverse`, ±448 at most.
///
/// # Errors
/// Device error on cards without e4m3 ([`Gpu::has_e4m3`]).
#[allow(clippy::too_many_arguments)]
pub fn infer_e4m3<T: Half>(
    gpu: &Gpu,
    y: View<E4m3>,
    inverse: f32,
    x: View<T>,
    gamma: View<f32>,
    beta: View<f32>,
    eps: f32,
    rows: usize,
    d: usize,
) -> Result<()> {
    gpu.needs_e4m3()?;
    let (vectors, at) = inference(y, x, [gamma, beta], rows, d);
    let (rows, d) = (rows as u32, d as u32);
    macro_rules! launch {
        ([$($number:literal => $kernel:ident),+ $(,)?], $any:ident) => {
            match vectors {
                Some(vectors) => {
                    by_vectors!(vectors, [$($number => $kernel),+](gpu, at, y, inverse, x, gamma, beta, rows, d, eps))
                }
                None => kernels::$any(gpu, at, y, inverse, x, gamma, beta, rows, d, eps),
            }
        };
    }
    match T::DTYPE {
        DType::F16 => launch!(
            [
                1 => layernorm_e4m3_rows1_f16,
                2 => layernorm_e4m3_rows2_f16,
                3 => layernorm_e4m3_rows3_f16,
                4 => layernorm_e4m3_rows4_f16,
                5 => layernorm_e4m3_rows5_f16,
                6 => layernorm_e4m3_rows6_f16,
                7 => layernorm_e4m3_rows7_f16,
                8 => layernorm_e4m3_rows8_f16,
                9 => layernorm_e4m3_rows9_f16,
                10 => layernorm_e4m3_rows10_f16,
            ],
            layernorm_e4m3_any_f16
        ),
        DType::Bf16 => launch!(
            [
                1 => layernorm_e4m3_rows1_bf16,
                2 => layernorm_e4m3_rows2_bf16,
                3 => layernorm_e4m3_rows3_bf16,
                4 => layernorm_e4m3_rows4_bf16,
                5 => layernorm_e4m3_rows5_bf16,
                6 => layernorm_e4m3_rows6_bf16,
                7 => layernorm_e4m3_rows7_bf16,
                8 => layernorm_e4m3_rows8_bf16,
                9 => layernorm_e4m3_rows9_bf16,
                10 => layernorm_e4m3_rows10_bf16,
            ],
            layernorm_e4m3_any_bf16
        ),
    }
}
