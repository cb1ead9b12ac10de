//! `kernels/self_attention_sm90.cu`, `self_attention_backward_sm90.cu` and, for heads that do not fit shared memory,
//! `self_attention_long_sm90.cu`: TMA and wgmma, one block per multiprocessor.

use half::bf16;

use super::{Shape, numbers, scale};
use crate::device::cuda::{Gpu, Launch, Swizzle, TensorMap, View, kernels};
use crate::error::Result;

/// Tokens of a tile in shared memory.
const TILE: usize = 64;
const THREADS: u32 = 384;
/// Most shared memory of a block, bytes.
const SHARED: usize = 232_448;
/// Keys a kernel of the forward pass computes for every query; the smallest that holds all tokens is taken.
const KEYS: [usize; 5] = [64, 128, 192, 208, 256];
/// Tokens that the backward pass takes with more than [`FEW_QUERIES`].
const MAX_TOKENS: usize = 208;
/// Queries of a head that one tile for each of the two computing warpgroups holds.
const FEW_QUERIES: usize = 2 * TILE;
/// Rows of O that the backward pass loads at a time.
const OUT_ROWS: usize = 32;

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
    let stage = tiles * TILE * row_bytes(shape) + 5 * size_of::<u64>();
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
    let (queries, row) = (2 * tiles * TILE, row_bytes(shape));
    let stages = 2 * (rows + queries) * row; // Q and dO with what fills its last tile, two heads
    let ring = 3 * 2 * TILE * row; // K and V, three chunks
    let scores = 2 * rows * TILE * size_of::<bf16>(); // dS and P
    let statistics = 2 * 2 * queries * size_of::<f32>();
    let barriers = 3 * 8 * size_of::<u64>();
    let shared = stages + ring + scores + OUT_ROWS * row + statistics + barriers;
    BackwardPlan { launch: launch(shape, 1, sms).shared(shared), tiles, rows }
}

/// Launches of the kernels for any length, forward and backward.
pub fn plan_long(shape: Shape, sms: u32) -> (Launch, Launch) {
    let tile = TILE * row_bytes(shape);
    let barriers = 5 * 4 * size_of::<u64>();
    let blocks = |rows: usize| rows.div_ceil(2 * TILE);
    // Two stages of own tiles, four of streamed ones: Q; K and V of 128 keys; a word for
    // each computing thread. Backward x and y; u and w of 64 rows, and two statistics.
    let anchors = 4 * TILE * size_of::<f32>();
    let forward = (2 * 2 + 4 * 4) * tile + barriers + anchors;
    let backward = (2 * 4 + 4 * 2) * tile + 4 * 2 * TILE * size_of::<f32>() + barriers;
    (
        launch(shape, blocks(shape.queries), sms).shared(forward),
        launch(shape, 2 * blocks(shape.tokens), sms).shared(backward),
    )
}

/// One block per multiprocessor, no more than there are items of work.
fn launch(shape: Shape, items_per_head: usize, sms: u32) -> Launch {
    Launch::new((shape.n * shape.heads * items_per_head).min(sms as usize), THREADS)
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

#[allow(clippy::too_many_arguments)]
pub(super) fn backward(
    gpu: &Gpu,
    sms: u32,
    dqkv: View<bf16>,
    dout: View<bf16>,
    qkv: View<bf16>,
    out: View<bf16>,
    lse: View<f32>,
    shape: Shape,
) -> Result<()> {
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

/// `delta`: row sums of out∘dout, already there.
#[allow(clippy::too_many_arguments)]
pub(super) fn backward_long(
    gpu: &Gpu,
    sms: u32,
    dqkv: View<bf16>,
    dout: View<bf16>,
    qkv: View<bf16>,
    lse: View<f32>,
    delta: View<f32>,
    shape: Shape,
) -> Result<()> {
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
