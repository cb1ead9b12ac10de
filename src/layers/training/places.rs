//! What a walk names: runs of tensors and numbers, places of parameters, and what its losses compare.

use std::ops::Range;

use crate::error::Result;
use crate::ops::{distill, drop_path, soft_labels};
use crate::weights::Param;

/// Rows shorter than this are not scaled to unit length.
pub const UNIT_EPS: f32 = 1e-12;

/// In which type a device keeps a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its activations': bf16 on a GPU, f32 on the CPU.
    Rounded,
    /// f32.
    Exact,
}

/// A run of one tensor of a [`Layout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    pub(super) id: usize,
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) kind: Kind,
}

impl Buffer {
    pub fn len(self) -> usize {
        self.len
    }

    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    pub fn kind(self) -> Kind {
        self.kind
    }

    /// Its first `len` values.
    pub fn first(self, len: usize) -> Self {
        self.slice(0..len)
    }

    /// Its values in `range`.
    pub fn slice(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "values {range:?} of {self:?}");
        Self { start: self.start + range.start, len: range.len(), ..self }
    }

    pub(super) fn range(self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// The tensors of a network's calls, by group and name.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    tensors: Vec<(&'static str, String, usize, Kind)>,
}

impl Layout {
    pub fn take(&mut self, group: &'static str, name: impl Into<String>, len: usize, kind: Kind) -> Buffer {
        self.tensors.push((group, name.into(), len, kind));
        Buffer { id: self.tensors.len() - 1, start: 0, len, kind }
    }

    /// Group, name, length and kind of every tensor, in the order of the buffers.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (&'static str, &str, usize, Kind)> {
        self.tensors.iter().map(|(group, name, len, kind)| (*group, name.as_str(), *len, *kind))
    }
}

/// A run of the whole numbers that a call is given beside its images: labels, token ids, places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    pub start: usize,
    pub len: usize,
}

impl Numbers {
    pub(super) fn range(self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// The places of weight and bias, or of a norm's gain and shift.
pub type Affine = [Param; 2];

/// The places of a linear layer's weight `[out, in]` and, where it has one, bias.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    pub w: Param,
    pub b: Option<Param>,
}

impl From<Affine> for Linear {
    fn from([w, b]: Affine) -> Self {
        Self { w, b: Some(b) }
    }
}

/// A layer norm: its gain and shift, and what is added to the variance.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    pub affine: Affine,
    pub eps: f32,
}

/// Norms of queries and keys, each head on its own.
#[derive(Clone, Copy, Debug)]
pub struct QkNorm {
    /// Gain and shift of queries, then of keys: `[4, d]`.
    pub affine: Param,
    pub eps: f32,
}

/// What is added to the gradient through a norm.
#[derive(Clone, Copy, Debug)]
pub enum Branch {
    /// Nothing read `x` but the norm.
    None,
    /// The gradient of the residual branch, which the destination holds.
    Kept,
    /// `[rows / period, D]`, for rows 0, period, 2·period, … (the class tokens).
    OneIn(usize, Buffer),
}

/// A residual branch that some images leave out (stochastic depth, Huang et al. 2016, arXiv 1603.09382).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropped {
    /// `[N]`: 0 for images that do.
    pub kept: Numbers,
    /// What the branch is multiplied by in the others.
    pub scale: f32,
    pub shape: drop_path::Shape,
}

/// The places of a patch embedding's tensors.
#[derive(Clone, Copy, Debug)]
pub struct PatchEmbed {
    pub w: Param,
    pub b: Param,
    pub cls: Param,
    pub pos: Param,
    /// Positions of another grid in the place of `pos`, and their gradient ([`super::Embeddings::resize_positions`]).
    pub resized: Option<[Buffer; 2]>,
}

/// The places of a text embedding's tables `[vocabulary, D]` and `[T, D]`.
#[derive(Clone, Copy, Debug)]
pub struct TextEmbed {
    pub token: Param,
    pub position: Param,
}

/// The texts of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Texts {
    /// Token ids `[texts, T]`.
    pub ids: Numbers,
    /// Their places by id, as [`crate::ops::embed::Places`] orders them.
    pub order: Numbers,
    pub ends: Numbers,
}

/// Where rows of tokens go, in [`Numbers`]: `rows [N, to]` names the row of each place, and what is not among them is
/// `fill [D]`; `at [N, to]` the position of each place, its own number where absent; `back [N, from]` the place of each
/// row.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    pub rows: Numbers,
    pub at: Option<Numbers>,
    pub back: Numbers,
    pub fill: Param,
    /// Read only.
    pub pos: Param,
}

/// A batch norm: its affine parameters, where it has them, and where its running mean and variance lie among the
/// statistics.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm {
    pub affine: Option<Affine>,
    pub running: [Param; 2],
    /// Runs of rows that are normalised each on its own; the running statistics move once for each.
    pub slots: usize,
    /// Whether a ReLU follows.
    pub relu: bool,
}

impl BatchNorm {
    /// Its columns.
    pub(super) fn cols(&self) -> usize {
        self.running[0].len
    }
}

/// The momentum copy of a network (BYOL, arXiv 2006.07733; MoCo v3, arXiv 2104.02057) among what a run keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MomentumCopy {
    /// Its parameters, the last of what is kept: a copy of as many first ones of the online network.
    pub parameters: Param,
    /// How far its batch norms' running statistics lie behind the online ones.
    pub statistics: usize,
    /// Which of the call's scalars is the share of the way to the online parameters that an update takes it.
    pub rate: usize,
}

impl MomentumCopy {
    /// Makes it, among what is `kept`, what it is a copy of.
    pub fn begin(&self, parameters: &[f32], kept: &mut [f32]) {
        self.parameters.of_mut(kept).copy_from_slice(&parameters[..self.parameters.len]);
        kept.copy_within(0..self.statistics, self.statistics);
    }
}

/// Whose parameters and running statistics a walk reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    Online,
    /// The [`MomentumCopy`]'s, to which no gradient goes.
    Momentum,
}

/// Rows that are to tell their own keys from the others: the cross-entropy of `rows·keysᵀ/τ` against the keys of the
/// same label.
#[derive(Clone, Copy, Debug)]
pub struct Pairs {
    /// Unit rows `[R, d]` and unit keys `[K, d]`.
    pub rows: Buffer,
    pub keys: Buffer,
    /// Of the rows and of the keys. A row of no key's label adds nothing to the loss.
    pub labels: [Numbers; 2],
    /// Log-sum-exp of each row, and one over the number of its keys: `[R]`.
    pub lse: Buffer,
    pub weight: Buffer,
    pub temperature: f32,
    /// What the mean over rows is multiplied by in the loss.
    pub factor: f32,
}

/// Keys of earlier steps among what is kept: a ring ([`crate::ops::queue`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Of unit length `[Q, d]`, and their labels `[Q]`.
    pub keys: Param,
    pub labels: Param,
}

/// The rows that a contrastive loss compares, and what its gradient needs.
#[derive(Clone, Copy, Debug)]
pub struct Contrast {
    /// Unit rows `[K, d]`.
    pub z: Buffer,
    /// `[K]`: rows of equal labels are positives of each other.
    pub labels: Numbers,
    /// What rows are compared with beside each other.
    pub queue: Option<Queue>,
    /// Log-sum-exp of each row, and one over the number of its positives: `[K]`.
    pub lse: Buffer,
    pub weight: Buffer,
    pub temperature: f32,
}

/// What self-distillation compares.
#[derive(Clone, Copy, Debug)]
pub struct Distill {
    /// Logits `[V·n, K]`, and those of the momentum copy `[A·n, K]`.
    pub student: Buffer,
    pub teacher: Buffer,
    /// The centre `[K]`, among what is kept.
    pub centre: Param,
    /// Which of the call's scalars is one over the teacher's temperature.
    pub sharpness: usize,
    pub shape: distill::Shape,
}

/// What classified rows are compared with, as [`soft_labels::Labels`].
#[derive(Clone, Copy, Debug)]
pub struct SoftLabels {
    pub both: [Numbers; 2],
    pub shares: Numbers,
    pub shape: soft_labels::Shape,
}

/// What a walk looks at when something is not finite.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// What the call was given to see.
    Images,
    Parameter(Param),
    Activation(Buffer),
    Gradient(Param),
}

/// What hears of the parts of a call as they end (on a device that runs behind the host: as they are queued).
pub type Stages<'a, 's> = Option<&'a mut (dyn FnMut(&'static str) -> Result<()> + Send + 's)>;
