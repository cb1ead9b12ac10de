//! The trained network: backbone and projection head over one parameter buffer, and one step of it.

use super::groups::decay_groups;
use super::recipe::Recipe;
use crate::device::Plan;
use crate::error::{Error, Result};
use crate::models::projector::{Projector, ProjectorActs, ProjectorConfig};
use crate::models::vit::{Vit, VitActs, VitFile};
use crate::ops::augment::Normalize;
use crate::ops::contrastive::{self, Batch};
use crate::ops::optimizer::{AdamW, Group};
use crate::ops::{l2norm, reduce};
use crate::say;
use crate::weights::ParamTable;

/// Rows shorter than this are not scaled to unit length.
pub(super) const NORM_EPS: f32 = 1e-12;
/// AdamW's epsilon.
pub(super) const ADAM_EPS: f64 = 1e-8;

/// Where the tensors of backbone (`visual.…`) and head (`image_mlp.…`) lie.
#[derive(Debug)]
pub struct Network {
    pub table: ParamTable,
    pub statistics: ParamTable,
    pub vit: Vit,
    pub head: Projector,
}

impl Network {
    /// # Errors
    /// Usage error if sizes do not fit.
    pub fn new(recipe: &Recipe) -> Result<Self> {
        let (mut table, mut statistics) = (ParamTable::new(), ParamTable::new());
        let vit = Vit::new(&recipe.model, "visual.", &mut table)?;
        let [hidden, output] = recipe.head_dims;
        let config = ProjectorConfig { input: recipe.model.width, hidden, output };
        let head = Projector::new(&config, "image_mlp.", &mut table, &mut statistics)?;
        Ok(Self { table, statistics, vit, head })
    }
}

/// What training changes and a checkpoint keeps.
#[derive(Debug)]
pub struct State {
    pub params: Vec<f32>,
    /// First and second moments of AdamW.
    pub m: Vec<f32>,
    pub v: Vec<f32>,
    /// Running statistics of the batch norms.
    pub statistics: Vec<f32>,
    /// Updates done.
    pub step: u64,
}

impl State {
    pub fn new(plan: &mut Plan, network: &Network) -> Self {
        let len = network.table.len();
        Self {
            params: plan.f32("parameters", "parameters", len),
            m: plan.f32("optimizer", "first moments", len),
            v: plan.f32("optimizer", "second moments", len),
            statistics: plan.f32("parameters", "running statistics", network.statistics.len()),
            step: 0,
        }
    }

    /// Random initial weights, replaced by those of `init_from` where given: the backbone must be there, the head may be.
    ///
    /// # Errors
    /// Bad data if the file cannot be used.
    pub fn init(&mut self, network: &Network, recipe: &Recipe) -> Result<()> {
        network.vit.init(&mut self.params, recipe.seed);
        network.head.init(&mut self.params, &mut self.statistics, recipe.seed, network.vit.tensors().count());
        if let Some(path) = &recipe.init_from {
            let file = VitFile::open(path)?;
            file.check_is(&recipe.model)?;
            file.load(&network.vit, &mut self.params)?;
            let (tensors, before) = (file.tensors(), file.beside());
            let with_head = network.head.is_in(tensors, before);
            if with_head {
                network.head.load(&mut self.params, &mut self.statistics, tensors, before)?;
            }
            let head = if with_head { "encoder and projection head" } else { "encoder; the projection head is new" };
            say!("starting from {}: {head}", file.shown());
            let trained = file.mean_std()?;
            if trained != (Normalize::IMAGENET_MEAN, Normalize::IMAGENET_STD) {
                say!("note: its images had mean {:?} and std {:?}; training uses ImageNet's", trained.0, trained.1);
            }
        }
        Ok(())
    }
}

/// The buffers of a step.
#[derive(Debug)]
pub struct Trainer {
    network: Network,
    groups: Vec<Group>,
    adamw: AdamW,
    temperature: f32,
    grads: Vec<f32>,
    vit: VitActs,
    head: ProjectorActs,
    /// Unit rows that the loss compares, their lengths, their gradient.
    z: Vec<f32>,
    norms: Vec<f32>,
    dz: Vec<f32>,
    dout: Vec<f32>,
    lse: Vec<f32>,
    weight: Vec<f32>,
    dfeatures: Vec<f32>,
}

/// Numbers of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Counted from 0.
    pub step: u64,
    pub loss: f64,
    /// Of all gradients together, before the update.
    pub grad_norm: f64,
}

impl Trainer {
    pub fn new(plan: &mut Plan, network: Network, recipe: &Recipe) -> Self {
        let rows = recipe.images_per_step();
        let groups = decay_groups(&network.table);
        let Recipe { beta1, beta2, weight_decay, .. } = *recipe;
        let vit = VitActs::new(plan, &network.vit, rows);
        let head = ProjectorActs::new(plan, &network.head, rows, recipe.norm_slots());
        let mut take = |name: &str, len: usize| plan.f32("loss", name, len);
        let output = rows * recipe.head_dims[1];
        Self {
            groups,
            adamw: AdamW { lr: 0.0, beta1, beta2, eps: ADAM_EPS, weight_decay, step: 0 },
            temperature: recipe.temperature as f32,
            z: take("z", output),
            norms: take("norms", rows),
            dz: take("d z", output),
            dout: take("d head output", output),
            lse: take("log-sum-exp", rows),
            weight: take("positives", rows),
            dfeatures: take("d features", rows * recipe.model.width),
            grads: plan.f32("gradients", "gradients", network.table.len()),
            vit,
            head,
            network,
        }
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    /// One update of `state` at learning rate `lr` from normalised images `[N, H, W, 3]` and their labels `[N]`, view-major.
    ///
    /// # Errors
    /// [`Error::Diverged`] naming the first tensor that is not finite; the parameters are then those before the step.
    pub fn step(&mut self, state: &mut State, images: &[f32], labels: &[u32], lr: f64) -> Result<Outcome> {
        let Network { vit, head, .. } = &self.network;
        vit.forward(&state.params, &mut self.vit, images);
        head.forward(&state.params, &mut state.statistics, &mut self.head, self.vit.features());
        l2norm::forward(&mut self.z, &mut self.norms, self.head.out(), NORM_EPS);
        let batch = Batch { z: &self.z, labels, temperature: self.temperature };
        let loss = contrastive::forward(&mut self.lse, &mut self.weight, batch);
        if !loss.is_finite() {
            return Err(self.diverged(state, images, "the loss", loss));
        }

        self.grads.fill(0.0);
        contrastive::backward(&mut self.dz, &self.lse, &self.weight, batch);
        l2norm::backward(&mut self.dout, &self.dz, &self.z, &self.norms, NORM_EPS);
        let features = self.vit.features();
        head.backward(&state.params, &mut self.grads, &mut self.head, &mut self.dfeatures, &self.dout, features);
        vit.backward(&state.params, &mut self.grads, &mut self.vit, &self.dfeatures);
        let grad_norm = reduce::sum_of_squares(&self.grads).sqrt();
        if !grad_norm.is_finite() {
            return Err(self.diverged(state, images, "the gradient norm", grad_norm));
        }

        let step = state.step;
        state.step += 1;
        let adamw = AdamW { lr, step: state.step, ..self.adamw };
        adamw.update(&mut state.params, &mut state.m, &mut state.v, &self.grads, &self.groups);
        Ok(Outcome { step, loss, grad_norm })
    }

    /// Looks for the first tensor that is not finite, in the order of computation: parameters, images, activations, gradients
    /// (last layer first).
    fn diverged(&self, state: &State, images: &[f32], what: &str, value: f64) -> Error {
        let Network { table, .. } = &self.network;
        let params = table.iter().map(|info| (format!("parameter {}", info.name), info.param.of(&state.params)));
        let images = [("the images".to_owned(), images)].into_iter();
        let acts = self.vit.named().into_iter().map(|(name, values)| (format!("visual.{name}"), values));
        let acts = acts.chain(self.head.named()).map(|(name, values)| (format!("the output of {name}"), values));
        let loss = [("the unit vectors of the loss".to_owned(), self.z.as_slice())].into_iter();
        let infos: Vec<_> = table.iter().collect();
        let grads =
            infos.iter().rev().map(|info| (format!("the gradient of {}", info.name), info.param.of(&self.grads)));
        let mut all = params.chain(images).chain(acts).chain(loss).chain(grads);
        let first = all.find(|(_, values)| !reduce::all_finite(values));
        let first = first.map_or_else(|| "no stored tensor; the loss itself overflowed".to_owned(), |(name, _)| name);
        diverged(state.step, what, value, &first)
    }
}

/// The error of an update whose loss or gradient norm is `value`; `first` names the first tensor that is not finite.
pub(super) fn diverged(step: u64, what: &str, value: f64, first: &str) -> Error {
    Error::Diverged(format!(
        "step {step}: {what} is {value}; first not finite: {first}. A checkpoint, if one was saved before, is kept; \
         try a lower --lr or --blr, a longer warm-up, or a higher --temperature"
    ))
}
