//! Where the steps of a run are computed.

use std::path::Path;
use std::time::Instant;

use super::checkpoint;
use super::loader::Batch;
use super::network::{Network, Outcome, State, Trainer};
use super::recipe::Recipe;
use super::rehearsal::Stage;
use crate::device::Plan;
use crate::error::Result;
use crate::say;

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

    /// Begins one update at learning rate `lr`; `labels` are those of `batch`'s rows after the method changed them. Returns the numbers of
    /// the last update that has ended and has not been returned: a device that runs behind the host is one update late.
    ///
    /// # Errors
    /// [`crate::error::Error::Diverged`] naming the first tensor that is not finite; the parameters are then those before that update.
    fn step(&mut self, batch: &Batch, labels: &[u32], lr: f64) -> Result<Option<Outcome>>;

    /// Waits, and returns the numbers of an update that [`Engine::step`] has not returned.
    ///
    /// # Errors
    /// As [`Engine::step`].
    fn settle(&mut self) -> Result<Option<Outcome>>;

    /// Everything a checkpoint keeps, on the host; call [`Engine::settle`] first.
    fn state(&mut self) -> Result<&State>;
}

/// The CPU: every update has ended when [`Engine::step`] returns.
#[derive(Debug)]
pub struct Cpu {
    trainer: Trainer,
    state: State,
    images: Vec<f32>,
    planned: u64,
}

impl Cpu {
    /// Takes all buffers from `plan` and refuses what does not fit.
    ///
    /// # Errors
    /// Device error if the plan does not fit.
    pub fn new(recipe: &Recipe, plan: Plan) -> Result<Self> {
        let (mut this, plan) = plan.fit(super::SMALLER, |plan| {
            let network = Network::new(recipe)?;
            let state = State::new(plan, &network);
            let trainer = Trainer::new(plan, network, recipe);
            let images = plan.f32("loader", "batch", recipe.images_per_step() * recipe.model.image_len());
            Ok(Self { trainer, state, images, planned: 0 })
        })?;
        this.planned = plan.total_bytes();
        say!("{plan}");
        Ok(this)
    }
}

impl Cpu {
    /// Bytes of all buffers.
    pub(super) fn planned_bytes(&self) -> u64 {
        self.planned
    }

    /// The parts of one update, for `bench train`.
    pub(super) fn stages(&mut self, batch: &Batch, labels: &[u32], lr: f64) -> Result<Vec<Stage>> {
        let begin = Instant::now();
        batch.render(&mut self.images)?;
        let rendered = Instant::now();
        self.trainer.step(&mut self.state, &self.images, labels, lr)?;
        let stage = |name, from: Instant, to: Instant| Stage {
            name,
            milliseconds: 1e3 * (to - from).as_secs_f64(),
            kernels: 0,
        };
        Ok(vec![stage("augmentation", begin, rendered), stage("update", rendered, Instant::now())])
    }
}

impl Engine for Cpu {
    fn init(&mut self, recipe: &Recipe) -> Result<()> {
        self.state.init(self.trainer.network(), recipe)
    }

    fn resume(&mut self, path: &Path, recipe: &Recipe) -> Result<()> {
        checkpoint::load(path, self.trainer.network(), &mut self.state, recipe)
    }

    fn step_count(&self) -> u64 {
        self.state.step
    }

    fn step(&mut self, batch: &Batch, labels: &[u32], lr: f64) -> Result<Option<Outcome>> {
        batch.render(&mut self.images)?;
        self.trainer.step(&mut self.state, &self.images, labels, lr).map(Some)
    }

    fn settle(&mut self) -> Result<Option<Outcome>> {
        Ok(None)
    }

    fn state(&mut self) -> Result<&State> {
        Ok(&self.state)
    }
}
