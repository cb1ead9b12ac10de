//! A ViT with a linear classifier behind its pooled tokens, as MAE's authors fine-tune it (He et al. 2022, arXiv
//! 2111.06377, appendix A.1): the mean of the patch tokens behind a norm of its own, or the class token behind the
//! ViT's.
//!
//! The ViT keeps its own last norm among its tensors where the mean is pooled, so that it stays one that every reader
//! knows; nothing reads it then and nothing is learned of it.

mod acts;
mod pool;

pub use acts::ClassifierActs;
pub use pool::Pool;

use super::vit::{Vit, VitConfig};
use crate::error::Result;
use crate::layers::training::{Affine, Branch, LayerNorm, Layers, Linear, Numbers, SoftLabels};
use crate::ops::{linear, soft_labels, token_mean};
use crate::rng::{Domain, Stream};
use crate::weights::{ParamInfo, ParamTable, SafeTensors};

/// Added to the variance of the norm behind the mean.
const EPS: f32 = 1e-6;
/// Standard deviation of the classifier's weights.
const STD: f32 = 2e-5;

/// The places of all tensors.
#[derive(Clone, Debug)]
pub struct Classifier {
    vit: Vit,
    norm: Option<LayerNorm>,
    head: Linear,
    classes: usize,
    /// Those behind the ViT.
    tensors: Vec<ParamInfo>,
}

impl Classifier {
    /// Appends the ViT's tensors, named `prefix` + timm's name, and then `fc_norm.…` (where the mean is pooled) and
    /// `head.…` to `table`.
    ///
    /// # Errors
    /// Usage error if the ViT's sizes do not fit each other.
    pub fn new(model: &VitConfig, pool: Pool, classes: usize, prefix: &str, table: &mut ParamTable) -> Result<Self> {
        let vit = Vit::new(model, prefix, table)?;
        let first = table.iter().count();
        let mut pair = |name: &str, shape: &[usize]| -> Affine {
            [table.add(format!("{name}.weight"), shape), table.add(format!("{name}.bias"), &shape[..1])]
        };
        let norm = (pool == Pool::Mean).then(|| LayerNorm { affine: pair("fc_norm", &[model.width]), eps: EPS });
        let head = pair("head", &[classes, model.width]).into();
        Ok(Self { vit, norm, head, classes, tensors: table.iter().skip(first).cloned().collect() })
    }

    pub fn vit(&self) -> &Vit {
        &self.vit
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The ViT's initial values; weights of the classifier N(0, 2e-5), so that all classes begin alike.
    pub fn init(&self, params: &mut [f32], seed: u64) {
        self.vit.init(params, seed);
        let first = self.vit.tensors().count();
        for (i, info) in self.tensors.iter().enumerate() {
            let values = info.param.of_mut(params);
            match info.name.as_str() {
                "head.weight" => {
                    Stream::new(seed, Domain::Init, [(first + i) as u32, 0, 0]).fill_trunc_normal(values, STD);
                }
                "fc_norm.weight" => values.fill(1.0),
                _ => values.fill(0.0),
            }
        }
    }

    /// Whether `file` holds what is behind the ViT, in these sizes; names begin with `prefix`.
    pub fn is_head_in(&self, file: &SafeTensors, prefix: &str) -> bool {
        self.tensors.iter().all(|info| file.shape(&format!("{prefix}{}", info.name)) == Some(&info.shape))
    }

    /// Fills it.
    ///
    /// # Errors
    /// Data error if a value is not finite.
    pub fn load_head(&self, params: &mut [f32], file: &SafeTensors, prefix: &str) -> Result<()> {
        for info in &self.tensors {
            let values = file.f32(&format!("{prefix}{}", info.name), &info.shape)?;
            info.param.of_mut(params).copy_from_slice(&values);
        }
        Ok(())
    }

    fn means(&self, n: usize) -> token_mean::Shape {
        let config = self.vit.config();
        token_mean::Shape { n, tokens: config.tokens(), d: config.width }
    }

    fn linear(&self, n: usize) -> linear::Shape {
        linear::Shape { rows: n, inputs: self.vit.config().width, outputs: self.classes }
    }

    /// `acts.features()` of as many of the call's images.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn encode(&self, on: &mut dyn Layers, acts: &ClassifierActs) -> Result<()> {
        if self.norm.is_some() {
            self.vit.forward_tokens(on, &acts.vit, acts.start)?;
            on.token_mean(acts.features, acts.vit.output(), self.means(acts.n()))
        } else {
            self.vit.forward(on, &acts.vit, acts.start)
        }
    }

    /// `acts.logits()` of its features.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn classify(&self, on: &mut dyn Layers, acts: &ClassifierActs) -> Result<()> {
        if let Some(norm) = self.norm {
            on.layer_norm(acts.normed, acts.stats, acts.features, norm)?;
        }
        on.linear(acts.logits, acts.normed, self.head, self.linear(acts.n()))
    }

    /// The loss of each image and the gradient of its logits: labels and shares are runs of `of` numbers, a step's
    /// images.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn loss(
        &self,
        on: &mut dyn Layers,
        acts: &ClassifierActs,
        [first, second, shares]: [Numbers; 3],
        smoothing: f32,
    ) -> Result<()> {
        let (rows, of) = (acts.n(), first.len);
        let part = |run: Numbers| Numbers { start: run.start + acts.first, len: rows };
        let shape = soft_labels::Shape { rows, of, classes: self.classes, smoothing };
        let of = SoftLabels { both: [part(first), part(second)], shares: part(shares), shape };
        on.soft_labels(acts.dlogits, acts.losses, acts.logits, of)
    }

    /// Adds the gradients of what is behind the features, and leaves theirs in `acts`.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn classify_backward(&self, on: &mut dyn Layers, acts: &ClassifierActs) -> Result<()> {
        let shape = self.linear(acts.n());
        on.weight_gradient(acts.dlogits, acts.normed, self.head, shape)?;
        on.input_gradient(acts.dnormed, acts.dlogits, self.head.w, shape)?;
        match self.norm {
            Some(norm) => {
                let (x, dx) = ((acts.features, acts.stats), acts.dfeatures);
                on.layer_norm_backward(dx, Branch::None, acts.dnormed, x, norm)
            }
            None => Ok(()),
        }
    }

    /// Adds the gradients of the ViT, after [`Classifier::classify_backward`].
    ///
    /// # Errors
    /// As the device's layers.
    pub fn encode_backward(&self, on: &mut dyn Layers, acts: &ClassifierActs) -> Result<()> {
        if self.norm.is_some() {
            on.token_mean_backward(acts.back.of_input(), acts.dfeatures, self.means(acts.n()))?;
            self.vit.backward_tokens(on, &acts.vit, &acts.back)
        } else {
            self.vit.backward(on, &acts.vit, &acts.back, acts.dfeatures)
        }
    }

    /// What the learning rate of the tensor called `name` is multiplied by, where each layer learns `decay` times as
    /// fast as the one above it.
    pub fn rate_of(name: &str, depth: usize, decay: f64) -> f64 {
        let above = depth + 1 - Self::layer_of(name, depth);
        decay.powi(above as i32)
    }

    /// The parts of the network in the order of its layers: of `depth` + 2, the number of the one that the tensor
    /// called `name` (without the ViT's prefix) is in. The embedding comes first, then each block, then all else.
    pub fn layer_of(name: &str, depth: usize) -> usize {
        let block = name.strip_prefix("blocks.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        match block {
            Some(block) => block + 1,
            None if ["cls_token", "pos_embed"].contains(&name) || name.starts_with("patch_embed.") => 0,
            None => depth + 1,
        }
    }
}
