//! Updates tensor by tensor, against the CPU op.

use half::bf16;

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::lars::cuda::{self, Buffers, Table, Tensors};
use crate::ops::lars::{Lars, Tensor};
use crate::ops::optimizer::cuda::Guard;

pub const CHECKS: Checks = Checks::quick(&[Check { name: "lars tensor by tensor f32", run: tensors }]);

/// Tensors of one value and of several pieces, every other one scaled, the first of zeros; a second update keeps
/// momentum, a third is withheld.
fn tensors(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    let lengths = if case.full() { vec![1, 700, 3_000_001, 5] } else { vec![1, 700, 70_001, 5, 32_768] };
    let mut all: Vec<Tensor> = Vec::new();
    for (number, len) in lengths.into_iter().enumerate() {
        let start = all.last().map_or(0, |tensor| tensor.range.end);
        all.push(Tensor { range: start..start + len, scaled: number % 2 == 0 });
    }
    let len = all[all.len() - 1].range.end;
    let table = Table::new(&all);
    let [pieces, first, scaled] = [gpu.upload(&table.pieces)?, gpu.upload(&table.first)?, gpu.upload(&table.scaled)?];
    let tensors = Tensors { pieces: pieces.view(), first: first.view(), scaled: scaled.view() };
    let scratch = gpu.upload(&vec![f64::NAN; table.scratch_len()])?;
    let lars = Lars { lr: 0.45, momentum: 0.9, weight_decay: 0.01, trust: 1e-3 };
    let settings = gpu.upload(&lars.settings())?;
    let (mut p, mut m) = (case.normal("p", len, 1.0), vec![0.0; len]);
    p[all[0].range.clone()].fill(0.0);
    let (on_p, on_m) = (case.f32(&p)?, case.f32(&m)?);
    let rounded = gpu.upload(&vec![bf16::NAN; len])?;
    let buffers = Buffers { p: on_p.view(), m: on_m.view(), rounded: rounded.view() };
    for (step, loss) in [1.0, 2.0, f32::NAN].into_iter().enumerate() {
        let g = case.normal(&format!("g {step}"), len, 0.1);
        let on_g = case.f32(&g)?;
        let (squares, loss) = (gpu.upload(&[1.0f64])?, gpu.upload(&[loss])?);
        let guard = Guard { sum_of_squares: squares.view(), loss: Some(loss.view()) };
        cuda::update(gpu, buffers, on_g.view(), tensors, settings.view(), guard, scratch.view())?;
        let withheld = step == 2;
        if !withheld {
            lars.update(&mut p, &mut m, &g, &all);
        }
        for Tensor { range, .. } in &all {
            for (what, got, want) in [("p", &on_p, &p), ("m", &on_m, &m)] {
                let got = gpu.read(got.view().slice(range.clone()))?;
                case.close(
                    &format!("{what} of {range:?}, update {step}"),
                    &got,
                    &want[range.clone()],
                    Tolerance::f32(),
                )?;
            }
        }
        let now: Vec<bf16> = gpu.read(on_p.view())?.into_iter().map(bf16::from_f32).collect();
        case.same("the rounded copy", &gpu.read(rounded.view())?, &now)?;
        let left = if withheld { g } else { vec![0.0; len] };
        case.same("the gradient", &gpu.read(on_g.view())?, &left)?;
    }
    Ok(())
}
