//! Batches through a pipeline as `generate` draws them: one is drawn, the next is begun, the one before is encoded and written.

use std::collections::VecDeque;
use std::time::Instant;

use rayon::prelude::*;

use super::{Length, Options};
use crate::device::Queued;
use crate::error::{Error, Result};
use crate::generate::{AHEAD, Decoded, Drawn, Encoding, Pipeline, Request, Trace};
use crate::ops::sampler_step::NoiseKey;
use crate::shards::{ShardWriter, image_key, shard_name};
use crate::store;

/// Fewest batches of a measurement by time.
const FEWEST: usize = 3;
/// Lone batches whose median is the latency, unless one takes longer than so many seconds.
const LONE: usize = 3;
const LONG: f64 = 10.0;

/// A pipeline that draws one caption after the other, at batches of one size.
pub struct Trial<'a> {
    pipeline: &'a mut Pipeline,
    pub batch: usize,
    guidance_scale: f32,
    seed: u64,
    encoding: Encoding,
    /// Captions made up so far.
    captions: usize,
    /// Batches begun: the captions of each.
    begun: VecDeque<std::ops::Range<usize>>,
    host: Host,
    /// Dropped with its folder: nothing stays.
    writer: ShardWriter,
    _folder: tempfile::TempDir,
}

/// Seconds of the host's thread that leads: what it does while a GPU draws.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host {
    /// Tokens and initial noise.
    pub prepare: f64,
    pub encode: f64,
    pub write: f64,
}

/// A batch drawn with nothing else under way: from its request to its pictures, not encoded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lone {
    pub seconds: f64,
    /// To the end of the first call of the UNet.
    pub first_call: f64,
    /// Between calls, and from the last one to the end.
    pub call: f64,
    pub rest: f64,
}

/// Batches one after the other.
#[derive(Clone, Debug)]
pub struct Steady {
    pub images: usize,
    pub seconds: f64,
    pub host: Host,
    /// Of every batch, where the device tells.
    pub traces: Vec<Trace>,
}

impl<'a> Trial<'a> {
    pub fn new(pipeline: &'a mut Pipeline, options: &Options, batch: usize) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(Error::io("make a folder in", &std::env::temp_dir()))?;
        Ok(Self {
            pipeline,
            batch,
            guidance_scale: options.drawing.guidance_scale,
            seed: options.drawing.seed,
            encoding: options.encoding,
            captions: 0,
            begun: VecDeque::new(),
            host: Host::default(),
            writer: ShardWriter::create(folder.path().join(shard_name(0)))?,
            _folder: folder,
        })
    }

    pub fn pipeline(&self) -> &Pipeline {
        self.pipeline
    }

    pub fn device_bytes(&self) -> u64 {
        self.pipeline.device_bytes()
    }

    pub fn queued(&self) -> Queued {
        self.pipeline.queued()
    }

    /// A batch of new captions.
    pub fn request(&mut self) -> Result<Request> {
        let numbers = self.captions..self.captions + self.batch;
        self.captions = numbers.end;
        let captions: Vec<String> = numbers.clone().map(caption).collect();
        let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
        let seed = self.seed;
        let key = |number: usize| NoiseKey { seed, caption: number as u32, image: 0 };
        Request::new(self.pipeline, &captions, numbers.map(key).collect(), self.guidance_scale)
    }

    /// One batch from its request to its pictures.
    pub fn alone(&mut self) -> Result<Lone> {
        let begin = Instant::now();
        let request = self.request()?;
        self.pipeline.start(request)?;
        let mut ends = Vec::with_capacity(self.pipeline.calls());
        self.pipeline.finish(&mut |_| ends.push(begin.elapsed().as_secs_f64()))?;
        let seconds = begin.elapsed().as_secs_f64();
        let (first_call, last) = (ends.first().copied().unwrap_or(seconds), ends.last().copied().unwrap_or(seconds));
        let call = (last - first_call) / ends.len().saturating_sub(1).max(1) as f64;
        Ok(Lone { seconds, first_call, call, rest: seconds - last })
    }

    /// Final latents of `request`.
    pub fn sample(&mut self, request: &Request) -> Result<Vec<f32>> {
        self.pipeline.sample(request, &mut |_| ())
    }

    pub fn decode(&mut self, latents: &[f32]) -> Result<()> {
        self.pipeline.decode(latents).map(drop)
    }

    /// Lone batches and their median; `first` is what the first batch took, in seconds.
    pub fn latency(&mut self, first: f64) -> Result<Lone> {
        let count = if first > LONG { 1 } else { LONE };
        let mut lone = (0..count).map(|_| self.alone()).collect::<Result<Vec<_>>>()?;
        lone.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        Ok(lone[count / 2])
    }

    /// Batches that `length` means when one takes so many seconds.
    pub fn batches(&self, length: Length, seconds: f64) -> usize {
        match length {
            Length::Images(images) => images.div_ceil(self.batch),
            Length::Seconds(all) => ((all / seconds) as usize).max(FEWEST),
        }
    }

    /// So many batches one after the other, behind one that is not counted.
    pub fn steady(&mut self, batches: usize) -> Result<Steady> {
        self.pipeline.trace(true);
        // The clock runs from one batch's landing to the last one's: every landing has a batch drawn and one encoded before it.
        let (mut traces, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..=batches {
            let prepared = Instant::now();
            let request = self.request()?;
            self.host.prepare += prepared.elapsed().as_secs_f64();
            if self.begun.len() == AHEAD {
                self.land(&mut traces, &mut ends)?;
            }
            self.begun.push_back(self.captions - self.batch..self.captions);
            self.pipeline.start(request)?;
        }
        while !self.begun.is_empty() {
            self.land(&mut traces, &mut ends)?;
        }
        self.pipeline.trace(false);
        let per_batch = |seconds: f64| seconds / (batches + 1) as f64 * batches as f64;
        let Host { prepare, encode, write } = std::mem::take(&mut self.host);
        Ok(Steady {
            images: batches * self.batch,
            seconds: (ends[batches] - ends[0]).as_secs_f64(),
            host: Host { prepare: per_batch(prepare), encode: per_batch(encode), write: per_batch(write) },
            traces: traces.split_off(traces.len().min(1)),
        })
    }

    /// Waits for the batch begun first, encodes it and writes it.
    fn land(&mut self, traces: &mut Vec<Trace>, ends: &mut Vec<Instant>) -> Result<()> {
        let Some(numbers) = self.begun.pop_front() else { return Ok(()) };
        let Drawn { pictures, trace, .. } = self.pipeline.finish(&mut |_| ())?;
        traces.extend(trace);
        let drawn = Instant::now();
        let encode = |picture: Decoded| self.encoding.encode(picture);
        let encoded = pictures.into_par_iter().map(encode).collect::<Result<Vec<_>>>()?;
        self.host.encode += drawn.elapsed().as_secs_f64();
        let encoded_at = Instant::now();
        for (number, encoded) in numbers.zip(encoded) {
            let caption = caption(number);
            let members = [(self.encoding.format.extension(), &encoded.bytes[..]), ("txt", caption.as_bytes())];
            self.writer.add(&image_key(number as u64, 0), &members)?;
        }
        self.host.write += encoded_at.elapsed().as_secs_f64();
        ends.push(Instant::now());
        store::check_interrupt("a benchmark leaves nothing to go on from")
    }
}

fn caption(number: usize) -> String {
    format!("a photo of the number {number}")
}
