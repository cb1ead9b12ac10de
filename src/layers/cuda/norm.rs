//! Norms, into 16 bits or e4m3.

use super::memory::Map;
use crate::device::cuda::{Gpu, Half, View};
use crate::error::Result;
use crate::ops::conv::cuda::Stored;
use crate::ops::groupnorm::cuda as groupnorm;
use crate::ops::layernorm::cuda as layernorm;

/// Gain and shift of a norm over all channels.
#[derive(Clone, Copy, Debug)]
pub struct Affine {
    pub(super) gamma: View<f32>,
    pub(super) beta: View<f32>,
    pub(super) eps: f32,
}

impl Affine {
    /// `y`: the layer norm of the rows of `x`.
    pub fn forward<T: Half>(self, gpu: &Gpu, y: Stored<T>, x: View<T>) -> Result<()> {
        let Self { gamma, beta, eps } = self;
        let c = gamma.len();
        let rows = x.len() / c;
        match y {
            Stored::Half(y) => layernorm::infer(gpu, y, x, gamma, beta, eps, rows, c),
            Stored::E4m3 { y, inverse } => layernorm::infer_e4m3(gpu, y, inverse, x, gamma, beta, eps, rows, c),
        }
    }
}

/// A group norm.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    pub(super) affine: Affine,
    pub(super) groups: usize,
}

impl Norm {
    /// `y [rows, pixels, channels]`: the norm of `parts` side by side, then SiLU if `silu`. Images of a part that has
    /// fewer than `rows` repeat. `table` is for scales and shifts.
    pub fn forward<T: Half>(
        self,
        gpu: &Gpu,
        y: Stored<T>,
        parts: &[Map<T>],
        rows: usize,
        silu: bool,
        table: View<f32>,
    ) -> Result<()> {
        let Self { affine: Affine { gamma, beta, eps }, groups } = self;
        let pixels = parts[0].pixels();
        let table = table.slice(0..groupnorm::table_len(rows, gamma.len()));
        let moments: Vec<_> = parts.iter().map(|part| (part.moments, part.rows, part.channels)).collect();
        let values: Vec<_> = parts.iter().map(|part| (part.x, part.rows, part.channels)).collect();
        groupnorm::scale_shift(gpu, table, &moments, gamma, beta, groups, eps, rows, pixels)?;
        match y {
            Stored::Half(y) => groupnorm::apply(gpu, y, &values, table, silu, rows, pixels),
            Stored::E4m3 { y, inverse } => groupnorm::apply_e4m3(gpu, y, inverse, &values, table, silu, rows, pixels),
        }
    }
}
