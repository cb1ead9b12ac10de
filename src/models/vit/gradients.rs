//! The scratch of a ViT's backward.

use super::config::VitConfig;
use super::shape::Span;
use crate::layers::training::{Buffer, Kind, Layout};

/// Gradients on their way back through a [`super::Trunk`], shared by all blocks.
#[derive(Clone, Copy, Debug)]
pub struct VitGradients {
    n: usize,
    /// Gradient of the stream `[N, T, D]`.
    pub(super) dx: Buffer,
    /// Gradient of the class tokens after (and inside) a last block that only they leave `[N, D]`.
    pub(super) dlast: Buffer,
    /// Of a norm's output `[N, T, D]`.
    pub(super) dnorm: Buffer,
    /// Of the attention's output `[N, T, D]`.
    pub(super) datt: Buffer,
    /// `[N, T, 3D]`.
    pub(super) dqkv: Buffer,
    /// Norms of queries and keys, and the values, where these are computed again `[N, T, 3D]`.
    pub(super) heads: Buffer,
    /// Of the MLP's hidden layer before its GELU `[N, T, 4D]`.
    pub(super) dhidden: Buffer,
}

impl VitGradients {
    /// Of `n` images whose class tokens leave.
    pub fn new(layout: &mut Layout, config: &VitConfig, n: usize) -> Self {
        Self::of(layout, config, config.class_span(n))
    }

    /// Of what goes through a trunk.
    pub fn of(layout: &mut Layout, config: &VitConfig, span: Span) -> Self {
        let (VitConfig { width, depth, .. }, Span { n, tokens, leaving }) = (config, span);
        let (rows, out) = (n * tokens, n * leaving);
        // What leaves the last block may be its class tokens alone.
        let full = if *depth > 1 { rows } else { out };
        let mut take = |name: &str, len| layout.take("backward scratch", name, len, Kind::Rounded);
        let dx = take("d stream", rows * width);
        Self {
            n,
            dx,
            dlast: take("d class tokens", if leaving < tokens { out * width } else { 0 }),
            dnorm: take("d norm", rows * width),
            datt: take("d attention", full * width),
            dqkv: take("d qkv", rows * 3 * width),
            heads: if config.qk_norm { take("norms of queries and keys", rows * 3 * width) } else { dx.first(0) },
            dhidden: take("d hidden", full * config.hidden()),
        }
    }

    /// The gradient of the input `[N, T, D]` after a backward.
    pub fn of_input(&self) -> Buffer {
        self.dx
    }

    /// Room for `[N, T, D]` after a backward.
    pub fn spare(&self) -> Buffer {
        self.dnorm
    }

    /// The same buffers for `n` images, no more than these are of.
    pub fn first(&self, n: usize) -> Self {
        let first = |buffer: Buffer| buffer.first(buffer.len() / self.n * n);
        let Self { dx, dlast, dnorm, datt, dqkv, heads, dhidden, .. } = *self;
        Self {
            n,
            dx: first(dx),
            dlast: first(dlast),
            dnorm: first(dnorm),
            datt: first(datt),
            dqkv: first(dqkv),
            heads: first(heads),
            dhidden: first(dhidden),
        }
    }
}
