//! Launches of `kernels/embed.cu`.

use crate::device::cuda::kernels::embed::THREADS;
use crate::device::cuda::{Gpu, Half, Launch, View, kernels};
use crate::error::Result;

/// A thread per 8 values.
fn plan(texts: usize, tokens: usize, d: usize) -> Launch {
    Launch::new((texts * tokens * d / 8).div_ceil(THREADS), THREADS as u32)
}

/// `y [texts, tokens, d] = token[ids] + position`: rows of `token [vocabulary, d]` by `ids [texts, tokens]`, all below
/// the vocabulary, and of `position [tokens, d]` by place.
///
/// # Panics
/// If the lengths do not fit or `d` is no multiple of 8.
pub fn text<T: Half>(
    gpu: &Gpu,
    y: View<T>,
    ids: View<u32>,
    token: View<T>,
    position: View<T>,
    (texts, tokens, d): (usize, usize, usize),
) -> Result<()> {
    let fits = texts > 0 && tokens > 0 && d > 0 && d.is_multiple_of(8) && texts * tokens * d / 8 < 1 << 31;
    assert!(fits, "embed: {texts} texts of {tokens} tokens, width {d} (a multiple of 8)");
    assert!(y.len() == texts * tokens * d && ids.len() == texts * tokens, "embed: y {}, ids {}", y.len(), ids.len());
    let tables = token.len().is_multiple_of(d) && position.len() == tokens * d;
    assert!(tables, "embed: token {}, position {}", token.len(), position.len());
    assert!([y, token, position].iter().all(|view| view.is_aligned(16)), "embed: addresses");
    let (at, texts, tokens, d) = (plan(texts, tokens, d), texts as u32, tokens as u32, d as u32);
    kernels::EmbedText { y, ids, token, position, texts, tokens, d }.launch(gpu, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_for_every_vector() {
        assert_eq!(plan(1, 1, 8).grid, [1, 1, 1]);
        assert_eq!(plan(2, 77, 768).grid, [58, 1, 1]);
        assert_eq!(plan(1, 32, 64).grid, [1, 1, 1]);
        assert_eq!(plan(1, 33, 64).grid, [2, 1, 1]);
    }
}
