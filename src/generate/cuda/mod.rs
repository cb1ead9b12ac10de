//! Drawing on a GPU: text encoder, UNet, sampler, decoder, 8-bit pictures, all queued ahead of the device.
//!
//! A batch is begun ([`Painter::start`]) while the one before is still being drawn, and its pictures are collected
//! ([`Painter::finish`]) while the next one is: the device never waits for the host. One step of the sampler is
//! captured as a graph for each number of images, and replayed for all steps: what changes from step to step lies
//! behind a counter on the device.

mod memory;
mod nets;
mod slot;

use std::collections::{BTreeMap, HashMap};

use super::context_cache::{ContextCache, Placed};
use super::drawing::guides;
use super::painter::{AHEAD, Decoded, Drawn, Painter, Request};
use super::parts::Parts;
use super::sampler::Sampler;
use super::settings::Fp8;
use super::trace::Meter;
use crate::bail;
use crate::device::Queued;
use crate::device::cuda::{Arena, Gpu, Graph, Half, Mark};
use crate::error::Result;
use crate::image::{Filter, columns_first, weight_table};
use crate::layers::cpu::Reader;
use crate::layers::cuda::{self as layers, Call, Times, Told};
use crate::models::unet::Time;
use crate::models::vae::Decoder;
use crate::ops::convert::cuda as convert;
use crate::ops::gemm::Operands;
use crate::ops::pixels::cuda as pixels;
use crate::ops::sampler_step::Step;
use crate::ops::sampler_step::cuda::{self as sampler_step, Buffers, Schedule};
use crate::say;
use crate::store;
use memory::{DECODED, Memory};
use nets::Nets;
use slot::Slot;

/// Batches that are tried when none is asked for, largest first: from 32 on a large card's time per image hardly falls.
const BATCHES: [usize; 9] = [64, 48, 32, 24, 16, 8, 4, 2, 1];

/// A GPU with a model on it.
#[derive(Debug)]
pub(super) struct Cuda<T: Half> {
    // Dropped in this order: what refers to device memory first.
    /// By images, rows, and whether it reuses.
    graphs: HashMap<(usize, usize, bool), Graph>,
    slots: [Slot; AHEAD],
    started: usize,
    finished: usize,
    /// The end of the batch before, if that was timed.
    before: Option<Mark>,
    /// Whether it was said that a picture was decoded twice.
    overflowed: bool,
    nets: Nets<T>,
    memory: Memory<T>,
    arena: Arena,
    sampler: Sampler,
    steps: Vec<Step>,
    time: Time,
    /// The guidance scale of which the table of timesteps tells, where it does.
    scale: f32,
    /// Standard deviation of the first latent, and the factor to the first input.
    first: (f32, f32),
    latent: (usize, usize),
    /// Width and height of the stored pictures.
    stored: (usize, usize),
    batch: usize,
    captions: ContextCache,
    gpu: Gpu,
}

impl<T: Half> Cuda<T> {
    /// Opens the GPU and brings the model there, with memory for the batch asked for, or for the largest that fits.
    ///
    /// # Errors
    /// Device error if there is no usable GPU or too little memory, usage error for a model that the kernels do not
    /// serve.
    pub(super) fn open(ordinal: usize, parts: &Parts<'_>) -> Result<Self> {
        nets::check(parts)?;
        let gpu = Gpu::open(ordinal)?;
        if !matches!(parts.settings.fp8, Fp8::Off) && !gpu.has_e4m3() {
            bail!(
                Usage,
                "{}: has no e4m3 products (Ada and Hopper have, and newer), which --fp8 and calibrate need",
                gpu.name()
            );
        }
        let (room, _) = gpu.room()?;
        let time = Time::load(&parts.unet.0, &mut Reader::new(&parts.unet.1, Operands::F32))?;
        let measure = |batch: usize| -> Result<Arena> {
            let mut dry = Arena::dry();
            let nets = Nets::<T>::new(&mut dry, None, parts)?;
            Memory::new(&mut dry, &nets, &time, parts, batch)?;
            Ok(dry)
        };
        let (mut batch, mut dry) = (0, Arena::dry());
        for candidate in parts.settings.batch.map_or(BATCHES.to_vec(), |batch| vec![batch]) {
            (batch, dry) = (candidate, measure(candidate)?);
            if dry.bytes() <= room {
                break;
            }
        }
        dry.check(&gpu, &format!("{batch} images at once need"), "lower --batch, --width or --height")?;
        let mut arena = Arena::allocate(&gpu, &dry)?;
        let nets = Nets::new(&mut arena, Some(&gpu), parts)?;
        let memory = Memory::new(&mut arena, &nets, &time, parts, batch)?;
        let narrow = match parts.settings.fp8 {
            Fp8::On(calibration) => format!(" and {} layers in e4m3", calibration.ranges.len()),
            _ => String::new(),
        };
        say!("on {}, {}{narrow}, {batch} images at once, {}", gpu.name(), T::DTYPE, arena.plan());
        let slot = || Slot::new(&gpu, &memory);
        let mut this = Self {
            graphs: HashMap::new(),
            slots: [slot()?, slot()?],
            started: 0,
            finished: 0,
            before: None,
            overflowed: false,
            nets,
            memory,
            arena,
            sampler: parts.sampler.clone(),
            steps: parts.sampler.steps(),
            time,
            scale: parts.settings.drawing.guidance_scale,
            first: (parts.sampler.initial(), parts.sampler.first_input()),
            latent: parts.latent,
            stored: parts.stored(),
            batch,
            captions: ContextCache::new(batch),
            gpu,
        };
        this.prepare(parts)?;
        Ok(this)
    }

    /// What does not change from batch to batch.
    fn prepare(&mut self, parts: &Parts<'_>) -> Result<()> {
        self.tell_time()?;
        let (gpu, memory) = (&self.gpu, &self.memory);
        let (from, to) = (parts.drawn, parts.stored());
        for (table, from, to) in [(memory.tables.along, from.0, to.0), (memory.tables.across, from.1, to.1)] {
            if !table.is_empty() {
                gpu.write(table, &weight_table(from, to, Filter::Bicubic))?;
            }
        }
        match &parts.unconditional {
            Some(ids) => self.encode(&[(0, ids.clone())]),
            None => Ok(()),
        }
    }

    /// The biases of every call of the UNet, to their place.
    fn tell_time(&self) -> Result<()> {
        let time = self.time.table(&self.sampler.timesteps(), self.scale);
        self.gpu.write(self.memory.time, &time.concat())
    }

    /// Keys and values of captions, to their places.
    fn encode(&self, captions: &[Placed]) -> Result<()> {
        let memory = &self.memory;
        for captions in captions.chunks(self.batch) {
            let all: Vec<u32> = captions.iter().flat_map(|(_, ids)| ids).copied().collect();
            let ids = memory.ids.slice(0..all.len());
            self.gpu.write(ids, &all)?;
            let mut call = Call { ids: Some(ids), ..Call::new(&self.gpu, &memory.text) };
            let states = self.nets.text.encode(&mut call, captions.len())?;
            let (states, len) = (call.view(states), states.values() / captions.len());
            for (i, &(place, _)) in captions.iter().enumerate() {
                let input = Some(states.slice(i * len..(i + 1) * len));
                let told = Told { captions: &memory.contexts, which: memory.which, place };
                self.nets.unet.tell(&mut Call { input, told: Some(told), ..call })?;
            }
        }
        Ok(())
    }

    /// Values of a latent.
    fn values(&self) -> usize {
        self.latent.0 * self.latent.1 * self.nets.decoder.config().latent_channels
    }

    /// One call of the UNet, whole or not, and the step behind it, for `n` images in as many rows or, with guidance, in
    /// twice as many.
    fn step(&self, n: usize, rows: usize, reuses: bool) -> Result<()> {
        let memory = &self.memory;
        let len = n * self.values();
        let eps = memory.eps.slice(0..rows * self.values());
        let input = memory.input.slice(0..len);
        let width = memory.time.len() / self.steps.len();
        let mut call = Call {
            input: Some(input),
            output: Some(eps),
            times: Some(Times { table: memory.time, width, step: memory.step }),
            told: Some(Told { captions: &memory.contexts, which: memory.which.slice(0..rows), place: 0 }),
            ..Call::new(&self.gpu, &memory.unet)
        };
        match reuses {
            true => self.nets.unet.forward_again(&mut call, (n, rows), self.latent)?,
            false => self.nets.unet.forward(&mut call, (n, rows), self.latent)?,
        }
        let slots = memory.history.len() / memory.x.len();
        let buffers = Buffers {
            x: memory.x.slice(0..len),
            input,
            history: (slots > 0).then(|| memory.history.slice(0..slots * len)),
        };
        let schedule = Schedule { table: memory.table, step: memory.step };
        sampler_step::advance(&self.gpu, buffers, eps, schedule, Some(memory.keys.slice(0..4 * n)), n)
    }

    /// Pictures of the latents on the device, as stored, to `pictures` and `flags`.
    fn paint<U: Half>(&self, decoder: &Decoder<layers::Cuda<U>>, n: usize) -> Result<()> {
        let (gpu, memory) = (&self.gpu, &self.memory);
        let activations = memory.decoder.cast();
        let (values, config) = (self.values(), decoder.config());
        let factor = config.factor();
        let from = (self.latent.1 * factor, self.latent.0 * factor);
        let (drawn, kept) = (3 * from.0 * from.1, 3 * self.stored.0 * self.stored.1);
        gpu.zero(memory.flags.slice(0..n))?;
        for first in (0..n).step_by(DECODED) {
            let count = DECODED.min(n - first);
            let latents = memory.latents.slice(0..count * values).cast();
            let x = memory.x.slice(first * values..(first + count) * values);
            convert::scaled(gpu, latents, x, 1.0 / config.scaling_factor as f32)?;
            let picture = memory.picture.slice(0..count * drawn);
            let mut call = Call { input: Some(latents), output: Some(picture), ..Call::new(gpu, &activations) };
            decoder.decode(&mut call, count, self.latent)?;
            let flags = memory.flags.slice(first..first + count);
            let pictures = memory.pictures.slice(first * kept..(first + count) * kept);
            if from == self.stored {
                pixels::to_u8(gpu, pictures, flags, picture)?;
                continue;
            }
            let whole = memory.whole.slice(0..count * drawn);
            pixels::to_u8(gpu, whole, flags, picture)?;
            let columns_first = columns_first(from, self.stored);
            let shape = pixels::Resize { n: count, from, to: self.stored, columns_first };
            pixels::resize(gpu, pictures, memory.between, whole, memory.tables, shape)?;
        }
        Ok(())
    }
}

impl<T: Half> Cuda<T> {
    /// Queues a batch, in the slot whose turn it is.
    fn queue(&mut self, request: &Request) -> Result<()> {
        let n = request.texts.len();
        let gpu = self.gpu.clone();
        let at = self.started % AHEAD;
        self.slots[at].begin(&gpu, request.wanted)?;
        let texts: Vec<&[u32]> = request.texts.iter().map(|text| &text.ids[..]).collect();
        let (places, new) = self.captions.place(&texts)?;
        self.encode(&new)?;
        self.slots[at].stage(&gpu)?;
        let (w, told) = (request.guidance_scale, self.time.is_told_guidance());
        if told && w != self.scale {
            self.scale = w;
            self.tell_time()?;
        }
        let rows = if guides(w) && !told { 2 * n } else { n };
        self.slots[at].send(&gpu, &self.memory, request, &places, rows)?;
        gpu.write(self.memory.table, &sampler_step::table(&self.steps, w))?;

        let (memory, len) = (&self.memory, n * self.values());
        sampler_step::start(&gpu, memory.x.slice(0..len), memory.input.slice(0..len), self.first.0, self.first.1)?;
        gpu.zero(memory.step)?;
        self.slots[at].stage(&gpu)?;
        for call in 0..self.steps.len() {
            store::check_interrupt("run the same command again to go on")?;
            let rows = if request.whole || self.sampler.guides(call) { rows } else { n };
            let reuses = !request.whole && self.sampler.reuses(call);
            match self.graphs.get(&(n, rows, reuses)) {
                Some(graph) => graph.launch()?,
                None => {
                    // Kernels load while they are queued for the first time, which cannot be recorded.
                    self.step(n, rows, reuses)?;
                    let graph = gpu.capture(|| self.step(n, rows, reuses))?;
                    self.graphs.insert((n, rows, reuses), graph);
                }
            }
            self.slots[at].mark(&gpu)?;
        }
        if request.wanted.pictures {
            self.paint(&self.nets.decoder, n)?;
            if self.nets.far.is_some() {
                // The next batch is drawn over them before anybody looks at this one's pictures.
                gpu.copy(self.memory.kept[at].slice(0..len), self.memory.x.slice(0..len))?;
            }
        }
        self.slots[at].stage(&gpu)?;
        self.slots[at].receive(&gpu, &self.memory)?;
        self.started += 1;
        Ok(())
    }

    /// Of the `pictures` of a batch that is over, decodes those once more, in bf16, that are not finite because the
    /// decoder's maps overflow f16.
    fn repaint(&mut self, at: usize, pictures: &mut [Decoded]) -> Result<()> {
        let (gpu, values) = (self.gpu.clone(), self.values());
        let Some(far) = &self.nets.far else { return Ok(()) };
        let (mut lost, mut latents) = (Vec::new(), Vec::new());
        for (i, _) in pictures.iter().enumerate().filter(|(_, picture)| picture.not_finite) {
            let latent = gpu.read(self.memory.kept[at].slice(i * values..(i + 1) * values))?;
            if latent.iter().all(|x| x.is_finite()) {
                lost.push(i);
                latents.extend(latent);
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        if !std::mem::replace(&mut self.overflowed, true) {
            say!("note: pictures whose decoding overflows f16 are decoded once more in bf16");
        }
        // Behind the batch that is under way, which uses the same memory.
        gpu.write(self.memory.x.slice(0..latents.len()), &latents)?;
        self.paint(far, lost.len())?;
        let again = self.slots[at].receive_pictures(&gpu, &self.memory, lost.len(), self.stored)?;
        for (i, picture) in lost.into_iter().zip(again) {
            pictures[i] = picture;
        }
        Ok(())
    }
}

impl<T: Half> Painter for Cuda<T> {
    fn batch(&self) -> usize {
        self.batch
    }

    fn start(&mut self, request: Request) -> Result<()> {
        self.queue(&request)
    }

    fn finish(&mut self, on_step: &mut dyn FnMut(usize)) -> Result<Drawn> {
        let at = self.finished % AHEAD;
        self.slots[at].wait(&mut |step| {
            on_step(step);
            store::check_interrupt("run the same command again to go on")
        })?;
        self.finished += 1;
        let trace = self.slots[at].trace(&mut self.before)?;
        let latents = self.slots[at].latents();
        let mut pictures = self.slots[at].pictures(self.stored);
        self.repaint(at, &mut pictures)?;
        Ok(Drawn { pictures, latents, trace })
    }
}

impl<T: Half> Meter for Cuda<T> {
    fn device_bytes(&self) -> u64 {
        self.arena.bytes()
    }

    fn queued(&self) -> Queued {
        self.gpu.queued()
    }

    fn ranges(&self) -> Result<BTreeMap<String, f32>> {
        let Some((names, places)) = &self.nets.observed else { return Ok(BTreeMap::new()) };
        Ok(names.iter().cloned().zip(self.gpu.read(*places)?).collect())
    }
}
