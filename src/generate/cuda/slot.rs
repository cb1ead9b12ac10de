//! The host's side of a batch under way: pinned memory, and marks in the stream of work.

use super::memory::Memory;
use crate::device::cuda::{Gpu, Half, Mark, Pinned};
use crate::error::Result;
use crate::generate::painter::{Decoded, Request, Wanted};
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
    images: usize,
    /// What is brought back; marks keep the time if a trace is.
    wanted: Wanted,
    /// If they do: reached when the batch is begun, its captions known, everything sent, its pictures painted.
    stages: Vec<Mark>,
    /// Reached after each call of the UNet.
    marks: Vec<Mark>,
    /// Reached when everything is back.
    done: Option<Mark>,
}

impl Slot {
    pub(super) fn new<T: Half>(gpu: &Gpu, memory: &Memory<T>) -> Result<Self> {
        Ok(Self {
            x: gpu.pinned(memory.x.len())?,
            which: gpu.pinned(memory.which.len())?,
            keys: gpu.pinned(memory.keys.len())?,
            pictures: gpu.pinned(memory.pictures.len())?,
            flags: gpu.pinned(memory.flags.len())?,
            images: 0,
            wanted: Wanted::default(),
            stages: Vec::new(),
            marks: Vec::new(),
            done: None,
        })
    }

    /// A new batch.
    pub(super) fn begin(&mut self, gpu: &Gpu, wanted: Wanted) -> Result<()> {
        (self.wanted, self.stages, self.marks) = (wanted, Vec::new(), Vec::new());
        self.stage(gpu)
    }

    /// Marks the end of a stage, if that is wanted.
    pub(super) fn stage(&mut self, gpu: &Gpu) -> Result<()> {
        if self.wanted.trace {
            self.stages.push(gpu.timed_mark()?);
        }
        Ok(())
    }

    fn end(&self, gpu: &Gpu) -> Result<Mark> {
        if self.wanted.trace { gpu.timed_mark() } else { gpu.mark() }
    }

    /// Queues noise, its keys and the caption of every row: `places` of the images, then 0 for the branch without
    /// caption.
    pub(super) fn send<T: Half>(
        &mut self,
        gpu: &Gpu,
        memory: &Memory<T>,
        request: &Request,
        places: &[usize],
        rows: usize,
    ) -> Result<()> {
        self.images = places.len();
        let len = request.noise.len();
        self.x[..len].copy_from_slice(&request.noise);
        gpu.write_pinned(memory.x.slice(0..len), &self.x)?;
        self.which[..rows].fill(0);
        self.which.iter_mut().zip(places).for_each(|(which, &place)| *which = place as u32);
        gpu.write_pinned(memory.which.slice(0..rows), &self.which)?;
        let keys = sampler_step::keys(&request.keys);
        self.keys[..keys.len()].copy_from_slice(&keys);
        gpu.write_pinned(memory.keys.slice(0..keys.len()), &self.keys)
    }

    /// Marks the end of a call of the UNet.
    pub(super) fn mark(&mut self, gpu: &Gpu) -> Result<()> {
        self.marks.push(self.end(gpu)?);
        Ok(())
    }

    /// Queues the way back of what is wanted.
    pub(super) fn receive<T: Half>(&mut self, gpu: &Gpu, memory: &Memory<T>) -> Result<()> {
        if self.wanted.latents {
            let len = memory.x.len() / memory.flags.len() * self.images;
            gpu.read_pinned(&mut self.x, memory.x.slice(0..len))?;
        }
        if self.wanted.pictures {
            self.read_pictures(gpu, memory, self.images)?;
        }
        self.done = Some(self.end(gpu)?);
        Ok(())
    }

    fn read_pictures<T: Half>(&mut self, gpu: &Gpu, memory: &Memory<T>, n: usize) -> Result<()> {
        let len = memory.pictures.len() / memory.flags.len() * n;
        gpu.read_pinned(&mut self.pictures, memory.pictures.slice(0..len))?;
        gpu.read_pinned(&mut self.flags, memory.flags.slice(0..n))
    }

    /// Waits for the first `n` pictures that are on the device now, of so many pixels.
    pub(super) fn receive_pictures<T: Half>(
        &mut self,
        gpu: &Gpu,
        memory: &Memory<T>,
        n: usize,
        size: (usize, usize),
    ) -> Result<Vec<Decoded>> {
        self.images = n;
        self.read_pictures(gpu, memory, n)?;
        gpu.synchronize()?;
        Ok(self.pictures(size))
    }

    /// Waits for everything, telling `on_step` of each call of the UNet that is done.
    pub(super) fn wait(&self, on_step: &mut dyn FnMut(usize) -> Result<()>) -> Result<()> {
        for (done, mark) in self.marks.iter().enumerate() {
            mark.wait()?;
            on_step(done + 1)?;
        }
        self.done.as_ref().map_or(Ok(()), Mark::wait)
    }

    /// Where the time went, if it was taken of a batch with pictures, which is over; `before` is the end of the one
    /// before it and becomes its own.
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

    /// Final latents `[n, h, w, C]`, if they were wanted.
    pub(super) fn latents(&self) -> Vec<f32> {
        let images = if self.wanted.latents { self.images } else { 0 };
        self.x[..self.x.len() / self.flags.len() * images].to_vec()
    }

    /// Pictures of so many pixels, if they were wanted.
    pub(super) fn pictures(&self, (width, height): (usize, usize)) -> Vec<Decoded> {
        let images = if self.wanted.pictures { self.images } else { 0 };
        let pictures = self.pictures.chunks_exact(3 * width * height).zip(&self.flags[..images]);
        let picture = |(data, flags): (&[u8], &u32)| Decoded {
            image: Rgb8 { width, height, data: data.to_vec() },
            not_finite: flags & pixels::NOT_FINITE != 0,
            constant: flags & pixels::NOT_CONSTANT == 0,
        };
        pictures.map(picture).collect()
    }
}
