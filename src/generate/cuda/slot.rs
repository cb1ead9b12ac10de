//! The host's side of a batch under way: pinned memory, and marks in the stream of work.

use super::memory::Memory;
use crate::device::cuda::{Gpu, Half, Mark, Pinned};
use crate::error::Result;
use crate::generate::lane::{from_nhwc, to_nhwc};
use crate::generate::pipeline::Decoded;
use crate::generate::request::Request;
use crate::generate::trace::Trace;
use crate::image::Rgb8;
use crate::ops::pixels::cuda as pixels;
use crate::ops::sampler_step::cuda as sampler_step;

#[derive(Debug)]
pub(super) struct Slot {
    x: Pinned<f32>,
    which: Pinned<u32>,
    keys: Pinned<u32>,
    pictures: Pinned<u8>,
    flags: Pinned<u32>,
    /// Pixels of a latent.
    pixels: usize,
    images: usize,
    /// Whether marks keep the time.
    timed: bool,
    /// If they do: reached when the batch is begun, its captions known, everything sent, its pictures painted.
    stages: Vec<Mark>,
    /// Reached after each call of the UNet.
    marks: Vec<Mark>,
    /// Reached when everything is back.
    done: Option<Mark>,
}

impl Slot {
    pub(super) fn new<T: Half>(gpu: &Gpu, memory: &Memory<T>, pixels: usize) -> Result<Self> {
        Ok(Self {
            x: gpu.pinned(memory.x.len())?,
            which: gpu.pinned(memory.which.len())?,
            keys: gpu.pinned(memory.keys.len())?,
            pictures: gpu.pinned(memory.pictures.len())?,
            flags: gpu.pinned(memory.flags.len())?,
            pixels,
            images: 0,
            timed: false,
            stages: Vec::new(),
            marks: Vec::new(),
            done: None,
        })
    }

    /// A new batch, whose stages are timed or not.
    pub(super) fn begin(&mut self, gpu: &Gpu, timed: bool) -> Result<()> {
        (self.timed, self.stages) = (timed, Vec::new());
        self.stage(gpu)
    }

    /// Marks the end of a stage, if that is wanted.
    pub(super) fn stage(&mut self, gpu: &Gpu) -> Result<()> {
        if self.timed {
            self.stages.push(gpu.timed_mark()?);
        }
        Ok(())
    }

    fn end(&self, gpu: &Gpu) -> Result<Mark> {
        if self.timed { gpu.timed_mark() } else { gpu.mark() }
    }

    /// Queues latents, noise keys and the caption of every row: `places` of the images, then 0 for the branch without caption.
    pub(super) fn send<T: Half>(
        &mut self,
        gpu: &Gpu,
        memory: &Memory<T>,
        request: &Request,
        places: &[usize],
        rows: usize,
    ) -> Result<()> {
        self.send_latents(gpu, memory, &request.latents, places.len())?;
        self.which[..rows].fill(0);
        self.which.iter_mut().zip(places).for_each(|(which, &place)| *which = place as u32);
        gpu.write_pinned(memory.which.slice(0..rows), &self.which)?;
        let keys = sampler_step::keys(&request.keys);
        self.keys[..keys.len()].copy_from_slice(&keys);
        gpu.write_pinned(memory.keys.slice(0..keys.len()), &self.keys)
    }

    /// Queues `latents [n, C, h, w]` alone.
    pub(super) fn send_latents<T: Half>(
        &mut self,
        gpu: &Gpu,
        memory: &Memory<T>,
        latents: &[f32],
        n: usize,
    ) -> Result<()> {
        (self.images, self.marks) = (n, Vec::new());
        to_nhwc(&mut self.x[..latents.len()], latents, n, self.pixels);
        gpu.write_pinned(memory.x.slice(0..latents.len()), &self.x)
    }

    /// Marks the end of a call of the UNet.
    pub(super) fn mark(&mut self, gpu: &Gpu) -> Result<()> {
        self.marks.push(self.end(gpu)?);
        Ok(())
    }

    /// Queues the way back of latents, pictures and flags.
    pub(super) fn receive<T: Half>(&mut self, gpu: &Gpu, memory: &Memory<T>) -> Result<()> {
        let whole = memory.flags.len();
        let share = |len: usize| len / whole * self.images;
        gpu.read_pinned(&mut self.x, memory.x.slice(0..share(memory.x.len())))?;
        gpu.read_pinned(&mut self.pictures, memory.pictures.slice(0..share(memory.pictures.len())))?;
        gpu.read_pinned(&mut self.flags, memory.flags.slice(0..self.images))?;
        self.done = Some(self.end(gpu)?);
        Ok(())
    }

    /// Waits for everything, telling `on_step` of each call of the UNet that is done.
    pub(super) fn wait(&self, on_step: &mut dyn FnMut(usize) -> Result<()>) -> Result<()> {
        for (done, mark) in self.marks.iter().enumerate() {
            mark.wait()?;
            on_step(done + 1)?;
        }
        self.done.as_ref().map_or(Ok(()), Mark::wait)
    }

    /// Where the time went, if it was taken of a batch with pictures, which is over; `before` is the end of the one before it and
    /// becomes its own.
    pub(super) fn trace(&mut self, before: &mut Option<Mark>) -> Result<Option<Trace>> {
        let ([begun, known, sent, painted], Some(done)) = (&self.stages[..], self.done.take()) else {
            *before = None;
            return Ok(None);
        };
        let between = |from: &Mark, to: &Mark| to.milliseconds_since(from).map(f64::from);
        let last = self.marks.last().unwrap_or(sent);
        let starts = std::iter::once(sent).chain(&self.marks);
        let trace = Trace {
            idle: before.as_ref().map(|before| between(before, begun)).transpose()?,
            text: between(begun, known)?,
            sent: between(known, sent)?,
            calls: starts.zip(&self.marks).map(|(from, to)| between(from, to)).collect::<Result<_>>()?,
            painted: between(last, painted)?,
            received: between(painted, &done)?,
        };
        *before = Some(done);
        Ok(Some(trace))
    }

    /// Final latents `[n, C, h, w]`.
    pub(super) fn latents(&self) -> Vec<f32> {
        let x = &self.x[..self.x.len() / self.flags.len() * self.images];
        let mut latents = vec![0.0; x.len()];
        from_nhwc(&mut latents, x, self.images, self.pixels);
        latents
    }

    /// Pictures of so many pixels.
    pub(super) fn pictures(&self, (width, height): (usize, usize)) -> Vec<Decoded> {
        let pictures = self.pictures.chunks_exact(3 * width * height).zip(&self.flags[..self.images]);
        let picture = |(data, flags): (&[u8], &u32)| Decoded {
            image: Rgb8 { width, height, data: data.to_vec() },
            not_finite: flags & pixels::NOT_FINITE != 0,
            constant: flags & pixels::NOT_CONSTANT == 0,
        };
        pictures.map(picture).collect()
    }
}
