//! Launches of the kernels over maps `[N, S, S, C]` (`kernels/common/maps.cuh`): warps take pixels, their lanes vectors
//! of channels.

use half::bf16;

use crate::device::cuda::kernels::bilinear::{PIXELS, WARPS};
use crate::device::cuda::{Launch, View};

/// Lanes of a warp.
const LANES: usize = 32;

/// Values per vector: one where a pixel of a map does not begin at a multiple of 16 bytes; `strides` says how many
/// values lie between beginnings.
pub(super) fn width(strides: &[usize], maps: &[View<bf16>]) -> usize {
    let wide = strides.iter().all(|stride| stride.is_multiple_of(8)) && maps.iter().all(|map| map.is_aligned(16));
    if wide { 8 } else { 1 }
}

/// Blocks for `lines` of `pixels` each.
pub(super) fn lines(lines: usize, pixels: usize) -> Launch {
    Launch::grid([lines, pixels.div_ceil(PIXELS), 1], (LANES * WARPS) as u32)
}

/// Blocks for `chunks` of pixels, each of 32 vectors of `width` channels.
pub(super) fn chunks(chunks: usize, c: usize, width: usize, images: usize) -> Launch {
    Launch::grid([chunks, (c / width).div_ceil(LANES), images], (LANES * WARPS) as u32)
}

/// Sizes of a map as kernels take them, whose products of two must fit 32 bits.
///
/// # Panics
/// If one is too large.
pub(super) fn sizes<const N: usize>(sizes: [usize; N]) -> [u32; N] {
    assert!(sizes.iter().all(|&size| size < 1 << 16), "sizes {sizes:?} of a map are too large");
    sizes.map(|size| size as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_covers_every_value() {
        for (pixels, c) in [(1, 1), (5, 33), (32, 256), (33, 264), (128, 768)] {
            let [line, pieces, _] = lines(7, pixels).grid.map(|n| n as usize);
            assert!(line == 7 && pieces * PIXELS >= pixels && (pieces - 1) * PIXELS < pixels);
            for width in [1, 8].into_iter().filter(|&width| c % width == 0) {
                let [chunk, pieces, images] = chunks(9, c, width, 2).grid.map(|n| n as usize);
                let columns = LANES * width;
                assert!(chunk == 9 && images == 2 && pieces * columns >= c && (pieces - 1) * columns < c);
            }
        }
    }
}
