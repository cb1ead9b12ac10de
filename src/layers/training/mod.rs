//! What a trained network is made of: layers with their gradients, each of which a device implements.
//!
//! A network and a method are written once over [`Layers`]; [`cpu`] computes them in f32, [`cuda`] with bf16
//! activations, and [`count`] computes nothing. Their tensors are [`Buffer`]s of a [`Layout`], which a walk can ask for
//! without any memory; gradients of parameters are added to, all other results overwrite.

pub mod count;
pub mod cpu;
#[cfg(cuda_kernels)]
pub mod cuda;
mod maps;
mod places;

use crate::error::Result;
use crate::ops::linear::Shape;
use crate::ops::{cosine, interpolate, patch_embed, patch_loss, rows, self_attention, token_mean};
use crate::weights::Param;

pub use maps::{Maps, PixelLoss};
pub use places::{
    Affine, BatchNorm, Branch, Buffer, Contrast, Distill, Dropped, Kind, LayerNorm, Layout, Linear, MomentumCopy,
    Numbers, Pairs, PatchEmbed, Place, Places, QkNorm, Queue, SoftLabels, Stages, TextEmbed, Texts, UNIT_EPS, Weights,
};

/// How tokens come about of what a call is given, and which of them go on.
///
/// # Errors
/// As of [`Layers`].
pub trait Embeddings {
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

    /// `y`, the first of `to`: positions `pos` for another grid, f32; the second, their gradient, becomes 0.
    fn resize_positions(&mut self, to: [Buffer; 2], pos: Param, shape: interpolate::Shape) -> Result<()>;
    /// Adds the gradient of `pos` from that of `y`.
    fn resize_positions_backward(&mut self, pos: Param, dy: Buffer, shape: interpolate::Shape) -> Result<()>;

    /// `y [texts, T, D]`: of the tables, rows by the ids plus those of the places.
    fn embed_text(&mut self, y: Buffer, at: TextEmbed, texts: Texts) -> Result<()>;
    /// Adds the gradients of `at`.
    fn embed_text_backward(&mut self, dy: Buffer, at: TextEmbed, texts: Texts) -> Result<()>;
    /// `y [n, D]`: of `x [n, T, D]` the row of each that `places [n]` names, counted over all.
    fn pick(&mut self, y: Buffer, x: Buffer, places: Numbers) -> Result<()>;
    /// `dx`: `dy` in those rows, 0 in the others.
    fn pick_backward(&mut self, dx: Buffer, dy: Buffer, places: Numbers) -> Result<()>;

    /// `y [N, to, D]`: rows `rows [N, to]` of `x [N, from, D]`.
    fn take_rows(&mut self, y: Buffer, x: Buffer, rows: Numbers, shape: rows::Shape) -> Result<()>;
    /// `y [N, to, D]`: rows of `x [N, from, D]`, or the filler, at `places`, plus positions.
    fn place_rows(&mut self, y: Buffer, x: Buffer, places: Places, shape: rows::Shape) -> Result<()>;
    /// `dx` from the gradient `dy` of `y`; adds that of the filler.
    fn place_rows_backward(&mut self, dx: Buffer, dy: Buffer, places: Places, shape: rows::Shape) -> Result<()>;
}

/// What is learned by, and its gradients.
///
/// # Errors
/// As of [`Layers`].
pub trait Losses {
    /// The multi-positive contrastive loss of the rows, which the device keeps.
    fn contrastive(&mut self, rows: Contrast) -> Result<()>;
    /// `dz`, its gradient.
    fn contrastive_backward(&mut self, dz: Buffer, rows: Contrast) -> Result<()>;
    /// Puts `keys [n, d]` of `labels [n]` in the slots of the queue from the one on that the number `start` says.
    fn enqueue(&mut self, queue: Queue, keys: Buffer, labels: Numbers, start: Numbers) -> Result<()>;
    /// The loss, which the device keeps: the sum of the cross-entropies of all `pairs`, each times its factor; added to
    /// what it keeps where `add`.
    fn pairs(&mut self, pairs: &[Pairs], add: bool) -> Result<()>;
    /// Remembers what the loss is so far, that of images among each other, before that against texts is added.
    fn note_loss(&mut self) -> Result<()>;
    /// `drows [R, d]`, the gradient of the rows of one of them.
    fn pairs_backward(&mut self, drows: Buffer, pairs: Pairs) -> Result<()>;
    /// `drows [R, d]`, the gradient of the rows of `there`, which are the keys of `back`.
    fn pairs_both_backward(&mut self, drows: Buffer, there: Pairs, back: Pairs) -> Result<()>;
    /// The squares of `predictions [N, 1 + patches, P]` less the removed patches (those that `rows` puts above
    /// `shape.kept`) of the call's images, the first of which begins at value `start`: `losses [N, 1 + patches]` in
    /// f32, and the gradient `d`.
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
    /// The cross-entropies of `logits [N, C]`: `losses [N]`, of which [`Losses::mean_loss`] takes the mean of a step,
    /// and their gradient `d`.
    fn soft_labels(&mut self, d: Buffer, losses: Buffer, logits: Buffer, of: SoftLabels) -> Result<()>;

    /// The loss, which the device keeps: the negative cosine of unit rows and the unit keys of others; and its gradient
    /// `drows`.
    fn cosine(&mut self, drows: Buffer, rows: Buffer, keys: Buffer, shape: cosine::Shape) -> Result<()>;

    /// The loss of a student, which the device keeps, and its gradient `ds`; then the centre moves.
    fn distill(&mut self, ds: Buffer, of: Distill) -> Result<()>;
}

/// A call of networks and their gradients on a device. Images and whole numbers ([`Numbers`]) are the call's.
///
/// # Errors
/// All fail when the device does.
pub trait Layers: Embeddings + Losses + Maps {
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
    /// Turns the branch `y [N, rows, D]` into `residual + scale·y` where an image keeps it, else into the residual; row
    /// i of the residual begins at i·stride.
    fn drop_path(&mut self, y: Buffer, residual: (Buffer, usize), of: Dropped) -> Result<()>;
    /// `dbranch` from the gradient `dy` of `y`.
    fn drop_path_backward(&mut self, dbranch: Buffer, dy: Buffer, of: Dropped) -> Result<()>;
    /// `y = x·sigmoid(1.702·x)`.
    fn quick_gelu(&mut self, y: Buffer, x: Buffer) -> Result<()>;
    /// Turns the gradient `d` of its result into that of `x`.
    fn quick_gelu_backward(&mut self, d: Buffer, x: Buffer) -> Result<()>;
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

    /// `y [N, T, 3, G, d]`: norms of the queries and keys of `qkv`, and its values as they are; `stats [N, T, 2, G,
    /// 2]`.
    fn qk_norm(
        &mut self,
        y: Buffer,
        stats: Buffer,
        qkv: Buffer,
        at: QkNorm,
        shape: self_attention::Shape,
    ) -> Result<()>;
    /// Turns the gradient `d` of the result into that of `qkv`.
    fn qk_norm_backward(
        &mut self,
        d: Buffer,
        qkv: (Buffer, Buffer),
        at: QkNorm,
        shape: self_attention::Shape,
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

    /// `y = norm(x)`, of the same kind as x, by the batch's own statistics, which `stats [slots, 2, C]` keeps.
    fn batch_norm(&mut self, y: Buffer, stats: Buffer, x: Buffer, norm: BatchNorm) -> Result<()>;
    /// Turns the gradient `d` of `y` into that of x. `spare` has the length of `d` and is overwritten.
    fn batch_norm_backward(
        &mut self,
        d: Buffer,
        spare: Buffer,
        x: (Buffer, Buffer),
        y: Buffer,
        norm: BatchNorm,
    ) -> Result<()>;

    /// `y [rows, d]`: rows of unit length of x, and what their lengths were.
    fn unit_rows(&mut self, y: Buffer, norms: Buffer, x: Buffer) -> Result<()>;
    /// `dx`, of either kind, from the gradient `dy` of `y`.
    fn unit_rows_backward(&mut self, dx: Buffer, dy: Buffer, y: Buffer, norms: Buffer) -> Result<()>;
    /// `y = e^s·x` for the one value s.
    fn scale_rows(&mut self, y: Buffer, x: Buffer, s: Param) -> Result<()>;
    /// `dx` from the gradient `dy` of `y`; adds that of s.
    fn scale_rows_backward(&mut self, dx: Buffer, dy: Buffer, y: Buffer, s: Param) -> Result<()>;
    /// `y += x`.
    fn add(&mut self, y: Buffer, x: Buffer) -> Result<()>;

    /// `y [N, D]`: the mean of the patch tokens of `x [N, T, D]`.
    fn token_mean(&mut self, y: Buffer, x: Buffer, shape: token_mean::Shape) -> Result<()>;
    /// `dx` from the gradient `dy` of `y`.
    fn token_mean_backward(&mut self, dx: Buffer, dy: Buffer, shape: token_mean::Shape) -> Result<()>;

    /// Rows of unit length of the parameter `at`, f32 and rounded, and what their lengths were.
    fn unit_weights(&mut self, y: [Buffer; 2], norms: Buffer, at: Param) -> Result<()>;
    /// The gradient of `at`, which nothing else reads, from that of its unit rows `y`.
    fn unit_weights_backward(&mut self, at: Param, dy: Buffer, y: Buffer, norms: Buffer) -> Result<()>;
    /// `y = x·wᵀ` in f32.
    fn product(&mut self, y: Buffer, x: Buffer, w: Buffer, shape: Shape) -> Result<()>;
    /// `dx = dy·w` and `dw = dyᵀ·x` in f32, of `[dx, dw]` and `[x, w]`.
    fn product_backward(&mut self, gradients: [Buffer; 2], dy: Buffer, of: [Buffer; 2], shape: Shape) -> Result<()>;

    /// `y = x`, in the type in which the device keeps y.
    fn round(&mut self, y: Buffer, x: Buffer) -> Result<()>;
    /// Parameters and running statistics are from here on those of `weights`.
    fn switch(&mut self, weights: Weights) -> Result<()>;
    /// Nothing is learned of `param`: its gradient is 0.
    fn freeze(&mut self, param: Param) -> Result<()>;

    /// A part of the call ends here: what measures hears of it.
    fn stage(&mut self, name: &'static str) -> Result<()>;
    /// Whether all values there are finite; waits for what was queued.
    fn is_finite(&mut self, place: Place) -> Result<bool>;
}
