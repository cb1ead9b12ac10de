//! Layer norms: of ViTs in training (bf16), of the UNet's transformers and the text encoder (f16, the first also in
//! bf16).

use half::{bf16, f16};

use crate::device::cuda::Half;
use crate::ops::bench::{Case, Number, Size, Work, stored};
use crate::ops::layernorm::bytes;
use crate::ops::layernorm::cuda::{Affine, Backward, Branch, Shape, backward, forward, infer, scratch_len};
use crate::ops::shapes::{TEXT_TOKENS, TEXT_WIDTH, UNET, texts, unet_level, unet_rows, vits};

const OP: &str = "layernorm";
const EPS: f32 = 1e-6;

pub fn cases(size: Size) -> Vec<Case> {
    let mut all = Vec::new();
    for vit in vits(size) {
        let (rows, d) = (vit.rows(), vit.d);
        all.extend([trained(rows, d), gradient(rows, d)]);
    }
    let levels = UNET.map(|(side, c)| unet_level(size, side, c));
    let rows = |side: usize| unet_rows(size) * side * side;
    all.extend(levels.map(|(side, c)| inferred::<f16>(rows(side), c)));
    all.push(inferred::<bf16>(rows(levels[0].0), levels[0].1));
    all.push(inferred::<f16>(texts(size) * TEXT_TOKENS, TEXT_WIDTH));
    all
}

fn memory(bytes: f64) -> Work {
    Work { bytes, ..Work::default() }
}

fn trained(rows: usize, d: usize) -> Case {
    let work = memory(bytes(rows, d, 2).0);
    Case::new((OP, "forward bf16", format!("[{rows}, {d}]")), work, move |inputs| {
        let (x, y) = (inputs.normal::<bf16>(rows * d)?, inputs.room::<bf16>(rows * d)?);
        let (stats, gamma, beta) = (inputs.room(2 * rows)?, inputs.normal(d)?, inputs.normal(d)?);
        Ok(move |gpu: &_| {
            let shape = Shape::dense(rows, d);
            let affine = Affine { gamma: gamma.view(), beta: beta.view(), eps: EPS };
            forward(gpu, y.view(), stats.view(), x.view(), affine, shape)
        })
    })
}

fn gradient(rows: usize, d: usize) -> Case {
    let shape = Shape::dense(rows, d);
    let work = memory(bytes(rows, d, 2).1 + (8 * scratch_len(shape)) as f64);
    Case::new((OP, "backward bf16", format!("[{rows}, {d}]")), work, move |inputs| {
        let (x, dy) = (inputs.normal::<bf16>(rows * d)?, inputs.normal::<bf16>(rows * d)?);
        // The gradient around the norm, in place.
        let dx = inputs.normal::<bf16>(rows * d)?;
        let (stats, gamma) = (inputs.normal(2 * rows)?, inputs.normal(d)?);
        let (sums, scratch) = (inputs.room(2 * d)?, inputs.room(scratch_len(shape))?);
        Ok(move |gpu: &_| {
            let (dgamma, dbeta) = (sums.view().slice(0..d), sums.view().slice(d..2 * d));
            let (dx, dy, x, stats) = (dx.view(), dy.view(), x.view(), stats.view());
            let (branch, gamma, scratch) = (Branch::Every(dx), gamma.view(), scratch.view());
            backward(gpu, Backward { dx, branch, dgamma, dbeta, dy, x, stats, gamma, scratch }, shape)
        })
    })
}

fn inferred<T: Half + Number>(rows: usize, d: usize) -> Case {
    Case::new(
        (OP, stored::<T>("inference"), format!("[{rows}, {d}]")),
        memory(bytes(rows, d, 2).0 - (8 * rows) as f64),
        move |inputs| {
            let (x, y) = (inputs.normal::<T>(rows * d)?, inputs.room::<T>(rows * d)?);
            let (gamma, beta) = (inputs.normal(d)?, inputs.normal(d)?);
            Ok(move |gpu: &_| {
                let affine = Affine { gamma: gamma.view(), beta: beta.view(), eps: EPS };
                infer(gpu, y.view(), x.view(), affine, rows, d)
            })
        },
    )
}
