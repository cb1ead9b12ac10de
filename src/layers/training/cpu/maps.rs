//! Feature maps on the CPU.

use super::call::Call;
use crate::error::Result;
use crate::layers::training::{BatchNorm, Buffer, Maps, Numbers, PixelLoss};
use crate::ops::{batchnorm, bilinear, drop_channels, grid_pool, max_pool, neighbourhood, pixel_loss, relu, spread};
use crate::weights::Param;

impl Maps for Call<'_, '_> {
    fn neighbourhoods(&mut self, y: Buffer, x: Buffer, shape: neighbourhood::Shape) -> Result<()> {
        self.memory.write([y], |[y], memory| neighbourhood::forward(y, memory.read(x), shape));
        Ok(())
    }

    fn neighbourhoods_backward(&mut self, dx: Buffer, dy: Buffer, shape: neighbourhood::Shape) -> Result<()> {
        self.memory.write([dx], |[dx], memory| neighbourhood::backward(dx, memory.read(dy), shape));
        Ok(())
    }

    fn resize(&mut self, y: Buffer, x: Buffer, shape: bilinear::Shape, add: bool) -> Result<()> {
        self.memory.write([y], |[y], memory| bilinear::forward(y, memory.read(x), shape, add));
        Ok(())
    }

    fn resize_backward(&mut self, dx: Buffer, dy: Buffer, shape: bilinear::Shape, add: bool) -> Result<()> {
        self.memory.write([dx], |[dx], memory| bilinear::backward(dx, memory.read(dy), shape, add));
        Ok(())
    }

    fn grid_pool(&mut self, y: Buffer, x: Buffer, shape: grid_pool::Shape) -> Result<()> {
        self.memory.write([y], |[y], memory| grid_pool::forward(y, memory.read(x), shape));
        Ok(())
    }

    fn grid_pool_backward(&mut self, dx: Buffer, dy: Buffer, shape: grid_pool::Shape) -> Result<()> {
        self.memory.write([dx], |[dx], memory| grid_pool::backward(dx, memory.read(dy), shape));
        Ok(())
    }

    fn max_pool(&mut self, y: Buffer, x: Buffer, shape: max_pool::Shape) -> Result<()> {
        self.memory.write([y], |[y], memory| max_pool::forward(y, memory.read(x), shape));
        Ok(())
    }

    fn max_pool_backward(&mut self, dx: Buffer, dy: Buffer, x: Buffer, shape: max_pool::Shape) -> Result<()> {
        self.memory.write([dx], |[dx], memory| max_pool::backward(dx, memory.read(dy), memory.read(x), shape));
        Ok(())
    }

    fn spread(&mut self, y: Buffer, x: Buffer, bias: Option<Param>, shape: spread::Shape) -> Result<()> {
        let bias = bias.map(|bias| bias.of(self.read()));
        self.memory.write([y], |[y], memory| spread::forward(y, memory.read(x), bias, shape));
        Ok(())
    }

    fn spread_backward(&mut self, dx: Buffer, dy: Buffer, bias: Option<Param>, shape: spread::Shape) -> Result<()> {
        let dbias = bias.map(|bias| bias.of_mut(self.grads));
        self.memory.write([dx], |[dx], memory| spread::backward(dx, dbias, memory.read(dy), shape));
        Ok(())
    }

    fn drop_channels(&mut self, x: Buffer, kept: Numbers, scale: f32, shape: drop_channels::Shape) -> Result<()> {
        let kept = &self.numbers[kept.range()];
        self.memory.write([x], |[x], _| drop_channels::apply(x, kept, scale, shape));
        Ok(())
    }

    fn pixel_loss(
        &mut self,
        d: Buffer,
        losses: Buffer,
        lse: Buffer,
        logits: Buffer,
        labels: Numbers,
        of: PixelLoss,
    ) -> Result<()> {
        let labels = &self.numbers[labels.range()];
        self.memory.write([d, losses, lse], |[d, losses, lse], memory| {
            let logits = memory.read(logits);
            pixel_loss::forward(losses, lse, logits, labels, of);
            pixel_loss::backward(d, logits, lse, labels, of);
        });
        Ok(())
    }

    fn batch_norm_infer(&mut self, y: Buffer, x: Buffer, norm: BatchNorm) -> Result<()> {
        let [gamma, beta] = self.norm_weights(norm);
        let [mean, var] = self.running(norm).map(|param| param.of(self.statistics));
        self.memory.write([y], |[y], memory| {
            batchnorm::infer(y, memory.read(x), mean, var, &gamma, &beta);
            if norm.relu {
                relu::forward_in_place(y);
            }
        });
        Ok(())
    }
}
