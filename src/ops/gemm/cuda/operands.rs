//! A product's operands, its end and where it goes, checked against each other.

use half::bf16;

use crate::device::cuda::{Element, View};

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
    pub(super) fn operands(self) -> (Option<View<bf16>>, Option<Matrix<bf16>>) {
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

/// M, N, K of a product, its operands and its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    pub layout: Layout,
    pub a: Matrix<bf16>,
    pub b: Matrix<bf16>,
    pub y: Output,
    pub epilogue: Epilogue,
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

impl Product {
    pub fn new(layout: Layout, y: Output, a: Matrix<bf16>, b: Matrix<bf16>, epilogue: Epilogue) -> Self {
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

/// Sizes and strides as kernels take them.
pub(super) fn int(n: usize) -> u32 {
    i32::try_from(n).map(i32::cast_unsigned).unwrap_or_else(|_| panic!("gemm: {n} does not fit 31 bits"))
}
