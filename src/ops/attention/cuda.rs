//! The CUDA side of [`super`]: which kernels serve a shape, how they are launched.

mod heads;
pub mod hopper;
pub mod portable;

pub use heads::Heads;
pub use hopper::Values;

use self::heads::{CONTEXT, WIDE, WIDTH};
use super::Shape;
use crate::bail;
use crate::device::cuda::{Arch, Gpu, Half, View};
use crate::error::Result;

/// The kernels that compute attention; all give the same results up to rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// TMA and wgmma, on at most so many multiprocessors: up to 160 values per head, not causal.
    Hopper { sms: u32, values: Values },
    /// cp.async and mma.sync: every shape, every card.
    Portable,
}

impl Variant {
    /// All variants of [`forward`] that the GPU can run on this shape, the best one first, on at most `sms`
    /// multiprocessors (few make a block of small shapes too take several heads). Which is first depends on the size of
    /// an image, so that its bits do, and on [`hopper::reads_parts_of_spans`], which does not change them.
    ///
    /// # Errors
    /// Device error if the card cannot be asked the latter: the first call of a process must not be recorded.
    pub fn forward(gpu: &Gpu, shape: Shape, sms: u32) -> Result<Vec<Self>> {
        if gpu.arch() != Arch::Sm90 || !hopper::fits(shape) {
            return Ok(vec![Self::Portable]);
        }
        let mut ways = hopper::ways(shape);
        if let [Values::Own, spans @ ..] = ways
            && !hopper::reads_parts_of_spans(gpu)?
        {
            ways = spans;
        }
        let mut all: Vec<Self> = ways.iter().map(|&values| Self::Hopper { sms, values }).collect();
        // One of the warpgroups of a block would be idle with fewer queries.
        let first = if shape.queries > 64 { all.len() } else { 0 };
        all.insert(first, Self::Portable);
        Ok(all)
    }
}

/// `y [N, queries, G·d]` from Q, K and V. Causal up to 160 values per head.
///
/// # Errors
/// Device error for heads that no kernel serves, or if the launch fails.
///
/// # Panics
/// If lengths or alignments (16 bytes, also of the strides) do not fit.
pub fn forward<T: Half>(gpu: &Gpu, y: View<T>, q: Heads<T>, k: Heads<T>, v: Heads<T>, shape: Shape) -> Result<()> {
    forward_by(Variant::forward(gpu, shape, gpu.sms())?[0], gpu, y, q, k, v, shape)
}

/// [`forward`] by a chosen variant.
pub fn forward_by<T: Half>(
    variant: Variant,
    gpu: &Gpu,
    y: View<T>,
    q: Heads<T>,
    k: Heads<T>,
    v: Heads<T>,
    shape: Shape,
) -> Result<()> {
    if shape.n * shape.queries == 0 {
        return Ok(());
    }
    check(y, shape, if shape.causal { WIDTH } else { WIDE })?;
    q.check("q", shape.n * shape.queries, shape.width());
    k.check("k", shape.n * shape.keys, shape.width());
    v.check("v", shape.n * shape.keys, shape.width());
    match variant {
        Variant::Hopper { sms, values } => hopper::forward(gpu, (sms, values), y, q, k, v, shape),
        Variant::Portable => portable::forward(gpu, y, q, k, v, shape),
    }
}

/// `y [N, queries, G·d]` where row n attends to context `which[n]` of `kv [contexts, keys, 2·G·d]` (k, then v), with
/// the queries of image n mod `q_rows`. At most 128 keys. What `which` says is not checked.
///
/// # Errors
/// As for [`forward`].
///
/// # Panics
/// As for [`forward`].
pub fn cross<T: Half>(
    gpu: &Gpu,
    y: View<T>,
    q: Heads<T>,
    q_rows: usize,
    kv: View<T>,
    which: View<u32>,
    shape: Shape,
) -> Result<()> {
    if shape.n * shape.queries == 0 {
        return Ok(());
    }
    check(y, shape, WIDTH)?;
    let context = 2 * shape.width();
    assert!(q_rows > 0 && !shape.causal, "attention: {q_rows} images of queries for {shape:?}");
    q.check("q", q_rows.min(shape.n) * shape.queries, shape.width());
    Heads { x: kv, stride: context }.check("kv", shape.keys, context);
    assert!(which.len() >= shape.n, "attention: contexts of {} rows for {}", which.len(), shape.n);
    if shape.keys > CONTEXT {
        bail!(Device, "contexts of {} tokens: the CUDA kernels of cross-attention take {CONTEXT}", shape.keys);
    }
    portable::cross(gpu, y, q, q_rows, kv, which, shape)
}

fn check<T: Half>(y: View<T>, shape: Shape, most: usize) -> Result<()> {
    let values = shape.n * shape.queries * shape.width();
    assert!(y.len() == values && y.is_aligned(16), "attention: {y:?} for {shape:?}");
    assert!(shape.keys > 0, "attention without keys");
    if shape.head_dim > most || !shape.head_dim.is_multiple_of(8) {
        bail!(
            Device,
            "heads of {} values: the CUDA kernels of attention take multiples of 8 up to {most} here",
            shape.head_dim
        );
    }
    Ok(())
}
