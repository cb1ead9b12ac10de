//! Positions of a grid of patches for a grid of another size: Keys' cubic (a = −0.75) of the places' centres, edges
//! repeated, as PyTorch's `interpolate(size=…, mode="bicubic")` without aligned corners; the class token's stay as they
//! are. DINO (arXiv 2104.14294) gives its small crops such positions.
//!
//! FLOPs: 32 per value forward and backward. Bytes: positions of both grids once.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

/// Sizes: a grid of `from`×`from` becomes one of `to`×`to`; a place has `d` values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub from: usize,
    pub to: usize,
    pub d: usize,
}

impl Shape {
    /// Values of the positions before and behind, the class token's among them.
    pub fn lens(self) -> [usize; 2] {
        [self.from, self.to].map(|side| (1 + side * side) * self.d)
    }

    fn check(self, before: usize, behind: usize) {
        let fits = self.from > 0 && self.to > 0 && self.d > 0;
        assert!(fits && [before, behind] == self.lens(), "interpolate: {before} to {behind} of {self:?}");
    }

    /// What place `at` of a side is made of: the places of the other grid and their weights.
    fn taps(self, at: usize) -> [(usize, f32); 4] {
        const A: f32 = -0.75;
        let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
        let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
        let real = self.from as f32 / self.to as f32 * (at as f32 + 0.5) - 0.5;
        let (first, t) = (real.floor(), real - real.floor());
        let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
        let place = |tap: usize| (first as isize + tap as isize - 1).clamp(0, self.from as isize - 1) as usize;
        std::array::from_fn(|tap| (place(tap), weights[tap]))
    }

    /// Calls `each` with a row of the new grid, one of the old that it is made of, and its weight there.
    fn pairs(self, mut each: impl FnMut(usize, usize, f32)) {
        for row in 0..self.to {
            for column in 0..self.to {
                for (from_row, a) in self.taps(row) {
                    for (from_column, b) in self.taps(column) {
                        each(1 + row * self.to + column, 1 + from_row * self.from + from_column, a * b);
                    }
                }
            }
        }
    }
}

/// `y [1 + to², D]` from `pos [1 + from², D]`.
///
/// # Panics
/// If lengths do not fit.
pub fn forward(y: &mut [f32], pos: &[f32], shape: Shape) {
    shape.check(pos.len(), y.len());
    let d = shape.d;
    y.fill(0.0);
    y[..d].copy_from_slice(&pos[..d]);
    shape.pairs(|to, from, weight| add(&mut y[to * d..][..d], &pos[from * d..][..d], weight));
}

/// Adds to `dpos [1 + from², D]` the gradient `dy [1 + to², D]`.
///
/// # Panics
/// If lengths do not fit.
pub fn backward(dpos: &mut [f32], dy: &[f32], shape: Shape) {
    shape.check(dpos.len(), dy.len());
    let d = shape.d;
    add(&mut dpos[..d], &dy[..d], 1.0);
    shape.pairs(|to, from, weight| add(&mut dpos[from * d..][..d], &dy[to * d..][..d], weight));
}

fn add(y: &mut [f32], x: &[f32], weight: f32) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += weight * x);
}
