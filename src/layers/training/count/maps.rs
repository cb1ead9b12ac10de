//! Scratch of feature maps; nothing of them is counted as FLOPs.

use super::Tally;
use crate::error::Result;
use crate::layers::training::{BatchNorm, Buffer, Maps, Numbers, PixelLoss};
use crate::ops::{bilinear, drop_channels, grid_pool, max_pool, neighbourhood, spread};
use crate::weights::Param;

impl Maps for Tally {
    fn neighbourhoods(&mut self, _: Buffer, _: Buffer, _: neighbourhood::Shape) -> Result<()> {
        Ok(())
    }

    fn neighbourhoods_backward(&mut self, _: Buffer, _: Buffer, _: neighbourhood::Shape) -> Result<()> {
        Ok(())
    }

    fn resize(&mut self, _: Buffer, _: Buffer, _: bilinear::Shape, _: bool) -> Result<()> {
        Ok(())
    }

    fn resize_backward(&mut self, _: Buffer, _: Buffer, _: bilinear::Shape, _: bool) -> Result<()> {
        Ok(())
    }

    fn grid_pool(&mut self, _: Buffer, _: Buffer, _: grid_pool::Shape) -> Result<()> {
        Ok(())
    }

    fn grid_pool_backward(&mut self, _: Buffer, _: Buffer, _: grid_pool::Shape) -> Result<()> {
        Ok(())
    }

    fn max_pool(&mut self, _: Buffer, _: Buffer, _: max_pool::Shape) -> Result<()> {
        Ok(())
    }

    fn max_pool_backward(&mut self, _: Buffer, _: Buffer, _: Buffer, _: max_pool::Shape) -> Result<()> {
        Ok(())
    }

    fn spread(&mut self, _: Buffer, _: Buffer, _: Option<Param>, _: spread::Shape) -> Result<()> {
        Ok(())
    }

    #[cfg_attr(not(cuda_kernels), expect(unused_variables))]
    fn spread_backward(&mut self, _: Buffer, _: Buffer, bias: Option<Param>, shape: spread::Shape) -> Result<()> {
        #[cfg(cuda_kernels)]
        if bias.is_some() {
            self.need(spread::cuda::scratch_len(shape));
        }
        Ok(())
    }

    fn drop_channels(&mut self, _: Buffer, _: Numbers, _: f32, _: drop_channels::Shape) -> Result<()> {
        Ok(())
    }

    fn pixel_loss(&mut self, _: Buffer, _: Buffer, _: Buffer, _: Buffer, _: Numbers, _: PixelLoss) -> Result<()> {
        Ok(())
    }

    #[cfg_attr(not(cuda_kernels), expect(unused_variables))]
    fn batch_norm_infer(&mut self, _: Buffer, _: Buffer, norm: BatchNorm) -> Result<()> {
        #[cfg(cuda_kernels)]
        {
            self.moments = self.moments.max(2 * norm.cols());
        }
        Ok(())
    }
}
