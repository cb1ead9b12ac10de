//! What a trained network is made of: layers with their gradients, each of which a device implements.
//!
//! A network and a method are written once over [`Layers`]; [`cpu`] computes them in f32, [`cuda`] with bf16
//! activations, and [`count`] computes nothing. Their tensors are [`Buffer`]s of a [`Layout`], which a walk can ask for
//! without any memory; gradients of parameters are added to, all other results overwrite.

pub mod count;
pub mod cpu;
#[cfg(cuda_kernels)]
pub mod cuda;

use std::ops::Range;

use crate::error::Result;
use crate::ops::linear::Shape;
use crate::ops::{patch_embed, patch_loss, rows, self_attention};
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
    id: usize,
    start: usize,
    len: usize,
    kind: Kind,
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

    fn range(self) -> Range<usize> {
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
    fn range(self) -> Range<usize> {
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

/// The places of a patch embedding's tensors.
#[derive(Clone, Copy, Debug)]
pub struct PatchEmbed {
    pub w: Param,
    pub b: Param,
    pub cls: Param,
    pub pos: Param,
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

/// A batch norm: its affine parameters, and where its running mean and variance lie among the statistics.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm {
    pub affine: Affine,
    pub running: [Param; 2],
    /// Runs of rows that are normalised each on its own; the running statistics move once for each.
    pub slots: usize,
}

/// The rows that a contrastive loss compares, and what its gradient needs.
#[derive(Clone, Copy, Debug)]
pub struct Contrast {
    /// Unit rows `[K, d]`.
    pub z: Buffer,
    /// `[K]`: rows of equal labels are positives of each other.
    pub labels: Numbers,
    /// Log-sum-exp of each row, and one over the number of its positives: `[K]`.
    pub lse: Buffer,
    pub weight: Buffer,
    pub temperature: f32,
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
pub type Stages<'a, 's> = Option<&'a mut (dyn FnMut(&'static str) -> Result<()> + 's)>;

/// A call of networks and their gradients on a device. Images and whole numbers ([`Numbers`]) are the call's.
///
/// # Errors
/// All fail when the device does.
pub trait Layers {
    /// `patches [N·patches, channels·P²]` of the call's images, the first of which begins at value `start`.
    fn unfold(&mut self, patches: Buffer, start: usize, shape: patch_embed::Shape) -> Result<()>;
    /// `tokens [N, T, D]`: class token and embedded patches plus positions. `spare` has room for `[N·patches, D]`.
    fn embed(
        &mut self,
        tokens: Buffer,
        patches: Buffer,
        spare: Buffer,
        at: PatchEmbed,
        shape: patch_embed::Shape,
    ) -> Result<()>;
    /// Adds the gradients of `at`.
    fn embed_backward(
        &mut self,
        dtokens: Buffer,
        patches: Buffer,
        spare: Buffer,
        at: PatchEmbed,
        shape: patch_embed::Shape,
    ) -> Result<()>;

    /// `y [rows, D]` from as many rows of x, and their `stats [rows, 2]`.
    fn layer_norm(&mut self, y: Buffer, stats: Buffer, x: Buffer, at: LayerNorm) -> Result<()>;
    /// `dx`: `branch` plus the gradient through the norm of x.
    fn layer_norm_backward(
        &mut self,
        dx: Buffer,
        branch: Branch,
        dy: Buffer,
        x: (Buffer, Buffer),
        at: LayerNorm,
    ) -> Result<()>;

    /// `y = x·Wᵀ + b`; y is of either kind.
    fn linear(&mut self, y: Buffer, x: Buffer, at: Linear, shape: Shape) -> Result<()>;
    /// `y = residual + x·Wᵀ + b`; row i of the residual begins at i·stride.
    fn linear_residual(
        &mut self,
        y: Buffer,
        residual: (Buffer, usize),
        x: Buffer,
        at: Linear,
        shape: Shape,
    ) -> Result<()>;
    /// `hidden = x·Wᵀ + b` and `y = gelu(hidden)`.
    fn linear_gelu(&mut self, y: Buffer, hidden: Buffer, x: Buffer, at: Linear, shape: Shape) -> Result<()>;
    /// `y = gelu(hidden)`, for a backward that does not have it.
    fn gelu(&mut self, y: Buffer, hidden: Buffer) -> Result<()>;
    /// Adds the gradients of weight and bias (where there is one) of `y = x·Wᵀ + b`.
    fn weight_gradient(&mut self, dy: Buffer, x: Buffer, at: Linear, shape: Shape) -> Result<()>;
    /// `dx = dy·W`.
    fn input_gradient(&mut self, dx: Buffer, dy: Buffer, w: Param, shape: Shape) -> Result<()>;
    /// `dhidden = (dy·W)·gelu′(hidden)`: before the GELU whose result this layer reads.
    fn input_gradient_gelu(
        &mut self,
        dhidden: Buffer,
        dy: Buffer,
        hidden: Buffer,
        w: Param,
        shape: Shape,
    ) -> Result<()>;

    /// `y [N, queries, G, d]` and `lse [N, G, queries]` from `qkv [N, T, 3, G, d]`.
    fn attention(&mut self, y: Buffer, lse: Buffer, qkv: Buffer, shape: self_attention::Shape) -> Result<()>;
    /// `dqkv` from the gradient `dy` of `y`.
    fn attention_backward(
        &mut self,
        dqkv: Buffer,
        dy: Buffer,
        qkv: Buffer,
        y: (Buffer, Buffer),
        shape: self_attention::Shape,
    ) -> Result<()>;

    /// `y = max(norm(x), 0)` by the batch's own statistics, which `stats [slots, 2, C]` keeps.
    fn batch_norm_relu(&mut self, y: Buffer, stats: Buffer, x: Buffer, norm: BatchNorm) -> Result<()>;
    /// Turns the gradient `d` of `y` into that of x. `spare` has the length of `d` and is overwritten.
    fn batch_norm_relu_backward(
        &mut self,
        d: Buffer,
        spare: Buffer,
        x: (Buffer, Buffer),
        y: Buffer,
        norm: BatchNorm,
    ) -> Result<()>;

    /// `y [rows, d]`: rows of unit length of x, and what their lengths were.
    fn unit_rows(&mut self, y: Buffer, norms: Buffer, x: Buffer) -> Result<()>;
    /// `dx` from the gradient `dy` of `y`.
    fn unit_rows_backward(&mut self, dx: Buffer, dy: Buffer, y: Buffer, norms: Buffer) -> Result<()>;
    /// The multi-positive contrastive loss of the rows, which the device keeps.
    fn contrastive(&mut self, rows: Contrast) -> Result<()>;
    /// `dz`, its gradient.
    fn contrastive_backward(&mut self, dz: Buffer, rows: Contrast) -> Result<()>;

    /// `y [N, to, D]`: rows `rows [N, to]` of `x [N, from, D]`.
    fn take_rows(&mut self, y: Buffer, x: Buffer, rows: Numbers, shape: rows::Shape) -> Result<()>;
    /// `y [N, to, D]`: rows of `x [N, from, D]`, or the filler, at `places`, plus positions.
    fn place_rows(&mut self, y: Buffer, x: Buffer, places: Places, shape: rows::Shape) -> Result<()>;
    /// `dx` from the gradient `dy` of `y`; adds that of the filler.
    fn place_rows_backward(&mut self, dx: Buffer, dy: Buffer, places: Places, shape: rows::Shape) -> Result<()>;
    /// The squares of `predictions [N, 1 + patches, P]` less the removed patches (those that `rows` puts above
    /// `shape.kept`) of the call's images, the first of which begins at value `start`: `losses [N, 1 + patches]` in f32,
    /// and the gradient `d`.
    fn patch_loss(
        &mut self,
        d: Buffer,
        losses: Buffer,
        predictions: Buffer,
        rows: Numbers,
        start: usize,
        shape: patch_loss::Shape,
    ) -> Result<()>;
    /// The mean of the `losses` of a step, which the device keeps as its loss.
    fn mean_loss(&mut self, losses: Buffer) -> Result<()>;

    /// A part of the call ends here: what measures hears of it.
    fn stage(&mut self, name: &'static str) -> Result<()>;
    /// Whether all values there are finite; waits for what was queued.
    fn is_finite(&mut self, place: Place) -> Result<bool>;
}
