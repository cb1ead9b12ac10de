//! Text embeddings, f16 and bf16.

use half::{bf16, f16};

use crate::device::cuda::Half;
use crate::ops::bench::{Case, Number, Size, Work, stored};
use crate::ops::embed::cuda::text;
use crate::ops::shapes::{TEXT_TOKENS, TEXT_WIDTH, texts};

pub fn cases(size: Size) -> Vec<Case> {
    vec![case::<f16>(size), case::<bf16>(size)]
}

fn case<T: Half + Number>(size: Size) -> Case {
    let (n, tokens, d) = (texts(size), TEXT_TOKENS, TEXT_WIDTH);
    let vocabulary = size.pick(49_408, 1000);
    let bytes = (4 * n * tokens * d + 4 * n * tokens + 2 * tokens * d) as f64;
    let name = ("embed", stored::<T>("text"), format!("[{n}, {tokens}, {d}]"));
    Case::new(name, Work { bytes, ..Work::default() }, move |inputs| {
        let (token, position) = (inputs.normal::<T>(vocabulary * d)?, inputs.normal::<T>(tokens * d)?);
        let (ids, y) = (inputs.below(n * tokens, vocabulary)?, inputs.room::<T>(n * tokens * d)?);
        Ok(move |gpu: &_| text(gpu, y.view(), ids.view(), token.view(), position.view(), (n, tokens, d)))
    })
}
