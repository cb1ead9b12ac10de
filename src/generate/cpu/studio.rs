//! A model on the CPU: weights, contexts, lanes.
//!
//! A batch is dealt to lanes, one per thread; a lane takes its images through all steps on its own, so that no thread
//! ever waits for another one. A batch too small for that runs in one lane whose every product is shared by all
//! threads. The bits are the same either way.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;

use super::lane::{Images, Job, Lane, Lanes};
use crate::device::Plan;
use crate::error::Result;
use crate::generate::context_cache::{ContextCache, Placed};
use crate::generate::drawing::guides;
use crate::generate::painter::{Decoded, Drawn, NOTHING_YET, Request, Text};
use crate::generate::parts::Parts;
use crate::generate::sampler::Sampler;
use crate::generate::spare;
use crate::layers::count::{Processor, Rooms};
use crate::layers::cpu::{self as layers, Call, Caption, Memory, Reader};
use crate::models::clip_text::{self, ClipText};
use crate::models::unet::{Time, UNet};
use crate::models::vae::{self, Decoder};
use crate::ops::gemm::Operands;
use crate::ops::gemm::Threads;
use crate::ops::sampler_step::NoiseKey;
use crate::store;

/// Weights, schedule and memory.
#[derive(Debug)]
pub(super) struct Studio {
    text: ClipText<layers::Cpu>,
    /// What encoding a text takes.
    encoding: Rooms,
    unet: UNet<layers::Cpu>,
    decoder: Decoder<layers::Cpu>,
    sampler: Sampler,
    time: Time,
    /// One row per call of the UNet, for the guidance scale of the batch before.
    time_table: Vec<Vec<f32>>,
    scale: f32,
    /// Which captions' keys and values are where in `contexts`, and those.
    cache: ContextCache,
    contexts: Vec<Caption>,
    /// Height and width of the latent.
    latent: (usize, usize),
    lanes: Vec<Lane>,
    /// Whether nobody waits for pictures any more.
    closed: Arc<AtomicBool>,
}

impl Studio {
    /// Reads the weights and takes the memory for batches of up to `batch`, and records both in `plan`.
    ///
    /// # Errors
    /// Device error if they do not fit into what memory is available; data error for weights that cannot be read.
    pub(super) fn new(
        parts: &Parts<'_>,
        operands: Operands,
        batch: usize,
        plan: &mut Plan,
        closed: Arc<AtomicBool>,
    ) -> Result<Self> {
        let mut weights = Plan::dry();
        for (name, file) in [("text encoder", &parts.text.1), ("unet", &parts.unet.1)] {
            weights.record("weights", name, layers::held(file, operands));
        }
        weights.check("the model is too large for this machine")?;
        let [mut text_file, mut unet_file, mut decoder_file] =
            [&parts.text.1, &parts.unet.1, &parts.decoder.1].map(|file| Reader::new(file, operands));
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
            plan.record("weights", name, file.bytes() as u64);
        }
        let branches = if parts.unconditional.is_some() { 2 } else { 1 };
        let tokens = text.config().tokens;
        let context: usize = parts.unet.0.cross_attentions().iter().map(|c| 2 * tokens * c).sum();
        // The weights are there by now and no longer among what is available.
        let (lanes, buffers) = Plan::new().fit("lower --batch, --width or --height", |plan| {
            plan.record("captions", "keys and values", 4 * (batch * context) as u64);
            let lanes = Lanes { unet: &unet, sampler: &sampler, decoder: &decoder, branches, latent: parts.latent };
            lanes.take(plan, batch)
        })?;
        plan.append(buffers);
        let mut this = Self {
            time_table: time.table(&sampler.timesteps(), parts.settings.drawing.guidance_scale),
            scale: parts.settings.drawing.guidance_scale,
            time,
            encoding: text.config().rooms(Processor::Cpu, 1)?,
            text,
            unet,
            decoder,
            sampler,
            cache: ContextCache::new(batch),
            contexts: (0..=batch).map(|_| Caption::default()).collect(),
            latent: parts.latent,
            lanes,
            closed,
        };
        if let Some(ids) = &parts.unconditional {
            this.encode(vec![(0, ids.clone())])?;
        }
        Ok(this)
    }

    /// Keys and values of captions, to their places. Threads take captions, or share them where these are fewer.
    fn encode(&mut self, captions: Vec<Placed>) -> Result<()> {
        // What was there makes room first.
        captions.iter().for_each(|&(place, _)| self.contexts[place] = Caption::default());
        let (text, unet, encoding) = (&self.text, &self.unet, &self.encoding);
        let threads = if captions.len() < rayon::current_num_threads() { Threads::All } else { Threads::One };
        let context = |(place, ids): Placed| {
            text.config().check(&[&ids])?;
            let mut memory = Memory::take(&mut Plan::new(), "text encoder", encoding);
            let mut call = Call { ids: &ids, ..Call::new(&mut memory, threads) };
            let states = text.encode(&mut call, 1)?;
            let states = call.read(states).to_vec();
            let mut call = Call { input: &states, ..Call::new(&mut memory, threads) };
            unet.tell(&mut call)?;
            Ok((place, call.made))
        };
        for (place, context) in captions.into_par_iter().map(context).collect::<Result<Vec<_>>>()? {
            self.contexts[place] = context;
        }
        Ok(())
    }

    /// Draws a batch. `on_step` hears how many calls of the UNet are done.
    ///
    /// # Errors
    /// An interruption when a signal asks to stop.
    pub(super) fn draw(&mut self, request: Request, on_step: &mut dyn FnMut(usize)) -> Result<Drawn> {
        let Request { texts, keys, noise: mut latents, guidance_scale: w, wanted, whole } = request;
        let ids: Vec<&[u32]> = texts.iter().map(|Text { ids, .. }| &ids[..]).collect();
        let (places, new) = self.cache.place(&ids)?;
        self.encode(new)?;
        if self.time.is_told_guidance() && w != self.scale {
            (self.time_table, self.scale) = (self.time.table(&self.sampler.timesteps(), w), w);
        }
        let n = places.len();
        let count = self.lanes.len().min(n).max(1);
        let job = Job {
            unet: &self.unet,
            sampler: &self.sampler,
            decoder: &self.decoder,
            table: &self.time_table,
            contexts: &self.contexts,
            guidance: Some(w).filter(|&w| guides(w) && !self.time.is_told_guidance()),
            latent: self.latent,
            pictures: wanted.pictures,
            whole,
            threads: if count == 1 { Threads::All } else { Threads::One },
            closed: &self.closed,
        };
        let mut results: Vec<Result<Vec<Decoded>>> = (0..count).map(|_| Ok(Vec::new())).collect();
        let mut shares = deal(&mut self.lanes, count, &places, &keys, &mut latents).into_iter().zip(&mut results);
        // The first lane runs here, so that `on_step` is called by its owner; the others in the pool.
        let own = shares.next();
        rayon::in_place_scope(|scope| {
            for (share, result) in shares {
                let job = &job;
                scope.spawn(move |_| *result = share.lane.draw(job, share.images, &mut |_| ()));
            }
            if let Some((share, result)) = own {
                *result = share.lane.draw(&job, share.images, on_step);
            }
        });
        let pictures = results.into_iter().collect::<Result<Vec<_>>>()?;
        latents.truncate(if wanted.latents { latents.len() } else { 0 });
        Ok(Drawn { pictures: pictures.concat(), latents, trace: None })
    }
}

/// A lane with its images.
struct Share<'a> {
    lane: &'a mut Lane,
    images: Images<'a>,
}

/// Deals the images of a batch to `count` lanes, in order: each gets as many as another one, or one more.
fn deal<'a>(
    lanes: &'a mut [Lane],
    count: usize,
    mut places: &'a [usize],
    mut keys: &'a [NoiseKey],
    mut latents: &'a mut [f32],
) -> Vec<Share<'a>> {
    let (n, values) = (places.len(), latents.len() / places.len());
    let mut shares = Vec::with_capacity(count);
    for (i, lane) in lanes.iter_mut().take(count).enumerate() {
        let share = n / count + usize::from(i < n % count);
        let mine = (places.split_at(share), keys.split_at(share), latents.split_at_mut(share * values));
        let images = Images { places: mine.0.0, keys: mine.1.0, latents: mine.2.0 };
        (places, keys, latents) = (mine.0.1, mine.1.1, mine.2.1);
        shares.push(Share { lane, images });
    }
    shares
}
