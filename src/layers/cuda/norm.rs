//! Norms, into 16 bits or e4m3.

use super::memory::Map;
use crate::device::cuda::{Gpu, Half, View};
use crate::error::Result;
use crate::ops::conv::cuda::Stored;
use crate::ops::groupnorm::cuda::{self as groupnorm, Modulation, Norm};
use crate::ops::layernorm::cuda::{self as layernorm, Affine};

/// `y`: the layer norm of the rows of `x`.
pub(super) fn layer_norm<T: Half>(gpu: &Gpu, y: Stored<T>, x: View<T>, affine: Affine) -> Result<()> {
    let c = affine.gamma.len();
    let rows = x.len() / c;
    match y {
        Stored::Half(y) => layernorm::infer(gpu, y, x, affine, rows, c),
        Stored::E4m3 { y, inverse } => layernorm::infer_e4m3(gpu, y, inverse, x, affine, rows, c),
    }
}

/// `y [rows, pixels, channels]`: the group norm of `parts` side by side, then SiLU if `silu`. Images of a part that has
/// fewer than `rows` repeat. `table` is for scales and shifts.
pub(super) fn group_norm<T: Half>(
    gpu: &Gpu,
    y: Stored<T>,
    parts: &[Map<T>],
    rows: usize,
    norm: Norm,
    silu: bool,
    table: View<f32>,
) -> Result<()> {
    let pixels = parts[0].pixels();
    let table = table.slice(0..groupnorm::table_len(rows, norm.gamma.len()));
    let moments: Vec<_> = parts.iter().map(|part| (part.moments, part.rows, part.channels)).collect();
    let values: Vec<_> = parts.iter().map(|part| (part.x, part.rows, part.channels)).collect();
    groupnorm::scale_shift(gpu, table, &moments, norm, rows, pixels)?;
    let modulation = Modulation { table, silu };
    match y {
        Stored::Half(y) => groupnorm::apply(gpu, y, &values, modulation, rows, pixels),
        Stored::E4m3 { y, inverse } => groupnorm::apply_e4m3(gpu, y, inverse, &values, modulation, rows, pixels),
    }
}
