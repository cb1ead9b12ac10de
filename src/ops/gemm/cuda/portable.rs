//! Plans and launches of `kernels/gemm.cu`.

use half::bf16;

use super::operands::{Epilogue, Layout, Matrix, Output, Product, int};
use crate::device::cuda::kernels::gemm::{DEPTH, STAGES, THREADS};
use crate::device::cuda::{Gpu, KernelType, Launch, View, kernels};
use crate::error::Result;

/// Blocks that fill a card, and the least depth for which splitting K pays (8 stages). Constants: the bits of a weight
/// gradient must not depend on the card.
const FULL: usize = 264;
const LEAST_DEPTH: usize = 256;
/// Values per block of gemm_split_sum_f32.
const SUM_BLOCK: usize = 1024;

/// Blocks of an M × N output.
pub(super) fn blocks(m: usize, n: usize, tile: usize) -> usize {
    m.div_ceil(tile) * n.div_ceil(tile)
}

/// One block per tile, `splits` times.
fn plan(m: usize, n: usize, tile: usize, splits: usize) -> Launch {
    Launch::grid([blocks(m, n, tile), 1, splits], THREADS as u32).shared(STAGES * 2 * tile * DEPTH * size_of::<bf16>())
}

pub(super) fn product(gpu: &Gpu, product: &Product, tile: usize) -> Result<()> {
    use kernels::GemmKernel as Name;
    let name = match (product.layout, product.epilogue, product.y) {
        (Layout::Nt, Epilogue::Bias(_), _) => Name::NtBias(tile),
        (Layout::Nt, Epilogue::Gelu(..), Output::Bf16(_)) => Name::NtGelu(tile),
        (Layout::Nt, Epilogue::Residual(..), Output::Bf16(_)) => Name::NtResidual(tile),
        (Layout::Nn, Epilogue::Bias(_), Output::Bf16(_)) => Name::Nn(tile),
        (Layout::Nn, Epilogue::GeluBackward(_), Output::Bf16(_)) => Name::NnGeluBackward(tile),
        (layout, epilogue, y) => panic!("gemm: no kernel for {layout:?} with {epilogue:?} into {y:?}"),
    };
    match product.y {
        Output::Bf16(y) => product_into(gpu, y, product, tile, name),
        Output::F32(y) => product_into(gpu, y, product, tile, name),
    }
}

fn product_into<T: KernelType>(
    gpu: &Gpu,
    y: Matrix<T>,
    product: &Product,
    tile: usize,
    name: kernels::GemmKernel,
) -> Result<()> {
    let &Product { a, b, epilogue, m, n, k, .. } = product;
    let at = plan(m, n, tile, 1);
    let (bias, aux) = epilogue.operands();
    let [m, n, k] = [m, n, k].map(int);
    let [a_stride, b_stride, y_stride, aux_stride] =
        [a.stride, b.stride, y.stride, aux.map_or(0, |x| x.stride)].map(int);
    let (a, b, y, aux) = (a.data, b.data, y.data, aux.map(|x| x.data));
    kernels::Gemm { a, b, y, aux, bias, m, n, k, a_stride, b_stride, y_stride, aux_stride }.launch(gpu, at, name)
}

/// How the depth of a weight gradient is shared by `count` blocks per tile, `stages` of [`DEPTH`] each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split {
    m: usize,
    n: usize,
    k: usize,
    tile: usize,
    count: usize,
    stages: usize,
}

impl Split {
    /// As many blocks as fill a card, none shallower than [`LEAST_DEPTH`]; by the shape alone.
    pub fn new(m: usize, n: usize, k: usize, tile: usize) -> Self {
        let most = k.div_ceil(LEAST_DEPTH).max(1);
        let count = (FULL / blocks(m, n, tile).max(1)).clamp(1, most);
        let stages = k.div_ceil(DEPTH).div_ceil(count).max(1);
        Self { m, n, k, tile, count: k.div_ceil(DEPTH).div_ceil(stages).max(1), stages }
    }

    /// f32 values of partial sums: those of the product, then those of the column sums.
    pub fn scratch_len(self) -> usize {
        if self.count == 1 { 0 } else { self.count * (self.m * self.n + self.m) }
    }
}

pub(super) fn tn(
    gpu: &Gpu,
    split: Split,
    dw: View<f32>,
    sums: Option<View<f32>>,
    (a, b): (Matrix<bf16>, Matrix<bf16>),
    scratch: View<f32>,
) -> Result<()> {
    let Split { m, n, k, tile, count, stages } = split;
    let at = plan(m, n, tile, count);
    let launch = |y: View<f32>, sums: Option<View<f32>>| {
        let [m, n, k, a_stride, b_stride, blocks_per_split] = [m, n, k, a.stride, b.stride, stages].map(int);
        kernels::GemmTn { a: a.data, b: b.data, y, sums, m, n, k, a_stride, b_stride, blocks_per_split }
            .launch(gpu, at, tile)
    };
    if count == 1 {
        return launch(dw, sums);
    }
    let parts = scratch.slice(0..count * m * n);
    let sum_parts = scratch.slice(parts.len()..parts.len() + count * m);
    launch(parts, sums.map(|_| sum_parts))?;
    let sum_len = if sums.is_some() { m } else { 0 };
    let at = Launch::new((m * n).div_ceil(SUM_BLOCK) + sum_len.div_ceil(SUM_BLOCK), 256);
    let (len, sum_count, splits) = ((m * n) as u64, int(sum_len), int(count));
    kernels::GemmSplitSum { y: dw, parts, count: len, sums, sum_parts, sum_count, splits }.launch(gpu, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts of K cover it without gaps, whatever the shape; the scratch stays within two waves of tiles.
    #[test]
    fn splits_cover_k() {
        for m in [1, 64, 129, 768, 3072] {
            for n in [1, 63, 128, 768, 2304] {
                for k in [1, 31, 32, 255, 257, 1576, 100_864] {
                    for tile in [64, 128] {
                        let split = Split::new(m, n, k, tile);
                        let covered = split.count * split.stages * DEPTH;
                        assert!(covered >= k && covered - split.stages * DEPTH < k, "{split:?}");
                        assert!(split.count == 1 || split.count * blocks(m, n, tile) <= FULL, "{split:?}");
                    }
                }
            }
        }
    }
}
