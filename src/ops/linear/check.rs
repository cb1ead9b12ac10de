//! Layers against the CPU's: shapes of the ViTs and of the tests' models, parameters without a bias, residuals of class
//! tokens.

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::gemm::Operands;
use crate::ops::linear::{self, Shape, cuda};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "linear forward bf16", run: forward },
    Check { name: "linear forward f32", run: forward_f32 },
    Check { name: "linear forward gelu bf16", run: forward_gelu },
    Check { name: "linear forward residual bf16", run: forward_residual },
    Check { name: "linear backward input bf16", run: backward_input },
    Check { name: "linear backward input gelu bf16", run: backward_input_gelu },
    Check { name: "linear backward weight f32", run: backward_weight },
]);

fn shapes(case: &Case) -> Vec<Shape> {
    let shape = |(rows, inputs, outputs)| Shape { rows, inputs, outputs };
    let mut all: Vec<Shape> = [(1, 64, 10), (34, 48, 96), (130, 64, 256), (85, 128, 384)].map(shape).to_vec();
    if case.full() {
        all.extend([(1576, 768, 2304), (1576, 3072, 768), (788, 1024, 4096), (2048, 384, 384)].map(shape));
    }
    all
}

/// x, w and b of one layer, on both sides.
struct Layer {
    shape: Shape,
    x: Pair,
    w: Pair,
    b: Pair,
}

type Pair = (crate::device::cuda::Owned<half::bf16>, Vec<f32>);

fn layer(case: &Case, shape: Shape) -> Result<Layer> {
    let Shape { rows, inputs, outputs } = shape;
    let x = case.bf16(&case.normal("x", rows * inputs, 1.0))?;
    let w = case.bf16(&case.normal("w", outputs * inputs, 1.0 / (inputs as f32).sqrt()))?;
    let b = case.bf16(&case.normal("b", outputs, 0.5))?;
    Ok(Layer { shape, x, w, b })
}

impl Layer {
    /// The CPU's forward.
    fn forward(&self) -> Vec<f32> {
        let mut y = vec![0.0; self.shape.rows * self.shape.outputs];
        linear::forward(&mut y, &self.x.1, &self.w.1, Some(&self.b.1), self.shape);
        y
    }
}

fn forward(case: &Case) -> Result<()> {
    for shape in shapes(case) {
        let layer = layer(case, shape)?;
        let y = case.gpu().alloc(shape.rows * shape.outputs)?;
        let (x, w, b) = (layer.x.0.view(), layer.w.0.view(), layer.b.0.view());
        cuda::forward(case.gpu(), y.view(), x, w, b, shape)?;
        case.close(&format!("y {shape:?}"), &case.read_bf16(y.view())?, &layer.forward(), Tolerance::bf16())?;
        cuda::forward(case.gpu(), y.view(), x, w, None, shape)?;
        let mut want = vec![0.0; y.view().len()];
        linear::forward(&mut want, &layer.x.1, &layer.w.1, None, shape);
        case.close(&format!("y without bias {shape:?}"), &case.read_bf16(y.view())?, &want, Tolerance::bf16())?;
    }
    Ok(())
}

fn forward_f32(case: &Case) -> Result<()> {
    for shape in shapes(case) {
        let layer = layer(case, shape)?;
        let y = case.gpu().alloc(shape.rows * shape.outputs)?;
        cuda::forward_f32(case.gpu(), y.view(), layer.x.0.view(), layer.w.0.view(), layer.b.0.view(), shape)?;
        case.close(&format!("y {shape:?}"), &case.gpu().read(y.view())?, &layer.forward(), Tolerance::f32())?;
    }
    Ok(())
}

fn forward_gelu(case: &Case) -> Result<()> {
    for shape in shapes(case) {
        let Layer { x, w, b, .. } = layer(case, shape)?;
        let len = shape.rows * shape.outputs;
        let (a, h) = (case.gpu().alloc(len)?, case.gpu().alloc(len)?);
        cuda::forward_gelu(case.gpu(), a.view(), h.view(), x.0.view(), w.0.view(), b.0.view(), shape)?;
        let (mut want_a, mut want_h) = (vec![0.0; len], vec![0.0; len]);
        linear::forward_gelu(&mut want_a, &mut want_h, &x.1, &w.1, Some(&b.1), shape);
        case.close(&format!("h {shape:?}"), &case.read_bf16(h.view())?, &want_h, Tolerance::bf16())?;
        case.close(&format!("a {shape:?}"), &case.read_bf16(a.view())?, &want_a, Tolerance::bf16())?;
    }
    Ok(())
}

fn forward_residual(case: &Case) -> Result<()> {
    for shape in shapes(case) {
        let Layer { x, w, b, .. } = layer(case, shape)?;
        for tokens in [1, 3] {
            let stride = tokens * shape.outputs;
            let (residual, values) = case.bf16(&case.normal("residual", shape.rows * stride, 1.0))?;
            let y = case.gpu().alloc(shape.rows * shape.outputs)?;
            let from = (residual.view(), stride);
            cuda::forward_residual(case.gpu(), y.view(), from, x.0.view(), w.0.view(), b.0.view(), shape)?;
            let mut want = vec![0.0; y.view().len()];
            linear::forward_residual(&mut want, (&values, stride), &x.1, &w.1, Some(&b.1), shape);
            let what = format!("y {shape:?} stride {stride}");
            case.close(&what, &case.read_bf16(y.view())?, &want, Tolerance::bf16())?;
            if tokens == 1 {
                let (y, r) = (case.read_bf16(y.view())?, residual.view());
                cuda::forward_residual(case.gpu(), r, (r, stride), x.0.view(), w.0.view(), b.0.view(), shape)?;
                case.same(&format!("{what} in place"), &case.read_bf16(r)?, &y)?;
            }
        }
    }
    Ok(())
}

fn backward_input(case: &Case) -> Result<()> {
    for shape in shapes(case) {
        let Layer { w, .. } = layer(case, shape)?;
        let (dy, dy_values) = case.bf16(&case.normal("dy", shape.rows * shape.outputs, 1.0))?;
        let dx = case.gpu().alloc(shape.rows * shape.inputs)?;
        cuda::backward_input(case.gpu(), dx.view(), dy.view(), w.0.view(), shape)?;
        let mut want = vec![0.0; dx.view().len()];
        linear::backward_input(&mut want, &dy_values, &w.1, shape);
        case.close(&format!("dx {shape:?}"), &case.read_bf16(dx.view())?, &want, Tolerance::bf16())?;
    }
    Ok(())
}

fn backward_input_gelu(case: &Case) -> Result<()> {
    for shape in shapes(case) {
        let Layer { w, .. } = layer(case, shape)?;
        let (dy, dy_values) = case.bf16(&case.normal("dy", shape.rows * shape.outputs, 1.0))?;
        let (h, h_values) = case.bf16(&case.normal("h", shape.rows * shape.inputs, 1.5))?;
        let dh = case.gpu().alloc(shape.rows * shape.inputs)?;
        cuda::backward_input_gelu(case.gpu(), dh.view(), dy.view(), w.0.view(), h.view(), shape)?;
        let mut want = vec![0.0; dh.view().len()];
        linear::backward_input_gelu(&mut want, &dy_values, &w.1, &h_values, shape);
        case.close(&format!("dh {shape:?}"), &case.read_bf16(dh.view())?, &want, Tolerance::bf16())?;
    }
    Ok(())
}

fn backward_weight(case: &Case) -> Result<()> {
    for shape in shapes(case) {
        let Layer { x, .. } = layer(case, shape)?;
        let (dy, dy_values) = case.bf16(&case.normal("dy", shape.rows * shape.outputs, 1.0))?;
        let (mut dw, mut db) =
            (case.normal("dw", shape.outputs * shape.inputs, 1.0), case.normal("db", shape.outputs, 1.0));
        let (w, b) = (case.f32(&dw)?, case.f32(&db)?);
        let scratch = case.gpu().alloc(cuda::backward_weight_scratch_len(shape))?;
        cuda::backward_weight(case.gpu(), w.view(), b.view(), dy.view(), x.0.view(), scratch.view(), shape)?;
        linear::backward_weight(&mut dw, Some(&mut db), &dy_values, &x.1, Operands::F32, shape);
        case.close(&format!("dw {shape:?}"), &case.gpu().read(w.view())?, &dw, Tolerance::f32())?;
        case.close(&format!("db {shape:?}"), &case.gpu().read(b.view())?, &db, Tolerance::f32())?;
    }
    Ok(())
}
