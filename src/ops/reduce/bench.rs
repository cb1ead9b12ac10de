//! Sums over ViT-B/16's gradient.

use half::bf16;

use crate::ops::bench::{Case, Size, Work};
use crate::ops::reduce::cuda::{find_not_finite, scratch_len, sum_of_squares};
use crate::ops::shapes::parameters;

pub fn cases(size: Size) -> Vec<Case> {
    let len = parameters(size);
    let memory = |bytes: usize| Work { bytes: bytes as f64, ..Work::default() };
    let shape = format!("[{len}]");
    vec![
        Case::new(("reduce", "sum of squares f32", shape.clone()), memory(4 * len), move |inputs| {
            let (x, total) = (inputs.normal::<f32>(len)?, inputs.room::<f64>(1)?);
            let scratch = inputs.room::<f64>(scratch_len(len))?;
            Ok(move |gpu: &_| sum_of_squares(gpu, total.view(), x.view(), scratch.view()))
        }),
        Case::new(("reduce", "search for not finite bf16", shape), memory(2 * len), move |inputs| {
            let (x, flag) = (inputs.normal::<bf16>(len)?, inputs.room(1)?);
            Ok(move |gpu: &_| find_not_finite(gpu, flag.view(), x.view()))
        }),
    ]
}
