//! What heads are, wherever they are trained.

use crate::error::Result;
use crate::rng::{Domain, Stream};

/// eps of the batch norm before the heads (as StableRep's linear probe; PyTorch's default would be 1e-5).
pub(super) const BATCH_NORM_EPS: f64 = 1e-6;

/// Weight of the newest batch in the running statistics.
pub(super) const BATCH_NORM_MOMENTUM: f32 = 0.1;

/// SGD momentum.
pub(super) const MOMENTUM: f32 = 0.9;

/// Standard deviation of the initial weights.
const INIT_STD: f32 = 0.01;

/// Rows of one evaluation product.
pub const EVAL_ROWS: usize = 1024;

/// G heads of C classes on features of width D, with or without a batch norm (no affine part) before them.
#[derive(Clone, Debug)]
pub struct Kind {
    /// D.
    pub width: usize,
    /// C.
    pub classes: usize,
    /// Peak learning rates, a head each.
    pub lrs: Vec<f32>,
    pub batch_norm: bool,
    /// Rows of a step.
    pub batch: usize,
    pub seed: u64,
}

impl Kind {
    /// Initial weights `[G·C, D]`: N(0, 0.01), keyed by seed, the head's learning rate and `batch_norm`, so that a head
    /// starts alike whichever others are trained beside it. Biases begin at 0.
    pub fn init(&self) -> Vec<f32> {
        let each = self.width * self.classes;
        let mut weight = vec![0.0; each * self.lrs.len()];
        for (head, lr) in weight.chunks_exact_mut(each.max(1)).zip(&self.lrs) {
            Stream::new(self.seed, Domain::Probe, [lr.to_bits(), self.batch_norm.into(), 2]).fill_normal(head);
        }
        weight.iter_mut().for_each(|value| *value *= INIT_STD);
        weight
    }
}

/// What heads keep between two steps: name and values.
pub type Tensor = (&'static str, Vec<f32>);

/// The heads of a [`Kind`] on a device.
pub trait Classifiers {
    /// One step of SGD with momentum 0.9 and no weight decay (v ← 0.9·v + g, w ← w − lr·v) on features `x [N, D]`, each
    /// head at its learning rate times `schedule`. Returns each head's mean cross-entropy before the step.
    ///
    /// # Errors
    /// If the device fails.
    fn step(&mut self, x: &[f32], labels: &[u32], schedule: f32) -> Result<Vec<f32>>;

    /// How many of `features [N, D]` each head classifies as `labels` says, in evaluation mode. Logits that are NaN are
    /// wrong; equal ones go to the lower class.
    ///
    /// # Errors
    /// `Interrupted` on a signal; if the device fails.
    fn count_correct(&self, features: &[f32], labels: &[u32]) -> Result<Vec<usize>>;

    /// All that the next step depends on.
    ///
    /// # Errors
    /// If the device fails.
    fn tensors(&self) -> Result<Vec<Tensor>>;

    /// Takes back [`Classifiers::tensors`]; `read` gives the values of a name, as many as are told.
    ///
    /// # Errors
    /// Those of `read`; if the device fails.
    fn restore(&mut self, read: &mut dyn FnMut(&str, usize) -> Result<Vec<f32>>) -> Result<()>;
}
