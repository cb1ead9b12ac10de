//! Batch norms of StableRep's projection head: two views of every picture, 4,096 hidden units; bf16.

use half::bf16;

use crate::ops::batchnorm::cuda::{
    Backward, Settings, Shape, apply, backward_apply, backward_sums, moments, statistics,
};
use crate::ops::bench::{Case, Size, Work};

const OP: &str = "batchnorm";

pub fn cases(size: Size) -> Vec<Case> {
    let shape = size.pick(Shape { slots: 2, rows: 4096, cols: 4096 }, Shape { slots: 2, rows: 96, cols: 128 });
    vec![forward(shape), backward(shape)]
}

fn name(kernel: &'static str, Shape { slots, rows, cols }: Shape) -> (&'static str, &'static str, String) {
    (OP, kernel, format!("[{slots}, {rows}, {cols}]"))
}

/// Statistics, then the norm and the ReLU: x twice, y once.
fn forward(shape: Shape) -> Case {
    let work = Work { bytes: (6 * shape.values() + 8 * shape.scratch_len()) as f64, ..Work::default() };
    Case::new(name("forward, ReLU bf16", shape), work, move |inputs| {
        let (x, y) = (inputs.normal::<bf16>(shape.values())?, inputs.room::<bf16>(shape.values())?);
        let (sums, stats) = (inputs.room(shape.stats_len())?, inputs.room(shape.stats_len())?);
        let (gamma, beta) = (inputs.normal(shape.cols)?, inputs.normal(shape.cols)?);
        let scratch = inputs.room(shape.scratch_len())?;
        Ok(move |gpu: &_| {
            moments(gpu, sums.view(), x.view(), scratch.view(), shape)?;
            statistics(gpu, stats.view(), None, sums.view(), Settings::default(), shape)?;
            let affine = Some([gamma.view(), beta.view()]);
            apply(gpu, y.view(), x.view(), stats.view(), affine, true, shape)
        })
    })
}

/// Sums, then the gradient: x and dy twice, dx once.
fn backward(shape: Shape) -> Case {
    let work = Work { bytes: (10 * shape.values() + 8 * shape.scratch_len()) as f64, ..Work::default() };
    Case::new(name("backward, ReLU bf16", shape), work, move |inputs| {
        let (x, dy) = (inputs.normal::<bf16>(shape.values())?, inputs.normal::<bf16>(shape.values())?);
        let dx = inputs.room::<bf16>(shape.values())?;
        let (stats, sums) = (inputs.normal(shape.stats_len())?, inputs.room(shape.stats_len())?);
        let (gamma, beta) = (inputs.normal(shape.cols)?, inputs.normal(shape.cols)?);
        let (dgamma, dbeta) = (inputs.room(shape.cols)?, inputs.room(shape.cols)?);
        let scratch = inputs.room(shape.scratch_len())?;
        Ok(move |gpu: &_| {
            let (affine, gradients) = (Some([gamma.view(), beta.view()]), Some([dgamma.view(), dbeta.view()]));
            let of = Backward { dy: dy.view(), x: x.view(), stats: stats.view(), affine, relu: true };
            backward_sums(gpu, sums.view(), gradients, of, scratch.view(), shape)?;
            backward_apply(gpu, dx.view(), of, sums.view(), 1, shape)
        })
    })
}
