//! `kernels/self_attention.cu`: cp.async and mma.sync, any length, every card.

use half::bf16;

use super::arguments::{Backward, numbers, scale};
use crate::device::cuda::kernels::self_attention::{CHUNK, MAX_WARPS};
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;
use crate::ops::self_attention::Shape;

/// Query or key rows of a warp.
const WARP_ROWS: usize = 16;
/// Stages of CHUNK rows of the other side in shared memory.
const STAGES: usize = 2;

/// Launches for one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub forward: Launch,
    /// Row sums of out∘dout, before `backward`.
    pub delta: Launch,
    pub backward: Launch,
}

/// Rows are cut into blocks of equally many warps: 197 tokens into 2 blocks of 7 rather than 8 and 5.
pub fn plan(shape: Shape) -> Plan {
    let pairs = shape.n * shape.heads;
    let cut = |rows: usize| {
        let tiles = rows.div_ceil(WARP_ROWS);
        let warps = tiles.div_ceil(tiles.div_ceil(MAX_WARPS));
        (tiles.div_ceil(warps), warps)
    };
    let row_bytes = shape.head_dim * size_of::<bf16>();
    let tiles = STAGES * 2 * CHUNK * row_bytes;
    let (forward_blocks, forward_warps) = cut(shape.queries);
    let (backward_blocks, backward_warps) = cut(shape.tokens);
    let statistics = STAGES * 2 * CHUNK * size_of::<f32>();
    let delta_threads = shape.out_len() / 8;
    Plan {
        forward: Launch::new(pairs * forward_blocks, 32 * forward_warps as u32)
            .shared(tiles + forward_warps * WARP_ROWS * row_bytes),
        delta: Launch::new(delta_threads.div_ceil(256), 256),
        // Half the blocks own keys, half own queries.
        backward: Launch::new(pairs * 2 * backward_blocks, 32 * backward_warps as u32)
            .shared(tiles + statistics + backward_warps * 2 * WARP_ROWS * row_bytes),
    }
}

pub(super) fn forward(gpu: &Gpu, out: View<bf16>, lse: View<f32>, qkv: View<bf16>, shape: Shape) -> Result<()> {
    let launch = plan(shape).forward;
    let [_, tokens, queries, heads, causal] = numbers(shape);
    kernels::SelfAttentionForward { out, lse, qkv, tokens, queries, heads, causal, scale: scale(shape) }.launch(
        gpu,
        launch,
        shape.head_dim,
    )
}

/// Row sums of out∘dout, `[N, G, queries]`, into the scratch.
pub(super) fn delta(gpu: &Gpu, of: Backward, shape: Shape) -> Result<()> {
    let Backward { dout, out, scratch: delta, .. } = of;
    let [images, _, queries, heads, _] = numbers(shape);
    kernels::SelfAttentionDelta { delta, out, dout, images, queries, heads }.launch(
        gpu,
        plan(shape).delta,
        shape.head_dim,
    )
}

/// The scratch as [`delta`] left it.
pub(super) fn backward(gpu: &Gpu, of: Backward, shape: Shape) -> Result<()> {
    let Backward { dqkv, dout, qkv, lse, scratch: delta, .. } = of;
    let [_, tokens, queries, heads, causal] = numbers(shape);
    let (launch, scale) = (plan(shape).backward, scale(shape));
    kernels::SelfAttentionBackward { dqkv, dout, qkv, lse, delta, tokens, queries, heads, causal, scale }.launch(
        gpu,
        launch,
        shape.head_dim,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row has a warp, no block is empty, and shared memory fits two blocks of an A100's or one of a 4090's
    /// multiprocessor.
    #[test]
    fn plans_cover_every_row() {
        for tokens in (1..400usize).chain([1024, 4097]) {
            for (head_dim, queries) in [(32, 1), (64, tokens), (64, tokens.div_ceil(2))] {
                let shape = Shape { n: 3, tokens, queries, heads: 5, head_dim, causal: false };
                let Plan { forward, delta, backward } = plan(shape);
                for (launch, rows, roles) in [(forward, queries, 1), (backward, tokens, 2)] {
                    let blocks = launch.grid[0] as usize / (15 * roles);
                    let block_rows = launch.block[0] as usize / 2;
                    assert_eq!(launch.grid[0] as usize, blocks * 15 * roles);
                    assert!(launch.block[0] <= 256 && launch.shared <= 81 << 10, "{launch}");
                    assert_eq!(blocks, rows.div_ceil(block_rows), "{shape:?}: {launch}");
                }
                assert!(delta.grid[0] as usize * 256 * 8 >= shape.out_len());
            }
        }
    }
}
