//! FLOPs and scratch of losses.

#[cfg(cuda_kernels)]
use super::contrast_shape;
use super::{Tally, contrast_flops, pair_sizes};
use crate::error::Result;
use crate::layers::training::{Buffer, Contrast, Distill, Losses, Numbers, Pairs, Queue, SoftLabels};
#[cfg(cuda_kernels)]
use crate::ops::{contrastive, distill};
use crate::ops::{cosine, pairs, patch_loss};

impl Losses for Tally {
    fn contrastive(&mut self, of: Contrast) -> Result<()> {
        #[cfg(cuda_kernels)]
        self.need(contrastive::cuda::scratch_len(contrast_shape(of)));
        self.flops += contrast_flops(of).0;
        Ok(())
    }

    fn contrastive_backward(&mut self, _: Buffer, of: Contrast) -> Result<()> {
        self.flops += contrast_flops(of).1;
        Ok(())
    }

    fn enqueue(&mut self, _: Queue, _: Buffer, _: Numbers, _: Numbers) -> Result<()> {
        Ok(())
    }

    fn patch_loss(
        &mut self,
        _: Buffer,
        _: Buffer,
        _: Buffer,
        _: Numbers,
        _: usize,
        _: patch_loss::Shape,
    ) -> Result<()> {
        Ok(())
    }

    fn mean_loss(&mut self, _: Buffer) -> Result<()> {
        Ok(())
    }

    fn soft_labels(&mut self, _: Buffer, _: Buffer, _: Buffer, _: SoftLabels) -> Result<()> {
        Ok(())
    }

    fn pairs(&mut self, all: &[Pairs], _: bool) -> Result<()> {
        for &of in all {
            let (rows, keys, dim) = pair_sizes(of);
            #[cfg(cuda_kernels)]
            self.need(pairs::cuda::scratch_len(pairs::cuda::Shape { rows, keys, dim }));
            self.flops += pairs::flops(rows, keys, dim).0;
        }
        Ok(())
    }

    fn note_loss(&mut self) -> Result<()> {
        Ok(())
    }

    fn pairs_backward(&mut self, _: Buffer, of: Pairs) -> Result<()> {
        let (rows, keys, dim) = pair_sizes(of);
        self.flops += pairs::flops(rows, keys, dim).1;
        Ok(())
    }

    fn pairs_both_backward(&mut self, _: Buffer, there: Pairs, _: Pairs) -> Result<()> {
        let (rows, keys, d) = pair_sizes(there);
        self.flops += pairs::flops(rows, keys, d).1;
        Ok(())
    }

    #[cfg_attr(not(cuda_kernels), expect(unused_variables))]
    fn cosine(&mut self, _: Buffer, _: Buffer, _: Buffer, shape: cosine::Shape) -> Result<()> {
        #[cfg(cuda_kernels)]
        self.need(cosine::cuda::scratch_len(shape));
        Ok(())
    }

    #[cfg_attr(not(cuda_kernels), expect(unused_variables))]
    fn distill(&mut self, _: Buffer, of: Distill) -> Result<()> {
        #[cfg(cuda_kernels)]
        self.need(distill::cuda::scratch_len(of.shape));
        Ok(())
    }
}
