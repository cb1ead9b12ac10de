//! Numbers that no drawing can have, by the flags that give them.

use crate::bail;
use crate::error::Result;

/// Refuses a `value` of `name` that is not from `low` to `high`.
pub(super) fn within(name: &str, value: usize, low: usize, high: usize) -> Result<()> {
    if !(low..=high).contains(&value) {
        bail!(Usage, "{name} {value}: expected {low} to {high}");
    }
    Ok(())
}

/// Refuses numbers of images at once that no run can have.
pub(super) fn check_batch(batch: Option<usize>) -> Result<()> {
    batch.map_or(Ok(()), |batch| within("--batch", batch, 1, 4_096))
}

/// Refuses guidance scales that are no reasonable number.
pub(super) fn check_scale(flag: &str, w: f32) -> Result<()> {
    if !(w.is_finite() && w.abs() <= 1_000.0) {
        bail!(Usage, "{flag} {w}: expected a number from -1000 to 1000; the paper's is 2");
    }
    Ok(())
}
