//! A text tower over the texts of a step, in chunks where their activations do not fit at once, as
//! [`super::encoder::Encoder`] does it with images.

use super::encoder::AGAIN;
use super::network::Held;
use crate::error::Result;
use crate::layers::training::{Buffer, Kind, Layers, Layout};
use crate::models::text_tower::{Text, TextActs, TextConfig, TextTower};
use crate::models::vit::VitGradients;

/// The part of an update that is a tower's backward.
const BACKWARD: &str = "text tower, backward";

/// The activations of a tower over the texts of a step.
#[derive(Debug)]
pub(super) struct TextEncoder {
    config: TextConfig,
    /// `[texts, D]`.
    features: Buffer,
    chunks: Vec<Chunk>,
}

#[derive(Debug)]
struct Chunk {
    /// Rows of its features.
    rows: std::ops::Range<usize>,
    acts: TextActs,
    back: VitGradients,
}

impl TextEncoder {
    /// Takes the buffers for `texts` texts, whose numbers begin at `start` in the call's; held at once is the share of
    /// them that `held` is of the step's `images`.
    pub fn new(
        layout: &mut Layout,
        config: &TextConfig,
        (texts, start): (usize, usize),
        (held, images): (Held, usize),
    ) -> Self {
        let n = (texts * held.images.min(images)).div_ceil(images);
        let features = layout.take("text activations", "text features", texts * config.width, Kind::Rounded);
        let back = TextTower::gradients(layout, config, n);
        let of = |rows: &std::ops::Range<usize>| features.slice(rows.start * config.width..rows.end * config.width);
        let acts = TextActs::new(layout, config, (n, start), of(&(0..n)), held.again.then_some(&back));
        // What is left over goes first: the chunk that need not run again is then a whole one.
        let first = if texts.is_multiple_of(n) { n } else { texts % n };
        let chunk = |end: usize| {
            let rows = end.saturating_sub(n)..end;
            let start = start + TextActs::numbers_len(config, rows.start);
            let acts = acts.first(config, rows.len(), start, of(&rows));
            Chunk { acts, back: back.first(rows.len()), rows }
        };
        Self { config: config.clone(), features, chunks: (first..=texts).step_by(n).map(chunk).collect() }
    }

    /// The features `[texts, D]` of the last forward.
    pub fn features(&self) -> Buffer {
        self.features
    }

    /// How many numbers a step is given for its texts.
    pub fn numbers_len(&self) -> usize {
        self.chunks.iter().map(|chunk| TextActs::numbers_len(&self.config, chunk.rows.len())).sum()
    }

    /// Adds them.
    ///
    /// # Panics
    /// If there are fewer texts.
    pub fn numbers(&self, texts: &[Text], to: &mut Vec<u32>) {
        self.chunks.iter().for_each(|chunk| TextActs::numbers(&self.config, &texts[chunk.rows.clone()], to));
    }

    /// # Errors
    /// As the device's layers.
    pub fn forward(&self, on: &mut dyn Layers, tower: &TextTower) -> Result<()> {
        self.chunks.iter().try_for_each(|chunk| tower.forward(on, &chunk.acts))
    }

    /// Adds the gradients of the parameters, given `dfeatures [texts, D]`. Ends its own stages.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn backward(&self, on: &mut dyn Layers, tower: &TextTower, dfeatures: Buffer) -> Result<()> {
        let width = self.config.width;
        for (number, chunk) in self.chunks.iter().rev().enumerate() {
            if number > 0 {
                tower.forward(on, &chunk.acts)?;
                on.stage(AGAIN)?;
            }
            let dfeatures = dfeatures.slice(chunk.rows.start * width..chunk.rows.end * width);
            tower.backward(on, &chunk.acts, &chunk.back, dfeatures)?;
            on.stage(BACKWARD)?;
        }
        Ok(())
    }

    /// What a step leaves of the activations: those of the chunk that ran last.
    pub fn named(&self) -> Vec<(String, Buffer)> {
        self.chunks.first().map_or_else(Vec::new, |chunk| chunk.acts.named())
    }
}
