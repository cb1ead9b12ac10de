//! The hidden layers of ViT-B/16's blocks, of which GELU is computed again, and of CLIP's text tower.

use half::bf16;

use super::cuda::{gelu, quick_gelu, quick_gelu_backward};
use crate::ops::bench::{Case, Size, Work};
use crate::ops::shapes::{TEXT_TOKENS, texts};

const OP: &str = "activation";
/// Width of CLIP's text tower.
const WIDTH: usize = 512;

pub fn cases(size: Size) -> Vec<Case> {
    let values = size.pick(512, 2) * 197 * size.pick(3072, 96);
    let of_texts = texts(size) * TEXT_TOKENS * 4 * WIDTH;
    let work =
        |values: usize, bytes: f64| Work { bytes: bytes * values as f64, exps: 2.0 * values as f64, ..Work::default() };
    vec![
        Case::new((OP, "GELU", format!("[{values}]")), work(values, 4.0), move |inputs| {
            let (x, y) = (inputs.normal::<bf16>(values)?, inputs.room::<bf16>(values)?);
            Ok(move |gpu: &_| gelu(gpu, y.view(), x.view()))
        }),
        Case::new((OP, "quick GELU", format!("[{of_texts}]")), work(of_texts, 4.0), move |inputs| {
            let (x, y) = (inputs.normal::<bf16>(of_texts)?, inputs.room::<bf16>(of_texts)?);
            Ok(move |gpu: &_| quick_gelu(gpu, y.view(), x.view()))
        }),
        Case::new((OP, "quick GELU, backward", format!("[{of_texts}]")), work(of_texts, 6.0), move |inputs| {
            let (x, dx) = (inputs.normal::<bf16>(of_texts)?, inputs.normal::<bf16>(of_texts)?);
            Ok(move |gpu: &_| quick_gelu_backward(gpu, dx.view(), x.view()))
        }),
    ]
}
