//! The last layer of a segmentation head: the class of every pixel of a map, of which training leaves some channels
//! out, and its loss at the size of the labels.

use super::conv::Grid;
use crate::error::Result;
use crate::layers::training::{Buffer, Kind, Layers, Layout, Linear, Numbers, PixelLoss};
use crate::ops::{drop_channels, linear, pixel_loss};
use crate::rng::{Domain, Stream};
use crate::weights::Param;

/// Standard deviation of its first weights.
const STD: f32 = 0.01;

/// The places of its tensors.
#[derive(Clone, Copy, Debug)]
pub struct PixelClassifier {
    pub w: Param,
    pub b: Param,
    /// Channels of the map.
    pub width: usize,
    pub classes: usize,
}

/// Which channels images leave out.
#[derive(Clone, Copy, Debug)]
pub struct DroppedChannels {
    /// `[N, C]`: 0 where an image leaves one out.
    pub kept: Numbers,
    pub share: f64,
}

impl DroppedChannels {
    /// Adds the numbers `[C]` of an image that is drawn by `key`, for the classifier that is `which` of its heads.
    pub fn number((seed, key, which): (u64, [u32; 3], u32), width: usize, share: f64, to: &mut Vec<u32>) {
        let mut stream = Stream::new(seed, Domain::DropChannels, [key[0], key[1], which]);
        to.extend((0..width).map(|_| u32::from(f64::from(stream.uniform()) >= share)));
    }

    fn scale(&self) -> f32 {
        (1.0 / (1.0 - self.share)) as f32
    }
}

/// What it remembers.
#[derive(Clone, Copy, Debug)]
pub struct PixelActs {
    grid: Grid,
    /// The map that it reads, whose dropped channels become 0 in place.
    x: Buffer,
    dropped: Option<DroppedChannels>,
    pub logits: Buffer,
    dlogits: Buffer,
    lse: Buffer,
}

/// The labels of a step, and where the loss of their rows goes.
#[derive(Clone, Copy, Debug)]
pub struct PixelLabels {
    /// `[N, to, to]`.
    pub labels: Numbers,
    pub to: usize,
    /// `[N·to]`.
    pub losses: Buffer,
    /// What of the loss is this head's.
    pub weight: f32,
    /// Whether it is added to that of another.
    pub add: bool,
}

impl PixelClassifier {
    pub fn init(&self, params: &mut [f32], stream: &mut Stream) {
        stream.fill_normal(self.w.of_mut(params));
        self.w.of_mut(params).iter_mut().for_each(|v| *v *= STD);
        self.b.of_mut(params).fill(0.0);
    }

    /// Room for it over the map `x` of `grid`, with the gradient of labels of `to` pixels a side where there are some.
    pub fn acts(
        &self,
        layout: &mut Layout,
        (grid, x): (Grid, Buffer),
        dropped: Option<DroppedChannels>,
        to: Option<usize>,
    ) -> PixelActs {
        let mut take = |what: &str, len, kind| layout.take("segmentation head", what, len, kind);
        let (logits, pixels) = (grid.rows() * self.classes, to.map_or(0, |to| grid.n * to * to));
        PixelActs {
            grid,
            x,
            dropped,
            logits: take("logits", logits, Kind::Exact),
            dlogits: take("d logits", if to.is_some() { logits } else { 0 }, Kind::Rounded),
            lse: take("log-sum-exps", pixels, Kind::Exact),
        }
    }

    fn linear(&self) -> Linear {
        [self.w, self.b].into()
    }

    fn shape(&self, grid: Grid) -> linear::Shape {
        linear::Shape { rows: grid.rows(), inputs: self.width, outputs: self.classes }
    }

    fn drop(&self, on: &mut dyn Layers, x: Buffer, acts: &PixelActs) -> Result<()> {
        let Some(dropped) = acts.dropped else { return Ok(()) };
        let Grid { n, side } = acts.grid;
        let shape = drop_channels::Shape { n, pixels: side * side, c: self.width };
        on.drop_channels(x, dropped.kept, dropped.scale(), shape)
    }

    /// `acts.logits [N·side², classes]`; channels are left out unless it is to `infer`.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn forward(&self, on: &mut dyn Layers, acts: &PixelActs, infer: bool) -> Result<()> {
        if !infer {
            self.drop(on, acts.x, acts)?;
        }
        on.linear(acts.logits, acts.x, self.linear(), self.shape(acts.grid))
    }

    /// The loss of its logits, and their gradient.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn loss(&self, on: &mut dyn Layers, acts: &PixelActs, of: PixelLabels) -> Result<()> {
        let Grid { n, side: from } = acts.grid;
        let shape = pixel_loss::Shape { n, of: n, from, to: of.to, classes: self.classes };
        let of_loss = PixelLoss { shape, weight: of.weight, add: of.add };
        on.pixel_loss(acts.dlogits, of.losses, acts.lse, acts.logits, of.labels, of_loss)
    }

    /// `dx` of the map, where it is wanted; adds the gradients of weight and bias.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn backward(&self, on: &mut dyn Layers, dx: Option<Buffer>, acts: &PixelActs) -> Result<()> {
        let shape = self.shape(acts.grid);
        on.weight_gradient(acts.dlogits, acts.x, self.linear(), shape)?;
        let Some(dx) = dx else { return Ok(()) };
        on.input_gradient(dx, acts.dlogits, self.w, shape)?;
        self.drop(on, dx, acts)
    }
}
