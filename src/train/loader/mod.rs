//! Shards → batches of views, by (epoch, step) alone.
//!
//! A batch is a pure function of the configuration, the shards, and (epoch, step): the order of an epoch, the images
//! drawn of a caption and the parameters of every view come from streams keyed by what they are for. So a run goes on
//! from two numbers, and neither the cache, nor the thread that decodes ahead, nor the number of threads changes a bit.
//!
//! **Bad data.** Damaged tars and samples without picture or caption are named on stderr and left out when the shards
//! are opened; pictures that do not decode are found when they are first needed. Then another picture of the same
//! caption stands in (the next of the caption's drawn order), or, when none is left, a caption that the batch does not
//! hold and, as long as there is one, that no step of the epoch takes. Each is counted once, over resumes too
//! ([`Loader::restore_bad`]); more than `max_bad` stop the run. Captions with too few pictures are left out and said.

mod batch;
mod config;
mod decode;
mod labelled;
mod mixture;
mod scene;
mod section;
mod source;
mod usable;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::bail;
use crate::device;
use crate::error::{Error, Result};
use crate::ops::augment::AugmentParams;
use crate::rng::{Domain, Stream};
use crate::say;
use crate::shards::Shards;

pub use batch::{Batch, Mixed, Pictures, Row};
pub use config::{LoaderConfig, LocalCrops, Positives};
pub use labelled::Labelled;
pub use scene::Scene;
pub use section::Section;

use config::over_limit;
use decode::{Images, Seen};
use source::Source;

/// Makes the batches of a training run.
#[derive(Debug)]
pub struct Loader {
    config: LoaderConfig,
    source: Arc<Source>,
    ahead: Ahead,
    /// Pictures that did not decode and are counted.
    counted: BTreeSet<u32>,
    bad: usize,
    notes: Vec<String>,
}

impl Loader {
    /// Opens and indexes the shards. Decoded images are kept in up to a quarter of the memory that is free now.
    pub fn new(config: &LoaderConfig) -> Result<Self> {
        Self::with_cache(config, device::available().map_or(1 << 30, |free| free.bytes / 4))
    }

    /// Keeps decoded images in at most `cache_bytes`.
    pub fn with_cache(config: &LoaderConfig, cache_bytes: u64) -> Result<Self> {
        config.check()?;
        let (source, bad, mut notes) = Source::open(config, Images::new(cache_bytes, config.scene.is_some()))?;
        notes.extend(left_over(config, &source));
        let source = Arc::new(source);
        let ahead = Ahead::start(&source)?;
        let mut loader = Self { config: config.clone(), ahead, source, counted: BTreeSet::new(), bad: 0, notes };
        for message in bad {
            loader.count(&message)?;
        }
        Ok(loader)
    }

    /// Whole batches of an epoch; captions beyond them wait for the next epoch's order.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.source.captions() / self.config.captions_per_batch) as u64
    }

    /// Captions that can be drawn.
    pub fn captions(&self) -> usize {
        self.source.captions()
    }

    /// Images of these captions.
    pub fn images(&self) -> usize {
        self.source.images()
    }

    /// Bad samples counted so far.
    pub fn bad(&self) -> usize {
        self.bad
    }

    /// What a user should know of the data before a run: a line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The files the batches come from.
    pub fn shards(&self) -> &Shards {
        &self.source.shards
    }

    /// Numbers of the pictures that did not decode so far: what [`Loader::restore_bad`] of a run that goes on needs.
    pub fn bad_pictures(&self) -> Vec<u32> {
        self.counted.iter().copied().collect()
    }

    /// Takes up what an interrupted run had counted, so that the same pictures are not counted again and the others
    /// stay counted.
    ///
    /// # Errors
    /// Data error if that is more than `max_bad`.
    pub fn restore_bad(&mut self, pictures: &[u32]) -> Result<()> {
        for &picture in pictures {
            self.bad += usize::from(self.counted.insert(picture));
        }
        if self.bad > self.config.max_bad {
            bail!(Data, "{}", over_limit(self.bad, self.config.max_bad));
        }
        Ok(())
    }

    /// Captions drawn of each of `data` in the steps before step `step` of `epoch`; empty where all is one set.
    pub fn drawn(&self, epoch: u64, step: u64) -> Vec<u64> {
        self.source.drawn(epoch, step)
    }

    /// Memory that the index of the shards takes, bytes.
    pub fn index_bytes(&self) -> u64 {
        self.source.index_bytes()
    }

    /// Memory that decoded images will take, bytes: all of them, or as many as the cache may hold.
    pub fn cache_bytes(&self) -> u64 {
        self.source.cache_bytes()
    }

    /// What a device is given of a step, by the sizes of a few images spread over the shards.
    pub fn pictures(&self) -> Pictures {
        let side = self.config.image_size;
        match self.config.is_host_made() {
            true => Pictures { count: self.config.captions_per_batch, width: side, height: side },
            false => self.source.pictures(),
        }
    }

    /// One more than the largest class number, of labelled pictures.
    pub fn classes(&self) -> usize {
        self.source.classes()
    }

    /// The rows of step `step` of `epoch`: decoded images, the parameters of their views, and their labels.
    ///
    /// # Errors
    /// Data error once more than `max_bad` samples turned out bad, or a batch cannot be filled.
    pub fn batch(&mut self, epoch: u64, step: u64) -> Result<Batch> {
        let LoaderConfig { captions_per_batch: n, seed, .. } = self.config;
        assert!(step < self.steps_per_epoch(), "batch: step {step} of {}", self.steps_per_epoch());
        self.ahead.finish();
        let (mut found, mut bad) = self.source.find(epoch, step)?;
        bad.sort_unstable();
        for (picture, message) in bad {
            if self.counted.insert(picture) {
                self.count(&message)?;
            }
        }
        let next = if step + 1 < self.steps_per_epoch() { (epoch, step + 1) } else { (epoch + 1, 0) };
        self.source.images.forget_ahead();
        self.ahead.request(next);

        let (mut rows, streams): (Vec<Row>, Vec<Stream>) = (0..self.config.views() * n)
            .map(|row| {
                let (slot, one) = (self.config.slot(row / n, &self.config.drawn()), &found[row % n]);
                let (picture, Seen { image, map }) = &one.images[slot.image];
                let key = [one.pass as u32, *picture, slot.crop as u32];
                let mut stream = Stream::new(seed, Domain::Augmentation, key);
                let params = AugmentParams::draw(&mut stream, &slot.augment, image.width, image.height);
                (Row { image: Arc::clone(image), params, label: one.label, key, mixed: None, map: map.clone() }, stream)
            })
            .unzip();
        if let Some(scene) = &self.config.scene {
            scene.finish(&mut rows, streams, self.config.image_size)?;
        } else if let Some(labelled) = &self.config.labelled {
            let batch = Stream::new(seed, Domain::Mix, [epoch as u32, step as u32, 0]);
            labelled.finish(&mut rows, streams, batch, self.config.image_size)?;
        }
        let sections = self.config.sections();
        Ok(Batch { rows, sections, texts: found.iter_mut().filter_map(|found| found.text.take()).collect() })
    }

    fn count(&mut self, message: &str) -> Result<()> {
        self.bad += 1;
        if self.bad > self.config.max_bad {
            bail!(Data, "{message}\n{}", over_limit(self.bad, self.config.max_bad));
        }
        say!("warning: bad sample {} of {} allowed: {message}", self.bad, self.config.max_bad);
        Ok(())
    }
}

/// What no step of an epoch, or of any epoch, takes.
fn left_over(config: &LoaderConfig, source: &Source) -> Vec<String> {
    let (n, m, captions) = (config.captions_per_batch, config.images_per_caption, source.captions());
    let left = captions % n;
    let captions = (left > 0).then(|| {
        let why = format!("{captions} captions are no multiple of --batch {n}");
        if config.shuffle {
            format!("{why}: {left} of them, other ones each time, are not taken in an epoch")
        } else {
            format!("{why}: without shuffling the last {left} are never taken, unless they stand in for damaged ones")
        }
    });
    let pictures = (!config.shuffle && source.images() > m * source.captions())
        .then(|| format!("without shuffling only the first {m} images of a caption are taken"));
    captions.into_iter().chain(pictures).collect()
}

/// A thread that decodes the images of the next step while the current one is computed.
#[derive(Debug)]
struct Ahead {
    requests: Sender<(u64, u64)>,
    done: Receiver<()>,
    pending: bool,
}

impl Ahead {
    fn start(source: &Arc<Source>) -> Result<Self> {
        let (requests, inbox) = channel::<(u64, u64)>();
        let (outbox, done) = channel();
        let source = Arc::clone(source);
        let work = move || {
            for (epoch, step) in inbox {
                // Whatever is wrong with the data is found again, and reported, by the batch itself.
                let _ = source.find(epoch, step);
                if outbox.send(()).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("decode-ahead".into()).spawn(work).map_err(|e| {
            Error::Device(format!("cannot start the decoding thread: {e}; threads are limited (ulimit -u, ulimit -v)"))
        })?;
        Ok(Self { requests, done, pending: false })
    }

    fn request(&mut self, step: (u64, u64)) {
        self.pending = self.requests.send(step).is_ok();
    }

    /// Waits for the requested step, so that nothing is decoded twice.
    fn finish(&mut self) {
        if std::mem::take(&mut self.pending) {
            // An error means that the thread is gone; then the batch decodes for itself.
            let _ = self.done.recv();
        }
    }
}
