//! Gradients of the paper's features.

use half::bf16;

use super::cuda::forward;
use crate::ops::bench::{Case, Size, Work};

pub fn cases(size: Size) -> Vec<Case> {
    let (rows, d) = (size.pick(8256, 128), 768);
    let len = rows * d;
    let work = Work { bytes: (6 * len) as f64, ..Work::default() };
    vec![Case::new(("add", "bf16", format!("[{rows}, {d}]")), work, move |inputs| {
        let (x, y) = (inputs.normal::<bf16>(len)?, inputs.normal::<bf16>(len)?);
        Ok(move |gpu: &_| forward(gpu, y.view(), x.view()))
    })]
}
