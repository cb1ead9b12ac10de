//! Matrix products on CUDA: bf16 operands, f32 accumulators, the layer's elementwise work in the kernel's epilogue.
//!
//! Two families of kernels: `kernels/gemm.cu` runs on every card and takes any shape and stride; `kernels/gemm_sm90.cu`
//! (TMA, wgmma) runs on Hopper and takes rows that begin at multiples of 16 bytes. [`product`] and [`tn`] choose; tests
//! name each of [`Variant::all`].
//!
//! An output's bits depend on its own row of `a`, on `b` and on K, not on the number of rows, the tile or the card's
//! size: within a family every tile adds k in the same steps, and K is split over blocks in [`tn`] alone, by the shape.

mod hopper;
mod partition;
mod portable;

use half::bf16;

use self::hopper::Schedule;
use self::partition::Partition;
use self::portable::Split;
use crate::device::cuda::{Arch, Element, Gpu, View};
use crate::error::Result;

/// Row-major values on the device, rows `stride` elements apart.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<T> {
    pub data: View<T>,
    pub rows: usize,
    pub columns: usize,
    pub stride: usize,
}

impl<T: Element> Matrix<T> {
    /// Rows that follow each other.
    ///
    /// # Panics
    /// If `data` has not rows · columns elements.
    pub fn new(data: View<T>, rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "gemm: {data:?} as {rows} × {columns}");
        Self { data, rows, columns, stride: columns }
    }

    /// Rows that begin `stride` elements apart.
    ///
    /// # Panics
    /// If they overlap or `data` is too short.
    pub fn strided(data: View<T>, rows: usize, columns: usize, stride: usize) -> Self {
        let enough = rows.saturating_sub(1) * stride + columns;
        assert!(stride >= columns && data.len() >= enough, "gemm: {data:?} as {rows} × {columns} with stride {stride}");
        Self { data, rows, columns, stride }
    }
}

/// Which operands are transposed: `a·bᵀ`, `a·b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `a [M, K]`, `b [N, K]`.
    Nt,
    /// `a [M, K]`, `b [K, N]`.
    Nn,
}

/// What happens to a product `x` before it is stored. A bias has one value per column.
#[derive(Clone, Copy, Debug)]
pub enum Epilogue {
    /// `y = x + bias`.
    Bias(Option<View<bf16>>),
    /// `h = x + bias`, stored as well, and `y = gelu(h)`; NT only.
    Gelu(Option<View<bf16>>, Matrix<bf16>),
    /// `y = x + bias + residual`; NT only. The residual may be `y` itself.
    Residual(Option<View<bf16>>, Matrix<bf16>),
    /// `y = x·gelu′(h)`; NN only.
    GeluBackward(Matrix<bf16>),
}

impl Epilogue {
    /// The bias and the second matrix that the epilogue reads or writes.
    fn operands(self) -> (Option<View<bf16>>, Option<Matrix<bf16>>) {
        match self {
            Self::Bias(bias) => (bias, None),
            Self::Gelu(bias, x) | Self::Residual(bias, x) => (bias, Some(x)),
            Self::GeluBackward(x) => (None, Some(x)),
        }
    }
}

/// Where a product goes.
#[derive(Clone, Copy, Debug)]
pub enum Output {
    Bf16(Matrix<bf16>),
    /// NT with a bias only.
    F32(Matrix<f32>),
}

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

/// M, N, K of a product, its operands and its end.
#[derive(Clone, Copy, Debug)]
struct Product {
    layout: Layout,
    a: Matrix<bf16>,
    b: Matrix<bf16>,
    y: Output,
    epilogue: Epilogue,
    m: usize,
    n: usize,
    k: usize,
}

impl Product {
    fn new(layout: Layout, y: Output, a: Matrix<bf16>, b: Matrix<bf16>, epilogue: Epilogue) -> Self {
        let (n, depth) = match layout {
            Layout::Nt => (b.rows, b.columns),
            Layout::Nn => (b.columns, b.rows),
        };
        let (m, k) = (a.rows, a.columns);
        assert_eq!(depth, k, "gemm: K of {a:?} and {b:?}");
        let size = match y {
            Output::Bf16(y) => (y.rows, y.columns),
            Output::F32(y) => (y.rows, y.columns),
        };
        assert_eq!(size, (m, n), "gemm: {y:?} of {a:?} and {b:?}");
        let (bias, aux) = epilogue.operands();
        if let Some(bias) = bias {
            assert_eq!(bias.len(), n, "gemm: bias");
        }
        if let Some(x) = aux {
            assert_eq!((x.rows, x.columns), (m, n), "gemm: {x:?} beside {y:?}");
        }
        Self { layout, a, b, y, epilogue, m, n, k }
    }
}

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

/// Sizes and strides as kernels take them.
fn int(n: usize) -> u32 {
    i32::try_from(n).map(i32::cast_unsigned).unwrap_or_else(|_| panic!("gemm: {n} does not fit 31 bits"))
}
