//! Unit rows for the contrastive loss.

use half::bf16;

use crate::ops::bench::{Case, Size, Work};
use crate::ops::l2norm::cuda::{Outputs, backward, forward};

const OP: &str = "l2norm";

pub fn cases(size: Size) -> Vec<Case> {
    let (rows, d) = (size.pick(8192, 128), 256);
    let shape = format!("[{rows}, {d}]");
    // f32 in; f32 and bf16 out.
    let forth = Work { bytes: (10 * rows * d) as f64, ..Work::default() };
    let back = Work { bytes: (10 * rows * d) as f64, ..Work::default() };
    vec![
        Case::new((OP, "forward", shape.clone()), forth, move |inputs| {
            let (x, y, norms) = (inputs.normal(rows * d)?, inputs.room::<f32>(rows * d)?, inputs.room(rows)?);
            let narrow = inputs.room::<bf16>(rows * d)?;
            Ok(move |gpu: &_| {
                let to = Outputs { f32: Some(y.view()), bf16: Some(narrow.view()) };
                forward(gpu, to, norms.view(), x.view(), 1e-12)
            })
        }),
        Case::new((OP, "backward", shape), back, move |inputs| {
            let (y, dy, norms) = (inputs.normal(rows * d)?, inputs.normal(rows * d)?, inputs.normal(rows)?);
            let dx = inputs.room::<bf16>(rows * d)?;
            Ok(move |gpu: &_| {
                let to = Outputs { f32: None, bf16: Some(dx.view()) };
                backward(gpu, to, dy.view(), y.view(), norms.view(), 1e-12)
            })
        }),
    ]
}
