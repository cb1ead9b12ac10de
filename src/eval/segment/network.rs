//! A trained segmentation network, from the run that trained it.

use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::bail;
use crate::config::hex;
use crate::device::{Device, Plan, in_pool};
use crate::error::{Error, Result};
#[cfg(cuda_kernels)]
use crate::eval::card::Card;
use crate::eval::dataset::scenes::Scenes;
use crate::eval::encoder::pixels;
use crate::image::{Classes, Rgb8};
use crate::layers::training::cpu::{Call, Memory};
use crate::layers::training::{Layers, Layout};
use crate::models::segmenter::{HeadKind, Segmenter, SegmenterActs};
use crate::models::vit::{VitConfig, VitFile};
use crate::ops::augment::Normalize;
#[cfg(cuda_kernels)]
use crate::ops::augment::Scales;
use crate::say;
use crate::weights::ParamTable;

/// What to do about too little memory.
const SMALLER: &str = "lower --windows, or take a machine with more memory";

/// What a run says of its classes, in its `config`.
#[derive(Debug, Deserialize)]
struct Recorded {
    segment: Option<Settings>,
}

#[derive(Debug, Deserialize)]
struct Settings {
    head: HeadKind,
    classes: usize,
    first_label: u8,
}

/// A segmentation network on its device, for so many windows at once.
#[derive(Debug)]
pub struct Network {
    pub shown: String,
    pub head: HeadKind,
    /// Which numbers of files are its classes.
    pub numbered: Classes,
    segmenter: Segmenter,
    params: Vec<f32>,
    statistics: Vec<f32>,
    normalize: Normalize,
    acts: SegmenterActs,
    windows: usize,
    on: On,
}

#[derive(Debug)]
enum On {
    Cpu(Memory),
    #[cfg(cuda_kernels)]
    Cuda(Box<Card>),
}

impl Network {
    /// Opens the run or checkpoint at `path`, for `windows` at once.
    ///
    /// # Errors
    /// `Data` naming file and tensor when it is none of `--method segment`; device errors.
    pub fn open(path: &Path, device: Device, windows: usize) -> Result<Self> {
        let file = VitFile::open(path)?;
        let shown = file.shown().to_owned();
        let recorded = match file.tensors().metadata("config") {
            Some(text) => {
                serde_json::from_str::<Recorded>(text)
                    .map_err(|e| Error::Data(format!("{shown}: `config` in its header: {e}")))?
                    .segment
            }
            None => None,
        };
        let Some(Settings { head, classes, first_label }) = recorded else {
            bail!(
                Data,
                "{shown}: was not trained to tell pixels apart; train it first: stablerep train --method segment \
                 --init-from {} --data FOLDER --classes N --output RUN",
                path.display()
            );
        };
        let (numbered, model) = (Classes { count: classes, first: first_label }, file.config(None)?);
        let (mut table, mut kept, mut layout) = (ParamTable::new(), ParamTable::new(), Layout::default());
        let segmenter = Segmenter::new(&model, (head, classes), "", &mut table, &mut kept)?;
        let acts = segmenter.acts(&mut layout, windows, None);
        let cpu = device == Device::Cpu;
        let lay_out = |plan: &mut Plan| {
            let tensors = [("parameters", table.len()), ("statistics", kept.len())]
                .map(|(name, len)| plan.f32("network", name, len));
            Ok((tensors, cpu.then(|| Memory::take(plan, &layout))))
        };
        let (([mut params, mut statistics], memory), plan) = Plan::new().fit(SMALLER, lay_out)?;
        say!("{plan}");
        file.load(segmenter.vit(), &mut params)?;
        segmenter.load_head(&mut params, &mut statistics, file.tensors(), file.beside())?;
        let (mean, std) = file.mean_std()?;
        let on = match (device, memory) {
            (Device::Cpu, memory) => On::Cpu(memory.unwrap_or_default()),
            #[cfg(cuda_kernels)]
            (Device::Cuda(ordinal), _) => On::Cuda(Box::new(Card::of_walk(
                ordinal,
                segmenter.vit().config(),
                [&params, &statistics],
                (&layout, windows),
                Scales::new(mean, std),
                &|on| walk(&segmenter, on, &acts),
            )?)),
        };
        let normalize = Normalize::new(mean, std);
        Ok(Self { shown, head, numbered, segmenter, params, statistics, normalize, acts, windows, on })
    }

    pub fn vit(&self) -> &VitConfig {
        self.segmenter.vit().config()
    }

    /// What a score of `scenes` by windows that are so far apart depends on (SHA-256, hex).
    ///
    /// # Errors
    /// `Io` naming a picture that cannot be read.
    pub fn identity(&self, scenes: &Scenes, stride: usize) -> Result<String> {
        let device = match &self.on {
            On::Cpu(_) => "cpu",
            #[cfg(cuda_kernels)]
            On::Cuda(card) => card.gpu().name(),
        };
        let mut hash = Sha256::new();
        hash.update(format!("{:?}", (self.head, self.numbered.first, self.vit(), stride, device)));
        for values in [&self.params, &self.statistics] {
            hash.update(bytemuck::cast_slice(values));
        }
        for index in 0..scenes.len() {
            let files = scenes.files(index)?;
            hash.update(Sha256::digest(&files.picture));
            hash.update(Sha256::digest(&files.map));
        }
        Ok(hex(&hash.finalize()))
    }

    pub fn classes(&self) -> usize {
        self.segmenter.classes()
    }

    /// Places a side of the logits of a window.
    pub fn side(&self) -> usize {
        self.segmenter.side()
    }

    /// Windows that go through it at once.
    pub fn windows(&self) -> usize {
        self.windows
    }

    /// Logits `[N, side, side, classes]` of windows of the network's size, no more than go through it at once.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn logits(&mut self, windows: &[Rgb8]) -> Result<Vec<f32>> {
        let Self { segmenter, params, statistics, normalize, acts, on, .. } = self;
        // As many every time: the last ones again.
        let all: Vec<Rgb8> =
            windows.iter().chain(windows.last().into_iter().cycle()).take(self.windows).cloned().collect();
        let mut logits = match on {
            On::Cpu(memory) => {
                let images = pixels(&all, normalize);
                let call = Call { statistics, images: &images, ..Call::new(memory, params) };
                in_pool(|| walk(segmenter, &mut { call }, acts))?;
                memory.read(acts.logits()).to_vec()
            }
            #[cfg(cuda_kernels)]
            On::Cuda(card) => {
                card.show(&all)?;
                walk(segmenter, &mut card.call(), acts)?;
                card.read(acts.logits())?
            }
        };
        logits.truncate(logits.len() / self.windows * windows.len());
        Ok(logits)
    }
}

fn walk(segmenter: &Segmenter, on: &mut dyn Layers, acts: &SegmenterActs) -> Result<()> {
    segmenter.encode(on, acts)?;
    segmenter.decode(on, acts)
}
