//! Linear classifiers on a GPU: products of bf16 operands with f32 sums, everything else in f32.
//!
//! Weights are `[G·C, D]`, as linear layers have them.

use half::bf16;

use super::kind::{BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, Classifiers, EVAL_ROWS, Kind, MOMENTUM, Tensor};
use crate::device::cuda::{Arena, Gpu, View};
use crate::error::Result;
use crate::eval::stop::check_stop;
use crate::ops::batchnorm::cuda::{self as batchnorm, Settings};
use crate::ops::convert::cuda::to_bf16;
use crate::ops::cross_entropy::{self, cuda as loss};
use crate::ops::linear::{Shape, cuda as linear};
use crate::ops::optimizer::cuda::{self as optimizer, sgd};

/// The heads of a [`Kind`] in device memory.
#[derive(Debug)]
pub struct CudaHeads {
    gpu: Gpu,
    kind: Kind,
    at: Views,
    /// Owns what the views point to.
    _arena: Arena,
}

/// Device memory: R rows at once, G heads of C classes, features of width D.
#[derive(Clone, Copy, Debug)]
struct Views {
    /// `[R, D]`.
    x: View<f32>,
    rounded_x: View<bf16>,
    labels: View<u32>,
    /// `[R, G·C]`.
    logits: View<f32>,
    rounded_logits: View<bf16>,
    /// `[R, G]`, and their means.
    losses: View<f32>,
    means: View<f32>,
    correct: View<u32>,
    /// `[G·C, D]`, and as products read them.
    weight: optimizer::Heads,
    rounded_weight: View<bf16>,
    /// `[G·C]`, likewise.
    bias: optimizer::Heads,
    rounded_bias: View<bf16>,
    lrs: View<f32>,
    schedule: View<f32>,
    scratch: View<f32>,
    norm: Option<Norm>,
}

/// Of a batch norm.
#[derive(Clone, Copy, Debug)]
struct Norm {
    running: [View<f32>; 2],
    moments: View<f32>,
    stats: View<f32>,
}

fn values(arena: &mut Arena, what: &str, len: usize) -> (optimizer::Heads, View<bf16>) {
    let mut take = |name: &str| arena.take("heads", format!("{name}{what}"), len);
    let (weight, velocity, gradient) = (take(""), take("velocities of "), take("gradients of "));
    let rounded = arena.take("heads", format!("{what}, rounded"), len);
    (optimizer::Heads { weight, velocity, rounded: Some(rounded), gradient }, rounded)
}

impl Views {
    fn lay_out(arena: &mut Arena, kind: &Kind) -> Self {
        let (rows, width, heads) = (kind.batch.max(EVAL_ROWS), kind.width, kind.lrs.len());
        let columns = heads * kind.classes;
        let norm = kind.batch_norm.then(|| Norm {
            running: ["mean", "variance"].map(|what| arena.take("heads", format!("running {what}"), width)),
            moments: arena.take("heads", "moments", 2 * width),
            stats: arena.take("heads", "statistics", 2 * width),
        });
        let (weight, rounded_weight) = values(arena, "weights", columns * width);
        let (bias, rounded_bias) = values(arena, "biases", columns);
        let scratch = linear::backward_weight_scratch_len(product(kind.batch, kind));
        let scratch = scratch.max(normed(kind.batch, kind).scratch_len());
        Self {
            x: arena.take("heads", "features", rows * width),
            rounded_x: arena.take("heads", "features, rounded", rows * width),
            labels: arena.take("heads", "labels", rows),
            logits: arena.take("heads", "logits", rows * columns),
            rounded_logits: arena.take("heads", "gradients of logits, rounded", rows * columns),
            losses: arena.take("heads", "losses", rows * heads),
            means: arena.take("heads", "mean losses", heads),
            correct: arena.take("heads", "correct", heads),
            weight,
            rounded_weight,
            bias,
            rounded_bias,
            lrs: arena.take("heads", "learning rates", heads),
            schedule: arena.take("heads", "schedule", 1),
            scratch: arena.take("heads", "partial sums", scratch),
            norm,
        }
    }
}

fn product(rows: usize, kind: &Kind) -> Shape {
    Shape { rows, inputs: kind.width, outputs: kind.lrs.len() * kind.classes }
}

fn normed(rows: usize, kind: &Kind) -> batchnorm::Shape {
    batchnorm::Shape { slots: 1, rows, cols: kind.width }
}

impl CudaHeads {
    /// Fresh ones ([`Kind::init`]).
    ///
    /// # Errors
    /// Device error when they do not fit.
    pub fn new(gpu: &Gpu, kind: &Kind) -> Result<Self> {
        let mut dry = Arena::dry();
        Views::lay_out(&mut dry, kind);
        dry.check(gpu, "the heads need", "lower --batch or the number of --lrs")?;
        let mut arena = Arena::allocate(gpu, &dry)?;
        let at = Views::lay_out(&mut arena, kind);
        gpu.write(at.lrs, &kind.lrs)?;
        let heads = Self { gpu: gpu.clone(), kind: kind.clone(), at, _arena: arena };
        gpu.write(at.weight.weight, &kind.init())?;
        heads.round()?;
        if let Some(norm) = at.norm {
            gpu.write(norm.running[1], &vec![1.0; kind.width])?;
        }
        Ok(heads)
    }

    /// Rounds weights and biases for the products.
    fn round(&self) -> Result<()> {
        let Views { weight, rounded_weight, bias, rounded_bias, .. } = self.at;
        to_bf16(&self.gpu, rounded_weight, weight.weight)?;
        to_bf16(&self.gpu, rounded_bias, bias.weight)
    }

    /// Brings features and labels, normalised by `stats` where there is a batch norm, and takes them to logits.
    fn logits(&self, x: &[f32], labels: &[u32], training: bool) -> Result<cross_entropy::Shape> {
        let (Self { gpu, kind, at, .. }, rows) = (self, labels.len());
        let (features, rounded) = (at.x.slice(0..x.len()), at.rounded_x.slice(0..x.len()));
        gpu.write(features, x)?;
        gpu.write(at.labels.slice(0..rows), labels)?;
        if let Some(Norm { running, moments, stats }) = at.norm {
            let (shape, eps) = (normed(rows, kind), BATCH_NORM_EPS as f32);
            if training {
                let settings = Settings { eps, momentum: BATCH_NORM_MOMENTUM };
                batchnorm::moments(gpu, moments, features, at.scratch, shape)?;
                batchnorm::statistics(gpu, stats, Some(running), moments, settings, shape)?;
            } else {
                batchnorm::frozen(gpu, stats, running, eps)?;
            }
            batchnorm::apply(gpu, features, features, stats, None, false, shape)?;
        }
        to_bf16(gpu, rounded, features)?;
        let shape = product(rows, kind);
        let logits = at.logits.slice(0..rows * shape.outputs);
        linear::forward_f32(gpu, logits, rounded, at.rounded_weight, at.rounded_bias, shape)?;
        Ok(cross_entropy::Shape { rows, heads: kind.lrs.len(), classes: kind.classes })
    }

    fn named(&self) -> Vec<(&'static str, View<f32>)> {
        let Views { weight, bias, norm, .. } = self.at;
        let mut all = vec![
            ("weight", weight.weight),
            ("bias", bias.weight),
            ("weight_velocity", weight.velocity),
            ("bias_velocity", bias.velocity),
        ];
        if let Some(Norm { running: [mean, var], .. }) = norm {
            all.extend([("running_mean", mean), ("running_var", var)]);
        }
        all
    }
}

impl Classifiers for CudaHeads {
    fn step(&mut self, x: &[f32], labels: &[u32], schedule: f32) -> Result<Vec<f32>> {
        let shape = self.logits(x, labels, true)?;
        let (Self { gpu, kind, at, .. }, rows) = (&*self, labels.len());
        let len = rows * shape.heads * shape.classes;
        let (logits, rounded) = (at.logits.slice(0..len), at.rounded_logits.slice(0..len));
        let (losses, labels) = (at.losses.slice(0..rows * shape.heads), at.labels.slice(0..rows));
        loss::gradient_in_place(gpu, losses, logits, Some(rounded), labels, 1.0 / rows as f32, shape)?;
        loss::means(gpu, at.means, losses)?;
        let (dw, db) = (at.weight.gradient, at.bias.gradient);
        linear::backward_weight(gpu, dw, db, rounded, at.rounded_x.slice(0..x.len()), at.scratch, product(rows, kind))?;
        gpu.write(at.schedule, &[schedule])?;
        sgd(gpu, at.weight, at.lrs, at.schedule, MOMENTUM)?;
        sgd(gpu, at.bias, at.lrs, at.schedule, MOMENTUM)?;
        gpu.read(at.means)
    }

    fn count_correct(&self, features: &[f32], labels: &[u32]) -> Result<Vec<usize>> {
        let Self { gpu, kind, at, .. } = self;
        gpu.zero(at.correct)?;
        for (x, labels) in features.chunks(EVAL_ROWS * kind.width).zip(labels.chunks(EVAL_ROWS)) {
            check_stop()?;
            let shape = self.logits(x, labels, false)?;
            let logits = at.logits.slice(0..labels.len() * shape.heads * shape.classes);
            loss::count_correct(gpu, at.correct, logits, at.labels.slice(0..labels.len()), shape)?;
        }
        Ok(gpu.read(at.correct)?.into_iter().map(|count| count as usize).collect())
    }

    fn tensors(&self) -> Result<Vec<Tensor>> {
        self.named().into_iter().map(|(name, view)| Ok((name, self.gpu.read(view)?))).collect()
    }

    fn restore(&mut self, read: &mut dyn FnMut(&str, usize) -> Result<Vec<f32>>) -> Result<()> {
        for (name, view) in self.named() {
            self.gpu.write(view, &read(name, view.len())?)?;
        }
        self.round()
    }
}
