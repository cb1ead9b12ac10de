//! Embeddings of the paper's batch.

use super::cuda::{backward, forward, scratch_len};
use crate::ops::bench::{Case, Size, Work};

const OP: &str = "logit_scale";

pub fn cases(size: Size) -> Vec<Case> {
    let (rows, d) = (size.pick(8256, 128), 512);
    let (len, shape) = (rows * d, format!("[{rows}, {d}]"));
    let work = |bytes: usize| Work { bytes: (bytes * len) as f64, ..Work::default() };
    vec![
        Case::new((OP, "forward", shape.clone()), work(8), move |inputs| {
            let (x, y, s) = (inputs.normal::<f32>(len)?, inputs.room::<f32>(len)?, inputs.normal(1)?);
            Ok(move |gpu: &_| forward(gpu, y.view(), x.view(), s.view()))
        }),
        Case::new((OP, "backward", shape), work(16), move |inputs| {
            let (y, dy, dx) = (inputs.normal::<f32>(len)?, inputs.normal::<f32>(len)?, inputs.room::<f32>(len)?);
            let (s, ds, scratch) = (inputs.normal(1)?, inputs.normal(1)?, inputs.room(scratch_len(len))?);
            Ok(move |gpu: &_| backward(gpu, (dx.view(), ds.view()), dy.view(), y.view(), s.view(), scratch.view()))
        }),
    ]
}
