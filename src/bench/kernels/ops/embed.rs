//! Text embeddings, f16.

use half::f16;

use crate::bench::kernels::case::{Case, Size, Work};
use crate::bench::kernels::shapes::{TEXT_TOKENS, TEXT_WIDTH, texts};
use crate::ops::embed::cuda::text;

pub fn cases(size: Size) -> Vec<Case> {
    let (n, tokens, d) = (texts(size), TEXT_TOKENS, TEXT_WIDTH);
    let vocabulary = size.pick(49_408, 1000);
    let bytes = (4 * n * tokens * d + 4 * n * tokens + 2 * tokens * d) as f64;
    let name = ("embed", "text f16", format!("[{n}, {tokens}, {d}]"));
    vec![Case::new(name, Work { bytes, ..Work::default() }, move |inputs| {
        let (token, position) = (inputs.normal::<f16>(vocabulary * d)?, inputs.normal::<f16>(tokens * d)?);
        let (ids, y) = (inputs.below(n * tokens, vocabulary)?, inputs.room::<f16>(n * tokens * d)?);
        Ok(move |gpu: &_| text(gpu, y.view(), ids.view(), token.view(), position.view(), (n, tokens, d)))
    })]
}
