//! Cross-entropy of rows against keys on CUDA: the kernels of [`crate::ops::contrastive`], whose rows are here none of
//! their candidates.

use super::both;
use crate::device::cuda::kernels::contrastive::PIECE;
use crate::device::cuda::kernels::pairs::THREADS;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;
use crate::ops::contrastive::cuda::{self as contrastive, Plan};
use crate::ops::reduce::cuda::Loss;

/// Sizes of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows whose losses are taken, R.
    pub rows: usize,
    /// Keys they are compared with, K.
    pub keys: usize,
    /// Values of each, d ≤ 1024.
    pub dim: usize,
}

impl Shape {
    fn check(self) {
        let Self { rows, keys, dim } = self;
        assert!(rows > 0 && keys > 0 && (1..=1024).contains(&dim), "pairs: {self:?}");
        let most = rows.max(keys);
        // The kernels count quarters of an operand's lines, and rows behind the keys, in 31 bits.
        assert!(
            most * dim.div_ceil(PIECE) < 1 << 29 && most * dim < 1 << 31 && rows + keys < 1 << 30,
            "pairs: {self:?} is too large"
        );
    }

    /// As the comparison of all rows with all keys.
    fn compared(self) -> contrastive::Shape {
        let Self { rows, keys, dim } = self;
        contrastive::Shape { anchors: rows, candidates: keys, slots: 0, dim, first: 0, total: rows }
    }

    fn pieces(self) -> usize {
        self.dim.div_ceil(PIECE)
    }

    /// Values of both sides as the kernels take them.
    fn operands_len(self) -> usize {
        self.compared().operand_len(self.rows + self.keys)
    }
}

/// Length of the scratch memory that either function needs for a shape: linear in rows and keys.
pub fn scratch_len(shape: Shape) -> usize {
    let Shape { rows, keys, dim } = shape;
    let forward = Plan::forward(shape.compared()).splits * rows * 4 + 2 * rows.div_ceil(256);
    let known = 2 * keys.next_multiple_of(4);
    let parts = match Plan::backward(rows, keys, dim, 0).splits {
        1 => 0,
        splits => splits * rows * dim,
    };
    shape.operands_len() + forward.max(known + parts)
}

/// What the loss looks at.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    pub shape: Shape,
    /// Unit rows `[R, d]` and unit keys `[K, d]`.
    pub rows: View<f32>,
    pub keys: View<f32>,
    /// Of the rows, of the keys.
    pub labels: [View<u32>; 2],
    pub temperature: f32,
    /// At least [`scratch_len`] values; what is left in it is of no use.
    pub scratch: View<f32>,
}

/// Both sides split into bf16 halves, two to a word, and the scratch memory behind them.
struct Operands {
    rows: View<u32>,
    keys: View<u32>,
    rest: View<f32>,
}

impl Batch {
    fn check(&self) {
        let Self { shape, rows, keys, labels, scratch, temperature } = *self;
        shape.check();
        assert!(
            rows.len() == shape.rows * shape.dim
                && keys.len() == shape.keys * shape.dim
                && labels[0].len() == shape.rows
                && labels[1].len() == shape.keys
                && scratch.len() >= scratch_len(shape)
                && temperature > 0.0,
            "pairs: {self:?}"
        );
        let aligned = !shape.dim.is_multiple_of(4) || (rows.is_aligned(16) && keys.is_aligned(16));
        assert!(aligned && scratch.is_aligned(16), "pairs: alignment of {self:?}");
    }

    /// log2(e)/τ: logits become powers of two.
    fn scale(&self) -> f32 {
        std::f32::consts::LOG2_E / self.temperature
    }

    fn split(&self, gpu: &Gpu) -> Result<Operands> {
        let Shape { rows, keys, dim } = self.shape;
        let (pieces, len) = (self.shape.pieces(), |rows| self.shape.compared().operand_len(rows));
        let (of_rows, of_both) = (len(rows), len(rows + keys));
        let operand = |range: std::ops::Range<usize>| self.scratch.slice(range).cast();
        let sides = [(operand(0..of_rows), self.rows, rows), (operand(of_rows..of_both), self.keys, keys)];
        for (operand, x, rows) in sides {
            let at = Launch::new((rows * pieces * 4).div_ceil(256), 256);
            let [rows, d, pieces] = [rows, dim, pieces].map(|n| n as u32);
            kernels::ContrastiveSplit { operand, x, rows, d, pieces }.launch(gpu, at)?;
        }
        let rest = self.scratch.slice(of_both..self.scratch.len());
        Ok(Operands { rows: sides[0].0, keys: sides[1].0, rest })
    }
}

/// The loss, a mean over rows; for the gradient, the log-sum-exp and 1/P (0 without a key) of each row, `[R]`.
pub fn forward(gpu: &Gpu, loss: Loss, lse: View<f32>, weight: View<f32>, batch: Batch) -> Result<()> {
    batch.check();
    let Shape { rows, keys, .. } = batch.shape;
    assert!(lse.len() == rows && weight.len() == rows, "pairs forward: {lse:?} {weight:?}");
    let operands = batch.split(gpu)?;
    let plan = Plan::forward(batch.shape.compared());
    let partial = operands.rest.slice(0..plan.splits * rows * 4);
    let blocks = rows.div_ceil(256);
    // f64: two values' room each, behind a multiple of 16 bytes.
    let losses = operands.rest.slice(partial.len()..partial.len() + 2 * blocks).cast::<f64>();
    let [row_labels, column_labels] = batch.labels;
    kernels::ContrastiveForward {
        partial,
        x: operands.rows,
        y: operands.keys,
        row_labels,
        column_labels,
        slot_labels: None,
        rows: rows as u32,
        columns: keys as u32,
        first_slot: keys as u32,
        // Row 0 is the key behind the last.
        shift: keys as u32,
        pieces: batch.shape.pieces() as u32,
        tiles: plan.tiles as u32,
        scale: batch.scale(),
    }
    .launch(gpu, plan.launch)?;
    let (splits, inverse_temperature) = (plan.splits as u32, 1.0 / batch.temperature);
    kernels::ContrastiveRows { lse, weight, losses, partial, rows: rows as u32, splits, inverse_temperature }
        .launch(gpu, Launch::new(blocks, 256))?;
    loss.over(rows).put(gpu, losses)
}

/// `drows [R, d]` (overwritten), times `factor`; `lse` and `weight` as [`forward`] gave them.
pub fn backward_rows(
    gpu: &Gpu,
    drows: View<f32>,
    lse: View<f32>,
    weight: View<f32>,
    factor: f32,
    batch: Batch,
) -> Result<()> {
    gradient(gpu, drows, (lse, weight), None, factor, batch)
}

/// As [`super::both::backward`]; `known` as [`forward`] gave them in either direction.
pub fn backward_both(
    gpu: &Gpu,
    drows: View<f32>,
    known: [(View<f32>, View<f32>); 2],
    factors: [f32; 2],
    batch: Batch,
) -> Result<()> {
    let [there, (lse, weight)] = known;
    assert!(lse.len() == batch.shape.keys && weight.len() == lse.len(), "pairs backward: {lse:?} {weight:?}");
    let ratio = both::ratio(factors, batch.shape.rows, batch.shape.keys);
    gradient(gpu, drows, there, Some((lse, weight, ratio)), factors[0], batch)
}

/// The gradient of the rows, which ask for keys and, where something is known of these, are asked for by them with a
/// factor that is `ratio` times theirs.
fn gradient(
    gpu: &Gpu,
    drows: View<f32>,
    (lse, weight): (View<f32>, View<f32>),
    asked: Option<(View<f32>, View<f32>, f32)>,
    factor: f32,
    batch: Batch,
) -> Result<()> {
    batch.check();
    let Shape { rows, keys, dim } = batch.shape;
    assert!(lse.len() == rows && weight.len() == rows && drows.len() == rows * dim, "pairs backward: {drows:?}");
    assert!(dim % 2 == 1 || drows.is_aligned(8), "pairs backward: alignment of {drows:?}");
    let operands = batch.split(gpu)?;
    let plan = Plan::backward(rows, keys, dim, gpu.shared_per_block());
    let room = keys.next_multiple_of(4);
    let [of_keys, share] = [0, room].map(|start| operands.rest.slice(start..start + keys));
    match asked {
        Some((lse, weight, ratio)) => {
            let at = Launch::new(keys.div_ceil(THREADS), THREADS as u32);
            let (count, log_ratio) = (keys as u32, ratio.ln());
            kernels::PairsShare { lse_to: of_keys, weight_to: share, lse, weight, count, ratio, log_ratio }
                .launch(gpu, at)?;
        }
        // Keys ask for nothing: a weight of 0 takes their softmax out.
        None => {
            gpu.zero(of_keys)?;
            gpu.zero(share)?;
        }
    }
    let parts = operands.rest.slice(2 * room..operands.rest.len());
    let [row_labels, column_labels] = batch.labels;
    let whole = kernels::ContrastiveBackward {
        out: drows,
        x: operands.rows,
        y: operands.keys,
        row_labels,
        row_lse: lse,
        row_weight: weight,
        column_labels,
        column_lse: of_keys,
        column_weight: share,
        slot_labels: None,
        rows: rows as u32,
        columns: keys as u32,
        first_slot: keys as u32,
        shift: keys as u32,
        pieces: batch.shape.pieces() as u32,
        tiles: plan.tiles as u32,
        d: dim as u32,
        scale: batch.scale(),
        factor: factor / (rows as f32 * batch.temperature),
    };
    plan.gradient(gpu, whole, parts)
}
