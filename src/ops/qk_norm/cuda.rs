//! Launches of `kernels/qk_norm.cu`.

use half::bf16;

use super::Shape;
use crate::device::cuda::kernels::qk_norm::{THREADS, VECTOR};
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;
use crate::ops::reduce;

/// Most blocks, hence partial sums, of the backward of queries and of keys each.
const PIECES: usize = 512;
/// Least rounds of a block of the backward.
const ROUNDS: usize = 4;

/// Queries of all tokens, and as many keys.
fn rows(shape: Shape) -> usize {
    shape.tokens * shape.heads
}

/// Rows of one block of the backward, and such blocks.
fn pieces(shape: Shape) -> (usize, usize) {
    let (rows, at_once) = (rows(shape), THREADS * VECTOR / shape.head_dim);
    let piece = rows.div_ceil(PIECES).max(ROUNDS * at_once);
    (piece, rows.div_ceil(piece))
}

/// f32 values that [`backward`] needs as scratch.
pub fn scratch_len(shape: Shape) -> usize {
    pieces(shape).1 * shape.affine_len()
}

fn check(qkv: [View<bf16>; 2], stats: View<f32>, affine: View<f32>, shape: Shape) {
    shape.check(qkv[0].len(), stats.len(), affine.len());
    assert!(matches!(shape.head_dim, 32 | 64) && shape.qkv_len() < 1 << 33, "qk_norm: {shape:?}");
    let aligned = qkv.iter().all(|view| view.is_aligned(16)) && stats.is_aligned(8);
    assert!(aligned && qkv[1].len() == qkv[0].len(), "qk_norm: {qkv:?} {stats:?}");
}

/// As [`super::forward`], of heads of 32 or 64 values.
pub fn forward(
    gpu: &Gpu,
    y: View<bf16>,
    stats: View<f32>,
    x: View<bf16>,
    affine: View<f32>,
    eps: f32,
    shape: Shape,
) -> Result<()> {
    check([x, y], stats, affine, shape);
    let vectors = shape.qkv_len() / VECTOR;
    let at = Launch::new(vectors.div_ceil(THREADS), THREADS as u32);
    let [vectors, heads] = [vectors, shape.heads].map(|n| n as u32);
    kernels::QkNormForward { y, stats, x, affine, vectors, heads, eps }.launch(gpu, at, shape.head_dim)
}

/// As [`super::backward`]; `scratch` has [`scratch_len`] values.
pub fn backward(
    gpu: &Gpu,
    d: View<bf16>,
    daffine: View<f32>,
    (x, stats): (View<bf16>, View<f32>),
    affine: View<f32>,
    scratch: View<f32>,
    shape: Shape,
) -> Result<()> {
    check([x, d], stats, affine, shape);
    assert!(daffine.len() == affine.len() && scratch.len() >= scratch_len(shape), "qk_norm: {daffine:?} {scratch:?}");
    let (piece, pieces) = pieces(shape);
    let (partials, at) = (scratch.slice(0..scratch_len(shape)), Launch::grid([pieces, 2, 1], THREADS as u32));
    let [rows, heads, rows_per_block] = [rows(shape), shape.heads, piece].map(|n| n as u32);
    kernels::QkNormBackward { d, partials, x, stats, affine, rows, heads, rows_per_block }.launch(
        gpu,
        at,
        shape.head_dim,
    )?;
    reduce::cuda::add_partials(gpu, daffine, None, partials)
}
