//! What the networks of a diffusion model are made of: fused layers, each of which a device implements.
//!
//! A network says *what* is computed, once, in a walk over [`Layers`]; a device says *how*, with its own order of sums:
//! [`cpu`] in f32, [`cuda`] in 16 bits or e4m3, and [`count`], which computes nothing, so that sizes of memory and
//! FLOPs fall out of the same walk. Tensors are named by the slot of memory that they lie in, so that a walk can be
//! taken without any memory.

pub mod convnet;
pub mod count;
pub mod cpu;
#[cfg(cuda_kernels)]
pub mod cuda;
mod resnet;
pub mod training;

use std::fmt::Debug;

use crate::error::Result;
use crate::ops::activation::Activation;
pub use resnet::ResNet;

/// Height and width of a feature map.
pub type Size = (usize, usize);

/// A place in a network's memory, which holds one tensor after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// What a call is given.
    Input,
    /// What a call gives, in f32.
    Output,
    /// The feature map and the next one, in turn: 0 and 1.
    Map(usize),
    /// Feature maps of a UNet's way down, which its way up reads again.
    Skip(usize),
    /// The feature map that a transformer reads.
    Inner,
    /// What lies between the convolutions of a residual block.
    Between,
    /// Feature maps side by side, where a device's products read one tensor at a time.
    Joined,
    /// What a norm gave to the product behind it.
    Normed,
    /// The stream of a transformer's tokens, and the same behind the cross-attention, where its rows may double.
    Tokens,
    Branches,
    /// What attention gave.
    Attended,
    /// Queries, keys and values; hidden values of an MLP.
    Wide,
}

impl Slot {
    /// Whether what is stored here are feature maps, whose group norms a device may prepare while it stores them.
    pub fn is_map(self) -> bool {
        matches!(self, Self::Map(_) | Self::Skip(_) | Self::Inner | Self::Between)
    }

    /// As plans of memory call it.
    pub fn name(self) -> String {
        match self {
            Self::Input => "input".into(),
            Self::Output => "output".into(),
            Self::Map(0) => "feature map".into(),
            Self::Map(_) => "next feature map".into(),
            Self::Skip(i) => format!("skip {i}"),
            Self::Inner => "transformer, input".into(),
            Self::Between => "between convolutions".into(),
            Self::Joined => "feature map and skip".into(),
            Self::Normed => "normalised".into(),
            Self::Tokens => "tokens".into(),
            Self::Branches => "tokens of both branches".into(),
            Self::Attended => "attended".into(),
            Self::Wide => "queries, keys and values, or hidden values".into(),
        }
    }
}

/// A tensor `[rows, H, W, channels]` at the beginning of a slot; tokens are `[rows, 1, T, D]` or the pixels of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tensor {
    pub slot: Slot,
    pub rows: usize,
    pub size: Size,
    pub channels: usize,
}

impl Tensor {
    /// H·W.
    pub fn pixels(self) -> usize {
        self.size.0 * self.size.1
    }

    /// Values in all.
    pub fn values(self) -> usize {
        self.rows * self.pixels() * self.channels
    }
}

/// What a 3×3 convolution does to height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// They stay.
    Same,
    /// Every second pixel of every second row is computed.
    Halved,
    /// The map is first enlarged to the size of the result, by nearest neighbours.
    Enlarged,
}

/// How a device holds the weights of layers.
pub trait Backend: Debug {
    /// Rows `[N, D]` of an embedding.
    type Table: Debug;
    type LayerNorm: Debug;
    type GroupNorm: Debug;
    /// A linear layer, several of the same input side by side, or a 1×1 convolution, with bias and activation.
    type Linear: Debug;
    /// The two layers that give keys and values of a cross-attention.
    type KeysValues: Debug;
    /// A 3×3 convolution with bias.
    type Conv: Debug;
    /// The second convolution of a residual block, with what brings the block's input to its channels.
    type Closing: Debug;
}

/// Where layers come from. Names are diffusers', without `.weight` and `.bias`.
///
/// # Errors
/// All fail for tensors that are absent or of another shape.
pub trait Load<B: Backend> {
    /// `name` itself is the tensor `[rows, width]`.
    fn table(&mut self, name: &str, rows: usize, width: usize) -> Result<B::Table>;
    fn layer_norm(&mut self, name: &str, width: usize, eps: f64) -> Result<B::LayerNorm>;
    fn group_norm(&mut self, name: &str, channels: usize, groups: usize, eps: f64) -> Result<B::GroupNorm>;
    /// Layers `inputs → outputs / names.len()` of the same input as one, their outputs side by side.
    fn linear(
        &mut self,
        names: &[&str],
        sizes: (usize, usize),
        bias: bool,
        activation: Activation,
    ) -> Result<B::Linear>;
    /// Layers `[key, value]` without bias, each `inputs → outputs`.
    fn keys_values(&mut self, names: [&str; 2], sizes: (usize, usize)) -> Result<B::KeysValues>;
    /// A convolution `inputs → outputs` that is called at one `resolution`.
    fn conv(&mut self, name: &str, sizes: (usize, usize), resolution: Resolution) -> Result<B::Conv>;
    /// A convolution `outputs → outputs`, and the 1×1 convolution `shortcut` from tensors of `parts` channels side by
    /// side, which is there unless these are one of `outputs` channels.
    fn closing(&mut self, name: &str, shortcut: &str, parts: &[usize], outputs: usize) -> Result<B::Closing>;
}

/// A call of a network on a device. Destinations come first; what they held is lost unless it is said to be read.
///
/// Rows: where a tensor that is read has fewer than the result, its rows repeat; they divide the result's.
///
/// # Errors
/// All fail when the device does.
pub trait Layers<B: Backend> {
    /// `y [texts, T, D]`: rows of `tokens` by the call's token ids, plus `positions [T, D]`.
    fn embed(&mut self, y: Tensor, tokens: &B::Table, positions: &B::Table) -> Result<()>;
    /// `y = norm(x)`.
    fn layer_norm(&mut self, y: Tensor, x: Tensor, norm: &B::LayerNorm) -> Result<()>;
    /// `y = layer(x) (+ residual)`; y itself may be the residual.
    fn linear(&mut self, y: Tensor, layer: &B::Linear, x: Tensor, residual: Option<Tensor>) -> Result<()>;
    /// `y = layer(norm(x))`.
    fn normed_linear(&mut self, y: Tensor, layer: &B::Linear, x: Tensor, norm: &B::LayerNorm) -> Result<()>;
    /// `y = layer(norm(x))`.
    fn group_normed_linear(&mut self, y: Tensor, layer: &B::Linear, x: Tensor, norm: &B::GroupNorm) -> Result<()>;
    /// `x += out(gate(norm(x)))`, where `gate` is activated by [`Activation::Geglu`].
    fn gated_mlp(&mut self, x: Tensor, norm: &B::LayerNorm, gate: &B::Linear, out: &B::Linear) -> Result<()>;

    /// `y [rows, T, D]` from queries, keys and values `qkv [rows, T, 3D]`; a causal query sees no later token.
    fn attention(&mut self, y: Tensor, qkv: Tensor, heads: usize, causal: bool) -> Result<()>;
    /// Keys and values number `index` of a caption, whose states `[T, D]` are the call's input.
    fn keys_values(&mut self, layer: &B::KeysValues, index: usize, heads: usize) -> Result<()>;
    /// `y [rows, T, D]` from `queries`, and keys and values number `index` of the caption of each row.
    fn cross_attention(&mut self, y: Tensor, queries: Tensor, index: usize, heads: usize) -> Result<()>;

    /// Feature maps as `rows` rows of their channels side by side: themselves, or a copy in [`Slot::Joined`].
    fn side_by_side(&mut self, parts: &[Tensor], rows: usize) -> Result<Vec<Tensor>>;
    /// `y = layer(x)`.
    fn conv(&mut self, y: Tensor, layer: &B::Conv, x: Tensor, resolution: Resolution) -> Result<()>;
    /// `y = layer(silu(norm(parts side by side)))`; `time` is where the layer's bias begins in a row of the call's
    /// table of timesteps, which takes the place of its own.
    fn normed_conv(
        &mut self,
        y: Tensor,
        layer: &B::Conv,
        parts: &[Tensor],
        norm: &B::GroupNorm,
        time: Option<usize>,
    ) -> Result<()>;
    /// `y = shortcut(parts side by side) + layer(silu(norm(x)))`.
    fn closing_conv(
        &mut self,
        y: Tensor,
        layer: &B::Closing,
        x: Tensor,
        norm: &B::GroupNorm,
        parts: &[Tensor],
    ) -> Result<()>;
}
