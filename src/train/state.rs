//! What training changes, and what is said when it is no longer finite.

use super::method::Network;
use super::recipe::{Optimizer, Recipe};
use crate::device::Plan;
use crate::error::{Error, Result};
use crate::layers::training::{Layers, Place};
use crate::models::vit::{VitConfig, VitFile};
use crate::ops::augment::Normalize;
use crate::say;

/// What training changes and a checkpoint keeps.
#[derive(Debug)]
pub struct State {
    pub params: Vec<f32>,
    /// First moments of AdamW, or the momentum of LARS.
    pub m: Vec<f32>,
    /// Second moments of AdamW; LARS has none.
    pub v: Vec<f32>,
    /// What the network keeps beside its parameters.
    pub kept: Vec<f32>,
    /// Updates done, those that were left out among them.
    pub step: u64,
    /// Updates that were left out: loss or gradient norm was not finite.
    pub bad_updates: u64,
}

impl State {
    /// Of a run by AdamW.
    pub fn new(plan: &mut Plan, network: &dyn Network) -> Self {
        Self::by(plan, network, Optimizer::AdamW)
    }

    /// Of a run by `optimizer`.
    pub fn by(plan: &mut Plan, network: &dyn Network, optimizer: Optimizer) -> Self {
        let len = network.parameters().len();
        Self {
            params: plan.f32("parameters", "parameters", len),
            m: plan.f32("optimizer", "first moments", len),
            v: plan.f32("optimizer", "second moments", optimizer.second_moments(len)),
            kept: plan.f32("parameters", "running statistics", network.kept().len()),
            step: 0,
            bad_updates: 0,
        }
    }

    /// Random initial weights, replaced by those of `init_from` where given.
    ///
    /// # Errors
    /// Bad data if the file cannot be used.
    pub fn init(&mut self, network: &dyn Network, recipe: &Recipe) -> Result<()> {
        network.init(&mut self.params, &mut self.kept, recipe.seed);
        let Some(path) = &recipe.init_from else { return Ok(()) };
        let file = VitFile::open_of(path, recipe.init_weights)?;
        file.check_is(&recipe.model)?;
        let found = network.load(&mut self.params, &mut self.kept, &file)?;
        say!("starting from {}: {found}", file.shown());
        let (from, VitConfig { image_size: to, patch_size, .. }) = (file.image_size(), &recipe.model);
        if from != *to {
            let [before, now] = [from, *to].map(|side| side / patch_size);
            say!(
                "note: its positions are of {before}×{before} patches (images of {from}²); they were resampled to \
                 {now}×{now} (--image-size {to}), bicubic and antialiased as timm does"
            );
        }
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
    /// The part of it that is of images among each other, where the rest is against texts.
    pub image_loss: Option<f64>,
    /// Of all gradients together, before the update.
    pub grad_norm: f64,
}

impl Outcome {
    pub(super) fn is_finite(self) -> bool {
        self.loss.is_finite() && self.grad_norm.is_finite()
    }

    /// Names the first tensor of an update that is not finite, `on` still holding what led to it, and adds to
    /// `bad_updates`: one that was left out.
    ///
    /// # Errors
    /// [`Error::Diverged`] if there are more than `most`.
    pub(super) fn check(
        self,
        network: &dyn Network,
        on: &mut dyn Layers,
        bad_updates: &mut u64,
        most: u64,
    ) -> Result<Self> {
        let Self { step, loss, grad_norm, .. } = self;
        for (what, value, gradients) in [("the loss", loss, false), ("the gradient norm", grad_norm, true)] {
            if value.is_finite() {
                continue;
            }
            let first = first_not_finite(network, on, gradients)?;
            let first = first.unwrap_or_else(|| "no stored tensor; the loss itself overflowed".to_owned());
            *bad_updates += 1;
            if *bad_updates > most {
                return Err(diverged(step, what, value, &first));
            }
            say!(
                "note: step {step}: {what} is {value}; first not finite: {first}; the update is left out ({bad_updates} of \
                 at most {most} by --max-bad-updates)"
            );
            break;
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
