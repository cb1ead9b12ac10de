//! Timesteps into biases: the sinusoidal embedding, its two layers, and its projection into every residual block. The
//! host makes the table, once, for every device.

use super::Config;
use super::architecture::{Architecture, BlockAt};
use crate::error::Result;
use crate::layers::cpu::Reader;
use crate::ops::activation::silu;
use crate::ops::embed;
use crate::ops::gemm::{self, Begin, Operands, Threads};
use crate::ops::packed::Packed;

/// The layers between a timestep and the residual blocks.
#[derive(Debug)]
pub struct Time {
    layers: [Packed; 2],
    /// Of every block: projection, bias of the convolution it is added to, and place in a row.
    blocks: Vec<(Packed, Vec<f32>, usize)>,
    width: usize,
    flip_sin_to_cos: bool,
    freq_shift: f32,
}

impl Time {
    /// Reads them by their diffusers names.
    pub fn load(config: &Config, from: &mut Reader<'_>) -> Result<Self> {
        let (first, time) = (config.channels[0], 4 * config.channels[0]);
        let architecture = Architecture::new(config);
        let block = |block: &BlockAt| {
            let name = format!("{}.time_emb_proj", block.name);
            let projection = from.packed(&name, (time, block.outputs), true, Operands::F32)?;
            let bias = from.vector(&format!("{}.conv1.bias", block.name), block.outputs)?;
            Ok((projection, bias, block.offset))
        };
        let blocks = architecture.blocks().map(block).collect::<Result<_>>()?;
        Ok(Self {
            layers: [
                from.packed("time_embedding.linear_1", (first, time), true, Operands::F32)?,
                from.packed("time_embedding.linear_2", (time, time), true, Operands::F32)?,
            ],
            blocks,
            width: architecture.time_width,
            flip_sin_to_cos: config.flip_sin_to_cos,
            freq_shift: config.freq_shift as f32,
        })
    }

    /// Length of a row of the table.
    pub fn width(&self) -> usize {
        self.width
    }

    /// For each timestep, the biases of all residual blocks: first convolution's bias plus the projected embedding.
    pub fn table(&self, timesteps: &[f32]) -> Vec<Vec<f32>> {
        let [time1, time2] = &self.layers;
        let row = |&t: &f32| {
            let sines = embed::timestep(t, time1.k, self.flip_sin_to_cos, self.freq_shift);
            let mut hidden = layer(time1, &sines);
            silu(&mut hidden);
            let mut embedding = layer(time2, &hidden);
            silu(&mut embedding);
            let mut row = vec![0.0; self.width];
            for (projection, convolution, offset) in &self.blocks {
                let bias = &mut row[*offset..offset + projection.n];
                bias.copy_from_slice(&layer(projection, &embedding));
                bias.iter_mut().zip(convolution).for_each(|(b, c)| *b += c);
            }
            row
        };
        timesteps.iter().map(row).collect()
    }
}

/// `x·w + bias`, the bias added last: the bits of every picture depend on it.
fn layer(w: &Packed, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; w.n];
    gemm::packed(&mut y, x, w.f32().all(), Begin::Zero, Threads::All);
    y.iter_mut().zip(w.bias.iter().flatten()).for_each(|(y, bias)| *y += bias);
    y
}
