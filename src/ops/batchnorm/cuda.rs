//! Launches of `kernels/batchnorm.cu`: every slot of rows normalised on its own, with the ReLU behind it.
//!
//! Forward: [`moments`] → (ranks gather them) → [`statistics`] → [`apply`]. Backward: [`backward_sums`] → (ranks add
//! them) → [`backward_apply`].

use half::bf16;

use crate::device::cuda::kernels::batchnorm::{CHUNK, MERGE_WARPS};
use crate::device::cuda::{Gpu, KernelType, Launch, View, kernels};
use crate::error::Result;

/// Lanes of a warp: the columns of a block are this many times the values of a vector.
const LANES: usize = 32;
/// Of the kernels that merge or add chunks.
const MERGE_THREADS: u32 = (LANES * MERGE_WARPS) as u32;

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
        let fits = slots > 0 && rows > 0 && cols > 0 && slots < 1 << 16 && rows <= 1 << 24 && cols < 1 << 31;
        assert!(fits, "batchnorm: {self:?}");
    }

    /// A block per `LANES` vectors of `width` values and `CHUNK` rows of a slot; pieces of rows next to each other, on
    /// the only axis that is long enough for the rows of all pixels of a map.
    fn plan(self, width: usize) -> Launch {
        Launch::grid([self.cols.div_ceil(LANES * width) * self.rows.div_ceil(CHUNK), self.slots, 1], 256)
    }
}

/// gamma and beta, `[cols]` each.
pub type Affine = [View<f32>; 2];

/// What activations are stored as.
pub trait Activation: KernelType {}
impl Activation for bf16 {}
impl Activation for f32 {}

/// Values per vector: one where an address or a row does not begin at a multiple of 16 bytes.
fn vector<T: Activation>(cols: usize, addresses: &[u64]) -> usize {
    let width = 16 / size_of::<T>();
    let wide = cols.is_multiple_of(width) && addresses.iter().all(|a| a.is_multiple_of(16));
    if wide { width } else { 1 }
}

fn affine_or_none(affine: Option<Affine>, shape: Shape) -> [Option<View<f32>>; 2] {
    let Some([gamma, beta]) = affine else { return [None; 2] };
    assert!(gamma.len() == shape.cols && beta.len() == shape.cols, "batchnorm: gamma and beta of {shape:?}");
    [Some(gamma), Some(beta)]
}

fn address(parameter: Option<View<f32>>) -> u64 {
    parameter.map_or(0, View::address)
}

/// `moments [slots, 2, cols]`: mean and sum of squared deviations of this rank's rows. They go to [`statistics`], those
/// of several ranks one after another.
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
    let vector = vector::<T>(cols, &[x.address(), scratch.address()]);
    let at = Launch::grid([cols.div_ceil(LANES), slots, 1], MERGE_THREADS);
    let [rows, cols] = [rows, cols].map(|n| n as u32);
    kernels::BatchnormMoments { partials: scratch, x, rows, cols }.launch(gpu, shape.plan(vector), vector)?;
    kernels::BatchnormMerge { merged: moments, partials: scratch, rows, cols }.launch(gpu, at)
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

/// `stats [slots, 2, cols]`, mean and 1/√(variance + eps), from `moments [ranks, slots, 2, cols]` of ranks with equally
/// many rows. The running mean and variance move once per slot, in order.
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
    let [running_mean, running_var] = running.map_or([None; 2], |running| running.map(Some));
    let Settings { eps, momentum } = settings;
    let at = Launch::new(cols.div_ceil(128), 128);
    let [ranks, slots, rows, cols] = [ranks, slots, rows, cols].map(|n| n as u32);
    kernels::BatchnormStatistics { stats, running_mean, running_var, moments, ranks, slots, rows, cols, eps, momentum }
        .launch(gpu, at)
}

/// `stats [1, 2, cols]` with which [`apply`] normalises by the running estimates (evaluation).
pub fn frozen(gpu: &Gpu, stats: View<f32>, running: [View<f32>; 2], eps: f32) -> Result<()> {
    let [running_mean, running_var] = running;
    let cols = running_mean.len();
    assert!(cols > 0 && running_var.len() == cols && stats.len() == 2 * cols, "batchnorm: running statistics {cols}");
    let at = Launch::new(cols.div_ceil(128), 128);
    kernels::BatchnormFrozen { stats, running_mean, running_var, cols: cols as u32, eps }.launch(gpu, at)
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
    let [gamma, beta] = affine_or_none(affine, shape);
    let vector = vector::<T>(cols, &[y.address(), x.address(), stats.address(), address(gamma), address(beta)]);
    let (rows, cols, relu) = (rows as u32, cols as u32, relu.into());
    kernels::BatchnormApply { y, x, stats, gamma, beta, rows, cols, relu }.launch(gpu, shape.plan(vector), vector)
}

/// What both parts of the backward read.
#[derive(Clone, Copy, Debug)]
pub struct Backward<T> {
    /// The gradient of what [`apply`] gave.
    pub dy: View<T>,
    pub x: View<T>,
    pub stats: View<f32>,
    pub affine: Option<Affine>,
    pub relu: bool,
}

/// `sums [slots, 2, cols]`: Σ dy and Σ dy·x̂ over this rank's rows, dy behind the ReLU where there is one. They are
/// also added to `gradients`, dgamma and dbeta.
pub fn backward_sums<T: Activation>(
    gpu: &Gpu,
    sums: View<f32>,
    gradients: Option<Affine>,
    of: Backward<T>,
    scratch: View<f32>,
    shape: Shape,
) -> Result<()> {
    shape.check();
    let Backward { dy, x, stats, affine, relu } = of;
    let Shape { slots, rows, cols } = shape;
    assert!(x.len() == shape.values() && dy.len() == x.len(), "batchnorm: x {}, dy {}, {shape:?}", x.len(), dy.len());
    assert!(stats.len() == shape.stats_len() && sums.len() == shape.stats_len(), "batchnorm: stats, sums, {shape:?}");
    assert!(scratch.len() >= shape.scratch_len(), "batchnorm: scratch {} of {shape:?}", scratch.len());
    let [gamma, beta] = affine_or_none(affine, shape);
    let [dgamma, dbeta] = affine_or_none(gradients, shape);
    let aligned = [dy.address(), x.address(), stats.address(), scratch.address(), address(gamma), address(beta)];
    let vector = vector::<T>(cols, &aligned);
    let (at, chunks) = (Launch::new(cols.div_ceil(LANES), MERGE_THREADS), rows.div_ceil(CHUNK) as u32);
    let ([slots, rows, cols], relu) = ([slots, rows, cols].map(|n| n as u32), relu.into());
    kernels::BatchnormSums { partials: scratch, dy, x, stats, gamma, beta, rows, cols, relu }.launch(
        gpu,
        shape.plan(vector),
        vector,
    )?;
    kernels::BatchnormAdd { sums, dgamma, dbeta, partials: scratch, chunks, slots, cols }.launch(gpu, at)
}

/// `dx = gamma·rstd·(dy − mean(dy) − x̂·mean(dy·x̂))`, means over the rows of a slot on all `ranks`, whose sums `sums`
/// holds. `dx` may be `dy`.
pub fn backward_apply<T: Activation>(
    gpu: &Gpu,
    dx: View<T>,
    of: Backward<T>,
    sums: View<f32>,
    ranks: usize,
    shape: Shape,
) -> Result<()> {
    shape.check();
    let Backward { dy, x, stats, affine, relu } = of;
    let Shape { rows, cols, .. } = shape;
    let values = shape.values();
    assert!(x.len() == values && dy.len() == values && dx.len() == values, "batchnorm: x {}, {shape:?}", x.len());
    assert!(stats.len() == shape.stats_len() && sums.len() == shape.stats_len(), "batchnorm: stats, sums, {shape:?}");
    let [gamma, beta] = affine_or_none(affine, shape);
    let [of_gamma, of_beta] = [gamma, beta].map(address);
    let aligned = [dx.address(), dy.address(), x.address(), stats.address(), sums.address(), of_gamma, of_beta];
    let (vector, relu) = (vector::<T>(cols, &aligned), relu.into());
    let [total, rows, cols] = [ranks * rows, rows, cols].map(|n| n as u32);
    kernels::BatchnormBackwardApply { dx, dy, x, stats, sums, gamma, beta, rows, cols, total, relu }.launch(
        gpu,
        shape.plan(vector),
        vector,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_covers_every_value() {
        for (rows, cols) in [(1, 1), (64, 256), (65, 264), (1366, 4096), (1 << 24, 768)] {
            let shape = Shape { slots: 6, rows, cols };
            shape.check();
            for width in [1, 4, 8] {
                let [blocks, slots, _] = shape.plan(width).grid.map(|n| n as usize);
                let across = cols.div_ceil(LANES * width);
                assert!(blocks % across == 0 && slots == 6 && blocks / across == rows.div_ceil(CHUNK));
            }
        }
    }
}
