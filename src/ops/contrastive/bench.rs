//! StableRep's loss over 8,192 features of 256, alone and with a queue of 65,536, f32 by bf16 halves: every product is
//! three on the matrix units.

use crate::ops::bench::{Case, Size, Work};
use crate::ops::contrastive::cuda::{Batch, Queue, Shape, backward, forward, scratch_len};
use crate::ops::contrastive::{bytes, flops};
use crate::ops::l2norm::cuda::{Outputs, forward as unit_rows};

const OP: &str = "contrastive";
const TEMPERATURE: f32 = 0.1;

pub fn cases(size: Size) -> Vec<Case> {
    let ((rows, slots), d) = (size.pick((8192, 65_536), (192, 300)), 256);
    let all = [(0, false), (0, true), (slots, false), (slots, true)];
    all.into_iter().map(|(slots, gradient)| case(Shape { slots, ..Shape::whole(rows, d) }, gradient)).collect()
}

fn case(shape: Shape, gradient: bool) -> Case {
    let Shape { candidates: rows, slots, dim: d, .. } = shape;
    let ((forth, back), (read, both)) = (flops(rows, rows + slots, d), bytes(rows, rows + slots, d));
    let exps = (rows * (rows + slots)) as f64;
    let (kernel, work) = if gradient {
        // The logits again, then the gradient's product.
        ("backward", Work { flops: 3.0 * back, bytes: both, exps })
    } else {
        ("forward", Work { flops: 3.0 * forth, bytes: read, exps })
    };
    let queued = if slots > 0 { format!(", {slots} slots") } else { String::new() };
    Case::new((OP, kernel, format!("[{rows}, {d}]{queued}")), work, move |inputs| {
        let (x, z, norms) = (inputs.normal(rows * d)?, inputs.room::<f32>(rows * d)?, inputs.room(rows)?);
        unit_rows(inputs.gpu(), Outputs { f32: Some(z.view()), bf16: None }, norms.view(), x.view(), 1e-12)?;
        // Six pictures of each caption.
        let labels: Vec<u32> = (0..rows).map(|row| (row / 6) as u32).collect();
        let labels = inputs.upload(&labels)?;
        // Full, of labels that come again.
        let of_slots: Vec<u32> = (0..slots).map(|slot| (slot / 3) as u32).collect();
        let (keys, of_slots) = (inputs.scaled(slots * d, (d as f32).powf(-0.5))?, inputs.upload(&of_slots)?);
        let queue = (slots > 0).then(|| Queue { keys: keys.view(), labels: of_slots.view() });
        let (loss, lse, weight) = (inputs.room(1)?, inputs.room(rows)?, inputs.room(rows)?);
        let (dz, scratch) = (inputs.room(rows * d)?, inputs.room(scratch_len(shape))?);
        let batch = Batch {
            shape,
            z: z.view(),
            labels: labels.view(),
            queue,
            temperature: TEMPERATURE,
            scratch: scratch.view(),
        };
        forward(inputs.gpu(), loss.view(), lse.view(), weight.view(), batch)?;
        Ok(move |gpu: &_| {
            // Owned by the closure, seen through the batch.
            let _ = (&z, &labels, &keys, &of_slots, &scratch);
            if gradient {
                backward(gpu, dz.view(), lse.view(), weight.view(), batch)
            } else {
                forward(gpu, loss.view(), lse.view(), weight.view(), batch)
            }
        })
    })
}
