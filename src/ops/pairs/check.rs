//! Cross-entropy of rows against keys, against the CPU's.

use crate::bail;
use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::pairs::cuda::{Batch, Shape, backward_both, backward_rows, forward, scratch_len};
use crate::ops::reduce::cuda::Loss;
use crate::ops::{l2norm, pairs};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "pairs forward and gradient f32", run: whole },
    Check { name: "pairs, gradient of both directions f32", run: both_ways },
    Check { name: "pairs not a number", run: not_a_number },
]);

/// As of the contrastive loss: softmaxes are off by as much as the logits.
const GRADIENT: Tolerance = Tolerance { difference: 1e-9, relative: 5e-4, of_rms: 5e-4 };

fn unit_rows(case: &Case, name: &str, rows: usize, dim: usize) -> Vec<f32> {
    let x = case.normal(name, rows * dim, 1.0);
    let mut z = vec![0.0; x.len()];
    l2norm::forward(&mut z, &mut vec![0.0; rows], &x, 1e-12);
    z
}

/// Rows, keys and the labels of both.
struct Sides {
    rows: Vec<f32>,
    keys: Vec<f32>,
    labels: [Vec<u32>; 2],
    shape: Shape,
}

impl Sides {
    /// `kinds` labels in no order; `None`: row i has key i alone.
    fn new(case: &Case, shape: Shape, kinds: Option<usize>) -> Self {
        let mut stream = case.stream("labels");
        let mut labels = |len: usize| match kinds {
            Some(kinds) => (0..len).map(|_| stream.below(kinds) as u32).collect(),
            None => (0..len as u32).collect(),
        };
        let labels = [labels(shape.rows), labels(shape.keys)];
        let rows = unit_rows(case, "rows", shape.rows, shape.dim);
        Self { rows, keys: unit_rows(case, "keys", shape.keys, shape.dim), labels, shape }
    }
}

struct Got {
    loss: f32,
    lse: Vec<f32>,
    weight: Vec<f32>,
    drows: Vec<f32>,
}

/// The loss goes to one that is 2 already where `add`. Outputs begin as NaN, so that what is not written shows.
fn on_device(case: &Case, sides: &Sides, temperature: f32, factor: f32, add: bool) -> Result<Got> {
    let (gpu, shape) = (case.gpu(), sides.shape);
    let (rows, keys) = (gpu.upload(&sides.rows)?, gpu.upload(&sides.keys)?);
    let (of_rows, of_keys) = (gpu.upload(&sides.labels[0])?, gpu.upload(&sides.labels[1])?);
    let scratch = gpu.upload(&vec![f32::NAN; scratch_len(shape)])?;
    let loss = gpu.upload(&[if add { 2.0 } else { f32::NAN }])?;
    let [lse, weight, drows] = [shape.rows, shape.rows, sides.rows.len()].map(|len| gpu.upload(&vec![f32::NAN; len]));
    let (lse, weight, drows) = (lse?, weight?, drows?);
    let labels = [of_rows.view(), of_keys.view()];
    let (rows, keys, scratch) = (rows.view(), keys.view(), scratch.view());
    let batch = Batch { shape, rows, keys, labels, temperature, scratch };
    forward(gpu, Loss::new(loss.view(), factor, add), lse.view(), weight.view(), batch)?;
    backward_rows(gpu, drows.view(), lse.view(), weight.view(), factor, batch)?;
    Ok(Got {
        loss: gpu.read(loss.view())?[0],
        lse: gpu.read(lse.view())?,
        weight: gpu.read(weight.view())?,
        drows: gpu.read(drows.view())?,
    })
}

fn compare(case: &Case, sides: &Sides, temperature: f32, factor: f32, add: bool) -> Result<()> {
    let shape = sides.shape;
    let what = format!("{shape:?}, τ {temperature}, added: {add}");
    let labels = [&sides.labels[0][..], &sides.labels[1][..]];
    let batch = pairs::Batch { rows: &sides.rows, keys: &sides.keys, labels, temperature };
    let (mut lse, mut weight, mut drows) = (vec![0.0; shape.rows], vec![0.0; shape.rows], vec![0.0; sides.rows.len()]);
    let loss = f64::from(factor) * pairs::forward(&mut lse, &mut weight, batch) + if add { 2.0 } else { 0.0 };
    pairs::backward_rows(&mut drows, &lse, &weight, factor, batch);
    let got = on_device(case, sides, temperature, factor, add)?;
    case.same(&format!("{what}: 1/P"), &got.weight, &weight)?;
    case.close(&format!("{what}: log-sum-exp"), &got.lse, &lse, Tolerance::f32())?;
    // One key leaves nothing to tell: the loss is 0.
    case.close(&format!("{what}: loss"), &[got.loss + 1.0], &[loss as f32 + 1.0], Tolerance::f32())?;
    gradients(case, &format!("{what}: gradient"), shape, &got.drows, &drows)
}

/// That of one key is 0 but for rounding: it is compared beside 1.
fn gradients(case: &Case, what: &str, shape: Shape, got: &[f32], want: &[f32]) -> Result<()> {
    let beside = if shape.keys == 1 { 1.0 } else { 0.0 };
    let [got, want] = [got, want].map(|values| values.iter().map(|value| value + beside).collect::<Vec<_>>());
    case.close(what, &got, &want, GRADIENT)
}

fn whole(case: &Case) -> Result<()> {
    // More rows than keys and the other way round, one key, several tiles of each, and columns that several blocks
    // share.
    let shapes = [
        (1, 1, 8),
        (5, 5, 16),
        (70, 33, 31),
        (33, 70, 64),
        (129, 300, 128),
        (300, 129, 256),
        (40, 900, 257),
        (3, 1, 4),
    ];
    for (i, (rows, keys, dim)) in shapes.into_iter().enumerate() {
        let shape = Shape { rows, keys, dim };
        for kinds in [Some(1 + rows.min(keys) / 3), None] {
            compare(case, &Sides::new(case, shape, kinds), 0.2, 0.4, i % 2 == 0)?;
        }
    }
    if case.full() {
        compare(case, &Sides::new(case, Shape { rows: 4096, keys: 4096, dim: 256 }, None), 0.2, 0.4, false)?;
    }
    Ok(())
}

/// A broken key must reach the loss and the gradient.
fn not_a_number(case: &Case) -> Result<()> {
    let mut sides = Sides::new(case, Shape { rows: 40, keys: 150, dim: 16 }, None);
    sides.keys[139 * 16 + 3] = f32::NAN;
    let got = on_device(case, &sides, 0.2, 1.0, false)?;
    if !got.loss.is_nan() || !got.drows.iter().all(|v| v.is_nan()) {
        bail!(Failed, "a key that is not a number gave the loss {} and finite gradients", got.loss);
    }
    Ok(())
}

/// Images and texts: rows of length e^s, several of them for a key; the losses of both directions weighed differently.
fn both_ways(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for (rows, keys, dim) in [(1, 1, 8), (70, 33, 31), (129, 300, 128), (300, 50, 256)] {
        let mut sides = Sides::new(case, Shape { rows, keys, dim }, None);
        sides.labels[0].iter_mut().for_each(|label| *label %= keys as u32);
        sides.rows.iter_mut().for_each(|value| *value *= 14.0);
        let labels = [&sides.labels[0][..], &sides.labels[1][..]];
        let there = pairs::Batch { rows: &sides.rows, keys: &sides.keys, labels, temperature: 1.0 };
        let back =
            pairs::Batch { rows: &sides.keys, keys: &sides.rows, labels: [labels[1], labels[0]], temperature: 1.0 };
        let known = |batch, len| {
            let (mut lse, mut weight) = (vec![0.0; len], vec![0.0; len]);
            pairs::forward(&mut lse, &mut weight, batch);
            (lse, weight)
        };
        let known = [known(there, rows), known(back, keys)];
        let factors = [0.5, 0.3];
        let mut want = vec![0.0; rows * dim];
        pairs::both::backward(&mut want, [0, 1].map(|i| (&known[i].0[..], &known[i].1[..])), factors, there);

        let (x, y) = (gpu.upload(&sides.rows)?, gpu.upload(&sides.keys)?);
        let (of_rows, of_keys) = (gpu.upload(labels[0])?, gpu.upload(labels[1])?);
        let scratch = gpu.upload(&vec![f32::NAN; scratch_len(sides.shape)])?;
        let [(l0, w0), (l1, w1)] = &known;
        let (l0, w0, l1, w1) = (gpu.upload(l0)?, gpu.upload(w0)?, gpu.upload(l1)?, gpu.upload(w1)?);
        let drows = gpu.upload(&vec![f32::NAN; rows * dim])?;
        let batch = Batch {
            shape: sides.shape,
            rows: x.view(),
            keys: y.view(),
            labels: [of_rows.view(), of_keys.view()],
            temperature: 1.0,
            scratch: scratch.view(),
        };
        backward_both(gpu, drows.view(), [(l0.view(), w0.view()), (l1.view(), w1.view())], factors, batch)?;
        gradients(case, &format!("{:?}, both ways", sides.shape), sides.shape, &gpu.read(drows.view())?, &want)?;
    }
    Ok(())
}
