//! Plans and launches of `kernels/gemm_sm90.cu`.

use half::bf16;

use super::operands::{Epilogue, Layout, Matrix, Output, Product, int};
use super::partition::{Partition, SIDE, Walk};
use crate::device::cuda::kernels::gemm_sm90::{BLOCKS, COLUMNS, DEPTH, ROWS, SHARED, THREADS};
use crate::device::cuda::{Element, Gpu, Launch, Swizzle, TensorMap, View, kernels};
use crate::error::Result;

/// Columns of a swizzled box.
const BOX: u32 = 64;

/// How a block's two consumers share the work, in the order of the kernel file; see there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    /// Tiles of 128 × 256, half for each.
    Cooperative,
    /// Tiles of 128 × 128 in turn.
    PingPong,
}

impl Schedule {
    fn columns(self) -> usize {
        COLUMNS[self as usize]
    }

    fn shared(self) -> usize {
        SHARED[self as usize]
    }

    /// Pairs of tiles.
    fn tiles(self, m: usize, n: usize) -> usize {
        m.div_ceil(BLOCKS * ROWS) * n.div_ceil(self.columns())
    }

    /// A cluster for every two multiprocessors, each with several pairs of tiles in turn.
    fn plan(self, m: usize, n: usize, sms: u32) -> Launch {
        self.launch(self.tiles(m, n).min((sms as usize / BLOCKS).max(1)))
    }

    fn launch(self, clusters: usize) -> Launch {
        Launch::new(clusters * BLOCKS, THREADS as u32).cluster([BLOCKS as u32, 1, 1]).shared(self.shared())
    }

    /// Clock cycles by the tensor cores' rate, for comparison with each other: a step of 64 takes 512 cycles per 128
    /// columns. Cooperative tiles wait for their epilogue (about 1,200 cycles); ping-pong tiles hide it, but move a
    /// third more bytes (a tenth of the time).
    fn cycles(self, m: usize, n: usize, k: usize, sms: u32) -> usize {
        let rounds = self.tiles(m, n).div_ceil((sms as usize / BLOCKS).max(1));
        let steps = rounds * k.div_ceil(DEPTH);
        match self {
            Self::Cooperative => steps * 1024 + rounds * 1200,
            Self::PingPong => steps * 512 * 11 / 10 + 1200,
        }
    }

    /// The faster one for a product; some epilogues exist in ping-pong only.
    pub fn choose(product: &Product, sms: u32) -> Self {
        let &Product { m, n, k, .. } = product;
        let cycles = |schedule: Self| schedule.cycles(m, n, k, sms);
        let faster = cycles(Self::Cooperative) < cycles(Self::PingPong);
        if faster { Self::Cooperative.or_possible(product) } else { Self::PingPong }
    }

    /// This one where there is a kernel for it.
    pub fn or_possible(self, product: &Product) -> Self {
        let both = matches!(product.y, Output::Bf16(_))
            && matches!(product.epilogue, Epilogue::Bias(_) | Epilogue::Residual(..));
        if both { self } else { Self::PingPong }
    }
}

/// Whether the copy engine can address a matrix: rows begin at multiples of 16 bytes.
fn addressable(x: Matrix<bf16>) -> bool {
    x.data.is_aligned(16) && (x.stride * size_of::<bf16>()).is_multiple_of(16)
}

/// Whether these kernels can compute a product.
pub(super) fn fits(product: &Product) -> bool {
    let y = match product.y {
        Output::Bf16(y) => addressable(y),
        Output::F32(_) => true,
    };
    let (_, aux) = product.epilogue.operands();
    product.k > 0 && addressable(product.a) && addressable(product.b) && y && aux.is_none_or(addressable)
}

/// `x` in boxes of 64 columns × `rows`.
fn map<T: Element>(x: Matrix<T>, rows: u32) -> Result<TensorMap> {
    let stride = (x.stride * size_of::<T>()) as u64;
    TensorMap::tiled(x.data, &[x.columns as u64, x.rows as u64], &[stride], &[BOX, rows], Swizzle::B128)
}

pub(super) fn product(gpu: &Gpu, product: &Product, schedule: Schedule, sms: u32) -> Result<()> {
    let &Product { layout, a, b, y, epilogue, m, n, k } = product;
    let at = schedule.plan(m, n, sms);
    let (bias, aux) = epilogue.operands();
    let a = map(a, ROWS as u32)?;
    let b = match layout {
        Layout::Nt => map(b, (schedule.columns() / BLOCKS) as u32)?,
        Layout::Nn => map(b, DEPTH as u32)?,
    };
    let [m, n, k] = [m, n, k].map(int);
    let y = match y {
        Output::Bf16(y) => y,
        Output::F32(y) => {
            assert!(
                matches!((layout, epilogue), (Layout::Nt, Epilogue::Bias(_))),
                "gemm: f32 output of {layout:?} {epilogue:?}"
            );
            let (y, y_stride) = (y.data, int(y.stride));
            return kernels::GemmSm90NtBiasPingpong { a, b, y, bias, m, n, k, y_stride }.launch(gpu, at);
        }
    };
    let to = map(y, BOX)?;
    let aux = match epilogue {
        Epilogue::Bias(_) => to,
        Epilogue::Gelu(_, h) => map(h, BOX)?,
        Epilogue::Residual(..) | Epilogue::GeluBackward(_) => map(aux.unwrap_or(y), ROWS as u32)?,
    };
    use Schedule::{Cooperative, PingPong};
    use kernels::GemmSm90Kernel as Name;
    let name = match (layout, epilogue, schedule) {
        (Layout::Nt, Epilogue::Bias(_), Cooperative) => Name::NtBiasCooperative,
        (Layout::Nt, Epilogue::Bias(_), PingPong) => Name::NtBiasPingpong,
        (Layout::Nt, Epilogue::Gelu(..), PingPong) => Name::NtGeluPingpong,
        (Layout::Nt, Epilogue::Residual(..), Cooperative) => Name::NtResidualCooperative,
        (Layout::Nt, Epilogue::Residual(..), PingPong) => Name::NtResidualPingpong,
        (Layout::Nn, Epilogue::Bias(_), Cooperative) => Name::NnCooperative,
        (Layout::Nn, Epilogue::Bias(_), PingPong) => Name::NnPingpong,
        (Layout::Nn, Epilogue::GeluBackward(_), PingPong) => Name::NnGeluBackwardPingpong,
        _ => panic!("gemm: no kernel for {layout:?} with {epilogue:?}, {schedule:?}"),
    };
    kernels::GemmSm90 { a, b, y: to, aux, bias, m, n, k }.launch(gpu, at, name)
}

/// Whether a weight gradient's kernels can read and write these.
pub(super) fn fits_tn(a: Matrix<bf16>, b: Matrix<bf16>, scratch: View<f32>) -> bool {
    addressable(a) && addressable(b) && scratch.is_aligned(16)
}

pub(super) fn tn(
    gpu: &Gpu,
    sms: u32,
    partition: Partition,
    dw: View<f32>,
    sums: Option<View<f32>>,
    (a, b): (Matrix<bf16>, Matrix<bf16>),
    scratch: View<f32>,
) -> Result<()> {
    let Partition { m, n, k, steps, shares, parts, whole, .. } = partition;
    let Walk { clusters, few, many } = partition.walk((sms as usize / BLOCKS).max(1));
    let pieces = scratch.slice(0..partition.pieces() * SIDE * SIDE);
    let sum_pieces = scratch.slice(pieces.len()..partition.scratch_len());
    let (a, b) = (map(a, DEPTH as u32)?, map(b, DEPTH as u32)?);
    let at = Schedule::Cooperative.launch(clusters);
    let sums_of = Launch::grid([n.div_ceil(SIDE), m.div_ceil(16), 1], 256);
    let [m, n, k, k_steps, parts, whole, shares] = [m, n, k, steps, parts, whole, shares].map(int);
    let (few, many, to) = (int(few), int(many), sums.map(|_| sum_pieces));
    kernels::GemmSm90TnPartial { a, b, pieces, sums: to, m, n, k, parts, whole, shares, few, many }.launch(gpu, at)?;
    kernels::GemmSm90Sum { dw, pieces, db: sums, sum_pieces, m, n, k_steps, parts, whole, shares }.launch(gpu, sums_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block's shared memory and registers are what a multiprocessor has.
    #[test]
    fn blocks_fit_a_multiprocessor() {
        for schedule in [Schedule::Cooperative, Schedule::PingPong] {
            assert!(schedule.shared() <= 227 << 10, "{schedule:?}: {}", schedule.shared());
        }
        // Of the producer and the consumers: of most kernels, of weight gradients.
        assert_eq!([40 * 128 + 232 * 256, 56 * 128 + 224 * 256], [168 * THREADS; 2]);
    }
}
