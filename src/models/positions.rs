//! Positions of a square grid of patches behind that of the class token: those that are not learned, sines and cosines
//! of the row and the column of a patch, and those of one grid for a grid of another size.

use crate::error::Result;
use crate::image::{Filter, taps};
use crate::weights::SafeTensors;

/// What the first half of the values tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// As MoCo v3 (arXiv 2104.02057) has it.
    Row,
    /// As MAE (arXiv 2111.06377) has it.
    Column,
}

/// `[1 + grid², width]`: zeros for the class token, then the patches in reading order. A half tells the row, the other
/// the column of a patch; each is sin(place·ω), then cos(place·ω), ω_i = 10000^(−4i/width). Computed in f64.
///
/// # Panics
/// If the width is no multiple of 4.
pub fn sin_cos(grid: usize, width: usize, first: First) -> Vec<f32> {
    assert!(width.is_multiple_of(4), "positions of {width} values");
    let quarter = width / 4;
    let half = |place: usize| {
        let angle = move |i: usize| place as f64 / 10_000f64.powf(i as f64 / quarter as f64);
        (0..quarter).map(move |i| angle(i).sin() as f32).chain((0..quarter).map(move |i| angle(i).cos() as f32))
    };
    let patches = (0..grid * grid).flat_map(|token| {
        let (row, column) = (token / grid, token % grid);
        match first {
            First::Row => half(row).chain(half(column)),
            First::Column => half(column).chain(half(row)),
        }
    });
    std::iter::repeat_n(0.0, width).chain(patches).collect()
}

/// The side of the grid that so many positions are of, and whether the class token's is among them.
pub fn grid(positions: usize) -> Option<(usize, bool)> {
    let side = |patches: usize| Some(patches.isqrt()).filter(|side| *side > 0 && side * side == patches);
    let without = || side(positions).filter(|_| positions > 1).map(|side| (side, false));
    positions.checked_sub(1).and_then(side).map(|side| (side, true)).or_else(without)
}

/// Tensor `name` of `file`, `[1, P, D]` or `[P, D]`, as positions of `shape` `[1, 1 + to², D]`; those of another
/// grid are resampled, and where the class token has none it is 0.
///
/// # Errors
/// Data error if it is not there, is no grid of positions of D values, or holds one that is not finite.
pub fn read(file: &SafeTensors, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let (to, width) = ((shape[1] - 1).isqrt(), shape[2]);
    let found = file.shape(name).and_then(|held| match *held {
        [1, positions, d] | [positions, d] if d == width => Some((held, grid(positions)?)),
        _ => None,
    });
    // Whose error says what was expected.
    let Some((held, (from, has_class))) = found else { return file.f32(name, shape) };
    let mut values = file.f32(name, held)?;
    if !has_class {
        values.splice(0..0, std::iter::repeat_n(0.0, width));
    }
    Ok(if from == to { values } else { resample(&values, width, to) })
}

/// `[1 + to², width]` of positions `[1 + from², width]`, as timm resamples those of weights for images of another size
/// (`resample_abs_pos_embed`): Keys' cubic (a = −0.5), stretched where the grid shrinks, of the places that there are;
/// first along the rows. The class token's stay.
fn resample(positions: &[f32], width: usize, to: usize) -> Vec<f32> {
    let from = (positions.len() / width - 1).isqrt();
    let taps = taps(from, to, Filter::Bicubic);
    let (class, grid) = positions.split_at(width);
    let mut rows = vec![0.0; from * to * width];
    for (row, places) in rows.chunks_exact_mut(to * width).zip(grid.chunks_exact(from * width)) {
        mix(row, places, &taps, width);
    }
    let mut all = vec![0.0; (1 + to * to) * width];
    all[..width].copy_from_slice(class);
    mix(&mut all[width..], &rows, &taps, to * width);
    all
}

/// Adds to each run of `len` values of `to` the runs of `from` that it is made of.
fn mix(to: &mut [f32], from: &[f32], taps: &[(usize, Vec<f64>)], len: usize) {
    for (run, (first, weights)) in to.chunks_exact_mut(len).zip(taps) {
        for (source, &weight) in from.chunks_exact(len).skip(*first).zip(weights) {
            run.iter_mut().zip(source).for_each(|(y, x)| *y += weight as f32 * x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2×2 places of width 8, by NumPy: token 1 is column 1 of row 0.
    #[test]
    fn a_grid_of_two_by_two() {
        let (zero, one) = ([0.0, 0.0, 1.0, 1.0], [0.841_470_98, 0.009_999_833, 0.540_302_3, 0.999_95]);
        let column_first = [[0.0; 4], [0.0; 4], zero, zero, one, zero, zero, one, one, one].concat();
        let row_first = [[0.0; 4], [0.0; 4], zero, zero, zero, one, one, zero, one, one].concat();
        for (first, want) in [(First::Column, column_first), (First::Row, row_first)] {
            let got = sin_cos(2, 8, first);
            assert_eq!(got.len(), want.len());
            for (got, want) in got.iter().zip(want) {
                assert!((got - want).abs() < 1e-7, "{got} {want}");
            }
        }
    }
}
