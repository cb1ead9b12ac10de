//! The transforms of filters, pixels and sums, some channels at a time.

use std::array;
use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use rayon::prelude::*;

use crate::ops::packed::transposed;
use crate::ops::simd::vectorize;

/// Results of a tile's side.
pub(super) const TILE: usize = 4;
/// Pixels of the side of what they are made from.
pub(super) const SIDE: usize = TILE + 2;
/// Channels at once: one 512-bit register.
pub(super) const LANES: usize = 16;

type Lanes = [f32; LANES];

/// `G·g·Gᵀ` of every pair of channels, in f64: a matrix `[C, N]` for every place, from `[N, C, 3, 3]`.
pub(super) fn filters(w: &[f32], channels: usize, outputs: usize) -> Vec<Vec<f32>> {
    let point = |p: f64, f: f64| [1.0 / f, p / f, p * p / f];
    let (a, b) = (0.5f64.sqrt(), 2f64.sqrt());
    let g = [[1.0, 0.0, 0.0], point(a, -1.5), point(-a, -1.5), point(b, 6.0), point(-b, 6.0), [0.0, 0.0, 1.0]];
    // [C, 3, 3, N]
    let w = transposed(w, outputs, 9 * channels);
    let place = |place: usize| {
        let (gy, gx) = (g[place / SIDE], g[place % SIDE]);
        let factors: [f64; 9] = array::from_fn(|tap| gy[tap / 3] * gx[tap % 3]);
        let mut all = vec![0.0; channels * outputs];
        vectorize(
            #[inline(always)]
            || {
                for (all, taps) in all.chunks_exact_mut(outputs).zip(w.chunks_exact(9 * outputs)) {
                    for (n, value) in all.iter_mut().enumerate() {
                        let mut sum = 0.0;
                        for (tap, factor) in factors.iter().enumerate() {
                            sum += factor * f64::from(taps[tap * outputs + n]);
                        }
                        *value = sum as f32;
                    }
                }
            },
        );
        all
    };
    (0..SIDE * SIDE).into_par_iter().map(place).collect()
}

/// `Bᵀ·d·B` of a tile's pixels `[C]`: to the values from `at` on of every place.
pub(super) fn to_places(to: &mut [&mut [f32]; SIDE * SIDE], at: usize, pixels: &[&[f32]; SIDE * SIDE]) {
    let c = pixels[0].len();
    vectorize(
        #[inline(always)]
        || {
            for from in (0..c).step_by(LANES) {
                let width = LANES.min(c - from);
                let mut columns = [[[0.0; LANES]; SIDE]; SIDE];
                for (column, values) in columns.iter_mut().enumerate() {
                    let mut d = [[0.0; LANES]; SIDE];
                    for (row, d) in d.iter_mut().enumerate() {
                        *d = load(&pixels[row * SIDE + column][from..from + width]);
                    }
                    *values = pixels_1d(&d);
                }
                for row in 0..SIDE {
                    let values = pixels_1d(&across(&columns, row));
                    for (column, value) in values.iter().enumerate() {
                        store(&mut to[row * SIDE + column][at + from..at + from + width], value);
                    }
                }
            }
        },
    );
}

/// `Aᵀ·m·A` of a tile's sums `[N]` of every place: to rows of `y [4 at most, W, N]`, from column `left` on, as far as
/// there are any. Added to what is there where that is to be kept.
pub(super) fn from_places(y: &mut [f32], (width, left): (usize, usize), sums: &[&[f32]; SIDE * SIDE], keep: bool) {
    let n = sums[0].len();
    vectorize(
        #[inline(always)]
        || {
            for from in (0..n).step_by(LANES) {
                let lanes = LANES.min(n - from);
                let mut columns = [[[0.0; LANES]; TILE]; SIDE];
                for (column, values) in columns.iter_mut().enumerate() {
                    let mut m = [[0.0; LANES]; SIDE];
                    for (row, m) in m.iter_mut().enumerate() {
                        *m = load(&sums[row * SIDE + column][from..from + lanes]);
                    }
                    *values = sums_1d(&m);
                }
                for (row, y) in y.chunks_exact_mut(width * n).enumerate() {
                    let values = sums_1d(&across(&columns, row));
                    for (y, value) in y[left * n..].chunks_exact_mut(n).zip(&values) {
                        let y = &mut y[from..from + lanes];
                        let value = if keep { combine([(1.0, &load(y)), (1.0, value)]) } else { *value };
                        store(y, &value);
                    }
                }
            }
        },
    );
}

/// Value `row` of every column.
#[inline(always)]
fn across<const ROWS: usize>(columns: &[[Lanes; ROWS]; SIDE], row: usize) -> [Lanes; SIDE] {
    let mut values = [[0.0; LANES]; SIDE];
    for (value, column) in values.iter_mut().zip(columns) {
        *value = column[row];
    }
    values
}

const A: f32 = FRAC_1_SQRT_2;
const B: f32 = SQRT_2;

/// `Bᵀ·d`: the products of the other points' factors, even and odd powers apart.
#[inline(always)]
fn pixels_1d(d: &[Lanes; SIDE]) -> [Lanes; SIDE] {
    let (plus_a, minus_a) =
        sum_and_difference(&combine([(1.0, &d[4]), (-2.0, &d[2])]), &combine([(A, &d[3]), (-B, &d[1])]));
    let (plus_b, minus_b) =
        sum_and_difference(&combine([(1.0, &d[4]), (-0.5, &d[2])]), &combine([(B, &d[3]), (-A, &d[1])]));
    let zero = combine([(1.0, &d[0]), (-2.5, &d[2]), (1.0, &d[4])]);
    let infinite = combine([(1.0, &d[1]), (-2.5, &d[3]), (1.0, &d[5])]);
    [zero, plus_a, minus_a, plus_b, minus_b, infinite]
}

/// `Aᵀ·m`: powers 0 to 3 of the points.
#[inline(always)]
fn sums_1d(m: &[Lanes; SIDE]) -> [Lanes; TILE] {
    let (even_a, odd_a) = sum_and_difference(&m[1], &m[2]);
    let (even_b, odd_b) = sum_and_difference(&m[3], &m[4]);
    [
        combine([(1.0, &m[0]), (1.0, &even_a), (1.0, &even_b)]),
        combine([(A, &odd_a), (B, &odd_b)]),
        combine([(0.5, &even_a), (2.0, &even_b)]),
        combine([(0.5 * A, &odd_a), (2.0 * B, &odd_b), (1.0, &m[5])]),
    ]
}

/// Σ factor·values, one fused multiply-add after the other.
#[inline(always)]
fn combine<const TERMS: usize>(terms: [(f32, &Lanes); TERMS]) -> Lanes {
    let mut sums = [0.0; LANES];
    for (lane, sum) in sums.iter_mut().enumerate() {
        *sum = terms[0].0 * terms[0].1[lane];
        for (factor, values) in &terms[1..] {
            *sum = factor.mul_add(values[lane], *sum);
        }
    }
    sums
}

#[inline(always)]
fn sum_and_difference(x: &Lanes, y: &Lanes) -> (Lanes, Lanes) {
    (combine([(1.0, x), (1.0, y)]), combine([(1.0, x), (-1.0, y)]))
}

/// Up to 16 values, zeros behind them.
#[inline(always)]
fn load(values: &[f32]) -> Lanes {
    if let Some(all) = values.first_chunk() {
        return *all;
    }
    let mut lanes = [0.0; LANES];
    lanes[..values.len()].copy_from_slice(values);
    lanes
}

#[inline(always)]
fn store(to: &mut [f32], values: &Lanes) {
    match to.first_chunk_mut() {
        Some(to) => *to = *values,
        None => to.copy_from_slice(&values[..to.len()]),
    }
}
