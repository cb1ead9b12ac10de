//! Batches through the line of `generate`, encoded and written as there, of captions made up here.

use std::ops::Range;
use std::time::Instant;

use rayon::prelude::*;

use super::options::{Length, Options};
use crate::device::Queued;
use crate::error::{Error, Result};
use crate::generate::{Decoded, Drawn, Encoding, Line, Pipeline, Request, Trace};
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
    prompts: Prompts,
    output: Output,
}

/// Captions made up one after the other, in batches.
struct Prompts {
    batch: usize,
    guidance_scale: f32,
    seed: u64,
    /// How many were made up so far.
    made: usize,
}

/// Where batches of one measurement go.
struct Output {
    encoding: Encoding,
    host: Host,
    traces: Vec<Trace>,
    /// When each batch was written.
    ends: Vec<Instant>,
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
        let drawing = &options.drawing;
        Ok(Self {
            pipeline,
            prompts: Prompts { batch, guidance_scale: drawing.guidance_scale, seed: drawing.seed, made: 0 },
            output: Output {
                encoding: options.encoding,
                host: Host::default(),
                traces: Vec::new(),
                ends: Vec::new(),
                writer: ShardWriter::create(folder.path().join(shard_name(0)))?,
                _folder: folder,
            },
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
        Ok(self.prompts.next(self.pipeline)?.1)
    }

    /// One batch with nothing else under way, not encoded.
    pub fn draw(&mut self, request: Request) -> Result<Drawn> {
        self.pipeline.draw(request, &mut |_| ())
    }

    /// One batch from its request to its pictures.
    pub fn alone(&mut self) -> Result<Lone> {
        let begin = Instant::now();
        let request = self.request()?;
        let mut ends = Vec::with_capacity(self.pipeline.calls());
        self.pipeline.draw(request, &mut |_| ends.push(begin.elapsed().as_secs_f64()))?;
        let seconds = begin.elapsed().as_secs_f64();
        let (first_call, last) = (ends.first().copied().unwrap_or(seconds), ends.last().copied().unwrap_or(seconds));
        let call = (last - first_call) / ends.len().saturating_sub(1).max(1) as f64;
        Ok(Lone { seconds, first_call, call, rest: seconds - last })
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
            Length::Images(images) => images.div_ceil(self.prompts.batch),
            Length::Seconds(all) => ((all / seconds) as usize).max(FEWEST),
        }
    }

    /// So many batches one after the other, behind one that is not counted.
    pub fn steady(&mut self, batches: usize) -> Result<Steady> {
        let Self { pipeline, prompts, output } = self;
        (output.host, output.traces, output.ends) = (Host::default(), Vec::new(), Vec::new());
        // The clock runs from one batch's landing to the last one's: every landing has a batch drawn and one encoded
        // before it.
        let mut line = Line::new(pipeline, |_| ());
        for _ in 0..=batches {
            let prepared = Instant::now();
            let (numbers, mut request) = prompts.next(line.pipeline())?;
            request.wanted.trace = true;
            output.host.prepare += prepared.elapsed().as_secs_f64();
            if let Some((numbers, drawn)) = line.push(numbers, request)? {
                output.land(numbers, drawn)?;
            }
        }
        while let Some((numbers, drawn)) = line.pop()? {
            output.land(numbers, drawn)?;
        }
        let per_batch = |seconds: f64| seconds / (batches + 1) as f64 * batches as f64;
        let (Host { prepare, encode, write }, ends) = (output.host, &output.ends);
        Ok(Steady {
            images: batches * prompts.batch,
            seconds: (ends[batches] - ends[0]).as_secs_f64(),
            host: Host { prepare: per_batch(prepare), encode: per_batch(encode), write: per_batch(write) },
            traces: output.traces.split_off(output.traces.len().min(1)),
        })
    }
}

impl Prompts {
    /// The next batch, and the numbers of its captions.
    fn next(&mut self, pipeline: &Pipeline) -> Result<(Range<usize>, Request)> {
        let numbers = self.made..self.made + self.batch;
        self.made = numbers.end;
        let captions: Vec<String> = numbers.clone().map(caption).collect();
        let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
        let key = |number: usize| NoiseKey { seed: self.seed, caption: number as u32, image: 0 };
        let keys = numbers.clone().map(key).collect();
        Ok((numbers, pipeline.request(&captions, keys, self.guidance_scale)?))
    }
}

impl Output {
    /// Encodes a batch that was drawn and writes it.
    fn land(&mut self, numbers: Range<usize>, drawn: Drawn) -> Result<()> {
        self.traces.extend(drawn.trace);
        let began = Instant::now();
        let encode = |picture: Decoded| self.encoding.encode(picture);
        let encoded = drawn.pictures.into_par_iter().map(encode).collect::<Result<Vec<_>>>()?;
        self.host.encode += began.elapsed().as_secs_f64();
        let encoded_at = Instant::now();
        for (number, encoded) in numbers.zip(encoded) {
            let caption = caption(number);
            let members = [(self.encoding.format.extension(), &encoded.bytes[..]), ("txt", caption.as_bytes())];
            self.writer.add(&image_key(number as u64, 0), &members)?;
        }
        self.host.write += encoded_at.elapsed().as_secs_f64();
        self.ends.push(Instant::now());
        store::check_interrupt("a benchmark leaves nothing to go on from")
    }
}

fn caption(number: usize) -> String {
    format!("a photo of the number {number}")
}
