//! Training on the CPU.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use super::checkpoint;
use super::chunk::Activations;
use super::engine::{Engine, Stage};
use super::groups::lars_tensors;
use super::job::SMALLER;
use super::loader::{Batch, Section};
use super::method::Network;
use super::recipe::Recipe;
use super::schedule::Position;
use super::state::{Outcome, State};
use crate::device::{Plan, in_pool};
use crate::error::Result;
use crate::eval::encoder;
use crate::image::Rgb8;
use crate::layers::training::cpu::{Call, Memory};
use crate::layers::training::{Buffer, Stages, Weights};
use crate::ops::augment::Normalize;
use crate::ops::clip::clip;
use crate::ops::optimizer::{Group, follow};
use crate::ops::{lars, logit_scale, reduce};
use crate::say;

/// The buffers of a step.
#[derive(Debug)]
pub struct Trainer {
    network: Box<dyn Network>,
    groups: Vec<Group>,
    /// The tensors of the gradient.
    tensors: Vec<Range<usize>>,
    /// The same as LARS takes them.
    lars: Vec<lars::Tensor>,
    recipe: Recipe,
    grads: Vec<f32>,
    /// What the network keeps, as it was before an update that may be left out.
    kept: Vec<f32>,
    max_bad_updates: u64,
    memory: Memory,
}

impl Trainer {
    pub fn new(plan: &mut Plan, network: Box<dyn Network>, recipe: &Recipe) -> Self {
        let max_bad_updates = recipe.max_bad_updates;
        let kept = if max_bad_updates > 0 { network.kept().len() } else { 0 };
        Self {
            groups: network.groups(),
            lars: lars_tensors(network.parameters(), &network.groups()),
            tensors: network.parameters().iter().map(|info| info.param.range()).collect(),
            recipe: recipe.clone(),
            grads: plan.f32("gradients", "gradients", network.parameters().len()),
            kept: plan.f32("optimizer", "statistics before the update", kept),
            max_bad_updates,
            memory: Memory::take(plan, network.layout()),
            network,
        }
    }

    /// The update of `state` at `at` from normalised images `[N, H, W, 3]` and the numbers beside them,
    /// view-major.
    ///
    /// # Errors
    /// [`crate::error::Error::Diverged`] naming the first tensor that is not finite, when more such updates were left
    /// out than the recipe allows; the parameters are then those before the step.
    pub fn step(&mut self, state: &mut State, images: &[f32], numbers: &[u32], at: Position) -> Result<Outcome> {
        in_pool(|| self.step_in_stages(state, (images, numbers), at, None))
    }

    /// Logits of normalised images `[N, H, W, 3]` by these weights of `state`, if the network classifies.
    ///
    /// # Errors
    /// None but the network's.
    fn predict(&mut self, state: &mut State, images: &[f32], weights: Weights) -> Result<Option<Vec<f32>>> {
        let (statistics, copied) = state.kept.split_at_mut(self.network.statistics_len());
        let behind = self.network.momentum().map_or(0, |copy| copy.statistics);
        let momentum = (&*copied, behind);
        let operands = self.recipe.cpu_precision;
        let mut call = Call { operands, statistics, momentum, images, ..Call::new(&mut self.memory, &state.params) };
        let logits = in_pool(|| self.network.predict(&mut call, weights))?;
        Ok(logits.map(|logits| self.memory.read(logits).to_vec()))
    }

    fn step_in_stages(
        &mut self,
        state: &mut State,
        (images, numbers): (&[f32], &[u32]),
        at: Position,
        stages: Stages<'_, '_>,
    ) -> Result<Outcome> {
        let Self { network, groups, tensors, lars, recipe, grads, kept, max_bad_updates, memory } = self;
        if *max_bad_updates > 0 {
            kept.copy_from_slice(&state.kept);
        }
        grads.fill(0.0);
        let copy = network.momentum();
        let behind = copy.map_or(0, |copy| copy.statistics);
        let (statistics, copied) = state.kept.split_at_mut(network.statistics_len());
        let momentum = (&*copied, behind);
        let scalars = network.scalars(at);
        let mut call = Call {
            operands: recipe.cpu_precision,
            grads,
            statistics,
            momentum,
            images,
            numbers,
            scalars: &scalars,
            stages,
            ..Call::new(memory, &state.params)
        };
        network.gradient(&mut call)?;
        let grad_norm = reduce::sum_of_squares(call.grads).sqrt();
        let image_loss = network.has_two_losses().then_some(call.noted);
        let outcome = Outcome { step: state.step, loss: call.loss, image_loss, grad_norm };
        let outcome = outcome.check(&**network, &mut call, &mut state.bad_updates, *max_bad_updates)?;

        state.step += 1;
        if !outcome.is_finite() {
            state.kept.copy_from_slice(kept);
            return Ok(outcome);
        }
        if let Some(most) = recipe.clip_gradient {
            clip(grads, tensors, most);
        }
        let State { params, m, v, step, .. } = &mut *state;
        match recipe.lars(at) {
            Some(settings) => settings.update(params, m, grads, lars),
            None => groups.iter().for_each(|group| {
                if let Some(adamw) = recipe.adamw(at, *step, group.late) {
                    adamw.update(params, m, v, grads, std::slice::from_ref(group));
                }
            }),
        }
        if let Some(scale) = network.bounded() {
            logit_scale::clamp(&mut scale.of_mut(&mut state.params)[0]);
        }
        if let Some(copy) = copy {
            let online = &state.params[..copy.parameters.len];
            follow(copy.parameters.of_mut(&mut state.kept), online, scalars[copy.rate]);
        }
        Ok(outcome)
    }
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
    /// Settles what of `recipe` is held at once, takes all buffers from `plan`, and refuses what does not fit.
    ///
    /// # Errors
    /// Device error if the plan does not fit; those of [`Activations::settle`].
    pub fn new(recipe: &mut Recipe, activations: Activations, plan: Plan) -> Result<Self> {
        activations.settle(recipe, |recipe| plan.fits(|plan| Self::lay_out(recipe, plan)))?;
        let (mut this, plan) = plan.fit(SMALLER, |plan| Self::lay_out(recipe, plan))?;
        this.planned = plan.total_bytes();
        say!("{plan}");
        Ok(this)
    }

    fn lay_out(recipe: &Recipe, plan: &mut Plan) -> Result<Self> {
        let network = recipe.network()?;
        let state = State::by(plan, &*network, recipe.optimizer());
        let trainer = Trainer::new(plan, network, recipe);
        let images = plan.f32("loader", "batch", Section::values_of(&recipe.loader(None).sections()));
        Ok(Self { trainer, state, images, planned: 0 })
    }

    /// Bytes of all buffers.
    pub(super) fn planned_bytes(&self) -> u64 {
        self.planned
    }

    /// The parts of one update, for `bench train`.
    pub(super) fn stages(&mut self, batch: &Batch, numbers: &[u32], at: Position) -> Result<Vec<Stage>> {
        let mut begin = Instant::now();
        let mut stages = Vec::new();
        let mut ended = |name| {
            let end = Instant::now();
            let milliseconds = 1e3 * (end - std::mem::replace(&mut begin, end)).as_secs_f64();
            stages.push(Stage { name, milliseconds, kernels: 0 });
            Ok(())
        };
        batch.render(&mut self.images)?;
        ended("augmentation")?;
        let Self { trainer, state, images, .. } = self;
        in_pool(|| trainer.step_in_stages(state, (images, numbers), at, Some(&mut ended)))?;
        ended("optimizer")?;
        Ok(stages)
    }
}

impl Engine for Cpu {
    fn init(&mut self, recipe: &Recipe) -> Result<()> {
        self.state.init(&*self.trainer.network, recipe)
    }

    fn resume(&mut self, path: &Path, recipe: &Recipe) -> Result<()> {
        checkpoint::load(path, &*self.trainer.network, &mut self.state, recipe)
    }

    fn step_count(&self) -> u64 {
        self.state.step
    }

    fn step(&mut self, batch: &Batch, numbers: &[u32], at: Position) -> Result<Option<Outcome>> {
        batch.render(&mut self.images)?;
        self.trainer.step(&mut self.state, &self.images, numbers, at).map(Some)
    }

    fn settle(&mut self) -> Result<Option<Outcome>> {
        Ok(None)
    }

    fn predict(&mut self, batch: &Batch, weights: Weights) -> Result<Option<Vec<f32>>> {
        batch.render(&mut self.images)?;
        self.trainer.predict(&mut self.state, &self.images, weights)
    }

    fn read(&mut self, buffer: Buffer) -> Result<Vec<f32>> {
        Ok(self.trainer.memory.read(buffer).to_vec())
    }

    fn features(&mut self, pictures: &[Rgb8]) -> Result<Vec<f32>> {
        let Self { trainer: Trainer { network, recipe, .. }, state, .. } = self;
        let params = match recipe.method.judged() {
            Weights::Online => &state.params,
            Weights::Momentum => &state.kept[network.statistics_len()..],
        };
        encoder::features(network.vit(), params, &encoder::pixels(pictures, &Normalize::default()))
    }

    fn state(&mut self) -> Result<&State> {
        Ok(&self.state)
    }
}
