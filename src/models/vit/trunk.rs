//! The blocks of a transformer and the norm behind them.

use super::acts::TrunkActs;
use super::block::Block;
use super::config::VitConfig;
use super::gradients::VitGradients;
use super::shape::{BlockShape, Span};
use super::style::Style;
use crate::error::Result;
use crate::layers::training::{Branch, Buffer, LayerNorm, Layers};
use crate::weights::Param;

/// The places of the tensors of all blocks and of the last norm.
#[derive(Clone, Debug)]
pub struct Trunk {
    config: VitConfig,
    style: Style,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Trunk {
    /// Has `add` append the tensors by the names of `style`: `blocks.0.…`, and after all blocks `norm.…`.
    pub fn new(config: &VitConfig, style: Style, add: &mut dyn FnMut(&str, &[usize]) -> Param) -> Self {
        let before = style.blocks;
        let block = |i| Block::new(config, &style, &mut |n, s| add(&format!("{before}{i}.{n}"), s));
        let blocks = (0..config.depth).map(block).collect();
        let affine = ["weight", "bias"].map(|what| add(&format!("{}.{what}", style.norm), &[config.width]));
        Self { config: config.clone(), style, blocks, norm: LayerNorm { affine, eps: style.eps } }
    }

    fn shape(&self, span: Span, block: usize) -> BlockShape {
        BlockShape { causal: self.style.causal, ..self.config.block_shape(span, block) }
    }

    /// `acts.features()` from `acts.input()`.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn forward(&self, on: &mut dyn Layers, acts: &TrunkActs) -> Result<()> {
        self.forward_blocks(on, acts)?;
        on.layer_norm(acts.features, acts.norm_stats, acts.streams[self.blocks.len()], self.norm)
    }

    /// What leaves the last block from `acts.input()`: without the norm behind it.
    pub(super) fn forward_blocks(&self, on: &mut dyn Layers, acts: &TrunkActs) -> Result<()> {
        for (i, block) in self.blocks.iter().enumerate() {
            let shape = self.shape(acts.span, i);
            let dropped = acts.dropped(i, shape);
            block.forward(on, acts.streams[i + 1], acts.streams[i], (&acts.blocks[i], dropped), shape)?;
        }
        Ok(())
    }

    /// Adds the gradients of the parameters, given `dfeatures` of what [`Trunk::forward`] made last, and leaves that of
    /// the input in `back.of_input()`.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn backward(
        &self,
        on: &mut dyn Layers,
        acts: &TrunkActs,
        back: &VitGradients,
        dfeatures: Buffer,
    ) -> Result<()> {
        let last = (acts.streams[self.blocks.len()], acts.norm_stats);
        let dlast = if acts.span.leaving < acts.span.tokens { back.dlast } else { back.dx };
        on.layer_norm_backward(dlast, Branch::None, dfeatures, last, self.norm)?;
        self.backward_blocks(on, acts, back)
    }

    /// The same where no norm is behind the blocks: the gradient of what leaves them is in `back`.
    pub(super) fn backward_blocks(&self, on: &mut dyn Layers, acts: &TrunkActs, back: &VitGradients) -> Result<()> {
        self.backward_tapped(on, acts, back, &mut |_, _| Ok(()))
    }

    /// The same, where `join` is asked in front of each block's backward, and told how many blocks are before what its
    /// gradient is of, to add what else read that.
    pub(super) fn backward_tapped(
        &self,
        on: &mut dyn Layers,
        acts: &TrunkActs,
        back: &VitGradients,
        join: &mut dyn FnMut(&mut dyn Layers, usize) -> Result<()>,
    ) -> Result<()> {
        for (i, block) in self.blocks.iter().enumerate().rev() {
            join(on, i + 1)?;
            let shape = self.shape(acts.span, i);
            block.backward(on, back, acts.streams[i], (&acts.blocks[i], acts.dropped(i, shape)), shape)?;
        }
        Ok(())
    }
}
