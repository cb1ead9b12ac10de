//! Text embeddings against sums on the CPU.

use half::{bf16, f16};

use crate::device::cuda::Half;
use crate::error::Result;
use crate::ops::check::{Case, Check, Checks};
use crate::ops::embed::cuda::text;

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "embed text f16", run: |case| compare::<f16>(case) },
    Check { name: "embed text bf16", run: |case| compare::<bf16>(case) },
]);

/// One token, lengths about a block's, CLIP's own; the first and the last word of the vocabulary among others.
fn compare<T: Half>(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for (texts, tokens, d, vocabulary) in [(1, 1, 8, 1), (3, 77, 64, 101), (1, 33, 64, 7), (2, 77, 768, 50)] {
        let (token, tokens_table) = case.half::<T>(&case.normal("token", vocabulary * d, 1.0))?;
        let (position, positions) = case.half::<T>(&case.normal("position", tokens * d, 1.0))?;
        let mut stream = case.stream("ids");
        let mut ids: Vec<u32> = (0..texts * tokens).map(|_| stream.next_u32() % vocabulary as u32).collect();
        ids[0] = vocabulary as u32 - 1;
        let y = gpu.upload(&vec![T::round(f32::NAN); texts * tokens * d])?;
        text(gpu, y.view(), gpu.upload(&ids)?.view(), token.view(), position.view(), (texts, tokens, d))?;
        let want: Vec<T> = (0..texts * tokens * d)
            .map(|i| (ids[i / d] as usize, i / d % tokens, i % d))
            .map(|(id, place, c)| T::round(tokens_table[id * d + c] + positions[place * d + c]))
            .collect();
        case.same(&format!("{texts} texts of {tokens}×{d}"), &gpu.read(y.view())?, &want)?;
    }
    Ok(())
}
