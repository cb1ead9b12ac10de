//! Fully connected layers on CUDA: the functions of the CPU op over bf16 activations and weights, f32 gradients of
//! parameters.
//!
//! `w [out, in]` as PyTorch stores it, so the forward multiplies by its transpose (NT), the input gradient by itself
//! (NN), and the weight gradient is dyᵀ·x (TN): each layout has its kernels, nothing is transposed in memory. Bias,
//! GELU and residual happen in the epilogue, the bias gradient in the weight gradient's kernel, which has every dy in
//! shared memory anyway.
//!
//! FLOPs as on the CPU; bytes are half.

use half::bf16;

use super::Shape;
use crate::device::cuda::{Element, Gpu, View};
use crate::error::Result;
use crate::ops::gemm::cuda::{Epilogue, Layout, Matrix, Output, product, tn, tn_scratch_len};

impl Shape {
    fn inputs_of<T: Element>(self, x: View<T>) -> Matrix<T> {
        Matrix::new(x, self.rows, self.inputs)
    }

    fn outputs_of<T: Element>(self, y: View<T>) -> Matrix<T> {
        Matrix::new(y, self.rows, self.outputs)
    }

    fn weight(self, w: View<bf16>) -> Matrix<bf16> {
        Matrix::new(w, self.outputs, self.inputs)
    }
}

/// `y = x·Wᵀ + b`; no bias where `b` is `None`.
pub fn forward(
    gpu: &Gpu,
    y: View<bf16>,
    x: View<bf16>,
    w: View<bf16>,
    b: impl Into<Option<View<bf16>>>,
    shape: Shape,
) -> Result<()> {
    let y = Output::Bf16(shape.outputs_of(y));
    product(gpu, None, Layout::Nt, y, (shape.inputs_of(x), shape.weight(w)), Epilogue::Bias(b.into()))
}

/// The same into f32, for outputs that a loss or a metric reads.
pub fn forward_f32(
    gpu: &Gpu,
    y: View<f32>,
    x: View<bf16>,
    w: View<bf16>,
    b: impl Into<Option<View<bf16>>>,
    shape: Shape,
) -> Result<()> {
    let y = Output::F32(shape.outputs_of(y));
    product(gpu, None, Layout::Nt, y, (shape.inputs_of(x), shape.weight(w)), Epilogue::Bias(b.into()))
}

/// `y = residual + x·Wᵀ + b`; row i of the residual begins at i·stride of `(residual, stride)`. `y` may be the residual
/// itself.
pub fn forward_residual(
    gpu: &Gpu,
    y: View<bf16>,
    (residual, stride): (View<bf16>, usize),
    x: View<bf16>,
    w: View<bf16>,
    b: impl Into<Option<View<bf16>>>,
    shape: Shape,
) -> Result<()> {
    let residual = Matrix::strided(residual, shape.rows, shape.outputs, stride);
    let y = Output::Bf16(shape.outputs_of(y));
    product(gpu, None, Layout::Nt, y, (shape.inputs_of(x), shape.weight(w)), Epilogue::Residual(b.into(), residual))
}

/// `h = x·Wᵀ + b` and `a = gelu(h)`, the latter from h before its rounding; `h` is kept for [`backward_input_gelu`].
pub fn forward_gelu(
    gpu: &Gpu,
    a: View<bf16>,
    h: View<bf16>,
    x: View<bf16>,
    w: View<bf16>,
    b: impl Into<Option<View<bf16>>>,
    shape: Shape,
) -> Result<()> {
    let (a, h) = (Output::Bf16(shape.outputs_of(a)), shape.outputs_of(h));
    product(gpu, None, Layout::Nt, a, (shape.inputs_of(x), shape.weight(w)), Epilogue::Gelu(b.into(), h))
}

/// `dx = dy·W`.
pub fn backward_input(gpu: &Gpu, dx: View<bf16>, dy: View<bf16>, w: View<bf16>, shape: Shape) -> Result<()> {
    let dx = Output::Bf16(shape.inputs_of(dx));
    product(gpu, None, Layout::Nn, dx, (shape.outputs_of(dy), shape.weight(w)), Epilogue::Bias(None))
}

/// `dh = (dy·W)·gelu′(h)`: the gradient before the GELU whose output was this layer's input.
pub fn backward_input_gelu(
    gpu: &Gpu,
    dh: View<bf16>,
    dy: View<bf16>,
    w: View<bf16>,
    h: View<bf16>,
    shape: Shape,
) -> Result<()> {
    let (dh, h) = (Output::Bf16(shape.inputs_of(dh)), shape.inputs_of(h));
    product(gpu, None, Layout::Nn, dh, (shape.outputs_of(dy), shape.weight(w)), Epilogue::GeluBackward(h))
}

/// `dw += dyᵀ·x` and `db += Σ_rows dy`, the latter where there is a bias. `scratch` holds
/// [`backward_weight_scratch_len`] values.
pub fn backward_weight(
    gpu: &Gpu,
    dw: View<f32>,
    db: impl Into<Option<View<f32>>>,
    dy: View<bf16>,
    x: View<bf16>,
    scratch: View<f32>,
    shape: Shape,
) -> Result<()> {
    tn(gpu, None, dw, db.into(), (shape.outputs_of(dy), shape.inputs_of(x)), scratch)
}

/// f32 values that [`backward_weight`] needs beside its operands; its calls may share them.
pub fn backward_weight_scratch_len(shape: Shape) -> usize {
    tn_scratch_len(shape.outputs, shape.inputs, shape.rows)
}
