//! Bilinear resizing to a larger or an equal size, corners not aligned, as PyTorch's `interpolate(mode="bilinear",
//! align_corners=False)`: of the map in `x [N, lead + from², C]`, whose first `lead` rows of each image are not of it
//! (class tokens), into the columns `column..column + C` of `y [N, to², columns]`.
//!
//! Place i of `to` lies at (i + ½)·from/to − ½ of the smaller side, and not before its first place; what is beyond the
//! last place is that one. Places and shares are computed in whole numbers, so that every device has the same.
//!
//! FLOPs: 8 per value of y either way. Bytes: [`Shape::bytes`].

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use std::ops::Range;

use rayon::prelude::*;

use super::simd::vectorize;

/// One axis: `from` places become `to`, which are not fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    pub from: usize,
    pub to: usize,
}

impl Axis {
    /// Whether it is one, and small enough for 32 bits to hold its places' whole numbers.
    pub(super) fn fits(self) -> bool {
        self.from > 0 && self.from <= self.to && self.to < 1 << 15
    }

    /// What place `at` of the larger side is made of: a place of the smaller one and the next, which is the same at the
    /// end, and the share of the latter.
    pub fn taps(self, at: usize) -> ([usize; 2], f32) {
        // In units of 1/(2·to).
        let (past, unit) = (((2 * at + 1) * self.from).saturating_sub(self.to), 2 * self.to);
        let first = past / unit;
        if first + 1 < self.from { ([first, first + 1], (past % unit) as f32 / unit as f32) } else { ([first; 2], 0.0) }
    }

    /// The places of the larger side that `place` of the smaller one is part of.
    pub fn reach(self, place: usize) -> Range<usize> {
        let Self { from, to } = self;
        // 2·at + 1 lies between these two, ends left out.
        let (above, below) = ((to * (2 * place).saturating_sub(1)) / from, (to * (2 * place + 3)).div_ceil(from));
        (if place == 0 { 0 } else { above.div_ceil(2) })..(below / 2).min(to)
    }

    /// The share of `place` in the place `at` of the larger side.
    pub fn share(self, at: usize, place: usize) -> f32 {
        let ([first, second], share) = self.taps(at);
        let of_first = if first == place { 1.0 - share } else { 0.0 };
        of_first + if second == place { share } else { 0.0 }
    }
}

/// What a pixel of the larger map is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Corners<'a> {
    /// Above left, above right, below left, below right, `[C]` each.
    pixels: [&'a [f32]; 4],
    /// Shares of what is below, and of what is right.
    down: f32,
    across: f32,
}

impl<'a> Corners<'a> {
    /// Of the pixel at `row` and `column` of what `map [from², C]` becomes along `axis`.
    pub(super) fn new(map: &'a [f32], axis: Axis, c: usize, row: usize, column: usize) -> Self {
        let (([above, below], down), ([left, right], across)) = (axis.taps(row), axis.taps(column));
        let pixels = [(above, left), (above, right), (below, left), (below, right)];
        Self { pixels: pixels.map(|(row, column)| &map[(row * axis.from + column) * c..][..c]), down, across }
    }

    /// The value of channel `i`. Call inside [`vectorize`].
    #[inline(always)]
    pub(super) fn value(&self, i: usize) -> f32 {
        let line = |k: usize| (1.0 - self.across) * self.pixels[k][i] + self.across * self.pixels[k + 1][i];
        (1.0 - self.down) * line(0) + self.down * line(2)
    }
}

/// Sizes: `n` maps of `from²` pixels behind `lead` other rows become `to²` pixels; of `c` channels, from `column` on of
/// `columns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    pub lead: usize,
    pub from: usize,
    pub to: usize,
    pub c: usize,
    pub column: usize,
    pub columns: usize,
}

impl Shape {
    /// Values of x, leading rows among them, and of y with all its columns.
    pub fn lens(self) -> [usize; 2] {
        [self.rows() * self.c, self.to * self.to * self.columns].map(|len| self.n * len)
    }

    /// Rows of an image before, leading ones among them.
    pub fn rows(self) -> usize {
        self.lead + self.from * self.from
    }

    /// Either axis.
    pub fn axis(self) -> Axis {
        Axis { from: self.from, to: self.to }
    }

    /// Bytes moved either way, with values of `size` bytes, where nothing is added.
    pub fn bytes(self, size: usize) -> f64 {
        (size * self.n * self.c * (self.rows() + self.to * self.to)) as f64
    }

    pub(super) fn check(self, x: usize, y: usize) {
        let fits = x > 0 && self.axis().fits() && self.column + self.c <= self.columns;
        assert!(fits && [x, y] == self.lens(), "bilinear: {x} to {y} of {self:?}");
    }
}

/// Writes those columns of `y [N, to², columns]` from `x [N, lead + from², C]`, or adds to them where `add`.
///
/// # Panics
/// If lengths do not fit, or the size becomes smaller.
pub fn forward(y: &mut [f32], x: &[f32], shape: Shape, add: bool) {
    shape.check(x.len(), y.len());
    let Shape { lead, from, to, c, column, columns, .. } = shape;
    let axis = shape.axis();
    y.par_chunks_exact_mut(to * columns).enumerate().for_each(|(line, y)| {
        let map = &x[(line / to * shape.rows() + lead) * c..][..from * from * c];
        for (at, y) in y.chunks_exact_mut(columns).enumerate() {
            let corners = Corners::new(map, axis, c, line % to, at);
            vectorize(
                #[inline(always)]
                || {
                    for (i, y) in y[column..column + c].iter_mut().enumerate() {
                        *y = if add { *y + corners.value(i) } else { corners.value(i) };
                    }
                },
            );
        }
    });
}

/// `dx [N, lead + from², C]` from those columns of the gradient `dy [N, to², columns]`, gathered in the order of the
/// pixels. Where `add` it is added to what is there, and leading rows stay as they are; else these become 0.
///
/// # Panics
/// As [`forward`].
pub fn backward(dx: &mut [f32], dy: &[f32], shape: Shape, add: bool) {
    shape.check(dx.len(), dy.len());
    let Shape { lead, from, to, c, column, columns, .. } = shape;
    let axis = shape.axis();
    dx.par_chunks_exact_mut(c).enumerate().for_each(|(row, dx)| {
        if !add {
            dx.fill(0.0);
        }
        let (map, Some(pixel)) = (row / shape.rows() * to * to, (row % shape.rows()).checked_sub(lead)) else { return };
        let (place, across) = (pixel % from, axis.reach(pixel % from));
        for y in axis.reach(pixel / from) {
            let down = axis.share(y, pixel / from);
            for at in across.clone() {
                let weight = down * axis.share(at, place);
                let dy = &dy[(map + y * to + at) * columns + column..][..c];
                vectorize(
                    #[inline(always)]
                    || dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += weight * dy),
                );
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a place reaches is where it has a share, and shares of a place add up to 1.
    #[test]
    fn gathered_are_all_shares_and_no_others() {
        for from in 1..12 {
            for to in from..40 {
                let axis = Axis { from, to };
                for at in 0..to {
                    let total: f32 = (0..from).map(|place| axis.share(at, place)).sum();
                    assert!((total - 1.0).abs() < 1e-6, "{axis:?} {at}: {total}");
                    for place in 0..from {
                        let (reached, share) = (axis.reach(place).contains(&at), axis.share(at, place));
                        assert_eq!(reached, share > 0.0, "{axis:?}: {place} in {at} by {share}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_equal_size_copies() {
        for at in 0..7 {
            let (places, share) = Axis { from: 7, to: 7 }.taps(at);
            assert_eq!((places[0], share), (at, 0.0));
        }
    }
}
