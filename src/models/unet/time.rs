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
    /// Where the network is told the guidance scale: its embedding, to the width of the sines.
    guidance: Option<Packed>,
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
            guidance: match config.guidance_embedding {
                Some(width) => Some(from.packed("time_embedding.cond_proj", (width, first), false, Operands::F32)?),
                None => None,
            },
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

    /// Whether the table depends on the guidance scale.
    pub fn is_told_guidance(&self) -> bool {
        self.guidance.is_some()
    }

    /// For each timestep, the biases of all residual blocks: first convolution's bias plus the projected embedding.
    /// `guidance_scale` is w of classifier-free guidance; what a network is told of it is w − 1 (Meng et al. 2023, arXiv
    /// 2210.03142, section 3.1; Luo et al. 2023, arXiv 2310.04378, eq. 14, whose w that is).
    pub fn table(&self, timesteps: &[f32], guidance_scale: f32) -> Vec<Vec<f32>> {
        let [time1, time2] = &self.layers;
        let told = self
            .guidance
            .as_ref()
            .map(|guidance| layer(guidance, &embed::timestep(1000.0 * (guidance_scale - 1.0), guidance.k, false, 1.0)));
        let row = |&t: &f32| {
            let mut sines = embed::timestep(t, time1.k, self.flip_sin_to_cos, self.freq_shift);
            sines.iter_mut().zip(told.iter().flatten()).for_each(|(sine, told)| *sine += told);
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
