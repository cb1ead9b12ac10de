//! The multi-positive contrastive loss against the CPU's, and against f64 where the CPU's own rounding would hide the
//! kernels'.

use crate::bail;
use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::contrastive::cuda::{Batch, Plan, Queue, Shape, backward, forward, scratch_len};
use crate::ops::queue::EMPTY;
use crate::ops::{contrastive, l2norm};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "contrastive forward and backward f32", run: whole },
    Check { name: "contrastive many dimensions f32", run: wide },
    Check { name: "contrastive with a queue f32", run: queued },
    Check { name: "contrastive logits against f64", run: precision },
    Check { name: "contrastive ranks make the whole", run: ranks },
    Check { name: "contrastive not a number", run: not_a_number },
    Check { name: "contrastive scratch is linear in the rows", run: memory },
]);

/// What a product of unit rows can be off by, three roundings of 2⁻¹⁸; a logit by 1/τ times that.
const PRODUCT: f32 = 3.0 / (1 << 18) as f32;

/// Of a gradient: its softmaxes are off by as much as the logits, 1e-4 at the smallest temperature.
const GRADIENT: Tolerance = Tolerance { difference: 1e-9, relative: 5e-4, of_rms: 5e-4 };

/// Log-sum-exps within what their logits are off by. A row alone has −∞.
fn log_sums_close(what: &str, got: &[f32], want: &[f32], temperature: f32) -> Result<()> {
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let within = got == want || (got - want).abs() <= PRODUCT / temperature + 1e-6 * want.abs();
        if !within {
            bail!(Failed, "{what}[{i}]: got {got}, expected {want} ± {:.1e}", PRODUCT / temperature);
        }
    }
    Ok(())
}

/// Unit rows and labels, and those of a queue.
struct Rows {
    z: Vec<f32>,
    labels: Vec<u32>,
    keys: Vec<f32>,
    of_slots: Vec<u32>,
}

/// Unit rows of normal values.
fn unit(case: &Case, name: &str, rows: usize, dim: usize) -> Vec<f32> {
    let x = case.normal(name, rows * dim, 1.0);
    let (mut z, mut norms) = (vec![0.0; x.len()], vec![0.0; rows]);
    l2norm::forward(&mut z, &mut norms, &x, 1e-12);
    z
}

impl Rows {
    fn new(case: &Case, name: &str, labels: Vec<u32>, dim: usize) -> Self {
        Self { z: unit(case, name, labels.len(), dim), labels, keys: Vec::new(), of_slots: Vec::new() }
    }

    /// With keys of the labels `of_slots`: what an empty slot holds must change nothing, so it holds something.
    fn queued(self, case: &Case, of_slots: Vec<u32>) -> Self {
        let dim = self.z.len() / self.labels.len();
        let keys = unit(case, "keys", of_slots.len(), dim);
        Self { keys, of_slots, ..self }
    }

    fn of(&self, temperature: f32) -> contrastive::Batch<'_> {
        let queue = contrastive::Queue { keys: &self.keys, labels: &self.of_slots };
        contrastive::Batch { z: &self.z, labels: &self.labels, queue, temperature }
    }
}

/// View-major labels, as batches come: row = view·captions + caption.
fn view_major(captions: usize, views: usize) -> Vec<u32> {
    (0..captions * views).map(|row| (row % captions) as u32 * 7 + 3).collect()
}

/// Labels in no order, some of them once only.
fn unsorted(case: &Case, rows: usize, classes: usize) -> Vec<u32> {
    let mut stream = case.stream("labels");
    (0..rows).map(|_| stream.below(classes) as u32).collect()
}

/// What the device gave for a shape.
struct Got {
    loss: f32,
    lse: Vec<f32>,
    weight: Vec<f32>,
    dz: Vec<f32>,
}

/// Forward and backward of one rank. Outputs begin as NaN, so that what is not written shows.
fn on_device(case: &Case, rows: &Rows, temperature: f32) -> Result<Got> {
    let gpu = case.gpu();
    let count = rows.labels.len();
    let slots = rows.of_slots.len();
    let shape = Shape { slots, ..Shape::whole(count, rows.z.len() / count) };
    let (z, labels) = (gpu.upload(&rows.z)?, gpu.upload(&rows.labels)?);
    let kept = match slots {
        0 => None,
        _ => Some((gpu.upload(&rows.keys)?, gpu.upload(&rows.of_slots)?)),
    };
    let queue = kept.as_ref().map(|(keys, labels)| Queue { keys: keys.view(), labels: labels.view() });
    let scratch = gpu.alloc::<f32>(scratch_len(shape))?;
    let [loss, lse, weight, dz] = [1, count, count, rows.z.len()].map(|len| gpu.upload(&vec![f32::NAN; len]));
    let (loss, lse, weight, dz) = (loss?, lse?, weight?, dz?);
    let batch = Batch { shape, z: z.view(), labels: labels.view(), queue, temperature, scratch: scratch.view() };
    forward(gpu, loss.view(), lse.view(), weight.view(), batch)?;
    backward(gpu, dz.view(), lse.view(), weight.view(), batch)?;
    Ok(Got {
        loss: gpu.read(loss.view())?[0],
        lse: gpu.read(lse.view())?,
        weight: gpu.read(weight.view())?,
        dz: gpu.read(dz.view())?,
    })
}

fn compare(case: &Case, what: &str, rows: &Rows, temperature: f32) -> Result<()> {
    let count = rows.labels.len();
    let (mut lse, mut weight, mut dz) = (vec![0.0; count], vec![0.0; count], vec![0.0; rows.z.len()]);
    let loss = contrastive::forward(&mut lse, &mut weight, rows.of(temperature));
    contrastive::backward(&mut dz, &lse, &weight, rows.of(temperature));
    let got = on_device(case, rows, temperature)?;
    case.same(&format!("{what}: 1/P"), &got.weight, &weight)?;
    log_sums_close(&format!("{what}: log-sum-exp"), &got.lse, &lse, temperature)?;
    case.close(&format!("{what}: loss"), &[got.loss], &[loss as f32], Tolerance::f32())?;
    case.close(&format!("{what}: dz"), &got.dz, &dz, GRADIENT)
}

fn whole(case: &Case) -> Result<()> {
    // Captions, views, values per row, temperature. From 129 rows on a block goes over several column tiles, from 257
    // on several blocks share them; 128 and 256 values fill all slots of the backward.
    let shapes = [
        (1, 1, 8, 0.1),
        (2, 1, 64, 0.1),
        (3, 2, 8, 0.07),
        (7, 3, 64, 0.1),
        (43, 6, 128, 0.1),
        (64, 4, 64, 1.0),
        (64, 2, 256, 0.07),
        (65, 4, 256, 0.1),
        (65, 3, 31, 0.2),
        (129, 1, 33, 0.1),
    ];
    for (captions, views, dim, temperature) in shapes {
        let rows = Rows::new(case, "z", view_major(captions, views), dim);
        compare(case, &format!("{captions} captions × {views}, d {dim}, τ {temperature}"), &rows, temperature)?;
    }
    let rows = Rows::new(case, "z", unsorted(case, 150, 60), 24);
    compare(case, "unsorted labels", &rows, 0.1)?;
    let rows = Rows::new(case, "z", vec![5; 70], 16);
    compare(case, "one label", &rows, 0.1)?;
    if case.full() {
        let rows = Rows::new(case, "z", view_major(1376, 6), 256);
        compare(case, "1376 captions × 6, d 256", &rows, 0.1)?;
    }
    Ok(())
}

/// More values than a block's registers hold: d is cut, the logits are made again for every part.
fn wide(case: &Case) -> Result<()> {
    for (count, dim) in [(40, 257), (70, 520), (33, 1024)] {
        let rows = Rows::new(case, "z", unsorted(case, count, 15), dim);
        compare(case, &format!("{count} rows, d {dim}"), &rows, 0.1)?;
    }
    Ok(())
}

/// Keys of earlier steps behind the rows: full, with empty slots between and behind the others, with none filled; in
/// the tile of the last rows and in tiles and splits of their own; rows whose only positives are there.
fn queued(case: &Case) -> Result<()> {
    let (labels, dims) = (|rows: usize, classes| unsorted(case, rows, classes), [8, 64, 256, 33]);
    for (rows, slots, dim) in [(3, 1, 0), (6, 130, 1), (64, 64, 1), (70, 300, 2), (128, 128, 3), (130, 700, 1)] {
        let dim = dims[dim];
        for empty in ["none", "some", "all"] {
            let of_slots = |slot: usize, label: u32| match empty {
                "none" => label,
                "some" if slot % 7 != 3 && slot < slots - slots / 3 => label,
                _ => EMPTY,
            };
            let of_slots = labels(slots, rows).into_iter().enumerate().map(|(slot, label)| of_slots(slot, label));
            let of_slots = of_slots.collect();
            let rows = Rows::new(case, "z", labels(rows, 2 * rows), dim).queued(case, of_slots);
            let what = format!("{} rows, {slots} slots, d {dim}, {empty} empty", rows.labels.len());
            compare(case, &what, &rows, 0.1)?;
        }
    }
    // So sharp that nothing may be left of a slot that is empty.
    let rows = Rows::new(case, "z", view_major(20, 2), 64).queued(case, vec![EMPTY; 90]);
    compare(case, "empty slots, τ 0.02", &rows, 0.02)?;
    if case.full() {
        let rows = Rows::new(case, "z", view_major(1376, 6), 256).queued(case, unsorted(case, 65_536, 4000));
        compare(case, "1376 captions × 6, 65536 slots, d 256", &rows, 0.1)?;
    }
    Ok(())
}

/// Rows that lie close together have large logits, whose rounding the softmax shows most.
fn precision(case: &Case) -> Result<()> {
    let (count, dim, temperature) = (96, 256, 0.07f32);
    let mut rows = Rows::new(case, "z", view_major(24, 4), dim);
    let noise = Rows::new(case, "noise", rows.labels.clone(), dim);
    for row in 0..count {
        for k in 0..dim {
            rows.z[row * dim + k] = rows.z[row % 24 * dim + k] + 0.3 * noise.z[row * dim + k];
        }
    }
    let x = rows.z.clone();
    l2norm::forward(&mut rows.z, &mut vec![0.0; count], &x, 1e-12);
    let z = |i: usize, k: usize| f64::from(rows.z[i * dim + k]);
    let s = |i: usize, j: usize| (0..dim).map(|k| z(i, k) * z(j, k)).sum::<f64>() / f64::from(temperature);
    let want: Vec<f32> =
        (0..count).map(|i| (0..count).filter(|&j| j != i).map(|j| s(i, j).exp()).sum::<f64>().ln() as f32).collect();
    let got = on_device(case, &rows, temperature)?;
    for (i, (&got, &want)) in got.lse.iter().zip(&want).enumerate() {
        // Logits up to 14.3: 1.6e-4 at the very worst, 1e-5 as a rule (plain f32: 4e-6); two bf16 products instead of
        // three: 1e-3.
        let within = (got - want).abs() < 5e-5;
        if !within {
            bail!(Failed, "log-sum-exp[{i}]: got {got}, in f64 {want}");
        }
    }
    Ok(())
}

/// Two ranks with uneven shares: their losses add up to the whole's, their gradients are parts of it.
fn ranks(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    let (count, dim, cut, temperature) = (200, 40, 132, 0.1);
    let rows = Rows::new(case, "z", unsorted(case, count, 50), dim);
    let one = on_device(case, &rows, temperature)?;
    let (z, labels) = (gpu.upload(&rows.z)?, gpu.upload(&rows.labels)?);
    let (all_lse, all_weight) = (gpu.upload(&one.lse)?, gpu.upload(&one.weight)?);
    let mut loss_sum = 0.0;
    let mut dz = Vec::new();
    for (first, anchors) in [(0, cut), (cut, count - cut)] {
        let shape = Shape::rank(first, anchors, count, dim);
        let scratch = gpu.alloc::<f32>(scratch_len(shape))?;
        let (loss, lse, weight) = (gpu.alloc::<f32>(1)?, gpu.alloc::<f32>(anchors)?, gpu.alloc::<f32>(anchors)?);
        let (z, labels, scratch) = (z.view(), labels.view(), scratch.view());
        let batch = Batch { shape, z, labels, queue: None, temperature, scratch };
        forward(gpu, loss.view(), lse.view(), weight.view(), batch)?;
        loss_sum += gpu.read(loss.view())?[0];
        log_sums_close("rank's log-sum-exp", &gpu.read(lse.view())?, &one.lse[first..first + anchors], temperature)?;
        let own = gpu.alloc::<f32>(anchors * dim)?;
        backward(gpu, own.view(), all_lse.view(), all_weight.view(), batch)?;
        dz.extend(gpu.read(own.view())?);
    }
    case.close("loss of all ranks", &[loss_sum], &[one.loss], Tolerance::f32())?;
    case.close("dz by gathered log-sum-exps", &dz, &one.dz, GRADIENT)
}

/// A broken feature must reach the loss, whatever its place among the maxima.
fn not_a_number(case: &Case) -> Result<()> {
    for broken in [0, 5 * 16 + 3, 139 * 16] {
        let mut rows = Rows::new(case, "z", view_major(35, 4), 16);
        rows.z[broken] = f32::NAN;
        let got = on_device(case, &rows, 0.1)?;
        if !got.loss.is_nan() || !got.dz.iter().all(|v| v.is_nan()) {
            bail!(Failed, "a feature that is not a number gave the loss {} and finite gradients", got.loss);
        }
    }
    Ok(())
}

fn memory(case: &Case) -> Result<()> {
    for dim in [64, 256, 1024] {
        // Bytes per row: its halves, and the parts of a gradient where the columns are split.
        let most = 4 * dim + 8 * 4 * dim + 1024;
        for count in [1024, 8192, 8256, 65_536, 131_072] {
            let bytes = 4 * scratch_len(Shape::whole(count, dim));
            if bytes > most * count {
                bail!(Failed, "{count} rows of {dim} take {bytes} bytes of scratch, more than {most} per row");
            }
        }
    }
    // Enough blocks for two per SM, whatever the rows.
    for count in [8192, 65_536] {
        let shape = Shape::whole(count, 256);
        for plan in [Plan::forward(shape), Plan::backward(count, count, 256, case.gpu().shared_per_block())] {
            let blocks: u32 = plan.launch.grid.iter().product();
            if blocks < 264 {
                bail!(Failed, "{count} rows: {blocks} blocks");
            }
        }
    }
    Ok(())
}
