//! Gradients cut tensor by tensor, against the CPU op.

use std::ops::Range;

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::clip::clip;
use crate::ops::clip::cuda::{self, Table};

pub const CHECKS: Checks = Checks::quick(&[Check { name: "clip tensor by tensor f32", run: tensors }]);

/// Tensors of one value and of several pieces, some of which are short enough as they are.
fn tensors(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    let lengths = if case.full() { vec![1, 700, 3_000_001, 5] } else { vec![1, 700, 70_001, 5, 32_768] };
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for len in lengths {
        let start = ranges.last().map_or(0, |range| range.end);
        ranges.push(start..start + len);
    }
    let len = ranges[ranges.len() - 1].end;
    let table = Table::new(&ranges);
    let (pieces, first) = (gpu.upload(&table.pieces)?, gpu.upload(&table.first)?);
    let scratch = gpu.upload(&vec![f64::NAN; table.pieces.len() / 3])?;
    for (std, most) in [(1.0, 3.0), (1e-3, 0.05)] {
        let mut g = case.normal("g", len, std);
        let device = case.f32(&g)?;
        cuda::clip(gpu, device.view(), (pieces.view(), first.view()), most, scratch.view())?;
        let before = g.clone();
        clip(&mut g, &ranges, most);
        let got = gpu.read(device.view())?;
        for range in ranges.clone() {
            case.close(
                &format!("{range:?}, at most {most}"),
                &got[range.clone()],
                &g[range.clone()],
                Tolerance::f32(),
            )?;
        }
        case.same("what is short enough", &got[0..1], &before[0..1])?;
    }
    Ok(())
}
