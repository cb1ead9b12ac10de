//! `kernels/attention_sm90.cu`: TMA and wgmma, clusters of two blocks, one block per multiprocessor.

use super::{Heads, Shape, WIDTH, scale};
use crate::device::cuda::{Gpu, Half, Launch, Swizzle, TensorMap, View, by_type};
use crate::error::Result;

/// Blocks of a cluster; each loads half of every tile of keys and values.
const BLOCKS: usize = 2;
/// Queries of a warpgroup; its 4 warps store their outputs one by one.
const GROUP_ROWS: usize = 64;
const WARP_ROWS: usize = 16;
/// Columns of a piece of a tile: 128 bytes, swizzled.
const COLUMNS: usize = 64;

/// A kernel: `Plan` of the .cu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Values of a head as computed.
    pub width: usize,
    /// Warpgroups that compute.
    pub groups: usize,
    /// Keys of a step.
    pub keys: usize,
    /// Tiles of keys or values in shared memory.
    pub slots: usize,
}

/// By width.
pub const KERNELS: [Kernel; 4] = [
    Kernel { width: 40, groups: 3, keys: 128, slots: 8 },
    Kernel { width: 64, groups: 2, keys: 128, slots: 8 },
    Kernel { width: 80, groups: 2, keys: 128, slots: 5 },
    Kernel { width: WIDTH, groups: 2, keys: 64, slots: 5 },
];

pub(super) fn fits(shape: Shape) -> bool {
    shape.head_dim <= WIDTH && !shape.causal
}

fn kernel(shape: Shape) -> Kernel {
    KERNELS.into_iter().find(|kernel| shape.head_dim <= kernel.width).unwrap_or(KERNELS[KERNELS.len() - 1])
}

/// At most one block per multiprocessor, no more than there is work for.
pub fn plan(shape: Shape, sms: u32) -> Launch {
    let Kernel { width, groups, keys, slots } = kernel(shape);
    let items = shape.n * shape.heads * shape.queries.div_ceil(BLOCKS * groups * GROUP_ROWS);
    let clusters = items.min(sms as usize / BLOCKS).max(1);
    let row = width.div_ceil(COLUMNS) * COLUMNS * 2;
    let (tiles, barriers) = ((2 * groups * GROUP_ROWS + slots * keys) * row, (2 * slots + 2) * size_of::<u64>());
    let shared = tiles + barriers + groups * 128 * size_of::<u32>(); // and a word for each thread that computes
    Launch::new(BLOCKS * clusters, 128 * (1 + groups as u32)).shared(shared).cluster([BLOCKS as u32, 1, 1])
}

/// Boxes of 64 values of `rows` tokens of one head: coordinates (value, head, token, image).
fn map<T: Half>(heads: Heads<T>, shape: Shape, tokens: usize, rows: usize) -> Result<TensorMap> {
    let token = (heads.stride * size_of::<T>()) as u64;
    TensorMap::tiled(
        heads.x,
        &[shape.head_dim as u64, shape.heads as u64, tokens as u64, shape.n as u64],
        &[(shape.head_dim * size_of::<T>()) as u64, token, tokens as u64 * token],
        &[COLUMNS as u32, 1, rows as u32, 1],
        Swizzle::B128,
    )
}

pub(super) fn forward<T: Half>(
    gpu: &Gpu,
    sms: u32,
    y: View<T>,
    q: Heads<T>,
    k: Heads<T>,
    v: Heads<T>,
    shape: Shape,
) -> Result<()> {
    let (at, kernel) = (plan(shape, sms), kernel(shape));
    let y = map(Heads { x: y, stride: shape.width() }, shape, shape.queries, WARP_ROWS)?;
    let q = map(q, shape, shape.queries, GROUP_ROWS)?;
    let k = map(k, shape, shape.keys, kernel.keys / BLOCKS)?;
    let v = map(v, shape, shape.keys, kernel.keys / BLOCKS)?;
    let [images, queries, keys, heads] = [shape.n, shape.queries, shape.keys, shape.heads].map(|n| n as u32);
    let scale = scale(shape);
    macro_rules! run {
        ($f16:ident | $bf16:ident) => {
            by_type!(T, $f16 | $bf16, (gpu, at, &y, &q, &k, &v, images, queries, keys, heads, scale))
        };
    }
    match kernel.width {
        40 => run!(attention_forward_sm90_d40_f16 | attention_forward_sm90_d40_bf16),
        64 => run!(attention_forward_sm90_d64_f16 | attention_forward_sm90_d64_bf16),
        80 => run!(attention_forward_sm90_d80_f16 | attention_forward_sm90_d80_bf16),
        _ => run!(attention_forward_sm90_d160_f16 | attention_forward_sm90_d160_bf16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_fit_a_multiprocessor() {
        for queries in [1, 64, 65, 256, 1024, 4096] {
            for head_dim in [8, 40, 64, 80, 160] {
                let shape = Shape { n: 1, queries, keys: queries, heads: 8, head_dim, causal: false };
                for sms in [2, 3, 132] {
                    let launch = plan(shape, sms);
                    assert!(launch.shared <= 232_448 && launch.grid[0] <= sms && launch.grid[0].is_multiple_of(2));
                    let rows = (launch.block[0] as usize - 128) / 2; // of a block: 64 for each 128 threads that compute
                    let items = 8 * queries.div_ceil(2 * rows);
                    assert_eq!(launch.grid[0] as usize, 2 * items.min(sms as usize / 2), "{shape:?}: {launch}");
                }
            }
        }
        let full = plan(Shape { n: 64, queries: 4096, keys: 4096, heads: 8, head_dim: 40, causal: false }, 132);
        assert_eq!((full.grid[0], full.block[0]), (132, 512));
    }
}
