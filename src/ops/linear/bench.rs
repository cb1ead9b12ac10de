//! Linear layers of ViTs in training: forward with every epilogue, both gradients; bf16.

use half::bf16;

use crate::device::cuda::{DType, Owned};
use crate::error::Result;
use crate::ops::bench::{Case, Inputs, Size, Work};
use crate::ops::linear::Shape;
use crate::ops::linear::cuda::{
    backward_input, backward_input_gelu, backward_weight, backward_weight_scratch_len, forward, forward_gelu,
    forward_residual,
};
use crate::ops::shapes::vits;

const OP: &str = "linear";

pub fn cases(size: Size) -> Vec<Case> {
    let mut all = Vec::new();
    for vit in vits(size) {
        let (rows, d, mlp) = (size.pick(vit.rows(), 197), vit.d, 4 * vit.d);
        let shape = |inputs, outputs| Shape { rows, inputs, outputs };
        all.extend([
            plain(shape(d, 3 * d)),
            residual(shape(d, d)),
            gelu(shape(d, mlp)),
            residual(shape(mlp, d)),
            input_gradient(shape(d, 3 * d)),
            input_gradient(shape(d, d)),
            input_gradient(shape(d, mlp)),
            input_gradient_gelu(shape(mlp, d)),
            weight_gradient(shape(d, 3 * d)),
            weight_gradient(shape(d, d)),
            weight_gradient(shape(d, mlp)),
            weight_gradient(shape(mlp, d)),
        ]);
    }
    all
}

/// The operands of a layer, and of its gradients.
struct Operands {
    x: Owned<bf16>,
    y: Owned<bf16>,
    w: Owned<bf16>,
    b: Owned<bf16>,
}

fn operands(inputs: &Inputs, Shape { rows, inputs: k, outputs }: Shape) -> Result<Operands> {
    Ok(Operands {
        x: inputs.normal(rows * k)?,
        y: inputs.normal(rows * outputs)?,
        w: inputs.scaled(k * outputs, 0.05)?,
        b: inputs.normal(outputs)?,
    })
}

/// bf16 operands once, and `more` values of y's size that the epilogue reads or writes.
fn work(shape: Shape, more: usize) -> Work {
    let bytes = shape.bytes(2) + (2 * more * shape.rows * shape.outputs) as f64;
    Work { flops: shape.flops(), bytes, exps: 0.0 }
}

fn name(kernel: &'static str, Shape { rows, inputs, outputs }: Shape) -> (&'static str, &'static str, String) {
    (OP, kernel, format!("[{rows}, {inputs} → {outputs}]"))
}

fn plain(shape: Shape) -> Case {
    let Shape { rows, inputs: k, outputs } = shape;
    Case::new(name("forward bf16", shape), work(shape, 0), move |inputs| {
        let Operands { x, y, w, b } = operands(inputs, shape)?;
        Ok(move |gpu: &_| forward(gpu, y.view(), x.view(), w.view(), b.view(), shape))
    })
    .against(rows, outputs, k, DType::Bf16)
}

fn residual(shape: Shape) -> Case {
    let Shape { rows, inputs: k, outputs } = shape;
    Case::new(name("forward + residual bf16", shape), work(shape, 1), move |inputs| {
        let Operands { x, y, w, b } = operands(inputs, shape)?;
        let around = inputs.normal::<bf16>(rows * outputs)?;
        Ok(move |gpu: &_| {
            forward_residual(gpu, y.view(), (around.view(), outputs), x.view(), w.view(), b.view(), shape)
        })
    })
    .against(rows, outputs, k, DType::Bf16)
}

fn gelu(shape: Shape) -> Case {
    let Shape { rows, inputs: k, outputs } = shape;
    let work = Work { exps: 2.0 * (rows * outputs) as f64, ..work(shape, 1) };
    Case::new(name("forward + GELU bf16", shape), work, move |inputs| {
        let Operands { x, y, w, b } = operands(inputs, shape)?;
        let before = inputs.room::<bf16>(rows * outputs)?;
        Ok(move |gpu: &_| forward_gelu(gpu, y.view(), before.view(), x.view(), w.view(), b.view(), shape))
    })
    .against(rows, outputs, k, DType::Bf16)
}

fn input_gradient(shape: Shape) -> Case {
    let Shape { rows, inputs: k, outputs } = shape;
    Case::new(name("gradient of x bf16", shape), work(shape, 0), move |inputs| {
        let Operands { x: dx, y: dy, w, .. } = operands(inputs, shape)?;
        Ok(move |gpu: &_| backward_input(gpu, dx.view(), dy.view(), w.view(), shape))
    })
    .against(rows, k, outputs, DType::Bf16)
}

fn input_gradient_gelu(shape: Shape) -> Case {
    let Shape { rows, inputs: k, outputs } = shape;
    let bytes = work(shape, 0).bytes + (2 * rows * k) as f64;
    let work = Work { bytes, exps: 2.0 * (rows * k) as f64, ..work(shape, 0) };
    Case::new(name("gradient of x, through GELU bf16", shape), work, move |inputs| {
        let Operands { x: dh, y: dy, w, .. } = operands(inputs, shape)?;
        let h = inputs.normal::<bf16>(rows * k)?;
        Ok(move |gpu: &_| backward_input_gelu(gpu, dh.view(), dy.view(), w.view(), h.view(), shape))
    })
    .against(rows, k, outputs, DType::Bf16)
}

fn weight_gradient(shape: Shape) -> Case {
    let Shape { rows, inputs: k, outputs } = shape;
    // dw is f32, read and added to.
    let bytes = (2 * rows * (k + outputs) + 8 * k * outputs) as f64;
    Case::new(name("gradient of w bf16", shape), Work { flops: shape.flops(), bytes, exps: 0.0 }, move |inputs| {
        let Operands { x, y: dy, .. } = operands(inputs, shape)?;
        let (dw, db) = (inputs.room(k * outputs)?, inputs.room(outputs)?);
        let scratch = inputs.room(backward_weight_scratch_len(shape))?;
        Ok(move |gpu: &_| backward_weight(gpu, dw.view(), Some(db.view()), dy.view(), x.view(), scratch.view(), shape))
    })
    .against(outputs, k, rows, DType::Bf16)
}
