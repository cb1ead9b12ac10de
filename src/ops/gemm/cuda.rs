//! Matrix products on CUDA: bf16 operands, f32 accumulators, the layer's elementwise work in the kernel's epilogue.
//!
//! Two families of kernels: `kernels/gemm.cu` runs on every card and takes any shape and stride; `kernels/gemm_sm90.cu`
//! (TMA, wgmma) runs on Hopper and takes rows that begin at multiples of 16 bytes. [`product`] and [`tn`] choose; tests
//! name each of [`Variant::all`].
//!
//! An output's bits depend on its own row of `a`, on `b` and on K, not on the number of rows, the tile or the card's
//! size: within a family every tile adds k in the same steps, and K is split over blocks in [`tn`] alone, by the shape.

mod hopper;
mod operands;
mod partition;
mod portable;

pub use self::operands::{Epilogue, Layout, Matrix, Output};

use half::bf16;

use self::hopper::Schedule;
use self::operands::Product;
use self::partition::Partition;
use self::portable::Split;
use crate::device::cuda::{Arch, Gpu, View};
use crate::error::Result;

/// A family of kernels with its tile; families agree up to f32 rounding, tiles of a family to the bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// mma.sync, tiles of 64 × 64.
    Portable64,
    /// mma.sync, tiles of 128 × 128.
    Portable128,
    /// wgmma, tiles of 128 × 256 shared by two warpgroups, on at most so many multiprocessors.
    Cooperative { sms: u32 },
    /// wgmma, tiles of 128 × 128 by two warpgroups in turn.
    PingPong { sms: u32 },
}

impl Variant {
    /// Those a device can run; the wgmma kernels on few multiprocessors, so that small shapes too make a block take
    /// several tiles. Where they cannot take a matrix (rows off 16 bytes), the portable kernel runs.
    pub fn all(gpu: &Gpu) -> &'static [Self] {
        const FEW: u32 = 4;
        match gpu.arch() {
            Arch::Sm80 => &[Self::Portable64, Self::Portable128],
            Arch::Sm90 => {
                &[Self::Portable64, Self::Portable128, Self::Cooperative { sms: FEW }, Self::PingPong { sms: FEW }]
            }
        }
    }

    /// Variants of one family give the same bits.
    pub fn family(self) -> &'static str {
        match self {
            Self::Portable64 | Self::Portable128 => "mma.sync",
            Self::Cooperative { .. } | Self::PingPong { .. } => "wgmma",
        }
    }
}

/// Tile of the portable kernels: the large one when it fills the card.
fn portable_tile(gpu: &Gpu, variant: Option<Variant>, m: usize, n: usize) -> usize {
    match variant {
        Some(Variant::Portable64) => 64,
        Some(Variant::Portable128) => 128,
        _ if portable::blocks(m, n, 128) >= gpu.sms() as usize => 128,
        _ => 64,
    }
}

/// Outputs smaller than this on a side leave most of a wgmma tile unused.
const WGMMA_SIDE: usize = 65;

/// `y = epilogue(a·bᵀ)` or `epilogue(a·b)`; see [`Layout`]. Without a variant the fastest is taken.
///
/// # Panics
/// If shapes do not fit each other, or no kernel has this epilogue for this layout and output.
pub fn product(
    gpu: &Gpu,
    variant: Option<Variant>,
    layout: Layout,
    y: Output,
    (a, b): (Matrix<bf16>, Matrix<bf16>),
    epilogue: Epilogue,
) -> Result<()> {
    let product = Product::new(layout, y, a, b, epilogue);
    if product.m == 0 || product.n == 0 {
        return Ok(());
    }
    let large = product.m.min(product.n) >= WGMMA_SIDE;
    let (schedule, sms) = match variant {
        Some(Variant::Cooperative { sms }) => (Some(Schedule::Cooperative.or_possible(&product)), sms),
        Some(Variant::PingPong { sms }) => (Some(Schedule::PingPong), sms),
        None if gpu.arch() == Arch::Sm90 && large => (Some(Schedule::choose(&product, gpu.sms())), gpu.sms()),
        _ => (None, gpu.sms()),
    };
    match schedule {
        Some(schedule) if hopper::fits(&product) => hopper::product(gpu, &product, schedule, sms),
        _ => portable::product(gpu, &product, portable_tile(gpu, variant, product.m, product.n)),
    }
}

/// `dw += aᵀ·b` in f32 for `a [K, M]`, `b [K, N]`, and `sums[m] += Σ_k a[k, m]` where `sums` are given. `scratch` holds
/// at least [`tn_scratch_len`] values and is overwritten. Of the wgmma variants both take cooperative tiles; `PingPong`
/// shares half of the work instead of the chosen partition.
///
/// # Panics
/// If shapes do not fit each other.
pub fn tn(
    gpu: &Gpu,
    variant: Option<Variant>,
    dw: View<f32>,
    sums: Option<View<f32>>,
    (a, b): (Matrix<bf16>, Matrix<bf16>),
    scratch: View<f32>,
) -> Result<()> {
    let (m, n, k) = (a.columns, b.columns, a.rows);
    assert_eq!(b.rows, k, "gemm: K of {a:?} and {b:?}");
    assert!(
        dw.len() == m * n && sums.is_none_or(|sums| sums.len() == m) && scratch.len() >= tn_scratch_len(m, n, k),
        "gemm: dw {} sums {:?} scratch {} for {m} × {n} × {k}",
        dw.len(),
        sums.map(View::len),
        scratch.len()
    );
    if m == 0 || n == 0 || k == 0 {
        return Ok(());
    }
    let partition = match variant {
        Some(Variant::Cooperative { .. }) => Some(Partition::choose(m, n, k)),
        Some(Variant::PingPong { .. }) => Some(Partition::half_shared(m, n, k)),
        None if gpu.arch() == Arch::Sm90 && m.min(n) >= WGMMA_SIDE => Some(Partition::choose(m, n, k)),
        _ => None,
    };
    if let Some(partition) = partition.filter(|partition| partition.fits() && hopper::fits_tn(a, b, scratch)) {
        let sms = match variant {
            Some(Variant::Cooperative { sms } | Variant::PingPong { sms }) => sms,
            _ => gpu.sms(),
        };
        return hopper::tn(gpu, sms, partition, dw, sums, (a, b), scratch);
    }
    // The tile decides how K is split, so it follows from the shape alone.
    let tile = match variant {
        Some(Variant::Portable64) => 64,
        Some(Variant::Portable128) => 128,
        _ if m.min(n) > 64 => 128,
        _ => 64,
    };
    portable::tn(gpu, Split::new(m, n, k, tile), dw, sums, (a, b), scratch)
}

/// f32 values of scratch that [`tn`] needs, whichever variant runs.
pub fn tn_scratch_len(m: usize, n: usize, k: usize) -> usize {
    let split = |tile| Split::new(m, n, k, tile).scratch_len();
    let partitions = [Partition::choose(m, n, k), Partition::half_shared(m, n, k)];
    let wgmma = partitions.map(Partition::scratch_len);
    split(64).max(split(128)).max(wgmma[0]).max(wgmma[1])
}
