//! Training on a GPU: the whole update in device memory, captured as one graph and replayed; the host only feeds it.
//!
//! The device runs behind the host. While update k runs, the host draws batch k + 1, packs its pictures into pinned memory and reads
//! the numbers of update k − 1. Loss and gradient norm decide on the device whether parameters change, so that an update that is not
//! finite changes nothing although the host learns of it late.

mod feed;
mod rehearsal;
mod update;

use std::path::Path;

use super::checkpoint;
use super::engine::Engine;
use super::loader::{Batch, Pictures};
use super::network::{Network, Outcome, State};
use super::recipe::Recipe;
use crate::device::Plan;
use crate::device::cuda::{Arena, Gpu, Graph, Mark, Pinned};
use crate::error::{Error, Result};
use crate::say;
use feed::Feed;
use update::Update;

/// An update whose numbers have not been read.
#[derive(Debug)]
struct Pending {
    step: u64,
    mark: Mark,
}

/// The trainer on one GPU.
#[derive(Debug)]
pub struct Cuda {
    // Dropped in this order: what refers to device memory first.
    graph: Option<Graph>,
    pending: Option<Pending>,
    numbers: [Pinned<u8>; 2],
    feed: Feed,
    update: Update,
    /// Owns what the views of `update` and `feed` point to.
    arena: Arena,
    network: Network,
    /// The host's copy: what a checkpoint keeps.
    state: State,
    steps: u64,
    gpu: Gpu,
}

impl Cuda {
    /// Opens the GPU, lays the run out in its memory for steps of `pictures`, and refuses what does not fit. `plan`
    /// counts what the host holds.
    ///
    /// # Errors
    /// Device error if there is no usable GPU or the plan does not fit; usage error for sizes without kernels.
    pub fn new(ordinal: usize, recipe: &Recipe, pictures: Pictures, mut plan: Plan) -> Result<Self> {
        let gpu = Gpu::open(ordinal)?;
        let network = Network::new(recipe)?;
        network.vit.check_cuda()?;
        let mut dry = Arena::dry();
        Update::new(&mut dry, &network, recipe);
        let feed = feed::Memory::new(&mut dry, &gpu, recipe, pictures);
        plan.record("feed", "pinned pictures", feed.host_bytes());
        dry.check(&gpu, "the plan needs", super::SMALLER)?;
        let (state, plan) = plan.fit(super::SMALLER, |plan| Ok(State::new(plan, &network)))?;
        let mut arena = Arena::allocate(&gpu, &dry)?;
        let update = Update::new(&mut arena, &network, recipe);
        let feed = feed::Memory::new(&mut arena, &gpu, recipe, pictures);
        update.prepare(&gpu, &network)?;
        say!("on the host, {plan}\non {}, {}", gpu.name(), arena.plan());
        let numbers = [gpu.pinned(update::NUMBERS)?, gpu.pinned(update::NUMBERS)?];
        let feed = Feed::new(&gpu, recipe, feed)?;
        Ok(Self { graph: None, pending: None, numbers, feed, update, arena, network, state, steps: 0, gpu })
    }

    /// Copies the host's state to the device.
    fn upload(&mut self) -> Result<()> {
        self.steps = self.state.step;
        self.update.upload(&self.gpu, &self.state)
    }

    /// Waits for the numbers of an update.
    fn outcome(&mut self, pending: &Pending) -> Result<Outcome> {
        pending.mark.wait()?;
        let [loss, squares] = update::numbers(&self.numbers[(pending.step % 2) as usize]);
        let grad_norm = squares.sqrt();
        for (what, value) in [("the loss", loss), ("the gradient norm", grad_norm)] {
            if !value.is_finite() {
                return Err(self.diverged(pending.step, what, value));
            }
        }
        Ok(Outcome { step: pending.step, loss, grad_norm })
    }

    /// Looks for the first tensor that is not finite, in the order of computation. Later updates may have run over the activations, but
    /// changed no parameter.
    fn diverged(&self, step: u64, what: &str, value: f64) -> Error {
        let first = match self.update.first_not_finite(&self.gpu, &self.network) {
            Ok(Some(name)) => name,
            Ok(None) => "no stored tensor; the loss itself overflowed".to_owned(),
            Err(error) => return error,
        };
        super::network::diverged(step, what, value, &first)
    }
}

impl Engine for Cuda {
    fn init(&mut self, recipe: &Recipe) -> Result<()> {
        self.state.init(&self.network, recipe)?;
        self.upload()
    }

    fn resume(&mut self, path: &Path, recipe: &Recipe) -> Result<()> {
        checkpoint::load(path, &self.network, &mut self.state, recipe)?;
        self.upload()
    }

    fn step_count(&self) -> u64 {
        self.steps
    }

    fn step(&mut self, batch: &Batch, labels: &[u32], lr: f64) -> Result<Option<Outcome>> {
        let step = self.steps;
        let gpu = self.gpu.clone();
        if self.feed.fill(&gpu, step, batch, labels, &self.update.settings(lr, step))? {
            // The pictures moved to a larger buffer, whose address the graph does not know.
            self.graph = None;
        }
        match &self.graph {
            Some(graph) => graph.launch()?,
            None => {
                // Kernels load while they are queued for the first time, which cannot be recorded.
                self.update.queue(&gpu, &self.network, &self.feed)?;
                self.graph = Some(gpu.capture(|| self.update.queue(&gpu, &self.network, &self.feed))?);
            }
        }
        self.update.read_numbers(&gpu, &mut self.numbers[(step % 2) as usize])?;
        let queued = Pending { step, mark: gpu.mark()? };
        self.steps += 1;
        match self.pending.replace(queued) {
            Some(before) => self.outcome(&before).map(Some),
            None => Ok(None),
        }
    }

    fn settle(&mut self) -> Result<Option<Outcome>> {
        match self.pending.take() {
            Some(pending) => self.outcome(&pending).map(Some),
            None => Ok(None),
        }
    }

    fn state(&mut self) -> Result<&State> {
        self.update.download(&self.gpu, &mut self.state)?;
        self.state.step = self.steps;
        Ok(&self.state)
    }
}
