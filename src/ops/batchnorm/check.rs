//! Batch normalisation per slot against the CPU op, slot by slot.

use half::bf16;

use crate::device::cuda::{Owned, View};
use crate::error::Result;
use crate::ops::batchnorm::cuda::{
    Activation, Backward, Settings, Shape, apply, backward_apply, backward_sums, frozen, moments, statistics,
};
use crate::ops::batchnorm::{self, EPS, Running};
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::relu;

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "batchnorm forward and backward bf16", run: |case| every_shape::<bf16>(case, Tolerance::bf16()) },
    Check { name: "batchnorm forward and backward f32", run: |case| every_shape::<f32>(case, F32) },
    Check { name: "batchnorm statistics far from zero", run: far_from_zero },
    Check { name: "batchnorm on two ranks", run: two_ranks },
    Check { name: "batchnorm by running statistics", run: frozen_statistics },
]);

/// Columns are sums over tens of rows: rounding of the statistics is all that differs.
const F32: Tolerance = Tolerance::f32();

/// One row, few rows, a block's 64 and its neighbours, more blocks than warps merge at once; columns of one lane, of a
/// warp's vectors and odd ones.
const SHAPES: [(usize, usize, usize); 10] = [
    (1, 1, 8),
    (2, 2, 1),
    (3, 3, 33),
    (2, 64, 16),
    (3, 65, 264),
    (6, 10, 40),
    (1, 129, 257),
    (2, 200, 512),
    (1, 700, 8),
    (2, 2113, 9),
];

/// What bf16 and f32 activations have in common here.
trait Stored: Activation {
    fn from(value: f32) -> Self;
    fn to(self) -> f32;
}

impl Stored for bf16 {
    fn from(value: f32) -> Self {
        bf16::from_f32(value)
    }

    fn to(self) -> f32 {
        self.to_f32()
    }
}

impl Stored for f32 {
    fn from(value: f32) -> Self {
        value
    }

    fn to(self) -> f32 {
        self
    }
}

/// Values as stored, on the device and widened.
fn stored<T: Stored>(case: &Case, values: &[f32]) -> Result<(Owned<T>, Vec<f32>)> {
    let rounded: Vec<T> = values.iter().map(|&v| T::from(v)).collect();
    Ok((case.gpu().upload(&rounded)?, rounded.into_iter().map(T::to).collect()))
}

fn read<T: Stored>(case: &Case, view: View<T>) -> Result<Vec<f32>> {
    Ok(case.gpu().read(view)?.into_iter().map(T::to).collect())
}

fn every_shape<T: Stored>(case: &Case, tolerance: Tolerance) -> Result<()> {
    for (slots, rows, cols) in SHAPES {
        let shape = Shape { slots, rows, cols };
        for (affine, relu) in [(true, true), (true, false), (false, false), (false, true)] {
            compare::<T>(case, shape, affine, relu, tolerance)?;
        }
    }
    if case.full() {
        compare::<T>(case, Shape { slots: 6, rows: 341, cols: 4096 }, true, true, tolerance)?;
    }
    Ok(())
}

/// Inputs and what the CPU makes of them.
struct Reference {
    x: Vec<f32>,
    dy: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    running: [Vec<f32>; 2],
    moved: [Vec<f32>; 2],
    stats: Vec<f32>,
    y: Vec<f32>,
    dx: Vec<f32>,
    dgamma: Vec<f32>,
    dbeta: Vec<f32>,
}

impl Reference {
    fn new(case: &Case, shape: Shape, x: Vec<f32>, dy: Vec<f32>, affine: bool, relu: bool) -> Self {
        let Shape { cols, rows, .. } = shape;
        let gamma: Vec<f32> = match affine {
            true => case.normal("gamma", cols, 0.5).iter().map(|v| 1.0 + v).collect(),
            false => vec![1.0; cols],
        };
        let beta = if affine { case.normal("beta", cols, 0.5) } else { vec![0.0; cols] };
        let running = [case.normal("mean", cols, 1.0), case.normal("var", cols, 1.0).iter().map(|v| v * v).collect()];
        let mut moved = running.clone();
        let (mut y, mut stats) = (vec![0.0; x.len()], vec![0.0; shape.stats_len()]);
        let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; x.len()], vec![0.5; cols], vec![0.25; cols]);
        for slot in 0..shape.slots {
            let values = slot * rows * cols..(slot + 1) * rows * cols;
            let (x, stats) = (&x[values.clone()], &mut stats[slot * 2 * cols..(slot + 1) * 2 * cols]);
            let [mean, var] = &mut moved;
            batchnorm::forward(&mut y[values.clone()], stats, Running { mean, var }, x, &gamma, &beta);
            let mut dy = dy[values.clone()].to_vec();
            if relu {
                relu::forward_in_place(&mut y[values.clone()]);
                relu::backward_in_place(&mut dy, &y[values.clone()]);
            }
            batchnorm::backward(&mut dx[values], &mut dgamma, &mut dbeta, &dy, x, stats, &gamma);
        }
        Self { x, dy, gamma, beta, running, moved, stats, y, dx, dgamma, dbeta }
    }
}

fn compare<T: Stored>(case: &Case, shape: Shape, affine: bool, relu: bool, tolerance: Tolerance) -> Result<()> {
    let gpu = case.gpu();
    let (x, values) = stored::<T>(case, &case.normal(&format!("x {shape:?}"), shape.values(), 1.5))?;
    let (dy, dvalues) = stored::<T>(case, &case.normal(&format!("dy {shape:?}"), shape.values(), 1.0))?;
    let want = Reference::new(case, shape, values, dvalues, affine, relu);
    let what = |name: &str| format!("{name} of {shape:?}, affine {affine}, relu {relu}");

    let (gamma, beta) = (case.f32(&want.gamma)?, case.f32(&want.beta)?);
    let affine = affine.then(|| [gamma.view(), beta.view()]);
    let running = [case.f32(&want.running[0])?, case.f32(&want.running[1])?];
    let running = [running[0].view(), running[1].view()];
    let scratch = gpu.upload(&vec![f32::NAN; shape.scratch_len()])?;
    let found = gpu.upload(&vec![f32::NAN; shape.stats_len()])?;
    let stats = gpu.upload(&vec![f32::NAN; shape.stats_len()])?;
    let y = gpu.upload(&vec![T::from(f32::NAN); shape.values()])?;
    moments(gpu, found.view(), x.view(), scratch.view(), shape)?;
    statistics(gpu, stats.view(), Some(running), found.view(), Settings::default(), shape)?;
    apply(gpu, y.view(), x.view(), stats.view(), affine, relu, shape)?;
    for (got, (name, want)) in running.iter().zip([("running mean", &want.moved[0]), ("running var", &want.moved[1])]) {
        case.close(&what(name), &gpu.read(*got)?, want, F32)?;
    }
    let statistics = gpu.read(stats.view())?;
    for slot in 0..shape.slots {
        let part = slot * 2 * shape.cols..(slot * 2 + 1) * shape.cols;
        case.close(&what("mean"), &statistics[part.clone()], &want.stats[part], F32)?;
        let part = (slot * 2 + 1) * shape.cols..(slot + 1) * 2 * shape.cols;
        case.close(&what("rstd"), &statistics[part.clone()], &want.stats[part], F32)?;
    }
    case.close(&what("y"), &read(case, y.view())?, &want.y, tolerance)?;
    if shape.rows < 3 {
        // Two rows are ±1 whatever they are: their gradient is rounding alone.
        return Ok(());
    }

    let sums = gpu.upload(&vec![f32::NAN; shape.stats_len()])?;
    let (dgamma, dbeta) = (case.f32(&vec![0.5; shape.cols])?, case.f32(&vec![0.25; shape.cols])?);
    let dx = gpu.upload(&vec![T::from(f32::NAN); shape.values()])?;
    let of = Backward { dy: dy.view(), x: x.view(), stats: stats.view(), affine, relu };
    let gradients = Some([dgamma.view(), dbeta.view()]);
    backward_sums(gpu, sums.view(), gradients, of, scratch.view(), shape)?;
    backward_apply(gpu, dx.view(), of, sums.view(), 1, shape)?;
    case.close(&what("dx"), &read(case, dx.view())?, &want.dx, tolerance)?;
    case.close(&what("dgamma"), &gpu.read(dgamma.view())?, &want.dgamma, F32)?;
    case.close(&what("dbeta"), &gpu.read(dbeta.view())?, &want.dbeta, F32)
}

/// Columns whose mean is a thousand deviations: sums of squares in f32 would lose the variance.
fn far_from_zero(case: &Case) -> Result<()> {
    let (gpu, shape) = (case.gpu(), Shape { slots: 2, rows: 150, cols: 12 });
    let values: Vec<f32> = case.normal("x", shape.values(), 1.0).iter().map(|v| 1000.0 + v).collect();
    let want = Reference::new(case, shape, values, vec![0.0; shape.values()], false, false);
    let x = case.f32(&want.x)?;
    let (scratch, found, stats) =
        (gpu.alloc(shape.scratch_len())?, gpu.alloc(shape.stats_len())?, gpu.alloc(shape.stats_len())?);
    moments(gpu, found.view(), x.view(), scratch.view(), shape)?;
    statistics(gpu, stats.view(), None, found.view(), Settings::default(), shape)?;
    // The CPU's squares are around a mean rounded to f32; 1000 ± 3e-5 is that rounding.
    case.close("stats far from zero", &gpu.read(stats.view())?, &want.stats, F32)
}

/// Rows dealt to two ranks: gathered moments and added sums give what one rank has.
fn two_ranks(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    let (whole, half) = (Shape { slots: 2, rows: 70, cols: 24 }, Shape { slots: 2, rows: 35, cols: 24 });
    let (x, dy) = (case.normal("x", whole.values(), 1.0), case.normal("dy", whole.values(), 1.0));
    let want = Reference::new(case, whole, x, dy, true, true);
    let affine = [case.f32(&want.gamma)?, case.f32(&want.beta)?];
    let affine = Some([affine[0].view(), affine[1].view()]);
    let of_rank = |values: &[f32], rank: usize| -> Vec<f32> {
        let slots = values.chunks_exact(whole.rows * whole.cols);
        slots.flat_map(|slot| slot[rank * half.rows * half.cols..][..half.rows * half.cols].to_vec()).collect()
    };
    let len = half.stats_len();
    let (scratch, gathered) = (gpu.alloc(half.scratch_len())?, gpu.alloc(2 * len)?);
    let (stats, sums) = (gpu.alloc::<f32>(len)?, gpu.alloc::<f32>(len)?);
    let ranks: Vec<[Owned<f32>; 2]> = (0..2)
        .map(|r| Ok([case.f32(&of_rank(&want.x, r))?, case.f32(&of_rank(&want.dy, r))?]))
        .collect::<Result<_>>()?;
    for (rank, [x, _]) in ranks.iter().enumerate() {
        moments(gpu, gathered.view().slice(rank * len..(rank + 1) * len), x.view(), scratch.view(), half)?;
    }
    statistics(gpu, stats.view(), None, gathered.view(), Settings::default(), half)?;
    case.close("stats", &gpu.read(stats.view())?, &want.stats, F32)?;
    let mut added = vec![0.0f32; len];
    let of =
        |[x, dy]: &[Owned<f32>; 2]| Backward { dy: dy.view(), x: x.view(), stats: stats.view(), affine, relu: true };
    for rank in &ranks {
        backward_sums(gpu, sums.view(), None, of(rank), scratch.view(), half)?;
        added.iter_mut().zip(gpu.read(sums.view())?).for_each(|(a, b)| *a += b);
    }
    gpu.write(sums.view(), &added)?;
    for (rank, both) in ranks.iter().enumerate() {
        let (y, dx) = (gpu.alloc(half.values())?, gpu.alloc(half.values())?);
        apply(gpu, y.view(), both[0].view(), stats.view(), affine, true, half)?;
        backward_apply(gpu, dx.view(), of(both), sums.view(), 2, half)?;
        case.close(&format!("y of rank {rank}"), &gpu.read(y.view())?, &of_rank(&want.y, rank), F32)?;
        case.close(&format!("dx of rank {rank}"), &gpu.read(dx.view())?, &of_rank(&want.dx, rank), F32)?;
    }
    Ok(())
}

fn frozen_statistics(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for cols in [1, 40, 130] {
        let shape = Shape { slots: 1, rows: 7, cols };
        let want = Reference::new(case, shape, case.normal("x", 7 * cols, 1.0), vec![0.0; 7 * cols], true, false);
        let [mean, var] = &want.running;
        let mut y = vec![0.0; 7 * cols];
        batchnorm::infer(&mut y, &want.x, mean, var, &want.gamma, &want.beta);
        let [mean, var, gamma, beta, x] = [mean, var, &want.gamma, &want.beta, &want.x].map(|values| case.f32(values));
        let (mean, var, gamma, beta, x) = (mean?, var?, gamma?, beta?, x?);
        let stats = gpu.alloc(2 * cols)?;
        frozen(gpu, stats.view(), [mean.view(), var.view()], EPS)?;
        // In place.
        apply(gpu, x.view(), x.view(), stats.view(), Some([gamma.view(), beta.view()]), false, shape)?;
        case.close("y", &gpu.read(x.view())?, &y, F32)?;
    }
    Ok(())
}
