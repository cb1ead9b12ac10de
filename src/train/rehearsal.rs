//! One update over synthetic pictures, again and again: what `stablerep bench train` measures. No shards, no decoding,
//! and on a GPU no pictures on their way either: they lie there already.

use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;

use super::chunk::Activations;
use super::cpu::Cpu;
#[cfg(cuda_kernels)]
use super::cuda::{self, Cuda};
use super::engine::Engine;
pub use super::engine::Stage;
use super::language::Language;
use super::loader::{Batch, LocalCrops, Pictures, Row};
use super::method::{AGAIN, ENCODER, HEAD, LOSS, MOMENTUM, TEXTS};
use super::recipe::Recipe;
use super::schedule::Position;
use crate::device::{Device, Plan, Queued};
use crate::error::Result;
use crate::image::{LabelMap, Rgb8};
use crate::layers::training::count::Tally;
use crate::models::segmenter::HeadKind;
use crate::models::text_tower::Text;
use crate::models::vit::VitConfig;
use crate::ops::augment::AugmentParams;
use crate::rng::{Domain, Stream};

/// So low that parameters hardly move, however often the update is repeated.
const LR: f64 = 1e-7;

/// FLOPs (two per multiply-accumulate) of an update: forward, and twice as many backward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flops {
    /// Of the encoder as published, for one image's forward and its share of the small crops'.
    pub encoder: f64,
    /// Of the encoder as computed here: one block ends in the class token.
    pub computed: f64,
    /// Of the projection head, for one image's forward.
    pub head: f64,
    /// Of the text tower, for the forward of a whole update.
    pub texts: f64,
    /// Of the loss of a whole update, forward and backward, and of the forward of a momentum copy before it.
    pub loss: f64,
    /// Of what a whole update runs forward for the second time.
    pub again: f64,
    /// Whether the encoder learns.
    pub learns: bool,
    pub images: usize,
}

impl Flops {
    /// Counted by the walk of an update.
    pub fn of(recipe: &Recipe) -> Result<Self> {
        let mut tally = Tally::default();
        recipe.network()?.gradient(&mut tally)?;
        let images = recipe.images_per_step();
        let each = |stage: &str| tally.of_stage(stage) / images as f64;
        // Of the few patches that it sees, a masked autoencoder's computes every token.
        let encoder = if recipe.mae.is_some() { each(ENCODER) } else { recipe.model.flops() };
        // Small crops are spread over the others.
        let local = recipe.local.map_or(0.0, |LocalCrops { size: image_size, .. }| {
            let each = VitConfig { image_size, ..recipe.model.clone() }.flops();
            (recipe.rows_per_step() - images) as f64 / images as f64 * each
        });
        Ok(Self {
            encoder: encoder + local,
            computed: each(ENCODER),
            head: each(HEAD),
            texts: tally.of_stage(TEXTS),
            loss: tally.of_stage(LOSS) + tally.of_stage(MOMENTUM),
            again: tally.of_stage(AGAIN),
            learns: recipe.segment.as_ref().is_none_or(|segment| segment.head != HeadKind::Linear),
            images,
        })
    }

    /// Of an update: what MFU is measured by.
    pub fn update(self) -> f64 {
        self.images as f64 * (self.passes() * self.encoder + 3.0 * self.head) + 3.0 * self.texts + self.loss
    }

    /// Forwards that the work of the encoder comes to: a backward is two.
    fn passes(self) -> f64 {
        if self.learns { 3.0 } else { 1.0 }
    }

    /// Of an update as computed here.
    pub fn update_computed(self) -> f64 {
        self.update() - self.passes() * self.images as f64 * (self.encoder - self.computed) + self.again
    }
}

/// An engine and the batch it is given every time.
#[derive(Debug)]
pub struct Rehearsal {
    engine: Which,
    batch: Batch,
    numbers: Vec<u32>,
    parameters: usize,
}

#[derive(Debug)]
enum Which {
    Cpu(Box<Cpu>),
    #[cfg(cuda_kernels)]
    Cuda(Box<Cuda>),
}

impl Rehearsal {
    /// Settles what of `recipe` is held at once, makes the pictures, brings them to the device, and runs the update
    /// once, which loads and records what is replayed.
    ///
    /// # Errors
    /// As a run's: usage for a recipe that cannot be run, device if it does not fit.
    pub fn new(device: Device, recipe: &mut Recipe, activations: Activations) -> Result<Self> {
        recipe.validate()?;
        let mut plan = Plan::new();
        let pictures = pictures(recipe);
        let bytes = pictures.count * 3 * pictures.width * pictures.height;
        plan.record("synthetic pictures", "pictures", bytes as u64);
        let mut engine = match device {
            Device::Cpu => Which::Cpu(Box::new(Cpu::new(recipe, activations, plan)?)),
            #[cfg(cuda_kernels)]
            Device::Cuda(ordinal) => {
                Which::Cuda(Box::new(Cuda::new(ordinal, recipe, activations, (pictures, false), plan)?))
            }
        };
        // Only now that the run is known to fit.
        let batch = synthetic(recipe);
        let network = recipe.network()?;
        let numbers = recipe.numbers(&*network, &batch, 0)?;
        match &mut engine {
            Which::Cpu(cpu) => {
                cpu.init(recipe)?;
                cpu.step(&batch, &numbers, Position::first(LR))?;
            }
            #[cfg(cuda_kernels)]
            Which::Cuda(cuda) => {
                cuda.init(recipe)?;
                cuda.rehearse(&batch, &numbers, Position::first(LR))?;
            }
        }
        Ok(Self { engine, batch, numbers, parameters: network.parameters().len() })
    }

    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// Milliseconds of each of `count` updates: on a GPU replays of the recorded one, by the device's clock.
    ///
    /// # Errors
    /// [`crate::error::Error::Diverged`] if loss or gradient are not finite.
    pub fn updates(&mut self, count: usize) -> Result<Vec<f64>> {
        match &mut self.engine {
            Which::Cpu(cpu) => (0..count)
                .map(|_| {
                    let begin = Instant::now();
                    cpu.step(&self.batch, &self.numbers, Position::first(LR))?;
                    Ok(1e3 * begin.elapsed().as_secs_f64())
                })
                .collect(),
            #[cfg(cuda_kernels)]
            Which::Cuda(cuda) => cuda.replays(count),
        }
    }

    /// The parts of one update by name, one for all chunks; on a GPU it is queued kernel by kernel with marks between
    /// the parts.
    pub fn stages(&mut self) -> Result<Vec<Stage>> {
        let parts = match &mut self.engine {
            Which::Cpu(cpu) => cpu.stages(&self.batch, &self.numbers, Position::first(LR)),
            #[cfg(cuda_kernels)]
            Which::Cuda(cuda) => cuda.stages(),
        }?;
        let mut stages: Vec<Stage> = Vec::new();
        for part in parts {
            match stages.iter_mut().find(|stage| stage.name == part.name) {
                Some(stage) => {
                    stage.milliseconds += part.milliseconds;
                    stage.kernels += part.kernels;
                }
                None => stages.push(part),
            }
        }
        Ok(stages)
    }

    /// Loss of the last update.
    pub fn loss(&mut self) -> Result<f64> {
        match &mut self.engine {
            Which::Cpu(cpu) => {
                cpu.step(&self.batch, &self.numbers, Position::first(LR)).map(|o| o.map_or(f64::NAN, |o| o.loss))
            }
            #[cfg(cuda_kernels)]
            Which::Cuda(cuda) => cuda.last_loss(),
        }
    }

    /// Bytes that the run was given on its device.
    pub fn planned_bytes(&self) -> u64 {
        match &self.engine {
            Which::Cpu(cpu) => cpu.planned_bytes(),
            #[cfg(cuda_kernels)]
            Which::Cuda(cuda) => cuda.device_bytes(),
        }
    }

    /// What was queued so far.
    pub fn queued(&self) -> Queued {
        match &self.engine {
            Which::Cpu(_) => Queued::default(),
            #[cfg(cuda_kernels)]
            Which::Cuda(cuda) => cuda.queued(),
        }
    }
}

/// What a run takes of a card: bytes in all, padding between tensors among them, and whether there is room for them.
#[cfg(cuda_kernels)]
#[derive(Debug)]
pub struct Planned {
    pub plan: Plan,
    pub bytes: u64,
    pub fits: bool,
}

/// Settles what of `recipe` is held at once in `free` bytes of a card such as an H100 or H200: compute capability
/// 9.0, 132 multiprocessors, 227 KiB of shared memory a block. Nothing is allocated, no card is needed.
///
/// # Errors
/// Usage error for a recipe that cannot be run, or has no kernels.
#[cfg(cuda_kernels)]
pub fn plan(recipe: &mut Recipe, activations: Activations, free: u64) -> Result<Planned> {
    recipe.validate()?;
    let (card, (room, _)) = (cuda::Card { sms: 132, shared_per_block: 227 << 10 }, crate::device::cuda::room(free));
    let pictures = pictures(recipe);
    activations.settle(recipe, |recipe| Ok(cuda::measure(recipe, card, (pictures, false))?.bytes() <= room))?;
    let measured = cuda::measure(recipe, card, (pictures, false))?;
    Ok(Planned { plan: measured.plan().clone(), bytes: measured.bytes(), fits: measured.bytes() <= room })
}

/// What the batches of a rehearsal are made of.
fn pictures(recipe: &Recipe) -> Pictures {
    let side = picture_side(recipe);
    Pictures { count: recipe.batch * recipe.views().images, width: side, height: side }
}

/// Side of the synthetic pictures, pixels.
fn picture_side(recipe: &Recipe) -> usize {
    // Views of labelled pictures were made by the host.
    let made = recipe.finetune.is_some() || recipe.segment.is_some();
    if made { recipe.model.image_size } else { recipe.model.image_size * 8 / 7 }
}

/// A text of ids without meaning, of about the length that captions have.
fn noise_text(language: &Language, number: usize) -> Text {
    let Language { vocabulary, context, .. } = *language;
    let end = (9 + number % 12).min(context - 1);
    Text { ids: (0..context).map(|i| ((number * 7919 + i * 31) % vocabulary) as u32).collect(), end }
}

/// Pictures of noise, an eighth larger than the model's (256² for 224²), each image of each caption its own, with views
/// drawn as in a run.
fn synthetic(recipe: &Recipe) -> Batch {
    let (loader, views, n) = (recipe.loader(None), recipe.views(), recipe.batch);
    let side = picture_side(recipe);
    let picture = |number: usize| {
        let mut stream = Stream::new(recipe.seed, Domain::SelfTest, [number as u32, 0, 0]);
        let mut data: Vec<u8> =
            (0..(3 * side * side).div_ceil(4)).flat_map(|_| stream.next_u32().to_le_bytes()).collect();
        data.truncate(3 * side * side);
        Arc::new(Rgb8 { width: side, height: side, data })
    };
    let pictures: Vec<Arc<Rgb8>> = (0..n * views.images).into_par_iter().map(picture).collect();
    let row = |row: usize| {
        let (slot, caption) = (loader.slot(row / n, &loader.augment()), row % n);
        let image = Arc::clone(&pictures[slot.image * n + caption]);
        let key = [0, row as u32, 0];
        let mut stream = Stream::new(recipe.seed, Domain::Augmentation, key);
        let params = AugmentParams::draw(&mut stream, &slot.augment, side, side);
        let label = recipe.classes().map_or(caption, |classes| caption % classes) as u32;
        let map = recipe.segment.as_ref().map(|segment| {
            let data = (0..side * side).map(|at| ((at / 16 + row) % segment.classes) as u8).collect();
            Arc::new(LabelMap { width: side, height: side, data })
        });
        Row { image, params, label, key, mixed: None, map }
    };
    let texts =
        recipe.language.as_ref().map_or_else(Vec::new, |language| (0..n).map(|i| noise_text(language, i)).collect());
    Batch { rows: (0..recipe.rows_per_step()).map(row).collect(), sections: loader.sections(), texts }
}
