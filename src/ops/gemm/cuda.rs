//! Matrix products on CUDA: bf16 operands, f32 accumulators, the layer's elementwise work in the kernel's epilogue.
//!
//! Two families of kernels: `kernels/gemm.cu` runs on every card and takes any shape and stride; `kernels/gemm_sm90.cu` (TMA, wgmma)
//! runs on Hopper and takes rows that begin at multiples of 16 bytes. [`Variant::choose`] picks; tests go through [`Variant::all`].
//!
//! An output's bits depend on its own row of `a`, on `b` and on K, not on the number of rows, the tile or the card's size: within a
//! family every tile adds k in the same steps, and K is split over blocks in [`tn`] alone, by the shape.

mod portable;

use half::bf16;

use crate::device::cuda::{Element, Gpu, View};
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

/// A family of kernels, with the tile where it has several; all give the same results up to f32 rounding, tiles of a family to the bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// mma.sync, tiles of 64 × 64.
    Portable64,
    /// mma.sync, tiles of 128 × 128.
    Portable128,
}

impl Variant {
    /// Those a device can run.
    pub fn all(_gpu: &Gpu) -> Vec<Self> {
        vec![Self::Portable64, Self::Portable128]
    }

    /// The fastest for a product of M × N outputs.
    fn choose(gpu: &Gpu, m: usize, n: usize) -> Self {
        if portable::blocks(m, n, 128) >= gpu.sms() as usize { Self::Portable128 } else { Self::Portable64 }
    }

    /// Variants of one family give the same bits.
    pub fn family(self) -> &'static str {
        match self {
            Self::Portable64 | Self::Portable128 => "mma.sync",
        }
    }

    fn tile(self) -> usize {
        match self {
            Self::Portable64 => 64,
            Self::Portable128 => 128,
        }
    }
}

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
    let variant = variant.unwrap_or_else(|| Variant::choose(gpu, product.m, product.n));
    portable::product(gpu, &product, variant.tile())
}

/// `dw += aᵀ·b` in f32 for `a [K, M]`, `b [K, N]`, and `sums[m] += Σ_k a[k, m]` where `sums` are given. `scratch` holds at least
/// [`tn_scratch_len`] values and is overwritten.
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
    let variant = variant.unwrap_or_else(|| Variant::choose(gpu, m, n));
    portable::tn(gpu, portable::Split::new(m, n, k, variant.tile()), dw, sums, (a, b), scratch)
}

/// f32 values of scratch that [`tn`] needs, whichever variant runs.
pub fn tn_scratch_len(m: usize, n: usize, k: usize) -> usize {
    [64, 128].map(|tile| portable::Split::new(m, n, k, tile).scratch_len()).into_iter().max().unwrap_or(0)
}

/// Sizes and strides as kernels take them.
fn int(n: usize) -> u32 {
    i32::try_from(n).map(i32::cast_unsigned).unwrap_or_else(|_| panic!("gemm: {n} does not fit 31 bits"))
}
