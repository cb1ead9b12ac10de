//! The hidden layer of ViT-B/16's blocks, of which GELU is computed again.

use half::bf16;

use super::cuda::gelu;
use crate::ops::bench::{Case, Size, Work};

pub fn cases(size: Size) -> Vec<Case> {
    let values = size.pick(512, 2) * 197 * size.pick(3072, 96);
    let work = Work { bytes: 4.0 * values as f64, exps: 2.0 * values as f64, ..Work::default() };
    vec![Case::new(("activation", "GELU", format!("[{values}]")), work, move |inputs| {
        let (x, y) = (inputs.normal::<bf16>(values)?, inputs.room::<bf16>(values)?);
        Ok(move |gpu: &_| gelu(gpu, y.view(), x.view()))
    })]
}
