//! From four maps of a ViT, all of one size, to maps of four times, twice, once and half its side (BEiT, arXiv
//! 2106.08254, as MAE and SynCLR take it over): two transposed convolutions 2×2 with a batch norm and a GELU between
//! them, one, none, and a maximum over 2×2. A transposed convolution is a product whose outputs are spread; its weight
//! is `[row, column, out, in]`.

use super::conv::{Grid, batch_norm, init_batch_norm};
use super::pass::{Grads, Pass};
use crate::error::Result;
use crate::layers::training::{BatchNorm, Buffer, Kind, Layers, Layout, Linear};
use crate::models::init;
use crate::ops::{linear, max_pool, spread};
use crate::rng::Stream;
use crate::weights::{Param, ParamTable};

/// How many maps there are.
pub const LEVELS: usize = 4;
/// Pixels that one becomes.
const SPREAD: usize = 4;

/// A transposed convolution 2×2 of stride 2, as many channels out as in.
#[derive(Clone, Copy, Debug)]
struct Up {
    w: Param,
    b: Param,
    width: usize,
}

impl Up {
    fn new(name: &str, width: usize, table: &mut ParamTable) -> Self {
        let w = table.add(format!("{name}.weight"), &[2, 2, width, width]);
        Self { w, b: table.add(format!("{name}.bias"), &[width]), width }
    }

    /// PyTorch's default, whose fan in of a transposed convolution is its outputs times its window.
    fn init(&self, params: &mut [f32], stream: &mut Stream) {
        let fan_in = self.width * SPREAD;
        init::uniform_fan_in(self.w.of_mut(params), stream, fan_in);
        init::uniform_fan_in(self.b.of_mut(params), stream, fan_in);
    }

    fn linear(&self) -> Linear {
        Linear { w: self.w, b: None }
    }

    fn product(&self, grid: Grid) -> linear::Shape {
        linear::Shape { rows: grid.rows(), inputs: self.width, outputs: SPREAD * self.width }
    }

    fn spread(&self, Grid { n, side }: Grid) -> spread::Shape {
        spread::Shape { n, side, c: self.width }
    }

    /// `y [N, 2·side, 2·side, D]` from `x`, by way of `flat [N·side², 4·D]`.
    fn forward(&self, on: &mut dyn Layers, y: Buffer, flat: Buffer, x: Buffer, grid: Grid) -> Result<()> {
        on.linear(flat, x, self.linear(), self.product(grid))?;
        on.spread(y, flat, Some(self.b), self.spread(grid))
    }

    /// Leaves the gradient of `flat` there and adds those of weight and bias.
    fn backward(&self, on: &mut dyn Layers, flat: Buffer, dy: Buffer, x: Buffer, grid: Grid) -> Result<()> {
        on.spread_backward(flat, dy, Some(self.b), self.spread(grid))?;
        on.weight_gradient(flat, x, self.linear(), self.product(grid))
    }
}

/// The places of its tensors.
#[derive(Clone, Copy, Debug)]
pub struct Neck {
    /// To four times the side, with a norm between them, and to twice.
    four: [Up; 2],
    norm: BatchNorm,
    two: Up,
    width: usize,
}

/// What it remembers, and the maps it makes.
#[derive(Clone, Copy, Debug)]
pub struct NeckActs {
    grid: Grid,
    /// Of the first map at twice the side: as it comes, behind the norm and behind the GELU.
    wide: Buffer,
    stats: Buffer,
    normed: Buffer,
    gelu: Buffer,
    /// A product before it is spread, of the largest map.
    flat: Buffer,
    /// From the largest map to the smallest.
    pub levels: [Buffer; LEVELS],
}

impl Neck {
    pub fn new(width: usize, table: &mut ParamTable, statistics: &mut ParamTable) -> Self {
        let first = Up::new("neck.fpn1.0", width, table);
        let norm = batch_norm("neck.fpn1.1", width, false, table, statistics);
        let four = [first, Up::new("neck.fpn1.3", width, table)];
        Self { four, norm, two: Up::new("neck.fpn2.0", width, table), width }
    }

    pub fn init(&self, params: &mut [f32], statistics: &mut [f32], stream: &mut Stream) {
        [self.four[0], self.four[1], self.two].iter().for_each(|up| up.init(params, stream));
        init_batch_norm(&self.norm, params, statistics);
    }

    /// The sizes of its maps, from the largest to the smallest, of a ViT's `grid`.
    pub fn grids(Grid { n, side }: Grid) -> [Grid; LEVELS] {
        [4 * side, 2 * side, side, side / 2].map(|side| Grid { n, side })
    }

    /// Room for it over a ViT's maps `[N, side², D]`, the third of which is a map of its own.
    pub fn acts(&self, layout: &mut Layout, grid: Grid, third: Buffer) -> NeckActs {
        let sizes = Self::grids(grid).map(|level| level.rows() * self.width);
        let mut take = |what: &str, len, kind| layout.take("segmentation head", format!("neck.{what}"), len, kind);
        NeckActs {
            grid,
            wide: take("fpn1.0", sizes[1], Kind::Rounded),
            stats: take("fpn1.1.stats", 2 * self.width, Kind::Exact),
            normed: take("fpn1.1", sizes[1], Kind::Rounded),
            gelu: take("fpn1.2", sizes[1], Kind::Rounded),
            flat: take("product", sizes[0], Kind::Rounded),
            levels: [
                take("fpn1", sizes[0], Kind::Rounded),
                take("fpn2", sizes[1], Kind::Rounded),
                third,
                take("fpn4", sizes[3], Kind::Rounded),
            ],
        }
    }

    fn pool(&self, Grid { n, side }: Grid) -> max_pool::Shape {
        max_pool::Shape { n, side, c: self.width }
    }

    /// `acts.levels` from four maps.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn forward(&self, on: &mut dyn Layers, maps: [Buffer; LEVELS], acts: &NeckActs, pass: Pass) -> Result<()> {
        let (grid, double) = (acts.grid, Grid { side: 2 * acts.grid.side, ..acts.grid });
        let flat = acts.flat.first(acts.wide.len());
        self.four[0].forward(on, acts.wide, flat, maps[0], grid)?;
        pass.norm(on, acts.normed, acts.stats, acts.wide, self.norm)?;
        on.gelu(acts.gelu, acts.normed)?;
        self.four[1].forward(on, acts.levels[0], acts.flat, acts.gelu, double)?;
        self.two.forward(on, acts.levels[1], flat, maps[1], grid)?;
        on.max_pool(acts.levels[3], maps[3], self.pool(grid))
    }

    /// Gradients `dmaps` of the maps from those of the levels, where `dlevels[2]` is `dmaps[2]`; adds those of its
    /// tensors.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn backward(
        &self,
        on: &mut dyn Layers,
        (dmaps, dlevels): ([Buffer; LEVELS], [Buffer; LEVELS]),
        maps: [Buffer; LEVELS],
        acts: &NeckActs,
        grads: &Grads,
    ) -> Result<()> {
        let (grid, double) = (acts.grid, Grid { side: 2 * acts.grid.side, ..acts.grid });
        on.max_pool_backward(dmaps[3], dlevels[3], maps[3], self.pool(grid))?;
        let small = acts.flat.first(acts.wide.len());
        self.two.backward(on, small, dlevels[1], maps[1], grid)?;
        on.input_gradient(dmaps[1], small, self.two.w, self.two.product(grid))?;
        self.four[1].backward(on, acts.flat, dlevels[0], acts.gelu, double)?;
        // Nothing needs the second level's gradient any more.
        let d = dlevels[1];
        on.input_gradient_gelu(d, acts.flat, acts.normed, self.four[1].w, self.four[1].product(double))?;
        on.batch_norm_backward(d, grads.spare.first(d.len()), (acts.wide, acts.stats), acts.normed, self.norm)?;
        self.four[0].backward(on, small, d, maps[0], grid)?;
        on.input_gradient(dmaps[0], small, self.four[0].w, self.four[0].product(grid))
    }
}
