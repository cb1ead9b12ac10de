//! UperNet's head (Xiao et al. 2018, arXiv 1807.10221): the smallest of four maps is seen at several scales (pyramid
//! pooling, arXiv 1612.01105), passes down to the larger ones, and all are fused at the size of the largest.

use super::conv::{ConvActs, ConvNorm, Grid, Window};
use super::neck::{LEVELS, Neck};
use super::pass::{Grads, Pass};
use crate::error::Result;
use crate::layers::training::{Buffer, Kind, Layers, Layout};
use crate::ops::{bilinear, grid_pool};
use crate::rng::Stream;
use crate::weights::ParamTable;

/// Sides to which the smallest map is pooled.
const BINS: [usize; 4] = [1, 2, 3, 6];
/// The last level: what passes down.
const TOP: usize = LEVELS - 1;

/// The places of its tensors.
#[derive(Clone, Copy, Debug)]
pub struct UperHead {
    pooled: [ConvNorm; BINS.len()],
    bottleneck: ConvNorm,
    laterals: [ConvNorm; TOP],
    levels: [ConvNorm; TOP],
    fuse: ConvNorm,
    width: usize,
}

/// One scale of the pyramid: the pooled map and what is made of it.
#[derive(Clone, Copy, Debug)]
struct Scale {
    bins: usize,
    pooled: Buffer,
    acts: ConvActs,
}

/// What it remembers, and the scratch of its backward.
#[derive(Clone, Copy, Debug)]
pub struct UperActs {
    grids: [Grid; LEVELS],
    scales: [Scale; BINS.len()],
    /// The smallest level beside its scales `[N·side², 5·D]`.
    pyramid: Buffer,
    bottleneck: ConvActs,
    laterals: [ConvActs; TOP],
    /// Laterals and what passed down to them.
    sums: [Buffer; TOP],
    levels: [ConvActs; TOP],
    /// All levels at the size of the largest `[N·side², 4·D]`.
    all: Buffer,
    fuse: ConvActs,
    /// Gradients of `all`, of the pyramid, of a scale before and behind its convolution, and of what each level gave.
    dall: Buffer,
    dpyramid: Buffer,
    dscale: [Buffer; 2],
    dlevels: [Buffer; LEVELS],
}

impl UperHead {
    /// All of its convolutions have as many channels as the maps, `width`.
    pub fn new(width: usize, table: &mut ParamTable, statistics: &mut ParamTable) -> Self {
        let mut conv = |name: String, window, inputs| {
            ConvNorm::new(&format!("decode_head.{name}"), window, [inputs, width], table, statistics)
        };
        Self {
            pooled: std::array::from_fn(|i| conv(format!("psp_modules.{i}.1"), Window::One, width)),
            bottleneck: conv("bottleneck".into(), Window::Three, (1 + BINS.len()) * width),
            laterals: std::array::from_fn(|i| conv(format!("lateral_convs.{i}"), Window::One, width)),
            levels: std::array::from_fn(|i| conv(format!("fpn_convs.{i}"), Window::Three, width)),
            fuse: conv("fpn_bottleneck".into(), Window::Three, LEVELS * width),
            width,
        }
    }

    fn convs(&self) -> impl Iterator<Item = &ConvNorm> {
        let ends = [&self.bottleneck, &self.fuse];
        self.pooled.iter().chain(&self.laterals).chain(&self.levels).chain(ends)
    }

    pub fn init(&self, params: &mut [f32], statistics: &mut [f32], stream: &mut Stream) {
        self.convs().for_each(|conv| conv.init(params, statistics, stream));
    }

    /// Values of the neighbourhoods of an image's pixels, at most.
    pub fn scratch(&self, grid: Grid) -> usize {
        let grids = Neck::grids(grid);
        self.fuse.scratch(grids[0].side).max(self.bottleneck.scratch(grids[TOP].side))
    }

    /// Room for it over the levels of a ViT's `grid`, and for its backward where it is to `learn`.
    pub fn acts(&self, layout: &mut Layout, grid: Grid, learn: bool) -> UperActs {
        let (grids, d, back) = (Neck::grids(grid), self.width, usize::from(learn));
        let (n, top) = (grid.n, grids[TOP]);
        let room = |layout: &mut Layout, name: &str, len: usize| {
            layout.take("segmentation head", format!("decode_head.{name}"), len, Kind::Rounded)
        };
        let scales = std::array::from_fn(|i| {
            // A map that is smaller has no more places than pixels.
            let bins = BINS[i].min(top.side);
            let pooled = room(layout, &format!("psp_modules.{i}.0"), n * bins * bins * d);
            Scale { bins, pooled, acts: self.pooled[i].acts(layout, "psp_modules", Grid { n, side: bins }) }
        });
        let most = BINS[BINS.len() - 1].min(top.side);
        let whole = |layout: &mut Layout, name: &str, grid: Grid| room(layout, name, grid.rows() * d);
        UperActs {
            grids,
            scales,
            pyramid: room(layout, "pyramid", top.rows() * (1 + BINS.len()) * d),
            bottleneck: self.bottleneck.acts(layout, "bottleneck", top),
            laterals: std::array::from_fn(|i| self.laterals[i].acts(layout, "lateral_convs", grids[i])),
            sums: std::array::from_fn(|i| whole(layout, "laterals", grids[i])),
            levels: std::array::from_fn(|i| self.levels[i].acts(layout, "fpn_convs", grids[i])),
            all: room(layout, "levels", grids[0].rows() * LEVELS * d),
            fuse: self.fuse.acts(layout, "fpn_bottleneck", grids[0]),
            dall: room(layout, "d levels", back * grids[0].rows() * LEVELS * d),
            dpyramid: room(layout, "d pyramid", back * top.rows() * (1 + BINS.len()) * d),
            dscale: ["d scale", "d pooled"].map(|name| room(layout, name, back * n * most * most * d)),
            dlevels: std::array::from_fn(|i| room(layout, "d level", back * grids[i].rows() * d)),
        }
    }

    /// A map of `from` pixels a side into columns `place·D` and following of one of `to`, which has `places·D`.
    fn into(&self, n: usize, from: usize, to: usize, (place, places): (usize, usize)) -> bilinear::Shape {
        let c = self.width;
        bilinear::Shape { n, lead: 0, from, to, c, column: place * c, columns: places * c }
    }

    /// A map of another size, or the same.
    fn resized(&self, from: Grid, to: Grid) -> bilinear::Shape {
        self.into(from.n, from.side, to.side, (0, 1))
    }

    fn pool(&self, top: Grid, bins: usize) -> grid_pool::Shape {
        grid_pool::Shape { n: top.n, side: top.side, bins, c: self.width }
    }

    /// `[N·side², D]` of the levels, at the size of the largest.
    pub fn output(acts: &UperActs) -> Buffer {
        acts.fuse.y
    }

    /// [`UperHead::output`] of four levels.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn forward(&self, on: &mut dyn Layers, levels: [Buffer; LEVELS], acts: &UperActs, pass: Pass) -> Result<()> {
        let (grids, n) = (acts.grids, acts.grids[0].n);
        let top = grids[TOP];
        let places = 1 + BINS.len();
        on.resize(acts.pyramid, levels[TOP], self.into(n, top.side, top.side, (0, places)), false)?;
        for (i, scale) in acts.scales.iter().enumerate() {
            on.grid_pool(scale.pooled, levels[TOP], self.pool(top, scale.bins))?;
            self.pooled[i].forward(on, scale.pooled, scale.acts, pass)?;
            on.resize(acts.pyramid, scale.acts.y, self.into(n, scale.bins, top.side, (1 + i, places)), false)?;
        }
        self.bottleneck.forward(on, acts.pyramid, acts.bottleneck, pass)?;
        for i in (0..TOP).rev() {
            self.laterals[i].forward(on, levels[i], acts.laterals[i], pass)?;
            on.resize(acts.sums[i], acts.laterals[i].y, self.resized(grids[i], grids[i]), false)?;
            let above = if i + 1 == TOP { acts.bottleneck.y } else { acts.sums[i + 1] };
            on.resize(acts.sums[i], above, self.resized(grids[i + 1], grids[i]), true)?;
        }
        for i in 0..TOP {
            self.levels[i].forward(on, acts.sums[i], acts.levels[i], pass)?;
        }
        let outputs = [acts.levels[0].y, acts.levels[1].y, acts.levels[2].y, acts.bottleneck.y];
        for (i, output) in outputs.into_iter().enumerate() {
            on.resize(acts.all, output, self.into(n, grids[i].side, grids[0].side, (i, LEVELS)), false)?;
        }
        self.fuse.forward(on, acts.all, acts.fuse, pass)
    }

    /// Gradients `d` of the levels from that of [`UperHead::output`], `dy`, which it overwrites; adds those of its
    /// tensors.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn backward(
        &self,
        on: &mut dyn Layers,
        (d, dy): ([Buffer; LEVELS], Buffer),
        levels: [Buffer; LEVELS],
        acts: &UperActs,
        grads: &Grads,
    ) -> Result<()> {
        let (grids, n, dlevels) = (acts.grids, acts.grids[0].n, acts.dlevels);
        let top = grids[TOP];
        self.fuse.backward(on, Some(acts.dall), dy, acts.all, acts.fuse, grads)?;
        for (i, dlevel) in dlevels.into_iter().enumerate() {
            let columns = self.into(n, grids[i].side, grids[0].side, (i, LEVELS));
            on.resize_backward(dlevel, acts.dall, columns, false)?;
        }
        for (i, (level, d)) in self.levels.iter().zip(dlevels).enumerate() {
            level.backward(on, Some(d), d, acts.sums[i], acts.levels[i], grads)?;
        }
        for i in 0..TOP {
            on.resize_backward(dlevels[i + 1], dlevels[i], self.resized(grids[i + 1], grids[i]), true)?;
        }
        for i in 0..TOP {
            self.laterals[i].backward(on, Some(d[i]), dlevels[i], levels[i], acts.laterals[i], grads)?;
        }
        self.bottleneck.backward(on, Some(acts.dpyramid), dlevels[TOP], acts.pyramid, acts.bottleneck, grads)?;
        let places = 1 + BINS.len();
        on.resize_backward(d[TOP], acts.dpyramid, self.into(n, top.side, top.side, (0, places)), false)?;
        for (i, scale) in acts.scales.iter().enumerate() {
            let [before, behind] = acts.dscale.map(|room| room.first(scale.pooled.len()));
            let columns = self.into(n, scale.bins, top.side, (1 + i, places));
            on.resize_backward(behind, acts.dpyramid, columns, false)?;
            self.pooled[i].backward(on, Some(before), behind, scale.pooled, scale.acts, grads)?;
            on.grid_pool_backward(d[TOP], before, self.pool(top, scale.bins))?;
        }
        Ok(())
    }
}
