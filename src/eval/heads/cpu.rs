//! Linear classifiers on the CPU.
//!
//! Weights are `[D, G·C]` (features × heads × classes), so `logits = x·W + b` and `dW = xᵀ·dlogits` are one product
//! each for all heads. The loss is the sum of the heads' mean cross-entropies: no head sees another's gradient.

use super::kind::{BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, Classifiers, EVAL_ROWS, Kind, MOMENTUM, Tensor};
use crate::device::in_pool;
use crate::error::Result;
use crate::eval::stop::check_stop;
use crate::ops::cross_entropy::{self, Shape};
use crate::ops::gemm::{self, Threads};

/// G heads of C classes on features of width D, with or without a batch norm (no affine part) before them.
#[derive(Debug)]
pub struct Heads {
    width: usize,
    classes: usize,
    lrs: Vec<f32>,
    running: Option<Running>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    dweight: Vec<f32>,
    dbias: Vec<f32>,
    weight_velocity: Vec<f32>,
    bias_velocity: Vec<f32>,
}

/// Batch norm statistics for evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// Mean per feature.
    pub mean: Vec<f32>,
    /// Unbiased variance per feature.
    pub var: Vec<f32>,
}

impl Heads {
    /// Fresh ones ([`Kind::init`]).
    pub fn new(kind: &Kind) -> Self {
        let Kind { width, classes, lrs, batch_norm, .. } = kind;
        let columns = lrs.len() * classes;
        let mut weight = vec![0.0; width * columns];
        for (column, values) in kind.init().chunks_exact(*width).enumerate() {
            for (d, value) in values.iter().enumerate() {
                weight[d * columns + column] = *value;
            }
        }
        Self {
            width: *width,
            classes: *classes,
            lrs: lrs.clone(),
            running: batch_norm.then(|| Running { mean: vec![0.0; *width], var: vec![1.0; *width] }),
            dweight: vec![0.0; weight.len()],
            weight_velocity: vec![0.0; weight.len()],
            weight,
            bias: vec![0.0; columns],
            dbias: vec![0.0; columns],
            bias_velocity: vec![0.0; columns],
        }
    }

    /// `[D, G·C]`.
    pub fn weight(&self) -> &[f32] {
        &self.weight
    }

    /// `[D, G·C]`, to write.
    pub fn weight_mut(&mut self) -> &mut [f32] {
        &mut self.weight
    }

    /// `[G·C]`.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// `[G·C]`, to write.
    pub fn bias_mut(&mut self) -> &mut [f32] {
        &mut self.bias
    }

    /// Gradients of the last [`Heads::loss_and_gradient`]: `[D, G·C]` and `[G·C]`.
    pub fn gradient(&self) -> (&[f32], &[f32]) {
        (&self.dweight, &self.dbias)
    }

    /// Statistics that evaluation normalises with; `None` without batch norm.
    pub fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// Mean cross-entropy of each head on `x[N, D]` in training mode, and the gradient of their sum. With batch norm,
    /// `x` is normalised by the mean and biased variance of this batch, and the running statistics take their step
    /// (with the unbiased variance, as PyTorch).
    pub fn loss_and_gradient(&mut self, x: &[f32], labels: &[u32]) -> Vec<f32> {
        let normalised = self.running.as_mut().map(|running| batch_normalise(x, self.width, running));
        let x = normalised.as_deref().unwrap_or(x);
        let (rows, columns) = (labels.len(), self.bias.len());
        let shape = Shape { rows, heads: self.lrs.len(), classes: self.classes };
        let mut logits = self.logits(x, rows);
        let mut losses = vec![0.0; rows * shape.heads];
        cross_entropy::forward_in_place(&mut losses, &mut logits, labels, shape);
        let mut dlogits = logits;
        cross_entropy::backward_in_place(&mut dlogits, labels, 1.0 / rows as f32, shape);
        gemm::tn(&mut self.dweight, x, &dlogits, (self.width, columns, rows), false, Threads::All);
        self.dbias.fill(0.0);
        for row in dlogits.chunks_exact(columns) {
            self.dbias.iter_mut().zip(row).for_each(|(sum, d)| *sum += d);
        }
        let mut means = vec![0.0f64; shape.heads];
        for row in losses.chunks_exact(shape.heads) {
            means.iter_mut().zip(row).for_each(|(sum, &loss)| *sum += f64::from(loss));
        }
        means.iter().map(|sum| (sum / rows as f64) as f32).collect()
    }

    fn logits(&self, x: &[f32], rows: usize) -> Vec<f32> {
        let columns = self.bias.len();
        let mut logits = self.bias.repeat(rows);
        gemm::nn(&mut logits, x, &self.weight, (rows, columns, self.width), true, Threads::All);
        logits
    }
}

impl Classifiers for Heads {
    fn step(&mut self, x: &[f32], labels: &[u32], schedule: f32) -> Result<Vec<f32>> {
        let losses = in_pool(|| self.loss_and_gradient(x, labels));
        let rates: Vec<f32> = self.lrs.iter().flat_map(|lr| std::iter::repeat_n(lr * schedule, self.classes)).collect();
        let columns = rates.len();
        let rows = self.weight.chunks_exact_mut(columns).zip(self.weight_velocity.chunks_exact_mut(columns));
        for ((weight, velocity), gradient) in rows.zip(self.dweight.chunks_exact(columns)) {
            descend(weight, velocity, gradient, &rates);
        }
        descend(&mut self.bias, &mut self.bias_velocity, &self.dbias, &rates);
        Ok(losses)
    }

    fn count_correct(&self, features: &[f32], labels: &[u32]) -> Result<Vec<usize>> {
        let columns = self.bias.len();
        let mut correct = vec![0; self.lrs.len()];
        for (x, labels) in features.chunks(EVAL_ROWS * self.width).zip(labels.chunks(EVAL_ROWS)) {
            check_stop()?;
            let normalised = self.running.as_ref().map(|running| running.normalise(x));
            let logits = self.logits(normalised.as_deref().unwrap_or(x), labels.len());
            for (row, &label) in logits.chunks_exact(columns).zip(labels) {
                for (correct, logits) in correct.iter_mut().zip(row.chunks_exact(self.classes)) {
                    *correct += usize::from(is_argmax(logits, label as usize));
                }
            }
        }
        Ok(correct)
    }

    fn tensors(&self) -> Result<Vec<Tensor>> {
        let mut all = vec![
            ("weight", self.weight.clone()),
            ("bias", self.bias.clone()),
            ("weight_velocity", self.weight_velocity.clone()),
            ("bias_velocity", self.bias_velocity.clone()),
        ];
        if let Some(running) = &self.running {
            all.extend([("running_mean", running.mean.clone()), ("running_var", running.var.clone())]);
        }
        Ok(all)
    }

    fn restore(&mut self, read: &mut dyn FnMut(&str, usize) -> Result<Vec<f32>>) -> Result<()> {
        let mut all = vec![
            ("weight", &mut self.weight),
            ("bias", &mut self.bias),
            ("weight_velocity", &mut self.weight_velocity),
            ("bias_velocity", &mut self.bias_velocity),
        ];
        if let Some(running) = &mut self.running {
            all.extend([("running_mean", &mut running.mean), ("running_var", &mut running.var)]);
        }
        for (name, values) in all {
            *values = read(name, values.len())?;
        }
        Ok(())
    }
}

impl Running {
    fn normalise(&self, x: &[f32]) -> Vec<f32> {
        let scale: Vec<f32> =
            self.var.iter().map(|&var| (1.0 / (f64::from(var) + BATCH_NORM_EPS).sqrt()) as f32).collect();
        let mut y = x.to_vec();
        for row in y.chunks_exact_mut(self.mean.len()) {
            for ((y, mean), scale) in row.iter_mut().zip(&self.mean).zip(&scale) {
                *y = (*y - mean) * scale;
            }
        }
        y
    }
}

/// `x[N, D]` normalised by its own mean and biased variance per column (sums in f64); moves `running` towards them.
fn batch_normalise(x: &[f32], width: usize, running: &mut Running) -> Vec<f32> {
    let rows = (x.len() / width) as f64;
    let mut mean = vec![0.0f64; width];
    for row in x.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v));
    }
    mean.iter_mut().for_each(|sum| *sum /= rows);
    let mut var = vec![0.0f64; width];
    for row in x.chunks_exact(width) {
        for ((sum, &v), mean) in var.iter_mut().zip(row).zip(&mean) {
            *sum += (f64::from(v) - mean).powi(2);
        }
    }
    let unbiased = |sum: f64| sum / (rows - 1.0).max(1.0);
    for (running, mean) in running.mean.iter_mut().zip(&mean) {
        *running += BATCH_NORM_MOMENTUM * (*mean as f32 - *running);
    }
    for (running, &sum) in running.var.iter_mut().zip(&var) {
        *running += BATCH_NORM_MOMENTUM * (unbiased(sum) as f32 - *running);
    }
    let scale: Vec<f64> = var.iter().map(|sum| 1.0 / (sum / rows + BATCH_NORM_EPS).sqrt()).collect();
    let mut y = x.to_vec();
    for row in y.chunks_exact_mut(width) {
        for ((y, mean), scale) in row.iter_mut().zip(&mean).zip(&scale) {
            *y = ((f64::from(*y) - mean) * scale) as f32;
        }
    }
    y
}

fn descend(weight: &mut [f32], velocity: &mut [f32], gradient: &[f32], rates: &[f32]) {
    for (((w, v), g), rate) in weight.iter_mut().zip(velocity).zip(gradient).zip(rates) {
        *v = MOMENTUM * *v + g;
        *w -= rate * *v;
    }
}

fn is_argmax(logits: &[f32], label: usize) -> bool {
    let value = logits[label];
    logits.iter().all(|other| other.is_finite())
        && logits[..label].iter().all(|&other| other < value)
        && logits[label + 1..].iter().all(|&other| other <= value)
}
