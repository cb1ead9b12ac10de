//! A ViT over the images of a step, in chunks where their activations do not fit at once: exact gradient caching (Gao
//! et al. 2021, arXiv 2101.06983).
//!
//! No layer of a ViT looks across images. So its features can be computed chunk by chunk, head and loss see all of
//! them, and each chunk runs forward once more when its gradients come back. The chunk that ran last still has its
//! activations and goes first; a single one is the plain walk. Within a chunk, layer norms and GELUs may be computed
//! again rather than held (Chen et al. 2016, arXiv 1604.06174): five eighths of the memory for a few kernels more.

use super::network::{Held, Sizes};
use crate::error::Result;
use crate::layers::training::{Buffer, Kind, Layers, Layout};
use crate::models::vit::{DropPath, Vit, VitActs, VitConfig, VitGradients};
use crate::train::loader::Row;

/// The parts of an update that are an encoder's backward, and forwards for the second time.
const BACKWARD: &str = "encoder, backward";
pub const AGAIN: &str = "encoder, forward again";

/// The activations of a ViT over some images of a step. Its weights come with every call, so that an encoder and its
/// moving average can take turns.
#[derive(Debug)]
pub struct Encoder {
    /// `[images, D]`.
    features: Buffer,
    chunks: Vec<Chunk>,
    /// Stochastic depth, and the seed by which it is drawn.
    drop: Option<(DropPath, u64)>,
}

#[derive(Debug)]
struct Chunk {
    /// Value at which its images begin in the call's, and row at which its features do.
    start: usize,
    row: usize,
    acts: VitActs,
    back: VitGradients,
}

impl Encoder {
    /// Takes the buffers for `images` images of the call, the first of which begins at value `start`; the activations
    /// of as many as `held` says are held at once.
    pub fn new(layout: &mut Layout, model: &VitConfig, start: usize, images: usize, held: Held) -> Self {
        let features = take_features(layout, model, images);
        Self::of(layout, model, start, features, held)
    }

    /// The same, whose `features [images, D]` were taken before by `take_features`.
    pub fn of(layout: &mut Layout, model: &VitConfig, start: usize, features: Buffer, held: Held) -> Self {
        let images = features.len() / model.width;
        let n = held.images.min(images);
        let back = VitGradients::new(layout, model, n);
        let acts =
            VitActs::with_features(layout, model, n, features.first(n * model.width), held.again.then_some(&back));
        let width = model.width;
        // What is left over goes first: the last chunk, which need not run again, is then a whole one.
        let first = if images.is_multiple_of(n) { n } else { images % n };
        let ends = (first..=images).step_by(n);
        let chunk = |end: usize| {
            let row = end.saturating_sub(n);
            let rows = row..end;
            let features = features.slice(rows.start * width..rows.end * width);
            Chunk {
                start: start + row * model.image_len(),
                row,
                acts: acts.first(rows.len(), features),
                back: back.first(rows.len()),
            }
        };
        Self { features, chunks: ends.map(chunk).collect(), drop: None }
    }

    /// With stochastic depth where `sizes` ask for it; its numbers begin at `start` in the call's.
    pub fn dropping(mut self, sizes: &Sizes, start: usize) -> Self {
        let images = self.features.len() / sizes.model.width;
        if sizes.drop_path > 0.0 {
            let drop = DropPath::new(&sizes.model, sizes.drop_path, images, start);
            self.drop = Some((drop, sizes.seed));
            let dropping = |chunk: Chunk| Chunk { acts: chunk.acts.dropping(drop, chunk.row), ..chunk };
            self.chunks = self.chunks.into_iter().map(dropping).collect();
        }
        self
    }

    /// How many numbers it is given.
    pub fn numbers(&self) -> usize {
        self.drop.map_or(0, |(drop, _)| drop.numbers())
    }

    /// Adds them, for its images `rows`.
    pub fn number(&self, rows: &[Row], to: &mut Vec<u32>) {
        if let Some((drop, seed)) = self.drop {
            drop.number(seed, rows.iter().map(|row| row.key), to);
        }
    }

    /// The features `[images, D]` of the last forward.
    pub fn features(&self) -> Buffer {
        self.features
    }

    /// The features of all images.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn forward(&self, on: &mut dyn Layers, vit: &Vit) -> Result<()> {
        self.chunks.iter().try_for_each(|chunk| vit.forward(on, &chunk.acts, chunk.start))
    }

    /// The same of a momentum copy, which leaves no branch out.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn forward_copy(&self, on: &mut dyn Layers, vit: &Vit) -> Result<()> {
        self.chunks.iter().try_for_each(|chunk| vit.forward(on, &chunk.acts.whole(), chunk.start))
    }

    /// Adds the gradients of the parameters, given `dfeatures [images, D]`, after [`Encoder::forward`] with the same
    /// weights. Ends its own stages.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn backward(&self, on: &mut dyn Layers, vit: &Vit, dfeatures: Buffer) -> Result<()> {
        let Some((last, others)) = self.chunks.split_last() else { return Ok(()) };
        self.chunk_backward(on, vit, last, dfeatures)?;
        for chunk in others {
            vit.forward(on, &chunk.acts, chunk.start)?;
            on.stage(AGAIN)?;
            self.chunk_backward(on, vit, chunk, dfeatures)?;
        }
        Ok(())
    }

    fn chunk_backward(&self, on: &mut dyn Layers, vit: &Vit, chunk: &Chunk, dfeatures: Buffer) -> Result<()> {
        let width = vit.config().width;
        let rows = chunk.row * width..(chunk.row + chunk.acts.images()) * width;
        vit.backward(on, &chunk.acts, &chunk.back, dfeatures.slice(rows))?;
        on.stage(BACKWARD)
    }

    /// What a step leaves of the activations in the order they are computed, by timm's names behind `visual.`: those of
    /// the chunk that ran last, and the features of all.
    pub fn named(&self) -> Vec<(String, Buffer)> {
        let ran_last = self.chunks.iter().rev().nth(usize::from(self.chunks.len() > 1));
        let mut all = ran_last.map_or_else(Vec::new, |chunk| chunk.acts.named());
        if let Some((_, features)) = all.last_mut() {
            *features = self.features;
        }
        all.into_iter().map(|(name, values)| (format!("visual.{name}"), values)).collect()
    }
}

/// Room for the features of so many images.
pub(super) fn take_features(layout: &mut Layout, model: &VitConfig, images: usize) -> Buffer {
    layout.take("activations", "features", images * model.width, Kind::Rounded)
}
