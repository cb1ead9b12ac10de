//! The CUDA side of [`super`]: which kernels serve a shape, how they are launched.

use half::bf16;

use super::Shape;
use crate::bail;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;

/// The kernels that compute self-attention; all give the same results up to rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// `kernels/self_attention.cu`: cp.async and mma.sync, any length, every card.
    Portable,
}

impl Variant {
    /// All variants of the forward pass that this GPU can run on this shape, the best one first.
    pub fn forward(gpu: &Gpu, shape: Shape) -> Vec<Self> {
        let _ = (gpu, shape);
        vec![Self::Portable]
    }

    /// The same for the backward pass.
    pub fn backward(gpu: &Gpu, shape: Shape) -> Vec<Self> {
        let _ = (gpu, shape);
        vec![Self::Portable]
    }
}

/// Query or key rows of a warp.
const WARP_ROWS: usize = 16;
const MAX_WARPS: usize = 8;
/// Rows of the other side in a stage of shared memory; two stages.
const CHUNK: usize = 64;
const STAGES: usize = 2;

/// Launches of the portable kernels for one shape.
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

/// f32 values of scratch that [`backward`] wants.
pub fn scratch_len(shape: Shape) -> usize {
    shape.lse_len()
}

/// `out [N, queries, G, d]` and `lse [N, G, queries]` from `qkv [N, T, 3, G, d]`.
///
/// # Errors
/// Device error for a head dimension without kernels, or if the launch fails.
///
/// # Panics
/// If lengths or alignments (16 bytes) do not fit.
pub fn forward(gpu: &Gpu, out: View<bf16>, lse: View<f32>, qkv: View<bf16>, shape: Shape) -> Result<()> {
    forward_by(Variant::forward(gpu, shape)[0], gpu, out, lse, qkv, shape)
}

/// [`forward`] by a chosen variant.
pub fn forward_by(
    variant: Variant,
    gpu: &Gpu,
    out: View<bf16>,
    lse: View<f32>,
    qkv: View<bf16>,
    shape: Shape,
) -> Result<()> {
    check(shape, [out, qkv], lse)?;
    if shape.n == 0 {
        return Ok(());
    }
    let launch = plan(shape).forward;
    let Variant::Portable = variant;
    let kernel =
        if shape.head_dim == 64 { kernels::self_attention_forward_d64 } else { kernels::self_attention_forward_d32 };
    let [tokens, queries, heads, causal] = numbers(shape);
    kernel(gpu, launch, out, lse, qkv, tokens, queries, heads, causal, scale(shape))
}

/// `dqkv` (overwritten) from the gradient `dout` of the output.
///
/// # Errors
/// As for [`forward`].
///
/// # Panics
/// As for [`forward`].
#[allow(clippy::too_many_arguments)]
pub fn backward(
    gpu: &Gpu,
    dqkv: View<bf16>,
    dout: View<bf16>,
    qkv: View<bf16>,
    out: View<bf16>,
    lse: View<f32>,
    scratch: View<f32>,
    shape: Shape,
) -> Result<()> {
    backward_by(Variant::backward(gpu, shape)[0], gpu, dqkv, dout, qkv, out, lse, scratch, shape)
}

/// [`backward`] by a chosen variant.
#[allow(clippy::too_many_arguments)]
pub fn backward_by(
    variant: Variant,
    gpu: &Gpu,
    dqkv: View<bf16>,
    dout: View<bf16>,
    qkv: View<bf16>,
    out: View<bf16>,
    lse: View<f32>,
    scratch: View<f32>,
    shape: Shape,
) -> Result<()> {
    check(shape, [out, qkv], lse)?;
    check(shape, [dout, dqkv], scratch.slice(0..scratch_len(shape)))?;
    if shape.n == 0 {
        return Ok(());
    }
    let Plan { delta: rows, backward, .. } = plan(shape);
    let Variant::Portable = variant;
    let [tokens, queries, heads, causal] = numbers(shape);
    let images = shape.n as u32;
    if shape.head_dim == 64 {
        kernels::self_attention_delta_d64(gpu, rows, scratch, out, dout, images, queries, heads)?;
    } else {
        kernels::self_attention_delta_d32(gpu, rows, scratch, out, dout, images, queries, heads)?;
    }
    let kernel =
        if shape.head_dim == 64 { kernels::self_attention_backward_d64 } else { kernels::self_attention_backward_d32 };
    kernel(gpu, backward, dqkv, dout, qkv, lse, scratch, tokens, queries, heads, causal, scale(shape))
}

/// [tokens, queries, heads, causal] as the kernels take them.
fn numbers(shape: Shape) -> [u32; 4] {
    [shape.tokens as u32, shape.queries as u32, shape.heads as u32, u32::from(shape.causal)]
}

fn scale(shape: Shape) -> f32 {
    (shape.head_dim as f32).powf(-0.5)
}

/// Lengths and alignments of (out, qkv) or their gradients.
fn check(shape: Shape, [out, qkv]: [View<bf16>; 2], lse: View<f32>) -> Result<()> {
    shape.check(qkv.len(), out.len(), lse.len());
    assert!(
        out.is_aligned(16) && qkv.is_aligned(16),
        "self-attention: out {:#x}, qkv {:#x} are not aligned to 16 bytes",
        out.address(),
        qkv.address()
    );
    if !matches!(shape.head_dim, 32 | 64) {
        bail!(Device, "heads of {} values: the CUDA kernels of self-attention have 32 and 64", shape.head_dim);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row has a warp, no block is empty, and shared memory fits two blocks of an A100's or one of a 4090's multiprocessor.
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
