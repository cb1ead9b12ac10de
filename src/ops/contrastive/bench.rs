//! StableRep's loss over 8,192 features of 256, f32 by bf16 halves: every product is three on the matrix units.

use crate::ops::bench::{Case, Size, Work};
use crate::ops::contrastive::cuda::{Batch, Shape, backward, forward, scratch_len};
use crate::ops::contrastive::{bytes, flops};
use crate::ops::l2norm::cuda::{Outputs, forward as unit_rows};

const OP: &str = "contrastive";
const TEMPERATURE: f32 = 0.1;

pub fn cases(size: Size) -> Vec<Case> {
    let (rows, d) = (size.pick(8192, 192), 256);
    vec![case(rows, d, false), case(rows, d, true)]
}

fn case(rows: usize, d: usize, gradient: bool) -> Case {
    let shape = Shape::whole(rows, d);
    let ((forth, back), (read, both)) = (flops(rows, d), bytes(rows, d));
    let exps = (rows * rows) as f64;
    let (kernel, work) = if gradient {
        // The logits again, then the gradient's product.
        ("backward", Work { flops: 3.0 * back, bytes: both, exps })
    } else {
        ("forward", Work { flops: 3.0 * forth, bytes: read, exps })
    };
    Case::new((OP, kernel, format!("[{rows}, {d}]")), work, move |inputs| {
        let (x, z, norms) = (inputs.normal(rows * d)?, inputs.room::<f32>(rows * d)?, inputs.room(rows)?);
        unit_rows(inputs.gpu(), Outputs { f32: Some(z.view()), bf16: None }, norms.view(), x.view(), 1e-12)?;
        // Six pictures of each caption.
        let labels: Vec<u32> = (0..rows).map(|row| (row / 6) as u32).collect();
        let labels = inputs.upload(&labels)?;
        let (loss, lse, weight) = (inputs.room(1)?, inputs.room(rows)?, inputs.room(rows)?);
        let (dz, scratch) = (inputs.room(rows * d)?, inputs.room(scratch_len(shape))?);
        let batch =
            Batch { shape, z: z.view(), labels: labels.view(), temperature: TEMPERATURE, scratch: scratch.view() };
        forward(inputs.gpu(), loss.view(), lse.view(), weight.view(), batch)?;
        Ok(move |gpu: &_| {
            // Owned by the closure, seen through the batch.
            let _ = (&z, &labels, &scratch);
            if gradient {
                backward(gpu, dz.view(), lse.view(), weight.view(), batch)
            } else {
                forward(gpu, loss.view(), lse.view(), weight.view(), batch)
            }
        })
    })
}
