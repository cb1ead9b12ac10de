//! Drawing on the CPU.
//!
//! A batch is dealt to lanes, one per thread; a lane takes its images through all steps on its own, so that no thread ever waits for another one.
//! A batch too small for that runs in one lane whose every product is shared by all threads. The bits are the same either way.

use std::collections::VecDeque;
use std::sync::Arc;

use rayon::prelude::*;

use super::NOTHING_YET;
use super::lane::{Job, Lane, lanes};
use super::pipeline::{Decoded, Drawn, Painter, Parts, Text};
use super::request::{Request, guides};
use super::sampler::Sampler;
use super::spare;
use crate::bail;
use crate::device::Plan;
use crate::error::Result;
use crate::layers::count::{Processor, Rooms};
use crate::layers::cpu::{self as layers, Call, Caption, Memory, Reader};
use crate::models::clip_text::{self, ClipText};
use crate::models::unet::{Time, UNet};
use crate::models::vae::{self, Decoder};
use crate::ops::gemm::Threads;
use crate::ops::sampler_step::NoiseKey;
use crate::store;

/// Weights, schedule and memory.
#[derive(Debug)]
pub(super) struct Cpu {
    text: ClipText<layers::Cpu>,
    /// Memory to encode a text.
    encoding: Rooms,
    unet: UNet<layers::Cpu>,
    decoder: Decoder<layers::Cpu>,
    sampler: Sampler,
    /// One row per call of the UNet.
    time_table: Vec<Vec<f32>>,
    /// The other guidance branch, if there may be guidance.
    unconditional: Option<Arc<Caption>>,
    /// Height and width of the latent.
    latent: (usize, usize),
    lanes: Vec<Lane>,
    batch: usize,
    /// Begun, which here means no more than remembered.
    begun: VecDeque<Request>,
}

impl Cpu {
    /// Reads the weights and takes the memory for batches of up to `batch`, and records both in `plan`.
    ///
    /// # Errors
    /// Device error if they do not fit into what memory is available; data error for weights that cannot be read.
    pub(super) fn new(parts: &Parts<'_>, batch: usize, plan: &mut Plan) -> Result<Self> {
        let mut weights = Plan::dry();
        for (name, file) in [("text encoder", &parts.text.1), ("unet", &parts.unet.1)] {
            weights.record("weights", name, 4 * file.values());
        }
        weights.check("the model is too large for this machine")?;
        let [mut text_file, mut unet_file, mut decoder_file] =
            [&parts.text.1, &parts.unet.1, &parts.decoder.1].map(Reader::new);
        let prefixed = clip_text::is_prefixed(&parts.text.1);
        let text = ClipText::load(parts.text.0.clone(), prefixed, &mut text_file)?;
        store::check_interrupt(NOTHING_YET)?;
        let time = Time::load(&parts.unet.0, &mut unet_file)?;
        let unet = UNet::load(parts.unet.0.clone(), &mut unet_file)?;
        store::check_interrupt(NOTHING_YET)?;
        let old = vae::has_old_names(&parts.decoder.1);
        let decoder = Decoder::load(parts.decoder.0.clone(), old, &mut decoder_file)?;
        store::check_interrupt(NOTHING_YET)?;
        for (part, file) in [("text_encoder", &parts.text.1), ("unet", &parts.unet.1), ("vae", &parts.decoder.1)] {
            spare::check(part, file)?;
        }
        let sampler = parts.sampler.clone();
        for (name, file) in [("text encoder", &text_file), ("unet", &unet_file), ("decoder", &decoder_file)] {
            plan.record("weights", name, 4 * file.values() as u64);
        }
        let branches = if parts.unconditional.is_some() { 2 } else { 1 };
        let tokens = text.config().tokens;
        // The weights are there by now and no longer among what is available.
        let (lanes, buffers) = Plan::new().fit("lower --batch, --width or --height", |plan| {
            let kept: usize = parts.unet.0.cross_attentions().iter().map(|c| 2 * tokens * c).sum();
            plan.record("captions", "keys and values", 4 * (batch * kept) as u64);
            lanes(plan, (&unet, &sampler, &decoder), batch, branches, parts.latent)
        })?;
        plan.append(buffers);
        let mut this = Self {
            time_table: time.table(&sampler.timesteps()),
            encoding: text.config().rooms(Processor::Cpu, 1)?,
            text,
            unet,
            decoder,
            sampler,
            unconditional: None,
            latent: parts.latent,
            lanes,
            batch,
            begun: VecDeque::new(),
        };
        if let Some(ids) = &parts.unconditional {
            this.unconditional = this.contexts(&[ids])?.pop();
        }
        Ok(this)
    }

    /// Values of a latent.
    fn values(&self) -> usize {
        self.latent.0 * self.latent.1 * self.decoder.config().latent_channels
    }

    /// Images per lane, and whether the one lane in use should call all threads.
    fn shares(&self, images: usize) -> (Vec<usize>, Threads) {
        let lanes = self.lanes.len().min(images).max(1);
        let shares = (0..lanes).map(|lane| images / lanes + usize::from(lane < images % lanes)).collect();
        (shares, if lanes == 1 { Threads::All } else { Threads::One })
    }
}

impl Painter for Cpu {
    fn batch(&self) -> usize {
        self.batch
    }

    fn contexts(&self, ids: &[&[u32]]) -> Result<Vec<Arc<Caption>>> {
        self.text.config().check(ids)?;
        let context = |ids: &&[u32]| {
            let mut memory = Memory::take(&mut Plan::new(), "text encoder", &self.encoding);
            let mut call = Call { ids, ..Call::new(&mut memory, Threads::One) };
            let states = self.text.encode(&mut call, 1)?;
            let states = call.read(states).to_vec();
            let mut call = Call { input: &states, ..Call::new(&mut memory, Threads::One) };
            self.unet.tell(&mut call)?;
            Ok(Arc::new(call.made))
        };
        ids.par_iter().map(context).collect()
    }

    fn sample(&mut self, request: &Request, on_step: &mut dyn FnMut(usize)) -> Result<Vec<f32>> {
        let Request { ref texts, ref keys, guidance_scale: w, .. } = *request;
        let (values, mut latents) = (self.values(), request.latents.clone());
        let (shares, threads) = self.shares(texts.len());
        let (unet, sampler, latent) = (&self.unet, &self.sampler, self.latent);
        let table = &self.time_table;
        let unconditional = self.unconditional.as_deref().filter(|_| guides(w)).map(|context| (context, w));
        let run = |(lane, images, latents): Share<'_>, on_step: &mut dyn FnMut(usize)| {
            let job = Job { unet, sampler, table, unconditional, latent, threads };
            lane.sample(&job, images, latents, on_step)
        };
        let mut parts = split(&mut self.lanes, &shares, (texts, keys), &mut latents, values).into_iter();
        let Some(own) = parts.next() else { return Ok(latents) };
        // The first lane runs here, so that `on_step` is called by its owner; the others in the pool.
        let mut results: Vec<Result<()>> = (1..shares.len()).map(|_| Ok(())).collect();
        let first = rayon::in_place_scope(|scope| {
            for (part, result) in parts.zip(&mut results) {
                let run = &run;
                scope.spawn(move |_| *result = run(part, &mut |_| ()));
            }
            run(own, on_step)
        });
        results.into_iter().fold(first, Result::and)?;
        Ok(latents)
    }

    fn decode(&mut self, latents: &[f32]) -> Result<Vec<Decoded>> {
        let values = self.values();
        let n = latents.len() / values;
        let (shares, threads) = self.shares(n);
        let (decoder, size) = (&self.decoder, self.latent);
        let mut pictures: Vec<Result<Vec<Decoded>>> = shares.iter().map(|_| Ok(Vec::new())).collect();
        let mut start = 0;
        rayon::in_place_scope(|scope| {
            for ((lane, &share), pictures) in self.lanes.iter_mut().zip(&shares).zip(&mut pictures) {
                let latents = &latents[start * values..(start + share) * values];
                start += share;
                let mut work = move || *pictures = lane.decode(decoder, latents, size, threads);
                if threads == Threads::All { work() } else { scope.spawn(move |_| work()) }
            }
        });
        Ok(pictures.into_iter().collect::<Result<Vec<_>>>()?.concat())
    }

    fn start(&mut self, request: Request) -> Result<()> {
        self.begun.push_back(request);
        Ok(())
    }

    fn finish(&mut self, on_step: &mut dyn FnMut(usize)) -> Result<Drawn> {
        let Some(request) = self.begun.pop_front() else { bail!(Failed, "no batch was begun that could be finished") };
        let latents = self.sample(&request, on_step)?;
        let pictures = self.decode(&latents)?;
        Ok(Drawn { latents, pictures, trace: None })
    }
}

/// One lane with the captions and noise keys of its images, and their latents.
type Share<'a> = (&'a mut Lane, (&'a [Text], &'a [NoiseKey]), &'a mut [f32]);

fn split<'a>(
    lanes: &'a mut [Lane],
    shares: &[usize],
    (mut texts, mut keys): (&'a [Text], &'a [NoiseKey]),
    mut latents: &'a mut [f32],
    values: usize,
) -> Vec<Share<'a>> {
    let mut out = Vec::new();
    for (lane, &share) in lanes.iter_mut().zip(shares) {
        let (my_texts, other_texts) = texts.split_at(share);
        let (my_keys, other_keys) = keys.split_at(share);
        let (mine, rest) = latents.split_at_mut(share * values);
        (texts, keys, latents) = (other_texts, other_keys, rest);
        out.push((lane, (my_texts, my_keys), mine));
    }
    out
}
