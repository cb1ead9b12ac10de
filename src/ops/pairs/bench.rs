//! One of MoCo v3's two cross-entropies: 4,096 rows of 256 against as many keys, f32 by bf16 halves.

use crate::ops::bench::{Case, Size, Work};
use crate::ops::l2norm::cuda::{Outputs, forward as unit_rows};
use crate::ops::pairs::cuda::{Batch, Shape, backward_rows, forward, scratch_len};
use crate::ops::pairs::{bytes, flops};
use crate::ops::reduce::cuda::Loss;

const TEMPERATURE: f32 = 0.2;

pub fn cases(size: Size) -> Vec<Case> {
    let (rows, dim) = (size.pick(4096, 192), 256);
    vec![case(rows, dim, false), case(rows, dim, true)]
}

fn case(rows: usize, dim: usize, gradient: bool) -> Case {
    let shape = Shape { rows, keys: rows, dim };
    let ((forth, back), (read, both)) = (flops(rows, rows, dim), bytes(rows, rows, dim));
    let exps = (rows * rows) as f64;
    let (kernel, work) = if gradient {
        // The logits again, then the gradient's product.
        ("gradient of the rows", Work { flops: 3.0 * back, bytes: both, exps })
    } else {
        ("forward", Work { flops: 3.0 * forth, bytes: read, exps })
    };
    Case::new(("pairs", kernel, format!("[{rows}, {dim}]")), work, move |inputs| {
        let sides = inputs.normal(2 * rows * dim)?;
        let (unit, norms) = (inputs.room::<f32>(2 * rows * dim)?, inputs.room(2 * rows)?);
        let to = Outputs { f32: Some(unit.view()), bf16: None };
        unit_rows(inputs.gpu(), to, norms.view(), sides.view(), 1e-12)?;
        let labels: Vec<u32> = (0..rows as u32).collect();
        let labels = inputs.upload(&labels)?;
        let (loss, lse, weight) = (inputs.room(1)?, inputs.room(rows)?, inputs.room(rows)?);
        let (dx, scratch) = (inputs.room(rows * dim)?, inputs.room(scratch_len(shape))?);
        let batch = Batch {
            shape,
            rows: unit.view().slice(0..rows * dim),
            keys: unit.view().slice(rows * dim..2 * rows * dim),
            labels: [labels.view(); 2],
            temperature: TEMPERATURE,
            scratch: scratch.view(),
        };
        let loss_to = Loss::new(loss.view(), 2.0 * TEMPERATURE, false);
        forward(inputs.gpu(), loss_to, lse.view(), weight.view(), batch)?;
        Ok(move |gpu: &_| {
            // Owned by the closure, seen through the batch.
            let _ = (&unit, &labels, &scratch, &loss);
            if gradient {
                backward_rows(gpu, dx.view(), lse.view(), weight.view(), 1.0, batch)
            } else {
                forward(gpu, loss_to, lse.view(), weight.view(), batch)
            }
        })
    })
}
