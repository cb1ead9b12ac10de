//! Training on a GPU: the whole update in device memory, captured as one graph and replayed; the host only feeds it.
//!
//! The device runs behind the host. While update k runs, the host draws batch k + 1, packs its pictures into pinned
//! memory and reads the numbers of update k − 1. Loss and gradient norm decide on the device whether parameters change,
//! so that an update that is not finite changes nothing although the host learns of it late.

mod feed;
mod passing;
mod rehearsal;
mod update;

use std::path::Path;

use super::checkpoint;
use super::chunk::Activations;
use super::engine::Engine;
use super::job::SMALLER;
use super::loader::{Batch, Pictures};
use super::method::Network;
use super::recipe::Recipe;
use super::schedule::Position;
use super::state::{Outcome, State};
use crate::bail;
use crate::device::Plan;
use crate::device::cuda::{Arena, Gpu, Graph, Mark, Pinned};
use crate::error::Result;
use crate::image::Rgb8;
use crate::layers::training::{Buffer, Weights};
use crate::models::vit::VitConfig;
use crate::ops::self_attention::cuda::HEAD_DIMS;
use crate::say;
pub(super) use feed::Card;
use feed::Feed;
use passing::Passing;
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
    /// Of a run that is scored on its way.
    passing: Option<Passing>,
    /// Owns what the views of `update` and `feed` point to.
    arena: Arena,
    network: Box<dyn Network>,
    /// The host's copy: what a checkpoint keeps.
    state: State,
    steps: u64,
    /// Updates that may be left out.
    most: u64,
    gpu: Gpu,
}

impl Cuda {
    /// Opens the GPU, settles what of `recipe` is held at once, lays the run out in its memory for steps of `pictures`,
    /// and whether it is `scored` on its way, and refuses what does not fit. `plan` counts what the host holds.
    ///
    /// # Errors
    /// Device error if there is no usable GPU or the plan does not fit; usage error for sizes without kernels.
    pub fn new(
        ordinal: usize,
        recipe: &mut Recipe,
        activations: Activations,
        needs: (Pictures, bool),
        mut plan: Plan,
    ) -> Result<Self> {
        let gpu = Gpu::open(ordinal)?;
        check(recipe)?;
        let card = Card::of(&gpu);
        let (room, _) = gpu.room()?;
        activations.settle(recipe, |recipe| Ok(measure(recipe, card, needs)?.bytes() <= room))?;
        let network = recipe.network()?;
        if update::parts(&*network).iter().any(|part| part.range.start % 8 != 0) {
            bail!(
                Usage,
                "--width {} with --head-dims {}: the CUDA kernels take multiples of 8; use these, or --device cpu",
                recipe.model.width,
                recipe.head_dims[0]
            );
        }
        let mut dry = Arena::dry();
        let (_, feed, _) = lay_out(&mut dry, &*network, recipe, card, needs)?;
        plan.record("feed", "pinned pictures", feed.host_bytes());
        dry.check(&gpu, "the plan needs", SMALLER)?;
        let (state, plan) = plan.fit(SMALLER, |plan| Ok(State::by(plan, &*network, recipe.optimizer())))?;
        let mut arena = Arena::allocate(&gpu, &dry)?;
        let (update, feed, passing) = lay_out(&mut arena, &*network, recipe, card, needs)?;
        update.prepare(&gpu, &*network)?;
        say!("on the host, {plan}\non {}, {}", gpu.name(), arena.plan());
        let numbers = [gpu.pinned(update::NUMBERS)?, gpu.pinned(update::NUMBERS)?];
        let feed = Feed::new(&gpu, recipe, feed)?;
        let most = recipe.max_bad_updates;
        Ok(Self {
            graph: None,
            pending: None,
            numbers,
            feed,
            update,
            passing,
            arena,
            network,
            state,
            steps: 0,
            most,
            gpu,
        })
    }

    /// Copies the host's state to the device.
    fn upload(&mut self) -> Result<()> {
        self.steps = self.state.step;
        self.update.upload(&self.gpu, &self.state)
    }

    /// Waits for the numbers of an update.
    fn outcome(&mut self, pending: &Pending) -> Result<Outcome> {
        pending.mark.wait()?;
        let [loss, noted, squares] = update::numbers(&self.numbers[(pending.step % 2) as usize]);
        let image_loss = self.network.has_two_losses().then_some(noted);
        let outcome = Outcome { step: pending.step, loss, image_loss, grad_norm: squares.sqrt() };
        let Self { network, update, gpu, feed, state, most, .. } = self;
        // Where updates may be left out this is the last one queued; else later ones may have run over the activations,
        // but changed no parameter.
        outcome.check(&**network, &mut update.call(gpu, feed, None), &mut state.bad_updates, *most)?;
        if !outcome.is_finite() {
            update.restore(gpu)?;
        }
        Ok(outcome)
    }

    /// Queues one whole update.
    fn queue(&self, queued: &mut (dyn FnMut(&'static str) -> Result<()> + Send)) -> Result<()> {
        self.update.queue(&self.gpu, &*self.network, &self.feed, queued)
    }

    /// Queues one whole update, which loads its kernels, and records it: loading cannot be recorded.
    fn record(&mut self) -> Result<()> {
        self.queue(&mut |_| Ok(()))?;
        self.graph = Some(self.gpu.capture(|| self.queue(&mut |_| Ok(())))?);
        Ok(())
    }
}

/// All that a run of steps of such pictures, which may be scored on its way, takes of a card.
fn lay_out(
    arena: &mut Arena,
    network: &dyn Network,
    recipe: &Recipe,
    card: Card,
    (pictures, scored): (Pictures, bool),
) -> Result<(Update, feed::Memory, Option<Passing>)> {
    let update = Update::new(arena, network, recipe)?;
    let counts = [update.settings_len(), network.numbers()];
    let feed = feed::Memory::new(arena, card, recipe, counts, pictures);
    Ok((update, feed, if scored { Some(Passing::new(arena, network, recipe.method)?) } else { None }))
}

/// The same without a card.
///
/// # Errors
/// Usage error for sizes that do not fit, or have no kernels.
pub(super) fn measure(recipe: &Recipe, card: Card, needs: (Pictures, bool)) -> Result<Arena> {
    check(recipe)?;
    let mut dry = Arena::dry();
    lay_out(&mut dry, &*recipe.network()?, recipe, card, needs)?;
    Ok(dry)
}

/// Refuses sizes without kernels.
fn check(recipe: &Recipe) -> Result<()> {
    let VitConfig { width, heads, channels, .. } = recipe.model;
    let decoder = recipe.mae.as_ref().map(|mae| ("decoder-", mae.decoder_width, mae.decoder_heads));
    let tower = recipe.language.as_ref().map(|language| ("text-", language.width, language.heads));
    for (of, width, heads) in [("", width, heads)].into_iter().chain(decoder).chain(tower) {
        let head_dim = width / heads;
        if !HEAD_DIMS.contains(&head_dim) {
            bail!(
                Usage,
                "--{of}width {width} with --{of}heads {heads} gives heads of {head_dim}; the CUDA kernels take heads of 32 or 64: \
                 choose --{of}heads {} or --device cpu",
                (width / 64).max(1)
            );
        }
    }
    if channels != 3 {
        bail!(Usage, "images of {channels} channels: the CUDA kernels take 3; use --device cpu");
    }
    Ok(())
}

impl Engine for Cuda {
    fn init(&mut self, recipe: &Recipe) -> Result<()> {
        self.state.init(&*self.network, recipe)?;
        self.upload()
    }

    fn resume(&mut self, path: &Path, recipe: &Recipe) -> Result<()> {
        checkpoint::load(path, &*self.network, &mut self.state, recipe)?;
        self.upload()
    }

    fn step_count(&self) -> u64 {
        self.steps
    }

    fn step(&mut self, batch: &Batch, numbers: &[u32], at: Position) -> Result<Option<Outcome>> {
        let step = self.steps;
        let gpu = self.gpu.clone();
        let settings = self.update.settings(&*self.network, at, step);
        if self.feed.fill(&gpu, step, batch, numbers, &settings)? {
            // The pictures moved to a larger buffer, whose address the graph does not know.
            self.graph = None;
        }
        // An update that is left out takes back what it changed before the next one begins.
        let before = match self.pending.take_if(|_| self.most > 0) {
            Some(before) => Some(self.outcome(&before)?),
            None => None,
        };
        match &self.graph {
            Some(graph) => graph.launch()?,
            None => self.record()?,
        }
        self.update.read_numbers(&gpu, &mut self.numbers[(step % 2) as usize])?;
        let queued = Pending { step, mark: gpu.mark()? };
        self.steps += 1;
        match self.pending.replace(queued) {
            Some(before) => self.outcome(&before).map(Some),
            None => Ok(before),
        }
    }

    fn settle(&mut self) -> Result<Option<Outcome>> {
        match self.pending.take() {
            Some(pending) => self.outcome(&pending).map(Some),
            None => Ok(None),
        }
    }

    fn predict(&mut self, batch: &Batch, weights: Weights) -> Result<Option<Vec<f32>>> {
        let (gpu, numbers) = (self.gpu.clone(), vec![0; self.network.numbers()]);
        let settings = self.update.settings(&*self.network, Position::first(0.0), self.steps);
        let moved = self.feed.fill(&gpu, self.steps, batch, &numbers, &settings)?;
        self.graph = self.graph.take().filter(|_| !moved);
        self.feed.render(&gpu)?;
        let logits = self.network.predict(&mut self.update.call(&gpu, &self.feed, None), weights)?;
        logits.map(|logits| self.update.read(&gpu, logits)).transpose()
    }

    fn read(&mut self, buffer: Buffer) -> Result<Vec<f32>> {
        self.update.read(&self.gpu, buffer)
    }

    fn features(&mut self, pictures: &[Rgb8]) -> Result<Vec<f32>> {
        let Self { gpu, update, feed, network, passing, .. } = self;
        match passing {
            Some(passing) => passing.features(gpu, &**network, || update.call(gpu, feed, None), pictures),
            None => bail!(Failed, "this run was not laid out for features"),
        }
    }

    fn state(&mut self) -> Result<&State> {
        self.update.download(&self.gpu, &mut self.state)?;
        self.state.step = self.steps;
        Ok(&self.state)
    }
}
