//! Launches of `kernels/cross_entropy.cu`.

use half::bf16;

use super::Shape;
use crate::device::cuda::kernels::cross_entropy::{PAIRS, REGISTER_CLASSES};
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;

fn check(x: View<f32>, labels: View<u32>, shape: Shape) -> [u32; 3] {
    let Shape { rows, heads, classes } = shape;
    let fits = rows > 0 && heads > 0 && classes > 0 && rows * heads < 1 << 31 && classes < 1 << 31;
    assert!(fits, "cross-entropy: {shape:?}");
    assert!(x.len() == rows * heads * classes && labels.len() == rows, "cross-entropy: x, labels of {shape:?}");
    [rows, heads, classes].map(|n| n as u32)
}

fn plan(shape: Shape) -> Launch {
    Launch::new((shape.rows * shape.heads).div_ceil(PAIRS), 32 * PAIRS as u32)
}

/// `losses [N, G]`, and the logits `x [N, G·C]` become their gradient `scale·(softmax − one-hot)`, written to `rounded`
/// as well. The same as [`super::forward_in_place`] and [`super::backward_in_place`]. Labels must be below C: only the
/// host can tell.
pub fn gradient_in_place(
    gpu: &Gpu,
    losses: View<f32>,
    x: View<f32>,
    rounded: Option<View<bf16>>,
    labels: View<u32>,
    scale: f32,
    shape: Shape,
) -> Result<()> {
    let [rows, heads, classes] = check(x, labels, shape);
    assert!(losses.len() == shape.rows * shape.heads, "cross-entropy: losses of {shape:?}");
    assert!(rounded.is_none_or(|r| r.len() == x.len()), "cross-entropy: bf16 gradient of {shape:?}");
    let kernel = match shape.classes {
        0..=REGISTER_CLASSES => kernels::CrossEntropyGradientKernel::Row,
        _ => kernels::CrossEntropyGradientKernel::Any,
    };
    kernels::CrossEntropyGradient { losses, x, rounded, labels, rows, heads, classes, scale }.launch(
        gpu,
        plan(shape),
        kernel,
    )
}

/// `means [G]` of `losses [N, G]` over its rows.
pub fn means(gpu: &Gpu, means: View<f32>, losses: View<f32>) -> Result<()> {
    let heads = means.len();
    assert!(heads > 0 && !losses.is_empty() && losses.len().is_multiple_of(heads), "cross-entropy: {heads} heads");
    let rows = losses.len() / heads;
    let at = Launch::new(heads, 256);
    kernels::CrossEntropyMeans { means, losses, rows: rows as u32, heads: heads as u32 }.launch(gpu, at)
}

/// Adds to `correct [G]` how many rows of the logits `x [N, G·C]` have their largest value at the label; equal values
/// go to the lower class, and NaN is never correct.
pub fn count_correct(gpu: &Gpu, correct: View<u32>, x: View<f32>, labels: View<u32>, shape: Shape) -> Result<()> {
    let [rows, heads, classes] = check(x, labels, shape);
    assert!(correct.len() == shape.heads, "cross-entropy: counts of {shape:?}");
    kernels::CrossEntropyCorrect { correct, x, labels, rows, heads, classes }.launch(gpu, plan(shape))
}
