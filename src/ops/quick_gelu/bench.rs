//! The hidden layer of a text tower.

use half::bf16;

use super::cuda::{backward_in_place, forward};
use crate::ops::bench::{Case, Size, Work};
use crate::ops::shapes::{TEXT_TOKENS, texts};

const OP: &str = "quick_gelu";
/// Width of CLIP's text tower.
const WIDTH: usize = 512;

pub fn cases(size: Size) -> Vec<Case> {
    let (rows, hidden) = (texts(size) * TEXT_TOKENS, 4 * WIDTH);
    let (len, shape) = (rows * hidden, format!("[{rows}, {hidden}]"));
    let work = |bytes: usize| Work { bytes: (bytes * len) as f64, ..Work::default() };
    vec![
        Case::new((OP, "forward", shape.clone()), work(4), move |inputs| {
            let (x, y) = (inputs.normal::<bf16>(len)?, inputs.room::<bf16>(len)?);
            Ok(move |gpu: &_| forward(gpu, y.view(), x.view()))
        }),
        Case::new((OP, "backward", shape), work(6), move |inputs| {
            let (x, dx) = (inputs.normal::<bf16>(len)?, inputs.normal::<bf16>(len)?);
            Ok(move |gpu: &_| backward_in_place(gpu, dx.view(), x.view()))
        }),
    ]
}
