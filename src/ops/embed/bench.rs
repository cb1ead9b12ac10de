//! Text embeddings, f16 and bf16, and their gradients over a step of StableRep's captions.

use half::{bf16, f16};

use crate::device::cuda::Half;
use crate::ops::bench::{Case, Number, Size, Work, stored};
use crate::ops::embed::Places;
use crate::ops::embed::cuda::{text, text_backward};
use crate::ops::shapes::{TEXT_TOKENS, TEXT_WIDTH, texts};

pub fn cases(size: Size) -> Vec<Case> {
    vec![case::<f16>(size), case::<bf16>(size), backward(size)]
}

/// Ids by frequency as in natural language would come to the same: every place is read once.
fn backward(size: Size) -> Case {
    let (n, tokens, d, vocabulary) = (size.pick(1376, 2), TEXT_TOKENS, 512, size.pick(49_408, 1000));
    let bytes = (2 * n * tokens * d + 16 * n * tokens) as f64;
    let name = ("embed", "text, backward", format!("[{n}, {tokens}, {d}]"));
    Case::new(name, Work { bytes, ..Work::default() }, move |inputs| {
        let ids: Vec<u32> = (0..n * tokens).map(|i| (i * 7919 % vocabulary) as u32).collect();
        let Places { order, ends } = Places::new(&ids, (0..n).map(|_| tokens), tokens);
        let (ids, order, ends) = (inputs.upload(&ids)?, inputs.upload(&order)?, inputs.upload(&ends)?);
        let (dtoken, dposition) = (inputs.normal(vocabulary * d)?, inputs.normal(tokens * d)?);
        let dy = inputs.normal::<bf16>(n * tokens * d)?;
        Ok(move |gpu: &_| {
            let tables = (dtoken.view(), dposition.view());
            text_backward(gpu, tables, dy.view(), ids.view(), (order.view(), ends.view()), d)
        })
    })
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
