//! FLOPs and scratch of what tokens come about by.

use super::{Tally, patch_product};
use crate::error::Result;
use crate::layers::training::{Buffer, Embeddings, Numbers, PatchEmbed, Places, TextEmbed, Texts};
#[cfg(cuda_kernels)]
use crate::ops::linear;
use crate::ops::{interpolate, patch_embed, rows};
use crate::weights::Param;

impl Embeddings for Tally {
    fn unfold(&mut self, _: Buffer, _: usize, _: patch_embed::Shape) -> Result<()> {
        Ok(())
    }

    fn embed(&mut self, _: Buffer, _: Buffer, _: Buffer, _: PatchEmbed, shape: patch_embed::Shape) -> Result<()> {
        self.tally_product(patch_product(shape))
    }

    fn embed_backward(
        &mut self,
        _: Buffer,
        _: Buffer,
        _: Buffer,
        _: PatchEmbed,
        shape: patch_embed::Shape,
    ) -> Result<()> {
        #[cfg(cuda_kernels)]
        {
            self.need(patch_embed::cuda::scratch_len(shape));
            self.need(linear::cuda::backward_weight_scratch_len(patch_product(shape)));
        }
        self.tally_product(patch_product(shape))
    }

    fn resize_positions(&mut self, _: [Buffer; 2], _: Param, _: interpolate::Shape) -> Result<()> {
        Ok(())
    }

    fn resize_positions_backward(&mut self, _: Param, _: Buffer, _: interpolate::Shape) -> Result<()> {
        Ok(())
    }

    fn embed_text(&mut self, _: Buffer, _: TextEmbed, _: Texts) -> Result<()> {
        Ok(())
    }

    fn embed_text_backward(&mut self, _: Buffer, _: TextEmbed, _: Texts) -> Result<()> {
        Ok(())
    }

    fn pick(&mut self, _: Buffer, _: Buffer, _: Numbers) -> Result<()> {
        Ok(())
    }

    fn pick_backward(&mut self, _: Buffer, _: Buffer, _: Numbers) -> Result<()> {
        Ok(())
    }

    fn take_rows(&mut self, _: Buffer, _: Buffer, _: Numbers, _: rows::Shape) -> Result<()> {
        Ok(())
    }

    fn place_rows(&mut self, _: Buffer, _: Buffer, _: Places, _: rows::Shape) -> Result<()> {
        Ok(())
    }

    #[cfg_attr(not(cuda_kernels), expect(unused_variables))]
    fn place_rows_backward(&mut self, _: Buffer, _: Buffer, _: Places, shape: rows::Shape) -> Result<()> {
        #[cfg(cuda_kernels)]
        self.need(rows::cuda::scratch_len(shape));
        Ok(())
    }
}
