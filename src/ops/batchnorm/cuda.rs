//! Launches of `kernels/batchnorm.cu`: every slot of rows normalised on its own, with the ReLU behind it.
//!
//! Forward: [`moments`] → (ranks gather them) → [`statistics`] → [`apply`]. Backward: [`backward_sums`] → (ranks add them) →
//! [`backward_apply`].

use half::bf16;

use crate::device::cuda::{Element, Gpu, Launch, View, kernels};
use crate::error::Result;

/// Rows per block, of the kernels that sum and of those that apply.
const CHUNK: usize = 64;
/// Lanes of a warp: the columns of a block are this many times the values of a vector.
const LANES: usize = 32;

/// `slots` of `rows` rows each (this rank's) and `cols` columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub slots: usize,
    pub rows: usize,
    pub cols: usize,
}

impl Shape {
    /// Values of `x`.
    pub fn values(self) -> usize {
        self.slots * self.rows * self.cols
    }

    /// Values of `stats`, of one rank's moments, and of the backward sums: `[slots, 2, cols]`.
    pub fn stats_len(self) -> usize {
        2 * self.slots * self.cols
    }

    /// f32 values that [`moments`] and [`backward_sums`] need as scratch.
    pub fn scratch_len(self) -> usize {
        self.rows.div_ceil(CHUNK) * self.stats_len()
    }

    fn check(self) {
        let Self { slots, rows, cols } = self;
        // f32 counts the rows of a slot.
        let fits = slots > 0 && rows > 0 && cols > 0 && slots < 1 << 16 && rows < 1 << 22 && cols < 1 << 31;
        assert!(fits, "batchnorm: {self:?}");
    }

    /// A block per `CHUNK` rows of a slot and `LANES` vectors of `width` values.
    fn plan(self, width: usize) -> Launch {
        Launch::grid([self.cols.div_ceil(LANES * width), self.rows.div_ceil(CHUNK), self.slots], 256)
    }
}

/// gamma and beta, `[cols]` each.
pub type Affine = [View<f32>; 2];

/// What activations are stored as.
pub trait Activation: Element {
    /// Values of a 16-byte vector.
    #[doc(hidden)]
    const VECTOR: usize;
    #[doc(hidden)]
    fn moments(gpu: &Gpu, wide: bool, at: Launch, partials: View<f32>, x: View<Self>, shape: [u32; 2]) -> Result<()>;
    #[doc(hidden)]
    #[allow(clippy::too_many_arguments)]
    fn apply(
        gpu: &Gpu,
        wide: bool,
        at: Launch,
        y: View<Self>,
        x: View<Self>,
        stats: View<f32>,
        affine: [Option<View<f32>>; 2],
        shape: [u32; 2],
        relu: u32,
    ) -> Result<()>;
    #[doc(hidden)]
    #[allow(clippy::too_many_arguments)]
    fn sums(
        gpu: &Gpu,
        wide: bool,
        at: Launch,
        partials: View<f32>,
        dy: View<Self>,
        x: View<Self>,
        stats: View<f32>,
        affine: [Option<View<f32>>; 2],
        shape: [u32; 2],
        relu: u32,
    ) -> Result<()>;
    #[doc(hidden)]
    #[allow(clippy::too_many_arguments)]
    fn backward_apply(
        gpu: &Gpu,
        wide: bool,
        at: Launch,
        dx: View<Self>,
        dy: View<Self>,
        x: View<Self>,
        stats: View<f32>,
        sums: View<f32>,
        affine: [Option<View<f32>>; 2],
        shape: [u32; 3],
        relu: u32,
    ) -> Result<()>;
}

macro_rules! activation {
    ($type:ty, $vector:literal, $moments:ident $moments1:ident, $apply:ident $apply1:ident, $sums:ident $sums1:ident,
     $backward:ident $backward1:ident) => {
        impl Activation for $type {
            const VECTOR: usize = $vector;

            fn moments(
                gpu: &Gpu,
                wide: bool,
                at: Launch,
                partials: View<f32>,
                x: View<Self>,
                [rows, cols]: [u32; 2],
            ) -> Result<()> {
                if wide {
                    kernels::$moments(gpu, at, partials, x, rows, cols)
                } else {
                    kernels::$moments1(gpu, at, partials, x, rows, cols)
                }
            }

            fn apply(
                gpu: &Gpu,
                wide: bool,
                at: Launch,
                y: View<Self>,
                x: View<Self>,
                stats: View<f32>,
                [gamma, beta]: [Option<View<f32>>; 2],
                [rows, cols]: [u32; 2],
                relu: u32,
            ) -> Result<()> {
                if wide {
                    kernels::$apply(gpu, at, y, x, stats, gamma, beta, rows, cols, relu)
                } else {
                    kernels::$apply1(gpu, at, y, x, stats, gamma, beta, rows, cols, relu)
                }
            }

            fn sums(
                gpu: &Gpu,
                wide: bool,
                at: Launch,
                partials: View<f32>,
                dy: View<Self>,
                x: View<Self>,
                stats: View<f32>,
                [gamma, beta]: [Option<View<f32>>; 2],
                [rows, cols]: [u32; 2],
                relu: u32,
            ) -> Result<()> {
                if wide {
                    kernels::$sums(gpu, at, partials, dy, x, stats, gamma, beta, rows, cols, relu)
                } else {
                    kernels::$sums1(gpu, at, partials, dy, x, stats, gamma, beta, rows, cols, relu)
                }
            }

            fn backward_apply(
                gpu: &Gpu,
                wide: bool,
                at: Launch,
                dx: View<Self>,
                dy: View<Self>,
                x: View<Self>,
                stats: View<f32>,
                sums: View<f32>,
                [gamma, beta]: [Option<View<f32>>; 2],
                [rows, cols, total]: [u32; 3],
                relu: u32,
            ) -> Result<()> {
                if wide {
                    kernels::$backward(gpu, at, dx, dy, x, stats, sums, gamma, beta, rows, cols, total, relu)
                } else {
                    kernels::$backward1(gpu, at, dx, dy, x, stats, sums, gamma, beta, rows, cols, total, relu)
                }
            }
        }
    };
}

activation!(bf16, 8, batchnorm_moments_x8_bf16 batchnorm_moments_x1_bf16, batchnorm_apply_x8_bf16 batchnorm_apply_x1_bf16,
    batchnorm_sums_x8_bf16 batchnorm_sums_x1_bf16, batchnorm_backward_apply_x8_bf16 batchnorm_backward_apply_x1_bf16);
activation!(f32, 4, batchnorm_moments_x4_f32 batchnorm_moments_x1_f32, batchnorm_apply_x4_f32 batchnorm_apply_x1_f32,
    batchnorm_sums_x4_f32 batchnorm_sums_x1_f32, batchnorm_backward_apply_x4_f32 batchnorm_backward_apply_x1_f32);

/// Whether vectors can be used: all these addresses and every row begin at a multiple of 16 bytes.
fn wide<T: Activation>(cols: usize, addresses: &[u64]) -> bool {
    cols.is_multiple_of(T::VECTOR) && addresses.iter().all(|a| a.is_multiple_of(16))
}

fn affine_or_none(affine: Option<Affine>, shape: Shape) -> [Option<View<f32>>; 2] {
    let Some([gamma, beta]) = affine else { return [None; 2] };
    assert!(gamma.len() == shape.cols && beta.len() == shape.cols, "batchnorm: gamma and beta of {shape:?}");
    [Some(gamma), Some(beta)]
}

fn addresses(parameters: [Option<View<f32>>; 2]) -> [u64; 2] {
    parameters.map(|view| view.map_or(0, View::address))
}

/// `moments [slots, 2, cols]`: mean and sum of squared deviations of this rank's rows. They go to [`statistics`], those of several
/// ranks one after another.
pub fn moments<T: Activation>(
    gpu: &Gpu,
    moments: View<f32>,
    x: View<T>,
    scratch: View<f32>,
    shape: Shape,
) -> Result<()> {
    shape.check();
    let Shape { slots, rows, cols } = shape;
    assert!(x.len() == shape.values() && moments.len() == shape.stats_len(), "batchnorm: x {} of {shape:?}", x.len());
    assert!(scratch.len() >= shape.scratch_len(), "batchnorm: scratch {} of {shape:?}", scratch.len());
    let wide = wide::<T>(cols, &[x.address(), scratch.address()]);
    let sizes = [rows as u32, cols as u32];
    T::moments(gpu, wide, shape.plan(if wide { T::VECTOR } else { 1 }), scratch, x, sizes)?;
    let at = Launch::grid([cols.div_ceil(LANES), slots, 1], 256);
    kernels::batchnorm_merge_f32(gpu, at, moments, scratch, rows as u32, cols as u32)
}

/// Constants of a batch norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Added to the variance.
    pub eps: f32,
    /// Weight of the new batch in the running statistics.
    pub momentum: f32,
}

impl Default for Settings {
    /// PyTorch's.
    fn default() -> Self {
        Self { eps: super::EPS, momentum: super::MOMENTUM }
    }
}

/// `stats [slots, 2, cols]`, mean and 1/√(variance + eps), from `moments [ranks, slots, 2, cols]` of ranks with equally many rows. The
/// running mean and variance move once per slot, in order.
pub fn statistics(
    gpu: &Gpu,
    stats: View<f32>,
    running: Option<[View<f32>; 2]>,
    moments: View<f32>,
    settings: Settings,
    shape: Shape,
) -> Result<()> {
    shape.check();
    let Shape { slots, rows, cols } = shape;
    let ranks = moments.len() / shape.stats_len();
    assert!(ranks > 0 && moments.len() == ranks * shape.stats_len(), "batchnorm: moments of {shape:?}");
    assert!(stats.len() == shape.stats_len(), "batchnorm: stats {} of {shape:?}", stats.len());
    assert!(running.is_none_or(|r| r.iter().all(|r| r.len() == cols)), "batchnorm: running statistics of {shape:?}");
    let [mean, var] = running.map_or([None; 2], |running| running.map(Some));
    let Settings { eps, momentum } = settings;
    let at = Launch::new(cols.div_ceil(128), 128);
    let [ranks, slots, rows, cols] = [ranks, slots, rows, cols].map(|n| n as u32);
    kernels::batchnorm_statistics_f32(gpu, at, stats, mean, var, moments, ranks, slots, rows, cols, eps, momentum)
}

/// `stats [1, 2, cols]` with which [`apply`] normalises by the running estimates (evaluation).
pub fn frozen(gpu: &Gpu, stats: View<f32>, running: [View<f32>; 2], eps: f32) -> Result<()> {
    let [mean, var] = running;
    let cols = mean.len();
    assert!(cols > 0 && var.len() == cols && stats.len() == 2 * cols, "batchnorm: running statistics {cols}");
    kernels::batchnorm_frozen_f32(gpu, Launch::new(cols.div_ceil(128), 128), stats, mean, var, cols as u32, eps)
}

/// `y = (x − mean)·rstd·gamma + beta`, rectified where `relu`. `y` may be `x`.
pub fn apply<T: Activation>(
    gpu: &Gpu,
    y: View<T>,
    x: View<T>,
    stats: View<f32>,
    affine: Option<Affine>,
    relu: bool,
    shape: Shape,
) -> Result<()> {
    shape.check();
    let Shape { rows, cols, .. } = shape;
    assert!(x.len() == shape.values() && y.len() == x.len(), "batchnorm: x {}, y {}, {shape:?}", x.len(), y.len());
    assert!(stats.len() == shape.stats_len(), "batchnorm: stats {} of {shape:?}", stats.len());
    let affine = affine_or_none(affine, shape);
    let [gamma, beta] = addresses(affine);
    let wide = wide::<T>(cols, &[y.address(), x.address(), stats.address(), gamma, beta]);
    let at = shape.plan(if wide { T::VECTOR } else { 1 });
    T::apply(gpu, wide, at, y, x, stats, affine, [rows as u32, cols as u32], relu.into())
}

/// `sums [slots, 2, cols]`: Σ dy and Σ dy·x̂ over this rank's rows, dy behind the ReLU where there is one. They are also added to
/// `gradients`, dgamma and dbeta.
#[allow(clippy::too_many_arguments)]
pub fn backward_sums<T: Activation>(
    gpu: &Gpu,
    sums: View<f32>,
    gradients: Option<Affine>,
    dy: View<T>,
    x: View<T>,
    stats: View<f32>,
    affine: Option<Affine>,
    relu: bool,
    scratch: View<f32>,
    shape: Shape,
) -> Result<()> {
    shape.check();
    let Shape { slots, rows, cols } = shape;
    assert!(x.len() == shape.values() && dy.len() == x.len(), "batchnorm: x {}, dy {}, {shape:?}", x.len(), dy.len());
    assert!(stats.len() == shape.stats_len() && sums.len() == shape.stats_len(), "batchnorm: stats, sums, {shape:?}");
    assert!(scratch.len() >= shape.scratch_len(), "batchnorm: scratch {} of {shape:?}", scratch.len());
    let affine = affine_or_none(affine, shape);
    let [dgamma, dbeta] = affine_or_none(gradients, shape);
    let [gamma, beta] = addresses(affine);
    let wide = wide::<T>(cols, &[dy.address(), x.address(), stats.address(), scratch.address(), gamma, beta]);
    let at = shape.plan(if wide { T::VECTOR } else { 1 });
    T::sums(gpu, wide, at, scratch, dy, x, stats, affine, [rows as u32, cols as u32], relu.into())?;
    let chunks = rows.div_ceil(CHUNK);
    let at = Launch::new(cols.div_ceil(LANES), 256);
    kernels::batchnorm_add_f32(gpu, at, sums, dgamma, dbeta, scratch, chunks as u32, slots as u32, cols as u32)
}

/// `dx = gamma·rstd·(dy − mean(dy) − x̂·mean(dy·x̂))`, means over the rows of a slot on all `ranks`, whose sums `sums` holds. `dx` may
/// be `dy`.
#[allow(clippy::too_many_arguments)]
pub fn backward_apply<T: Activation>(
    gpu: &Gpu,
    dx: View<T>,
    dy: View<T>,
    x: View<T>,
    stats: View<f32>,
    sums: View<f32>,
    affine: Option<Affine>,
    relu: bool,
    ranks: usize,
    shape: Shape,
) -> Result<()> {
    shape.check();
    let Shape { rows, cols, .. } = shape;
    let values = shape.values();
    assert!(x.len() == values && dy.len() == values && dx.len() == values, "batchnorm: x {}, {shape:?}", x.len());
    assert!(stats.len() == shape.stats_len() && sums.len() == shape.stats_len(), "batchnorm: stats, sums, {shape:?}");
    let affine = affine_or_none(affine, shape);
    let [gamma, beta] = addresses(affine);
    let aligned = [dx.address(), dy.address(), x.address(), stats.address(), sums.address(), gamma, beta];
    let wide = wide::<T>(cols, &aligned);
    let at = shape.plan(if wide { T::VECTOR } else { 1 });
    let sizes = [rows as u32, cols as u32, (ranks * rows) as u32];
    T::backward_apply(gpu, wide, at, dx, dy, x, stats, sums, affine, sizes, relu.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_covers_every_value() {
        for (rows, cols) in [(1, 1), (64, 256), (65, 264), (1366, 4096)] {
            let shape = Shape { slots: 6, rows, cols };
            for width in [1, 4, 8] {
                let [x, y, z] = shape.plan(width).grid.map(|n| n as usize);
                assert!(x * LANES * width >= cols && (x - 1) * LANES * width < cols);
                assert!(y * CHUNK >= rows && (y - 1) * CHUNK < rows && z == 6);
            }
        }
    }
}
