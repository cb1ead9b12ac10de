//! `kernels/attention_sm90.cu`: TMA and wgmma, clusters of two blocks, one block per multiprocessor.

use half::f16;

use super::heads::{Heads, WIDTH, scale};
use crate::device::cuda::kernels::attention_sm90::{BLOCKS, PLANS};
use crate::device::cuda::{Gpu, Half, Launch, Swizzle, TensorMap, View, kernels};
use crate::error::Result;
use crate::ops::attention::{self, Shape, Tokens};
use crate::ops::gemm::Threads;
use crate::rng::{Domain, Stream};

/// Queries of a warpgroup; its 4 warps store their outputs one by one.
const GROUP_ROWS: usize = 64;
const WARP_ROWS: usize = 16;
/// Columns of a piece of a tile: 128 bytes, swizzled.
const COLUMNS: usize = 64;

/// Which columns of V a kernel multiplies; the results have the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// As many as the head has: 40, 80 and 160 are no whole spans of 64, of which no document says how wgmma reads a
    /// part.
    Own,
    /// Whole spans of 64, zeros behind the head's, which are multiplied for nothing.
    Spans,
}

/// A kernel: `Plan` of the .cu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Values of a head as computed.
    pub width: usize,
    /// Columns of V as multiplied.
    pub values: usize,
    /// Warpgroups that compute.
    pub groups: usize,
    /// Keys of a step.
    pub keys: usize,
    threads: usize,
    /// Shared memory of a block, bytes.
    shared: usize,
}

/// By width.
pub const KERNELS: [Kernel; PLANS.len() / 6] = {
    let (mut all, mut i) =
        ([Kernel { width: 0, values: 0, groups: 0, keys: 0, threads: 0, shared: 0 }; PLANS.len() / 6], 0);
    while i < all.len() {
        let [width, values, groups, keys, threads, shared] = PLANS.as_chunks().0[i];
        all[i] = Kernel { width, values, groups, keys, threads, shared };
        i += 1;
    }
    all
};

pub(super) fn fits(shape: Shape) -> bool {
    shape.head_dim <= WIDTH && !shape.causal
}

fn kernel(shape: Shape, values: Values) -> Kernel {
    let takes = |kernel: &Kernel| match values {
        Values::Own => kernel.values == kernel.width,
        Values::Spans => kernel.values.is_multiple_of(COLUMNS),
    };
    let mut of_kind = KERNELS.into_iter().filter(takes);
    of_kind.find(|kernel| shape.head_dim <= kernel.width).unwrap_or(KERNELS[KERNELS.len() - 1])
}

/// The ways to multiply V by different kernels, the faster first.
pub(super) fn ways(shape: Shape) -> &'static [Values] {
    let differ = kernel(shape, Values::Own) != kernel(shape, Values::Spans);
    if differ { &[Values::Own, Values::Spans] } else { &[Values::Spans] }
}

/// Whether this card's wgmma reads part of a span of V as the kernels for 40, 80 and 160 take it to: found out once, by
/// one head of each against the CPU. Where it does not, they are left alone.
pub fn reads_parts_of_spans(gpu: &Gpu) -> Result<bool> {
    gpu.learned("attention reads parts of spans", || {
        for head_dim in [40, 80, WIDTH] {
            // Two steps of keys, the second not full.
            let shape = Shape { n: 1, queries: 5, keys: 130, heads: 1, head_dim, causal: false };
            if !is_right(gpu, shape, Values::Own)? {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// Whether a kernel's results of random numbers lie within 0.02 of the CPU's: they spread by about 0.1, and f16 rounds
/// them by 0.0001.
fn is_right(gpu: &Gpu, shape: Shape, values: Values) -> Result<bool> {
    const CLOSE: f32 = 0.02;
    let d = shape.head_dim;
    let mut qkv = vec![0.0; shape.keys * 3 * d];
    Stream::new(0, Domain::SelfTest, [d as u32, 0, 0]).fill_normal(&mut qkv);
    let rounded: Vec<f16> = qkv.iter().map(|&x| f16::from_f32(x)).collect();
    qkv.iter_mut().zip(&rounded).for_each(|(x, rounded)| *x = rounded.to_f32());
    let mut want = vec![0.0; shape.queries * d];
    let [q, k, v] = [0, d, 2 * d].map(|from| Tokens { data: &qkv[from..], stride: 3 * d });
    attention::forward(&mut want, q, k, v, shape, Threads::One);
    let (x, y) = (gpu.upload(&rounded)?, gpu.upload(&vec![f16::NAN; want.len()])?);
    let [q, k, v] = [0, 1, 2].map(|part| Heads::part(x.view(), part, 3, d));
    forward(gpu, (gpu.sms(), values), y.view(), q, k, v, shape)?;
    let got = gpu.read(y.view())?;
    Ok(got.iter().zip(&want).all(|(got, want)| (got.to_f32() - want).abs() < CLOSE))
}

/// At most one block per multiprocessor, no more than there is work for.
pub fn plan(shape: Shape, values: Values, sms: u32) -> Launch {
    let Kernel { groups, threads, shared, .. } = kernel(shape, values);
    let items = shape.n * shape.heads * shape.queries.div_ceil(BLOCKS * groups * GROUP_ROWS);
    let clusters = items.min(sms as usize / BLOCKS).max(1);
    Launch::new(BLOCKS * clusters, threads as u32).shared(shared).cluster([BLOCKS as u32, 1, 1])
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
    (sms, values): (u32, Values),
    y: View<T>,
    q: Heads<T>,
    k: Heads<T>,
    v: Heads<T>,
    shape: Shape,
) -> Result<()> {
    let (at, kernel) = (plan(shape, values, sms), kernel(shape, values));
    let y = map(Heads { x: y, stride: shape.width() }, shape, shape.queries, WARP_ROWS)?;
    let q = map(q, shape, shape.queries, GROUP_ROWS)?;
    let k = map(k, shape, shape.keys, kernel.keys / BLOCKS)?;
    let v = map(v, shape, shape.keys, kernel.keys / BLOCKS)?;
    let [images, queries, keys, heads] = [shape.n, shape.queries, shape.keys, shape.heads].map(|n| n as u32);
    use kernels::AttentionForwardSm90Kernel as Name;
    let Kernel { width, values, .. } = kernel;
    let name = if width == values { Name::D(width) } else { Name::DV(width, values) };
    kernels::AttentionForwardSm90 { y, q, k, v, images, queries, keys, heads, scale: scale(shape) }
        .launch::<T>(gpu, at, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_fit_a_multiprocessor() {
        for queries in [1, 64, 65, 256, 1024, 4096] {
            for head_dim in [8, 40, 64, 80, 160] {
                let shape = Shape { n: 1, queries, keys: queries, heads: 8, head_dim, causal: false };
                for (sms, values) in [(2, Values::Own), (3, Values::Spans), (114, Values::Spans), (132, Values::Own)] {
                    let launch = plan(shape, values, sms);
                    assert!(launch.shared <= 232_448 && launch.grid[0] <= sms && launch.grid[0].is_multiple_of(2));
                    let rows = (launch.block[0] as usize - 128) / 2; // of a block: 64 for each 128 threads that compute
                    let items = 8 * queries.div_ceil(2 * rows);
                    assert_eq!(launch.grid[0] as usize, 2 * items.min(sms as usize / 2), "{shape:?}: {launch}");
                }
            }
        }
        let shape = Shape { n: 64, queries: 4096, keys: 4096, heads: 8, head_dim: 40, causal: false };
        let full = plan(shape, Values::Own, 132);
        assert_eq!((full.grid[0], full.block[0]), (132, 512));
    }

    /// Heads run by the same kernel either way have one way.
    #[test]
    fn kernels_of_both_ways() {
        let by = |head_dim| {
            let shape = Shape { n: 1, queries: 65, keys: 65, heads: 1, head_dim, causal: false };
            let values = |way| kernel(shape, way).values;
            (ways(shape).len(), values(Values::Own), values(Values::Spans))
        };
        assert_eq!([8, 40, 48, 64].map(by), [(2, 40, 64), (2, 40, 64), (1, 64, 64), (1, 64, 64)]);
        assert_eq!([72, 80, 88, 160].map(by), [(2, 80, 128), (2, 80, 128), (2, 160, 192), (2, 160, 192)]);
    }
}
