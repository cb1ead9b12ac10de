//! `kernels/attention.cu`: cp.async and mma.sync, every shape, every card.

use super::heads::{CONTEXT, Heads, WIDE, WIDTH, scale};
use crate::device::cuda::kernels::attention::{FORWARDS, MAX_WARPS, WIDE_ROWS};
use crate::device::cuda::{Gpu, Half, Launch, View, kernels};
use crate::error::Result;
use crate::ops::attention::Shape;

/// Queries of a block of cross-attention: its keys and values (12 KB of 77 tokens of 40) are read for 41 KB of queries
/// and outputs.
const CROSS_ROWS: usize = 256;
/// Shared memory of a block on every card since sm_80, bytes.
const SHARED: usize = 99 << 10;
/// Keys that a kernel of cross-attention computes.
const CROSS_KEYS: [usize; 2] = [80, CONTEXT];

/// A kernel of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Values of a head as computed.
    pub width: usize,
    /// Queries of a warp.
    pub rows: usize,
    /// Keys of a stage; two stages.
    pub keys: usize,
}

/// By width.
pub const KERNELS: [Kernel; FORWARDS.len() / 3] = {
    let (mut all, mut i) = ([Kernel { width: 0, rows: 0, keys: 0 }; FORWARDS.len() / 3], 0);
    while i < all.len() {
        let [width, rows, keys] = FORWARDS.as_chunks().0[i];
        all[i] = Kernel { width, rows, keys };
        i += 1;
    }
    all
};

/// Values that the kernel for heads of more than 160 computes.
const WIDE_WIDTH: usize = WIDE;

/// Bytes of a row in shared memory: whole 16-byte pieces, an odd number of them where rows are not swizzled.
fn row_bytes(width: usize) -> usize {
    if matches!(width, 32 | 64) { width * 2 } else { ((width / 8) | 1) * 16 }
}

fn kernel(shape: Shape) -> Kernel {
    KERNELS.into_iter().find(|kernel| shape.head_dim <= kernel.width).unwrap_or(KERNELS[KERNELS.len() - 1])
}

/// Queries are cut into blocks of equally many warps.
pub fn plan_forward(shape: Shape) -> Launch {
    let pairs = shape.n * shape.heads;
    if shape.head_dim > WIDTH {
        let (row, keys) = (row_bytes(WIDE_WIDTH), WIDE_ROWS);
        let parts = 4 * WIDE_ROWS * (keys + 8) * size_of::<f32>(); // of scores, one for each 128 values
        let probabilities = WIDE_ROWS * row_bytes(keys);
        let shared = 2 * keys * row + parts + probabilities + WIDE_ROWS * size_of::<f32>();
        return Launch::new(pairs * shape.queries.div_ceil(WIDE_ROWS), 512).shared(shared);
    }
    let Kernel { width, rows, keys } = kernel(shape);
    let tiles = shape.queries.div_ceil(rows);
    let warps = tiles.div_ceil(tiles.div_ceil(MAX_WARPS));
    let shared = (2 * 2 * keys + warps * rows) * row_bytes(width);
    Launch::new(pairs * tiles.div_ceil(warps), 32 * warps as u32).shared(shared)
}

/// How cross-attention runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossPlan {
    pub launch: Launch,
    /// Queries of a block.
    pub block_rows: usize,
    /// Keys computed.
    pub keys: usize,
}

pub fn plan_cross(shape: Shape) -> CrossPlan {
    let keys = CROSS_KEYS[usize::from(shape.keys > CROSS_KEYS[0])];
    let block_rows = CROSS_ROWS.min(shape.queries);
    let row = row_bytes(kernel(shape).width);
    let (context, own) = (2 * keys * row, 2 * 16 * row); // of a block, of a warp
    let warps = block_rows.div_ceil(16).min(MAX_WARPS).min((SHARED - context) / own);
    let blocks = shape.n * shape.heads * shape.queries.div_ceil(block_rows);
    let shared = context + warps * own;
    CrossPlan { launch: Launch::new(blocks, 32 * warps as u32).shared(shared), block_rows, keys }
}

pub(super) fn forward<T: Half>(
    gpu: &Gpu,
    y: View<T>,
    q: Heads<T>,
    k: Heads<T>,
    v: Heads<T>,
    shape: Shape,
) -> Result<()> {
    let at = plan_forward(shape);
    let [queries, keys, heads, d] = [shape.queries, shape.keys, shape.heads, shape.head_dim].map(|n| n as u32);
    let [q_stride, k_stride, v_stride] = [q, k, v].map(|heads| heads.stride as u32);
    let (q, k, v, scale) = (q.x, k.x, v.x, scale(shape));
    if shape.head_dim > WIDTH {
        return kernels::AttentionWide { y, q, k, v, queries, keys, heads, d, q_stride, k_stride, v_stride, scale }
            .launch(gpu, at);
    }
    let causal = u32::from(shape.causal);
    kernels::AttentionForward { y, q, k, v, queries, keys, heads, d, q_stride, k_stride, v_stride, causal, scale }
        .launch(gpu, at, kernel(shape).width)
}

pub(super) fn cross<T: Half>(
    gpu: &Gpu,
    y: View<T>,
    q: Heads<T>,
    q_rows: usize,
    kv: View<T>,
    which: View<u32>,
    shape: Shape,
) -> Result<()> {
    let CrossPlan { launch, block_rows, keys: computed } = plan_cross(shape);
    let [queries, keys, heads, d] = [shape.queries, shape.keys, shape.heads, shape.head_dim].map(|n| n as u32);
    let [q_stride, q_rows, block_rows] = [q.stride, q_rows, block_rows].map(|n| n as u32);
    let (q, scale) = (q.x, scale(shape));
    kernels::AttentionCross { y, q, kv, which, queries, keys, heads, d, q_stride, q_rows, block_rows, scale }.launch(
        gpu,
        launch,
        kernel(shape).width,
        computed,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every query has a warp, no block is empty, and shared memory fits every card.
    #[test]
    fn plans_cover_every_query() {
        for queries in (1..300).chain([1024, 4096, 4097]) {
            for head_dim in [8, 40, 64, 80, 128, 160, 168, 512] {
                let shape = Shape { n: 3, queries, keys: 77, heads: 5, head_dim, causal: false };
                let forward = plan_forward(shape);
                let rows =
                    if head_dim > WIDTH { WIDE_ROWS } else { forward.block[0] as usize / 32 * kernel(shape).rows };
                assert_eq!(forward.grid[0] as usize, 15 * queries.div_ceil(rows), "{shape:?}: {forward}");
                assert!(forward.shared as usize <= SHARED, "{shape:?}: {forward}");
                if head_dim <= WIDTH {
                    for keys in [1, 77, 80, 81, CONTEXT] {
                        let shape = Shape { keys, ..shape };
                        let CrossPlan { launch, block_rows, keys } = plan_cross(shape);
                        assert_eq!(launch.grid[0] as usize, 15 * queries.div_ceil(block_rows), "{shape:?}: {launch}");
                        assert!(launch.block[0] >= 32 && launch.shared as usize <= SHARED, "{shape:?}: {launch}");
                        assert!(keys >= shape.keys && keys < shape.keys + 80, "{shape:?}: {keys}");
                    }
                }
            }
        }
    }
}
