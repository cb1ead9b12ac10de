//! One call of the UNet.

use super::{Block, Config, UNet};
use crate::error::Result;
use crate::layers::{Backend, Layers, Resolution, Size, Slot, Tensor};

impl Config {
    /// Height and width of each level for a latent of this size.
    pub(super) fn sizes(&self, size: Size) -> Vec<Size> {
        let smaller = |&(h, w): &Size| Some((h.div_ceil(2), w.div_ceil(2)));
        std::iter::successors(Some(size), smaller).take(self.channels.len()).collect()
    }
}

impl<B: Backend> UNet<B> {
    /// The input's own feature map.
    fn enter(&self, on: &mut impl Layers<B>, images: usize, size: Size) -> Result<Tensor> {
        let Config { channels, in_channels, .. } = &self.config;
        let x = Tensor { slot: Slot::Skip(0), rows: images, size, channels: channels[0] };
        on.conv(x, &self.conv_in, Tensor { slot: Slot::Input, channels: *in_channels, ..x }, Resolution::Same)?;
        Ok(x)
    }

    /// The last block, which reads what came from below and the input's own map, and the output.
    fn leave(&self, on: &mut impl Layers<B>, below: Tensor, own: Tensor) -> Result<()> {
        let turn = usize::from(below.slot == Slot::Map(0));
        let y = Tensor { slot: Slot::Map(turn), channels: self.last.resnet.outputs(), ..below };
        self.last.forward(on, y, &[below, own])?;
        let output = Tensor { slot: Slot::Output, channels: self.config.out_channels, ..y };
        on.normed_conv(output, &self.conv_out, &[y], &self.norm_out, None)
    }

    /// The output as [`UNet::forward`] gives it, but for what lies below the last block of the way up: that is what
    /// the last whole call left in the call's memory, which nothing else may have used since. Of one timestep to the
    /// next it changes least (DeepCache, Ma et al. 2023, arXiv 2312.00858, its first branch). `rows` may be fewer than
    /// they were then.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn forward_again(&self, on: &mut impl Layers<B>, (images, rows): (usize, usize), size: Size) -> Result<()> {
        let own = self.enter(on, images, size)?;
        // Maps are stored in turn from the middle on.
        let up = self.up.iter().map(|level| level.blocks.len() + usize::from(level.change.is_some()));
        let maps = self.mid.len() + up.sum::<usize>();
        self.leave(on, Tensor { slot: Slot::Map(maps % 2), rows, ..own }, own)
    }

    /// The output `[rows, H, W, out_channels]` from the input, latents `[images, H, W, in_channels]`, at the call's
    /// timestep; row n sees the call's caption n. `rows` is `images`, or twice that with the second guidance branch
    /// behind the first.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn forward(&self, on: &mut impl Layers<B>, (images, rows): (usize, usize), size: Size) -> Result<()> {
        assert!(rows == images || rows == 2 * images, "unet: {rows} rows for {images} images");
        let sizes = self.config.sizes(size);
        // Until a caption is first looked at, both guidance branches of an image are the same: only the first is
        // computed.
        let mut valid = images;
        let skip = |i: usize, rows, size, channels| Tensor { slot: Slot::Skip(i), rows, size, channels };
        let own = self.enter(on, images, size)?;
        let mut x = own;
        let mut skips = vec![x];
        for (i, level) in self.down.iter().enumerate() {
            for block in &level.blocks {
                valid = if block.transformer.is_some() { rows } else { valid };
                let y = skip(skips.len(), valid, sizes[i], level.channels);
                block.forward(on, y, &[x])?;
                x = y;
                skips.push(y);
            }
            if let Some(conv) = &level.change {
                let y = skip(skips.len(), valid, sizes[i + 1], level.channels);
                on.conv(y, conv, x, Resolution::Halved)?;
                x = y;
                skips.push(y);
            }
        }

        let mut turn = 0;
        let mut next = |size: Size, channels: usize| {
            turn = 1 - turn;
            Tensor { slot: Slot::Map(turn), rows, size, channels }
        };
        for block in &self.mid {
            let y = next(x.size, block.resnet.outputs());
            block.forward(on, y, &[x])?;
            x = y;
        }
        for (level, at) in self.up.iter().zip((0..sizes.len()).rev()) {
            for block in &level.blocks {
                let y = next(sizes[at], level.channels);
                let parts: Vec<Tensor> = std::iter::once(x).chain(skips.pop()).collect();
                block.forward(on, y, &parts)?;
                x = y;
            }
            if let Some(conv) = &level.change {
                let y = next(sizes[at - 1], level.channels);
                on.conv(y, conv, x, Resolution::Enlarged)?;
                x = y;
            }
        }
        self.leave(on, x, own)
    }
}

impl<B: Backend> Block<B> {
    /// The residual block and, if there is one, the transformer, which alone may have more rows than its input.
    fn forward(&self, on: &mut impl Layers<B>, y: Tensor, parts: &[Tensor]) -> Result<()> {
        let time = Some(self.offset);
        let Some(transformer) = &self.transformer else { return self.resnet.forward(on, y, parts, time) };
        let valid = parts.iter().map(|part| part.rows).max().unwrap_or(y.rows);
        let x = Tensor { slot: Slot::Inner, rows: valid, ..y };
        self.resnet.forward(on, x, parts, time)?;
        transformer.forward(on, y, x)
    }
}
