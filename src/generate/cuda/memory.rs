//! What a batch takes on the device beside the weights.

use super::nets::Nets;
use crate::device::cuda::{Arena, Half, View};
use crate::error::Result;
use crate::generate::painter::AHEAD;
use crate::generate::parts::Parts;
use crate::image::{Filter, weight_table};
use crate::layers::count::Processor;
use crate::layers::cuda::{self as layers, Captions};
use crate::models::unet::Time;
use crate::ops::pixels::cuda::{Resize, Tables};
use crate::ops::sampler_step::cuda::ROW;

/// Pictures decoded at once: the decoder's maps are 64 times as large as the UNet's.
pub(super) const DECODED: usize = 8;

/// Views of the arena.
#[derive(Debug)]
pub(super) struct Memory<T> {
    pub text: layers::Memory<T>,
    pub ids: View<u32>,
    pub contexts: Captions<T>,
    /// Caption of every row.
    pub which: View<u32>,
    pub unet: layers::Memory<T>,
    /// Biases of the residual blocks for every call of the UNet.
    pub time: View<f32>,
    /// Coefficients of the sampler for every call, and which call it is.
    pub table: View<f32>,
    pub step: View<u32>,
    /// What the sampler's noise is keyed by.
    pub keys: View<u32>,
    /// Latents, NHWC; what the UNet is given; what it answers; what the sampler remembers.
    pub x: View<f32>,
    pub input: View<T>,
    pub eps: View<f32>,
    pub history: View<f32>,
    /// Final latents of the batches under way, if they may have to be decoded twice.
    pub kept: [View<f32>; AHEAD],
    pub decoder: layers::Memory<T>,
    /// What the decoder is given and what it answers.
    pub latents: View<T>,
    pub picture: View<f32>,
    /// Pictures as drawn, half resized, and as stored, and what is wrong with them.
    pub whole: View<u8>,
    pub between: View<u8>,
    pub tables: Tables,
    pub pictures: View<u8>,
    pub flags: View<u32>,
}

impl<T: Half> Memory<T> {
    pub(super) fn new(arena: &mut Arena, nets: &Nets<T>, time: &Time, parts: &Parts<'_>, batch: usize) -> Result<Self> {
        let rows = if parts.unconditional.is_some() { 2 * batch } else { batch };
        let decoded = batch.min(DECODED);
        let calls = parts.sampler.rows().len();
        let tokens = parts.text.0.tokens;
        let values = parts.latent.0 * parts.latent.1 * parts.decoder.0.latent_channels;
        let (from, to) = (parts.drawn, parts.stored());
        let bytes = |(width, height): (usize, usize)| 3 * width * height;
        let resized = from != to;
        let shape = Resize { n: decoded, from, to, columns_first: false };
        let between = shape.between_len().max(Resize { columns_first: true, ..shape }.between_len());
        let (text, unet, decoder) = (&parts.text.0, &parts.unet.0, &parts.decoder.0);
        let text = layers::Memory::take(arena, "text encoder", &text.rooms(Processor::Gpu, batch)?);
        // A place for the branch without caption.
        let contexts = Captions::take(arena, &unet.cross_attentions(), batch + 1, tokens);
        let rooms = unet.rooms(Processor::Gpu, batch, rows, parts.latent)?;
        let unet = layers::Memory::take(arena, "unet", &rooms);
        let rooms = decoder.rooms(Processor::Gpu, decoded, parts.latent)?;
        let decoder = layers::Memory::take(arena, "decoder", &rooms);
        let group = "latents and pictures";
        let kept = if nets.far.is_some() { batch * values } else { 0 };
        let table = |from: usize, to: usize| if from == to { 0 } else { weight_table(from, to, Filter::Bicubic).len() };
        Ok(Self {
            text,
            ids: arena.take(group, "token ids", batch * tokens),
            contexts,
            which: arena.take(group, "captions of the rows", rows),
            unet,
            time: arena.take(group, "timestep biases", calls * time.width()),
            table: arena.take(group, "sampler coefficients", calls * ROW),
            step: arena.take(group, "step", 1),
            keys: arena.take(group, "noise keys", 4 * batch),
            x: arena.take(group, "latents", batch * values),
            input: arena.take(group, "inputs", batch * values),
            eps: arena.take(group, "predictions", rows * values),
            history: arena.take(group, "earlier predictions", parts.sampler.slots() * batch * values),
            kept: std::array::from_fn(|_| arena.take(group, "final latents", kept)),
            decoder,
            latents: arena.take(group, "latents to decode", decoded * values),
            picture: arena.take(group, "decoded values", decoded * bytes(from)),
            whole: arena.take(group, "pictures as drawn", if resized { decoded * bytes(from) } else { 0 }),
            between: arena.take(group, "half resized", between),
            tables: Tables {
                along: arena.take(group, "weights along", table(from.0, to.0)),
                across: arena.take(group, "weights across", table(from.1, to.1)),
            },
            pictures: arena.take(group, "pictures", batch * bytes(to)),
            flags: arena.take(group, "flags", batch),
        })
    }
}
