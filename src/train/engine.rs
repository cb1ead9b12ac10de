//! Where the steps of a run are computed.

use std::path::Path;

use super::loader::Batch;
use super::recipe::Recipe;
use super::schedule::Position;
use super::state::{Outcome, State};
use crate::error::Result;
use crate::image::Rgb8;
use crate::layers::training::{Buffer, Weights};

/// What the loop of a run needs of a device.
pub trait Engine {
    /// Random initial weights, or those of `recipe.init_from`.
    ///
    /// # Errors
    /// Data error if that file cannot be used.
    fn init(&mut self, recipe: &Recipe) -> Result<()>;

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// Data error if the file is damaged or of another recipe.
    fn resume(&mut self, checkpoint: &Path, recipe: &Recipe) -> Result<()>;

    /// Updates done, queued ones included.
    fn step_count(&self) -> u64;

    /// Begins the update at `at`; `numbers` are what the network is given beside `batch`.
    /// Returns the numbers of the last update that has ended and has not been returned: a device that runs behind the
    /// host is one update late.
    ///
    /// # Errors
    /// [`crate::error::Error::Diverged`] naming the first tensor that is not finite; the parameters are then those
    /// before that update.
    fn step(&mut self, batch: &Batch, numbers: &[u32], at: Position) -> Result<Option<Outcome>>;

    /// Waits, and returns the numbers of an update that [`Engine::step`] has not returned.
    ///
    /// # Errors
    /// As [`Engine::step`].
    fn settle(&mut self) -> Result<Option<Outcome>>;

    /// Classifies the rows of `batch`, as many as a step has, by these weights: logits `[rows, classes]`, nothing from
    /// a network that does not classify. Call [`Engine::settle`] first.
    ///
    /// # Errors
    /// If the device fails.
    fn predict(&mut self, batch: &Batch, weights: Weights) -> Result<Option<Vec<f32>>>;

    /// What the last update left in `buffer`; call [`Engine::settle`] first.
    fn read(&mut self, buffer: Buffer) -> Result<Vec<f32>>;

    /// Features `[N, D]` of pictures of the model's side as the encoder that a run is judged by has them now; call
    /// [`Engine::settle`] first.
    ///
    /// # Errors
    /// As the device's layers.
    fn features(&mut self, pictures: &[Rgb8]) -> Result<Vec<f32>>;

    /// Everything a checkpoint keeps, on the host; call [`Engine::settle`] first.
    fn state(&mut self) -> Result<&State>;
}

/// A part of an update and what it takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    pub name: &'static str,
    pub milliseconds: f64,
    /// Kernels queued; 0 on the CPU.
    pub kernels: u64,
}
