//! `kernels/self_attention_sm90.cu`, `self_attention_backward_sm90.cu` and, for heads that do not fit shared memory,
//! `self_attention_long_sm90.cu`: TMA and wgmma, one block per multiprocessor.

use half::bf16;

use super::arguments::{Backward, numbers, scale};
use crate::device::cuda::kernels::self_attention_backward_sm90::{OUT_ROWS, QUERY_ROWS};
use crate::device::cuda::kernels::self_attention_long_sm90::{BACKWARD_SHARED, FORWARD_SHARED, ROWS};
use crate::device::cuda::kernels::self_attention_sm90::{BARRIERS, KEYS, THREADS, TILE};
use crate::device::cuda::{Gpu, Launch, Swizzle, TensorMap, View, kernels};
use crate::error::Result;
use crate::ops::self_attention::Shape;

/// Most shared memory of a block, bytes.
const SHARED: usize = 232_448;
/// Queries of a head that one tile for each of the two computing warpgroups holds, and tokens that the backward pass
/// takes with more than these.
const FEW_QUERIES: usize = QUERY_ROWS[0];
const MAX_TOKENS: usize = QUERY_ROWS[1];

pub(super) fn has_forward(shape: Shape) -> bool {
    shape.tokens <= KEYS[KEYS.len() - 1]
}

pub(super) fn has_backward(shape: Shape) -> bool {
    shape.tokens <= MAX_TOKENS || shape.queries <= FEW_QUERIES
}

/// How the forward pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardPlan {
    pub launch: Launch,
    /// Keys computed, of `KEYS`.
    pub keys: usize,
    /// Heads in shared memory at once.
    pub stages: usize,
}

pub fn plan_forward(shape: Shape, sms: u32) -> ForwardPlan {
    let keys = KEYS.into_iter().find(|&keys| shape.tokens <= keys).unwrap_or(KEYS[KEYS.len() - 1]);
    let tiles = shape.queries.div_ceil(TILE) + 2 * shape.tokens.div_ceil(TILE);
    let stage = tiles * TILE * row_bytes(shape) + BARRIERS * size_of::<u64>();
    let stages = (SHARED / stage).min(4);
    ForwardPlan { launch: launch(shape, 1, sms).shared(stages * stage), keys, stages }
}

/// How the backward pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackwardPlan {
    pub launch: Launch,
    /// Tiles of queries of each of the two computing warpgroups.
    pub tiles: usize,
    /// Queries of a head in shared memory.
    pub rows: usize,
}

pub fn plan_backward(shape: Shape, sms: u32) -> BackwardPlan {
    let (tiles, rows) = if shape.queries <= FEW_QUERIES { (1, FEW_QUERIES) } else { (2, MAX_TOKENS) };
    let shared = kernels::self_attention_backward_sm90::SHARED[2 * of_head(shape) + tiles - 1];
    BackwardPlan { launch: launch(shape, 1, sms).shared(shared), tiles, rows }
}

/// Launches of the kernels for any length, forward and backward.
pub fn plan_long(shape: Shape, sms: u32) -> (Launch, Launch) {
    let (blocks, head) = (|rows: usize| rows.div_ceil(ROWS), of_head(shape));
    (
        launch(shape, blocks(shape.queries), sms).shared(FORWARD_SHARED[head]),
        launch(shape, 2 * blocks(shape.tokens), sms).shared(BACKWARD_SHARED[head]),
    )
}

/// One block per multiprocessor, no more than there are items of work.
fn launch(shape: Shape, items_per_head: usize, sms: u32) -> Launch {
    Launch::new((shape.n * shape.heads * items_per_head).min(sms as usize), THREADS as u32)
}

/// Place of a head's size among those that the kernels are made for.
fn of_head(shape: Shape) -> usize {
    usize::from(shape.head_dim == 64)
}

fn row_bytes(shape: Shape) -> usize {
    shape.head_dim * size_of::<bf16>()
}

fn swizzle(shape: Shape) -> Swizzle {
    if shape.head_dim == 64 { Swizzle::B128 } else { Swizzle::B64 }
}

/// Tiles of `tokens` tokens of one head of `parts·G`: coordinates (0, head, token, image).
fn map(view: View<bf16>, shape: Shape, parts: usize, tokens: usize, rows: usize) -> Result<TensorMap> {
    let row = row_bytes(shape) as u64;
    let (heads, tokens) = ((parts * shape.heads) as u64, tokens as u64);
    TensorMap::tiled(
        view,
        &[shape.head_dim as u64, heads, tokens, shape.n as u64],
        &[row, heads * row, tokens * heads * row],
        &[shape.head_dim as u32, 1, rows as u32, 1],
        swizzle(shape),
    )
}

pub(super) fn forward(
    gpu: &Gpu,
    sms: u32,
    out: View<bf16>,
    lse: View<f32>,
    qkv: View<bf16>,
    shape: Shape,
) -> Result<()> {
    let ForwardPlan { launch, keys, stages } = plan_forward(shape, sms);
    let qkv = map(qkv, shape, 3, shape.tokens, TILE)?;
    let out = map(out, shape, 1, shape.queries, TILE)?;
    let [images, tokens, queries, heads, causal] = numbers(shape);
    let (pairs, scale, stages) = (images * heads, scale(shape), stages as u32);
    kernels::SelfAttentionForwardSm90 { qkv, out, lse, pairs, tokens, queries, heads, causal, scale, stages }.launch(
        gpu,
        launch,
        shape.head_dim,
        keys,
    )
}

pub(super) fn backward(gpu: &Gpu, sms: u32, of: Backward, shape: Shape) -> Result<()> {
    let Backward { dqkv, dout, qkv, out, lse, .. } = of;
    let BackwardPlan { launch, tiles, rows } = plan_backward(shape, sms);
    let dqkv_map = map(dqkv, shape, 3, shape.tokens, TILE)?;
    let queries_map = map(qkv, shape, 3, shape.tokens, rows)?;
    let qkv = map(qkv, shape, 3, shape.tokens, TILE)?;
    let dout = map(dout, shape, 1, shape.queries, rows)?;
    let out = map(out, shape, 1, shape.queries, OUT_ROWS)?;
    let [images, tokens, queries, heads, causal] = numbers(shape);
    let (pairs, scale) = (images * heads, scale(shape));
    kernels::SelfAttentionBackwardSm90 {
        dqkv_map,
        dout,
        queries_map,
        qkv,
        out,
        dqkv,
        lse,
        pairs,
        tokens,
        queries,
        heads,
        causal,
        scale,
    }
    .launch(gpu, launch, shape.head_dim, tiles)
}

pub(super) fn forward_long(
    gpu: &Gpu,
    sms: u32,
    out: View<bf16>,
    lse: View<f32>,
    qkv: View<bf16>,
    shape: Shape,
) -> Result<()> {
    let (launch, _) = plan_long(shape, sms);
    let qkv = map(qkv, shape, 3, shape.tokens, TILE)?;
    let out = map(out, shape, 1, shape.queries, TILE)?;
    let [images, tokens, queries, heads, causal] = numbers(shape);
    let (pairs, scale) = (images * heads, scale(shape));
    kernels::SelfAttentionForwardLongSm90 { qkv, out, lse, pairs, tokens, queries, heads, causal, scale }.launch(
        gpu,
        launch,
        shape.head_dim,
    )
}

/// The scratch holds row sums of out∘dout.
pub(super) fn backward_long(gpu: &Gpu, sms: u32, of: Backward, shape: Shape) -> Result<()> {
    let Backward { dqkv, dout, qkv, lse, scratch: delta, .. } = of;
    let (_, launch) = plan_long(shape, sms);
    let dqkv = map(dqkv, shape, 3, shape.tokens, TILE)?;
    let qkv = map(qkv, shape, 3, shape.tokens, TILE)?;
    let dout = map(dout, shape, 1, shape.queries, TILE)?;
    let [images, tokens, queries, heads, causal] = numbers(shape);
    let (pairs, scale) = (images * heads, scale(shape));
    kernels::SelfAttentionBackwardLongSm90 { dqkv, dout, qkv, lse, delta, pairs, tokens, queries, heads, causal, scale }
        .launch(gpu, launch, shape.head_dim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_fit_a_multiprocessor() {
        for tokens in 1..=256usize {
            for head_dim in [32, 64] {
                for queries in [1, tokens.div_ceil(2), tokens] {
                    let shape = Shape { n: 2, tokens, queries, heads: 3, head_dim, causal: false };
                    let (forward, backward) = plan_long(shape, 132);
                    assert!(forward.shared.max(backward.shared) as usize <= SHARED, "{shape:?}");
                    assert_eq!(backward.grid[0] as usize, 6 * 2 * tokens.div_ceil(128));
                    let forward = plan_forward(shape, 132);
                    assert!(forward.keys >= tokens && forward.stages >= 2, "{shape:?}: {forward:?}");
                    assert!(forward.launch.shared as usize <= SHARED && forward.launch.grid == [6, 1, 1]);
                    if has_backward(shape) {
                        let BackwardPlan { launch, tiles, rows } = plan_backward(shape, 4);
                        assert!(launch.shared as usize <= SHARED && launch.grid == [4, 1, 1], "{shape:?}: {launch}");
                        assert!(rows >= queries && rows <= tiles * 2 * TILE, "{shape:?}");
                    }
                }
            }
        }
    }
}
