//! The network: what it is made of, and its forward pass, once for all devices.

use crate::error::Result;
use crate::layers::Size;
use crate::layers::convnet::{CHANNELS, Conv, Layers, Maps, Part, Slot};
use crate::ops::conv2d::{Shape, Window};
use crate::ops::packed::Packed;
use crate::ops::pool::Pool;

/// Side of the pictures it takes, pixels.
pub const SIDE: usize = 299;

/// Width of a feature.
pub const WIDTH: usize = 2048;

/// The network with its weights, as a device holds those of a convolution.
#[derive(Debug)]
pub struct Inception<W = Packed> {
    /// The convolutions before each of the first two pools.
    pub(super) stem: [Vec<Conv<W>>; 2],
    pub(super) blocks: Vec<Block<W>>,
}

/// Branches of the same input, whose outputs stand side by side.
#[derive(Debug)]
pub(super) struct Block<W>(pub(super) Vec<Branch<W>>);

/// A pool, if there is one, convolutions one behind the other, and those that each take what came of it.
#[derive(Debug)]
pub(super) struct Branch<W> {
    pub(super) pool: Option<(Pool, Window)>,
    pub(super) chain: Vec<Conv<W>>,
    pub(super) ends: Vec<Conv<W>>,
}

/// The pool between stages.
pub(super) const SHRINK: (Pool, Window) = (Pool::Max, Window::inside(3, 2));

impl<W> Inception<W> {
    /// From `n` pictures of `side²` pixels to the last maps, of [`WIDTH`] channels, whose mean is a feature.
    ///
    /// # Errors
    /// If the device fails.
    pub fn walk(&self, on: &mut dyn Layers<W>, n: usize, side: usize) -> Result<Maps> {
        let mut x = Maps { slot: Slot::Pictures, n, size: (side, side), channels: CHANNELS };
        for convs in &self.stem {
            for conv in convs {
                let y = Maps { slot: x.slot.next_map(), size: conv.size(x.size), channels: conv.outputs, ..x };
                on.conv(y.all(), x, conv)?;
                x = y;
            }
            let y = Maps { slot: x.slot.next_map(), size: x.under(SHRINK.1).output(), ..x };
            on.pool(y.all(), x, SHRINK)?;
            x = y;
        }
        for block in &self.blocks {
            x = block.walk(on, x)?;
        }
        Ok(x)
    }

    /// The convolution that sees the pictures.
    pub fn first(&self) -> Option<&Conv<W>> {
        self.stem[0].first()
    }

    /// The same network with weights that `held` makes of a convolution's and the channels that it takes.
    ///
    /// # Errors
    /// Those of `held`.
    pub fn with<V>(&self, held: &mut dyn FnMut(&Conv<W>, usize) -> Result<V>) -> Result<Inception<V>> {
        let mut channels = CHANNELS;
        let mut stem = [Vec::new(), Vec::new()];
        for (stem, convs) in stem.iter_mut().zip(&self.stem) {
            *stem = with_all(convs, &mut channels, held)?;
        }
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for Block(branches) in &self.blocks {
            let (mut all, mut outputs) = (Vec::with_capacity(branches.len()), 0);
            for branch in branches {
                let mut channels_within = channels;
                let chain = with_all(&branch.chain, &mut channels_within, held)?;
                let mut ends = Vec::with_capacity(branch.ends.len());
                for end in &branch.ends {
                    ends.append(&mut with_all(std::slice::from_ref(end), &mut channels_within.clone(), held)?);
                }
                outputs += branch.outputs(channels);
                all.push(Branch { pool: branch.pool, chain, ends });
            }
            blocks.push(Block(all));
            channels = outputs;
        }
        Ok(Inception { stem, blocks })
    }
}

/// Convolutions one behind the other, of `channels` before the first, which then are those behind the last.
fn with_all<W, V>(
    convs: &[Conv<W>],
    channels: &mut usize,
    held: &mut dyn FnMut(&Conv<W>, usize) -> Result<V>,
) -> Result<Vec<Conv<V>>> {
    let each = convs.iter().map(|conv| {
        let weights = held(conv, *channels)?;
        *channels = conv.outputs;
        Ok(Conv { weights, window: conv.window, outputs: conv.outputs })
    });
    each.collect()
}

impl<W> Branch<W> {
    /// Channels that it gives.
    fn outputs(&self, inputs: usize) -> usize {
        let chain = self.chain.last().map_or(inputs, |conv| conv.outputs);
        if self.ends.is_empty() { chain } else { self.ends.iter().map(|end| end.outputs).sum() }
    }

    /// Height and width of what it gives.
    fn size(&self, (height, width): Size) -> Size {
        let pooled = self.pool.map(|(_, window)| Shape { n: 1, height, width, channels: 1, window }.output());
        self.chain.iter().fold(pooled.unwrap_or((height, width)), |size, conv| conv.size(size))
    }

    /// Into `y`, from the channel `first` on.
    fn walk(&self, on: &mut dyn Layers<W>, y: Maps, x: Maps, mut first: usize) -> Result<()> {
        let steps = usize::from(self.pool.is_some()) + self.chain.len();
        let mut from = x;
        // The last step writes to where the block's output is, unless others take what it gives.
        let part = |step: usize, from: Maps, size, channels| match step + 1 == steps && self.ends.is_empty() {
            true => Part { maps: y, first, channels },
            false => Maps { slot: from.slot.next_inner(), size, channels, ..from }.all(),
        };
        if let Some(pool) = self.pool {
            let to = part(0, from, from.under(pool.1).output(), from.channels);
            on.pool(to, from, pool)?;
            from = to.maps;
        }
        for (step, conv) in (steps - self.chain.len()..).zip(&self.chain) {
            let to = part(step, from, conv.size(from.size), conv.outputs);
            on.conv(to, from, conv)?;
            from = to.maps;
        }
        for end in &self.ends {
            on.conv(Part { maps: y, first, channels: end.outputs }, from, end)?;
            first += end.outputs;
        }
        Ok(())
    }
}

impl<W> Block<W> {
    fn walk(&self, on: &mut dyn Layers<W>, x: Maps) -> Result<Maps> {
        let channels = self.0.iter().map(|branch| branch.outputs(x.channels)).sum();
        let size = self.0.first().map_or(x.size, |branch| branch.size(x.size));
        let y = Maps { slot: x.slot.next_map(), size, channels, ..x };
        let mut first = 0;
        for branch in &self.0 {
            branch.walk(on, y, x, first)?;
            first += branch.outputs(x.channels);
        }
        Ok(y)
    }
}
