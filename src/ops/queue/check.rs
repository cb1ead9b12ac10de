//! Putting rows in a ring against the CPU op.

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks};
use crate::ops::queue::{clear, cuda, put};

pub const CHECKS: Checks = Checks::quick(&[Check { name: "queue, rows in a ring", run: every_shape }]);

/// Rows, slots, values: steps that divide the ring and steps that go around its end.
fn every_shape(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for (count, slots, d) in [(1, 1, 1), (4, 12, 8), (5, 12, 33), (7, 7, 3), (64, 150, 256)] {
        let (mut keys, mut kept) = (vec![0.0; slots * d], vec![0.0; slots]);
        clear(&mut keys, &mut kept);
        let ring = (case.f32(&keys)?, case.f32(&kept)?);
        for step in 0..4 {
            let rows = case.normal(&format!("rows {step}"), count * d, 1.0);
            let labels: Vec<u32> = (0..count).map(|row| (step * 100 + row / 2) as u32).collect();
            let start = step * count % slots;
            put(&mut keys, &mut kept, &rows, &labels, start);
            let (rows, labels, start) = (case.f32(&rows)?, gpu.upload(&labels)?, gpu.upload(&[start as u32])?);
            cuda::put(gpu, (ring.0.view(), ring.1.view()), rows.view(), labels.view(), start.view())?;
            let what = |name: &str| format!("{name} of {count} rows in {slots} slots, step {step}");
            case.same(&what("keys"), &gpu.read(ring.0.view())?, &keys)?;
            case.same(&what("labels"), &gpu.read(ring.1.view().cast::<u32>())?, super::labels(&kept))?;
        }
    }
    Ok(())
}
