//! What a UNet call takes: memory and work, counted by walking it.

use super::architecture::Architecture;
use super::{Config, UNet};
use crate::error::Result;
use crate::layers::Size;
use crate::layers::count::{Count, Processor, Rooms, Tally};

/// FLOPs (two per multiply-accumulate) of products, convolutions and attention for one row, an image of one guidance
/// branch. Elementwise work is not counted, nor is the timestep's embedding, a table made before the first call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flops {
    /// A call, but for `context`.
    pub call: f64,
    /// What of `call` comes before a caption is first looked at: the same for both branches of an image.
    pub shared: f64,
    /// Both of a call that reuses what lies deep.
    pub again: f64,
    pub again_shared: f64,
    /// Keys and values of a caption, which do not change from call to call.
    pub context: f64,
}

impl Config {
    /// Counts what `walk` does of the network.
    fn count(&self, mut tally: Tally, walk: impl FnOnce(&UNet<Count>, &mut Tally) -> Result<()>) -> Result<Tally> {
        walk(&UNet::load(self.clone(), &mut Count)?, &mut tally)?;
        Ok(tally)
    }

    /// For a latent of `size` and captions of `tokens` tokens.
    pub fn flops(&self, size: Size, tokens: usize) -> Result<Flops> {
        let count = |walk: &dyn Fn(&UNet<Count>, &mut Tally) -> Result<()>| {
            self.count(Tally::new(Processor::Cpu, tokens), walk).map(|tally| tally.flops)
        };
        let call = count(&|net, on| net.forward(on, (1, 1), size))?;
        let branches = count(&|net, on| net.forward(on, (1, 2), size))?;
        let again = count(&|net, on| net.forward_again(on, (1, 1), size))?;
        let again_branches = count(&|net, on| net.forward_again(on, (1, 2), size))?;
        Ok(Flops {
            call,
            shared: 2.0 * call - branches,
            again,
            again_shared: 2.0 * again - again_branches,
            context: count(&|net, on| net.tell(on))?,
        })
    }

    /// The memory of calls of up to `images` images in `rows` rows (images times guidance branches) of latents of
    /// `size`.
    pub fn rooms(&self, processor: Processor, images: usize, rows: usize, size: Size) -> Result<Rooms> {
        Ok(self.count(Tally::new(processor, 1), |net, on| net.forward(on, (images, rows), size))?.rooms)
    }

    /// Channels of every cross-attention.
    pub fn cross_attentions(&self) -> Vec<usize> {
        let architecture = Architecture::new(self);
        architecture.blocks().filter(|at| at.transformer.is_some()).map(|at| at.outputs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::unet::Mid;

    /// Stable Diffusion 1.5: 401.6 billion multiply-accumulates per sample of 512², 1.5 of them keys and values of the
    /// caption; 20.4 come before it is looked at, of which diffusers' `conv_in`, first residual block and first
    /// self-attention are the largest.
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
            guidance_embedding: None,
        };
        let giga_macs = |flops: f64| flops / 2e9;
        let flops = config.flops((64, 64), 77).unwrap();
        // The literature counts what an engine that caches nothing computes.
        let uncached = giga_macs(flops.call + flops.context);
        assert!((uncached - 401.6).abs() < 0.05, "{uncached}");
        assert!((giga_macs(flops.context) - 1.5).abs() < 0.05, "{}", giga_macs(flops.context));
        assert!((giga_macs(flops.shared) - 20.4).abs() < 0.5, "{}", giga_macs(flops.shared));
        // The last block, its convolution of two maps, and the first and last convolutions.
        assert!((giga_macs(flops.again) - 31.5).abs() < 0.2, "{}", giga_macs(flops.again));
        // Twice the pixels: twice the work of everything but the self-attention, four times its.
        let wide = config.flops((64, 128), 77).unwrap();
        assert!(wide.call > 2.0 * flops.call && wide.call < 4.0 * flops.call && wide.context == flops.context);
    }
}
