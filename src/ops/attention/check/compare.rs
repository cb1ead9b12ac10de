//! Attention by every kernel for it beside the CPU op on the same rounded inputs.

use half::f16;

use crate::device::cuda::{Half, Owned};
use crate::error::Result;
use crate::ops::attention::cuda::{Heads, Variant, forward, forward_by};
use crate::ops::attention::{self, Shape, Tokens};
use crate::ops::check::{Case, Tolerance};
use crate::ops::gemm::Threads;

/// Multiprocessors for kernels whose blocks take several heads: so few that rings of slots go round more than once.
pub const FEW: u32 = 4;

pub const fn shape(n: usize, queries: usize, heads: usize, head_dim: usize) -> Shape {
    Shape { n, queries, keys: queries, heads, head_dim, causal: false }
}

pub fn width(shape: Shape) -> usize {
    shape.heads * shape.head_dim
}

/// N(0, spread²), `[N, T, 3, G, d]`; T is the larger of queries and keys.
pub fn packed(case: &Case, shape: Shape, spread: f32) -> Vec<f32> {
    case.normal(&format!("qkv of {shape:?}"), shape.n * shape.queries.max(shape.keys) * 3 * width(shape), spread)
}

/// A buffer of NaN for the output.
pub fn output<T: Half>(case: &Case, shape: Shape) -> Result<Owned<T>> {
    case.gpu().upload(&vec![T::round(f32::NAN); shape.n * shape.queries * width(shape)])
}

/// What a variant makes of q, k and v, `q_stride`, … values apart, as bit patterns.
pub fn on_gpu<T: Half>(case: &Case, variant: Variant, [q, k, v]: [Heads<T>; 3], shape: Shape) -> Result<Vec<T>> {
    let y = output(case, shape)?;
    forward_by(variant, case.gpu(), y.view(), q, k, v, shape)?;
    case.gpu().read(y.view())
}

pub fn wide_values<T: Half>(values: &[T]) -> Vec<f32> {
    values.iter().map(|v| v.widen()).collect()
}

/// Every variant's output for packed queries, keys and values against the CPU's. Of images with as many queries as
/// keys, and else of one image or of several whose queries and keys follow each other without a gap.
pub fn compare<T: Half>(case: &Case, shape: Shape, qkv: &[f32]) -> Result<()> {
    let width = width(shape);
    let (device, rounded) = case.half::<T>(qkv)?;
    let part = |i: usize| Tokens { data: &rounded[i * width..], stride: 3 * width };
    let mut want = vec![0.0; shape.n * shape.queries * width];
    attention::forward(&mut want, part(0), part(1), part(2), shape, Threads::All);
    compare_by(case, shape, &device, &want, &Variant::forward(case.gpu(), shape, FEW)?)
}

/// Outputs of these variants against the CPU's.
pub fn compare_by<T: Half>(
    case: &Case,
    shape: Shape,
    qkv: &Owned<T>,
    want: &[f32],
    variants: &[Variant],
) -> Result<()> {
    for &variant in variants {
        let parts = [0, 1, 2].map(|i| Heads::part(qkv.view(), i, 3, width(shape)));
        let got = on_gpu(case, variant, parts, shape)?;
        let what = format!("{} of {shape:?} by {variant:?}", T::DTYPE);
        case.close(&what, &wide_values(&got), want, Tolerance::of::<T>())?;
    }
    Ok(())
}

/// The first variant, on all multiprocessors.
pub fn as_chosen(case: &Case, shape: Shape) -> Result<()> {
    let (qkv, width) = (packed(case, shape, 1.0), width(shape));
    let (device, rounded) = case.half::<f16>(&qkv)?;
    let part = |i: usize| Tokens { data: &rounded[i * width..], stride: 3 * width };
    let mut want = vec![0.0; shape.n * shape.queries * width];
    attention::forward(&mut want, part(0), part(1), part(2), shape, Threads::All);
    let y = output::<f16>(case, shape)?;
    let [q, k, v] = [0, 1, 2].map(|i| Heads::part(device.view(), i, 3, width));
    forward(case.gpu(), y.view(), q, k, v, shape)?;
    case.close(&format!("{shape:?}"), &case.read_half(y.view())?, &want, Tolerance::f16())
}
