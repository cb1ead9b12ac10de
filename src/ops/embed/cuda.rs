//! Launches of `kernels/embed.cu`.

use half::bf16;

use crate::device::cuda::kernels::embed::{ROW_THREADS, THREADS};
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

/// A block for every row, and for every 512 columns of it.
fn rows(count: usize, d: usize) -> Launch {
    assert!(count > 0 && d > 0 && d.is_multiple_of(8) && count < 1 << 31, "embed: {count} rows of {d}");
    Launch::grid([count, (d / 8).div_ceil(ROW_THREADS), 1], ROW_THREADS as u32)
}

/// Adds the gradients of both tables, as [`super::text_backward`]; `order` and `ends` are those of [`super::Places`].
///
/// # Panics
/// If the lengths do not fit or `d` is no multiple of 8.
pub fn text_backward(
    gpu: &Gpu,
    (dtoken, dposition): (View<f32>, View<f32>),
    dy: View<bf16>,
    ids: View<u32>,
    (order, ends): (View<u32>, View<u32>),
    d: usize,
) -> Result<()> {
    let (places, tokens) = (ids.len(), dposition.len() / d);
    let fits = dy.len() == places * d && order.len() == places && ends.len() == places && tokens * d == dposition.len();
    assert!(fits && places.is_multiple_of(tokens) && dtoken.len().is_multiple_of(d), "embed: dy {}", dy.len());
    assert!(dy.is_aligned(16) && dtoken.is_aligned(16) && dposition.is_aligned(16), "embed: addresses");
    let (texts, width) = ((places / tokens) as u32, d as u32);
    kernels::EmbedTokensBackward { dtoken, dy, ids, order, ends, d: width }.launch(gpu, rows(places, d))?;
    kernels::EmbedPositionsBackward { dposition, dy, texts, tokens: tokens as u32, d: width }
        .launch(gpu, rows(tokens, d))
}

/// As [`super::pick`].
///
/// # Panics
/// If the lengths do not fit or a row is no multiple of 8 values.
pub fn pick(gpu: &Gpu, y: View<bf16>, x: View<bf16>, places: View<u32>) -> Result<()> {
    let (texts, d) = (places.len(), y.len() / places.len());
    assert!(y.len() == texts * d && x.len().is_multiple_of(y.len()), "pick: y {}, x {}", y.len(), x.len());
    assert!(y.is_aligned(16) && x.is_aligned(16), "pick: addresses");
    kernels::EmbedPick { y, x, places, d: d as u32 }.launch(gpu, rows(texts, d))
}

/// As [`super::pick_backward`].
///
/// # Panics
/// As [`pick`].
pub fn pick_backward(gpu: &Gpu, dx: View<bf16>, dy: View<bf16>, places: View<u32>) -> Result<()> {
    let (texts, d) = (places.len(), dy.len() / places.len());
    assert!(dy.len() == texts * d && dx.len().is_multiple_of(dy.len()), "pick: dx {}, dy {}", dx.len(), dy.len());
    assert!(dy.is_aligned(16) && dx.is_aligned(16), "pick: addresses");
    let (all, tokens) = (dx.len() / d, (dx.len() / dy.len()) as u32);
    kernels::EmbedPickBackward { dx, dy, places, tokens, d: d as u32 }.launch(gpu, rows(all, d))
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
