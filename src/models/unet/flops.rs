//! The work of a UNet call, counted from the blocks that a [`Config`] describes.

use super::Config;
use super::architecture::{Architecture, BlockAt};
use crate::models::layers::Size;
use crate::ops::attention;
use crate::ops::conv::Shape;
use crate::ops::linear;

/// FLOPs (two per multiply-accumulate) of products, convolutions and attention for one row, an image of one guidance branch. Elementwise
/// work is not counted, nor is the timestep's embedding, a table made before the first call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flops {
    /// A call, but for `context`.
    pub call: f64,
    /// What of `call` comes before a caption is first looked at: the same for both branches of an image.
    pub shared: f64,
    /// Keys and values of a caption, which do not change from call to call.
    pub context: f64,
}

impl Flops {
    /// A call of an engine that caches nothing: what the literature counts.
    pub fn uncached_call(self) -> f64 {
        self.call + self.context
    }
}

impl Config {
    /// For a latent of `size` and captions of `tokens` tokens.
    pub fn flops(&self, size: Size, tokens: usize) -> Flops {
        let architecture = Architecture::new(self);
        let sizes = self.sizes(size);
        let mut flops = Flops { call: conv(size, self.in_channels, self.channels[0]), ..Flops::default() };
        for (level, &size) in architecture.down.iter().zip(&sizes) {
            level.blocks.iter().for_each(|block| flops.block(block, size, (self.context, tokens)));
            if level.change.is_some() {
                let shape = Shape { stride: 2, ..Shape::same(1, size.0, size.1, level.channels) };
                flops.call += shape.flops(level.channels);
            }
        }
        let deepest = sizes[sizes.len() - 1];
        architecture.mid.iter().for_each(|block| flops.block(block, deepest, (self.context, tokens)));
        for (level, at) in architecture.up.iter().zip((0..sizes.len()).rev()) {
            level.blocks.iter().for_each(|block| flops.block(block, sizes[at], (self.context, tokens)));
            if level.change.is_some() {
                flops.call += conv(sizes[at - 1], level.channels, level.channels);
            }
        }
        flops.call += conv(size, self.channels[0], self.out_channels);
        flops
    }
}

fn conv((height, width): Size, inputs: usize, outputs: usize) -> f64 {
    Shape::same(1, height, width, inputs).flops(outputs)
}

impl Flops {
    fn block(&mut self, block: &BlockAt, size: Size, (context, tokens): (usize, usize)) {
        let (pixels, c) = (size.0 * size.1, block.outputs);
        let linear = |inputs, outputs| linear::Shape { rows: pixels, inputs, outputs }.flops();
        self.call += conv(size, block.inputs, c) + conv(size, c, c);
        if block.inputs != c {
            self.call += linear(block.inputs, c);
        }
        let Some(transformer) = &block.transformer else { return };
        let heads = transformer.heads;
        let itself =
            attention::Shape { n: 1, queries: pixels, keys: pixels, heads, head_dim: c / heads, causal: false };
        // Projection in, queries, keys and values, attention, output; queries of the cross-attention.
        self.call += linear(c, c) + linear(c, 3 * c) + itself.flops() + linear(c, c) + linear(c, c);
        if transformer.index == 0 {
            self.shared = self.call;
        }
        // Cross-attention, output; gate and value, their product's layer; projection out.
        self.call += attention::Shape { keys: tokens, ..itself }.flops() + linear(c, c);
        self.call += linear(c, 8 * c) + linear(4 * c, c) + linear(c, c);
        self.context += linear::Shape { rows: tokens, inputs: context, outputs: 2 * c }.flops();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::unet::Mid;

    /// Stable Diffusion 1.5: 401.6 billion multiply-accumulates per sample of 512², 1.5 of them keys and values of the caption; 20.4 come
    /// before it is looked at, of which diffusers' `conv_in`, first residual block and first self-attention are the largest.
    #[test]
    fn stable_diffusion_1_5() {
        let config = Config {
            in_channels: 4,
            out_channels: 4,
            sample_size: Some((64, 64)),
            mid: Mid::CrossAttention,
            channels: vec![320, 640, 1280, 1280],
            layers: vec![2; 4],
            down_attention: vec![true, true, true, false],
            up_attention: vec![false, true, true, true],
            heads: vec![8; 4],
            context: 768,
            groups: 32,
            eps: 1e-5,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
        };
        let giga_macs = |flops: f64| flops / 2e9;
        let flops = config.flops((64, 64), 77);
        assert!((giga_macs(flops.uncached_call()) - 401.6).abs() < 0.05, "{}", giga_macs(flops.uncached_call()));
        assert!((giga_macs(flops.context) - 1.5).abs() < 0.05, "{}", giga_macs(flops.context));
        assert!((giga_macs(flops.shared) - 20.4).abs() < 0.5, "{}", giga_macs(flops.shared));
        // Twice the pixels: twice the work of everything but the self-attention, four times its.
        let wide = config.flops((64, 128), 77);
        assert!(wide.call > 2.0 * flops.call && wide.call < 4.0 * flops.call && wide.context == flops.context);
    }
}
