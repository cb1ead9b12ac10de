//! The CUDA side of [`super`]: which kernels serve a shape, how they are launched.

mod arguments;
pub mod hopper;
pub mod portable;

pub use arguments::Backward;

use half::bf16;

use super::Shape;
use crate::bail;
use crate::device::cuda::{Arch, Gpu, View};
use crate::error::Result;

/// Head dimensions with kernels.
pub const HEAD_DIMS: [usize; 2] = [32, 64];

/// The kernels that compute self-attention; all give the same results up to rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// A head whole in shared memory: forward up to 256 tokens, backward up to 208 tokens or 128 queries. On at most so
    /// many multiprocessors.
    Hopper { sms: u32 },
    /// One side of a head streamed: any length.
    HopperLong { sms: u32 },
    /// cp.async and mma.sync: any length, every card.
    Portable,
}

impl Variant {
    /// All variants of the forward pass that the GPU can run on this shape, the best one first, on at most `sms`
    /// multiprocessors (few make a block of small shapes too take several heads).
    pub fn forward(gpu: &Gpu, shape: Shape, sms: u32) -> Vec<Self> {
        Self::all(gpu.arch(), hopper::has_forward(shape), sms)
    }

    /// The same for the backward pass.
    pub fn backward(gpu: &Gpu, shape: Shape, sms: u32) -> Vec<Self> {
        Self::all(gpu.arch(), hopper::has_backward(shape), sms)
    }

    fn all(arch: Arch, fits: bool, sms: u32) -> Vec<Self> {
        let (whole, long) = (Self::Hopper { sms }, Self::HopperLong { sms });
        match (arch, fits) {
            (Arch::Sm90, true) => vec![whole, long, Self::Portable],
            (Arch::Sm90, false) => vec![long, Self::Portable],
            (Arch::Sm80, _) => vec![Self::Portable],
        }
    }
}

/// f32 values of scratch that [`backward`] wants.
pub fn scratch_len(shape: Shape) -> usize {
    shape.lse_len()
}

/// `out [N, queries, G, d]` and `lse [N, G, queries]` from `qkv [N, T, 3, G, d]`.
///
/// # Errors
/// Device error for a head dimension without kernels, or if the launch fails.
///
/// # Panics
/// If lengths or alignments (16 bytes) do not fit.
pub fn forward(gpu: &Gpu, out: View<bf16>, lse: View<f32>, qkv: View<bf16>, shape: Shape) -> Result<()> {
    forward_by(Variant::forward(gpu, shape, gpu.sms())[0], gpu, out, lse, qkv, shape)
}

/// [`forward`] by a chosen variant.
pub fn forward_by(
    variant: Variant,
    gpu: &Gpu,
    out: View<bf16>,
    lse: View<f32>,
    qkv: View<bf16>,
    shape: Shape,
) -> Result<()> {
    check(shape, [out, qkv], lse)?;
    match variant {
        _ if shape.n == 0 => Ok(()),
        Variant::Hopper { sms } => hopper::forward(gpu, sms, out, lse, qkv, shape),
        Variant::HopperLong { sms } => hopper::forward_long(gpu, sms, out, lse, qkv, shape),
        Variant::Portable => portable::forward(gpu, out, lse, qkv, shape),
    }
}

/// The gradient of `qkv`.
///
/// # Errors
/// As for [`forward`].
///
/// # Panics
/// As for [`forward`].
pub fn backward(gpu: &Gpu, of: Backward, shape: Shape) -> Result<()> {
    backward_by(Variant::backward(gpu, shape, gpu.sms())[0], gpu, of, shape)
}

/// [`backward`] by a chosen variant.
pub fn backward_by(variant: Variant, gpu: &Gpu, of: Backward, shape: Shape) -> Result<()> {
    let of = Backward { scratch: of.scratch.slice(0..scratch_len(shape)), ..of };
    check(shape, [of.out, of.qkv], of.lse)?;
    check(shape, [of.dout, of.dqkv], of.scratch)?;
    match variant {
        _ if shape.n == 0 => Ok(()),
        Variant::Hopper { sms } => hopper::backward(gpu, sms, of, shape),
        Variant::HopperLong { sms } => {
            portable::delta(gpu, of, shape)?;
            hopper::backward_long(gpu, sms, of, shape)
        }
        Variant::Portable => {
            portable::delta(gpu, of, shape)?;
            portable::backward(gpu, of, shape)
        }
    }
}

/// Lengths and alignments of (out, qkv) or their gradients.
fn check(shape: Shape, [out, qkv]: [View<bf16>; 2], lse: View<f32>) -> Result<()> {
    shape.check(qkv.len(), out.len(), lse.len());
    assert!(
        out.is_aligned(16) && qkv.is_aligned(16),
        "self-attention: out {:#x}, qkv {:#x} are not aligned to 16 bytes",
        out.address(),
        qkv.address()
    );
    if !HEAD_DIMS.contains(&shape.head_dim) {
        bail!(Device, "heads of {} values: the CUDA kernels of self-attention have {HEAD_DIMS:?}", shape.head_dim);
    }
    Ok(())
}
