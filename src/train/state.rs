//! What training changes, and what is said when it is no longer finite.

use super::method::Network;
use super::recipe::Recipe;
use crate::device::Plan;
use crate::error::{Error, Result};
use crate::layers::training::{Layers, Place};
use crate::models::vit::VitFile;
use crate::ops::augment::Normalize;
use crate::say;

/// What training changes and a checkpoint keeps.
#[derive(Debug)]
pub struct State {
    pub params: Vec<f32>,
    /// First and second moments of AdamW.
    pub m: Vec<f32>,
    pub v: Vec<f32>,
    /// What the network keeps beside its parameters.
    pub kept: Vec<f32>,
    /// Updates done.
    pub step: u64,
}

impl State {
    pub fn new(plan: &mut Plan, network: &dyn Network) -> Self {
        let len = network.parameters().len();
        Self {
            params: plan.f32("parameters", "parameters", len),
            m: plan.f32("optimizer", "first moments", len),
            v: plan.f32("optimizer", "second moments", len),
            kept: plan.f32("parameters", "running statistics", network.kept().len()),
            step: 0,
        }
    }

    /// Random initial weights, replaced by those of `init_from` where given.
    ///
    /// # Errors
    /// Bad data if the file cannot be used.
    pub fn init(&mut self, network: &dyn Network, recipe: &Recipe) -> Result<()> {
        network.init(&mut self.params, &mut self.kept, recipe.seed);
        let Some(path) = &recipe.init_from else { return Ok(()) };
        let file = VitFile::open(path)?;
        file.check_is(&recipe.model)?;
        let found = network.load(&mut self.params, &mut self.kept, &file)?;
        say!("starting from {}: {found}", file.shown());
        let trained = file.mean_std()?;
        if trained != (Normalize::IMAGENET_MEAN, Normalize::IMAGENET_STD) {
            say!("note: its images had mean {:?} and std {:?}; training uses ImageNet's", trained.0, trained.1);
        }
        Ok(())
    }
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

impl Outcome {
    /// Refuses numbers that are not finite; `on` still holds what led to them.
    ///
    /// # Errors
    /// [`Error::Diverged`] naming the first tensor that is not finite in the order of computation.
    pub(super) fn check(self, network: &dyn Network, on: &mut dyn Layers) -> Result<Self> {
        let Self { step, loss, grad_norm } = self;
        for (what, value, gradients) in [("the loss", loss, false), ("the gradient norm", grad_norm, true)] {
            if !value.is_finite() {
                let first = first_not_finite(network, on, gradients)?;
                let first = first.unwrap_or_else(|| "no stored tensor; the loss itself overflowed".to_owned());
                return Err(diverged(step, what, value, &first));
            }
        }
        Ok(self)
    }
}

/// The first tensor that is not finite: parameters, images, activations, and perhaps gradients (last layer first).
fn first_not_finite(network: &dyn Network, on: &mut dyn Layers, gradients: bool) -> Result<Option<String>> {
    let infos: Vec<_> = network.parameters().iter().collect();
    let parameters = infos.iter().map(|info| (format!("parameter {}", info.name), Place::Parameter(info.param)));
    let images = [("the images".to_owned(), Place::Images)];
    let activations = network.activations().into_iter().map(|(name, buffer)| (name, Place::Activation(buffer)));
    let backward = infos.iter().rev().filter(|_| gradients);
    let backward = backward.map(|info| (format!("the gradient of {}", info.name), Place::Gradient(info.param)));
    for (name, place) in parameters.chain(images).chain(activations).chain(backward) {
        if !on.is_finite(place)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// The error of an update whose loss or gradient norm is `value`; `first` names the first tensor that is not finite.
pub(super) fn diverged(step: u64, what: &str, value: f64, first: &str) -> Error {
    Error::Diverged(format!(
        "step {step}: {what} is {value}; first not finite: {first}. A checkpoint, if one was saved before, is kept; \
         try a lower --lr or --blr, a longer warm-up, or a higher --temperature"
    ))
}
