//! The multi-positive contrastive loss on CUDA: `kernels/contrastive.cu`, on every card.
//!
//! Every row of `z` is a candidate, rows `first..first + anchors` are anchors. What a rank of a data-parallel run does,
//! with everybody's features and labels gathered: [`forward`] for its own rows, their part of the mean over all rows
//! and their log-sum-exps and weights; with these two numbers per row gathered, [`backward`] gives the whole gradient
//! of its own rows, in one pass and with no reduction. The slots of a [`Queue`] are further candidates of all anchors.

use crate::device::cuda::kernels::contrastive::{
    BACKWARD_THREADS, BACKWARD_TILE, EMPTY, FORWARD_SHARED, FORWARD_THREADS, FORWARD_TILE, LINE, PIECE, X_SLOTS,
};
use crate::device::cuda::{Element, Gpu, Launch, View, kernels};
use crate::error::Result;
use crate::ops::queue;
use crate::ops::reduce::cuda::Loss;

const _: () = assert!(EMPTY == queue::EMPTY as usize);

/// Sizes of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows whose losses are taken, R.
    pub anchors: usize,
    /// Rows they are compared with, K, and slots of a queue behind these.
    pub candidates: usize,
    pub slots: usize,
    /// Values per row, d ≤ 1024.
    pub dim: usize,
    /// The candidate that anchor 0 is.
    pub first: usize,
    /// What the sum of the losses is divided by: the rows of all ranks together.
    pub total: usize,
}

impl Shape {
    /// Every row against every other: one rank.
    pub fn whole(rows: usize, dim: usize) -> Self {
        Self { anchors: rows, candidates: rows, slots: 0, dim, first: 0, total: rows }
    }

    /// Rows `first..first + anchors` of `candidates` gathered ones.
    pub fn rank(first: usize, anchors: usize, candidates: usize, dim: usize) -> Self {
        Self { anchors, candidates, slots: 0, dim, first, total: candidates }
    }

    fn check(self) {
        let (Self { anchors, candidates, dim, first, total, .. }, columns) = (self, self.columns());
        assert!(
            anchors > 0 && first + anchors <= candidates && (1..=1024).contains(&dim) && total > 0,
            "contrastive: {self:?}"
        );
        // The kernels count quarters of an operand's lines in 31 bits.
        assert!(columns * self.pieces() < 1 << 29 && columns * dim < 1 << 31, "contrastive: {self:?} is too large");
    }

    /// All that an anchor is compared with.
    fn columns(self) -> usize {
        self.candidates + self.slots
    }

    /// Pieces of 32 values, zeros after the last.
    fn pieces(self) -> usize {
        self.dim.div_ceil(PIECE)
    }

    /// Length of `rows` split rows, counted in f32.
    pub(in crate::ops) fn operand_len(self, rows: usize) -> usize {
        rows * self.pieces() * PIECE
    }
}

/// Blocks that fill any card several times: columns are split until there are about as many …
const FORWARD_BLOCKS: usize = 1024;
const BACKWARD_BLOCKS: usize = 512;
/// … but not into fewer tiles than these, so that a block's copies hide behind its work.
const FORWARD_TILES: usize = 2;
const BACKWARD_TILES: usize = 3;
/// A bound on the scratch memory of a gradient's parts.
const MAX_BACKWARD_SPLITS: usize = 8;

/// A launch over tiles of rows and, in each, a run of column tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub launch: Launch,
    /// Parts the columns are split in.
    pub splits: usize,
    /// Column tiles of each part but the last.
    pub tiles: usize,
    /// Pieces of a gradient that one block adds up; none in the forward.
    own: usize,
}

/// What `own` pieces take of a block's shared memory, bytes: slots of lines for the rows, and `own` + 2 for the
/// columns.
fn backward_shared(own: usize) -> usize {
    let [rows, columns] = BACKWARD_TILE;
    (X_SLOTS * rows + (own + 2) * columns) * LINE
}

/// Of the backward kernels, beside that.
const BACKWARD_STATIC: usize = 2048;

/// Splits of `columns` tiles, none of them empty, so that `rows` tiles make about `blocks` blocks; and tiles per split,
/// at least `least`.
fn split_columns(rows: usize, columns: usize, blocks: usize, most: usize, least: usize) -> (usize, usize) {
    let tiles = columns.div_ceil(blocks.div_ceil(rows).min(most)).max(least);
    (columns.div_ceil(tiles), tiles)
}

impl Plan {
    /// The dimensions of a gradient that one block adds up: which of the backward's kernels it is.
    fn kernel(self) -> usize {
        self.own * PIECE
    }

    /// The forward.
    pub fn forward(shape: Shape) -> Self {
        let [rows, columns] = FORWARD_TILE;
        let (rows, columns) = (shape.anchors.div_ceil(rows), shape.columns().div_ceil(columns));
        let (splits, tiles) = split_columns(rows, columns, FORWARD_BLOCKS, usize::MAX, FORWARD_TILES);
        let launch = Launch::grid([rows, splits, 1], FORWARD_THREADS as u32).shared(FORWARD_SHARED);
        Self { launch, splits, tiles, own: 0 }
    }

    /// A gradient of `rows` rows over `columns`; the third axis cuts d into what a block's registers
    /// and its `shared_per_block` bytes of shared memory hold (256 dimensions are two cuts in a consumer card's 99 KB).
    pub fn backward(rows: usize, columns: usize, dim: usize, shared_per_block: u32) -> Self {
        let (rows, columns) = (rows.div_ceil(BACKWARD_TILE[0]), columns.div_ceil(BACKWARD_TILE[1]));
        let (splits, tiles) = split_columns(rows, columns, BACKWARD_BLOCKS, MAX_BACKWARD_SPLITS, BACKWARD_TILES);
        let fits = |own| backward_shared(own) + BACKWARD_STATIC <= shared_per_block as usize;
        let own = if dim <= 128 || !fits(8) { 4 } else { 8 };
        let chunks = dim.div_ceil(PIECE).div_ceil(own);
        let launch = Launch::grid([rows, splits, chunks], BACKWARD_THREADS as u32).shared(backward_shared(own));
        Self { launch, splits, tiles, own }
    }

    /// The gradient `whole` of a [`Self::backward`]: in one pass, or in `parts` that are then added up.
    pub(in crate::ops) fn gradient(
        self,
        gpu: &Gpu,
        whole: kernels::ContrastiveBackward,
        parts: View<f32>,
    ) -> Result<()> {
        let (out, factor) = (whole.out, whole.factor);
        if self.splits == 1 {
            return whole.launch(gpu, self.launch, self.kernel());
        }
        let partial = parts.slice(0..self.splits * out.len());
        kernels::ContrastiveBackward { out: partial, factor: 1.0, ..whole }.launch(gpu, self.launch, self.kernel())?;
        let (count, splits) = (out.len() as u32, self.splits as u32);
        kernels::ContrastiveGradient { out, partial, count, splits, factor }
            .launch(gpu, Launch::new(out.len().div_ceil(256), 256))
    }
}

/// Length of the scratch memory that either function needs for a shape: linear in the rows.
pub fn scratch_len(shape: Shape) -> usize {
    let (Shape { anchors, dim, .. }, columns) = (shape, shape.columns());
    let forward = Plan::forward(shape).splits * anchors * 4 + 2 * anchors.div_ceil(256);
    // However d is cut, the columns are split alike.
    let backward = match Plan::backward(anchors, columns, dim, 0).splits {
        1 => 0,
        splits => splits * anchors * dim,
    };
    // The two halves of the rows come first: 16-byte lines, so that what follows is aligned.
    shape.operand_len(columns) + forward.max(backward)
}

/// What the loss looks at.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    pub shape: Shape,
    /// Unit rows `[K, d]`.
    pub z: View<f32>,
    /// Their labels, `[K]`.
    pub labels: View<u32>,
    /// Where the shape has slots.
    pub queue: Option<Queue>,
    pub temperature: f32,
    /// At least [`scratch_len`] values; what is left in it is of no use.
    pub scratch: View<f32>,
}

/// Unit keys `[Q, d]` and their labels `[Q]`: as [`super::Queue`], of empty slots zeros.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    pub keys: View<f32>,
    pub labels: View<u32>,
}

/// Rows split into bf16 halves, two to a word, and the scratch memory behind them.
struct Operands {
    anchors: View<u32>,
    candidates: View<u32>,
    rest: View<f32>,
}

impl Batch {
    fn check(&self) {
        let Self { shape, z, labels, queue, scratch, temperature } = *self;
        shape.check();
        let slots = queue.map_or((0, 0), |Queue { keys, labels }| (keys.len(), labels.len()));
        assert_eq!(slots, (shape.slots * shape.dim, shape.slots), "contrastive: slots of {self:?}");
        assert!(
            z.len() == shape.candidates * shape.dim
                && labels.len() == shape.candidates
                && scratch.len() >= scratch_len(shape)
                && temperature > 0.0,
            "contrastive: {self:?}"
        );
        let keys = queue.map_or(z, |queue| queue.keys);
        let aligned = !shape.dim.is_multiple_of(4) || (z.is_aligned(16) && keys.is_aligned(16));
        assert!(aligned && scratch.is_aligned(16), "contrastive: alignment of {self:?}");
    }

    /// The anchors' share of one value per row.
    fn own<T: Element>(&self, rows: View<T>) -> View<T> {
        rows.slice(self.shape.first..self.shape.first + self.shape.anchors)
    }

    /// log2(e)/τ: logits become powers of two.
    fn scale(&self) -> f32 {
        std::f32::consts::LOG2_E / self.temperature
    }

    /// Labels of the slots, and the column of the first.
    fn slots(&self) -> (Option<View<u32>>, u32) {
        (self.queue.map(|queue| queue.labels), self.shape.candidates as u32)
    }

    fn split(&self, gpu: &Gpu) -> Result<Operands> {
        let Shape { anchors, candidates, slots, dim, first, .. } = self.shape;
        let (pieces, len) = (self.shape.pieces(), |rows| self.shape.operand_len(rows));
        let of = |rows: std::ops::Range<usize>| self.scratch.slice(len(rows.start)..len(rows.end)).cast();
        let columns = candidates + slots;
        let sides = [(self.z, 0..candidates)].into_iter();
        for (x, rows) in sides.chain(self.queue.map(|queue| (queue.keys, candidates..columns))) {
            let at = Launch::new((rows.len() * pieces * 4).div_ceil(256), 256);
            let (operand, [rows, d, pieces]) = (of(rows.clone()), [rows.len(), dim, pieces].map(|n| n as u32));
            kernels::ContrastiveSplit { operand, x, rows, d, pieces }.launch(gpu, at)?;
        }
        let rest = self.scratch.slice(len(columns)..self.scratch.len());
        Ok(Operands { anchors: of(first..first + anchors), candidates: of(0..columns), rest })
    }
}

/// The anchors' share of the mean loss, `loss [1]`; for the backward, the log-sum-exp and 1/P (0 without positives) of
/// each, `[R]`.
pub fn forward(gpu: &Gpu, loss: View<f32>, lse: View<f32>, weight: View<f32>, batch: Batch) -> Result<()> {
    batch.check();
    let (Shape { anchors, first, total, .. }, (slot_labels, first_slot)) = (batch.shape, batch.slots());
    assert!(
        loss.len() == 1 && lse.len() == anchors && weight.len() == anchors,
        "contrastive forward: {loss:?} {lse:?} {weight:?}"
    );
    let operands = batch.split(gpu)?;
    let plan = Plan::forward(batch.shape);
    let partial = operands.rest.slice(0..plan.splits * anchors * 4);
    let blocks = anchors.div_ceil(256);
    // f64: two values' room each, behind a multiple of 16 bytes.
    let losses = operands.rest.slice(partial.len()..partial.len() + 2 * blocks).cast::<f64>();
    let [rows, splits] = [anchors, plan.splits].map(|n| n as u32);
    kernels::ContrastiveForward {
        partial,
        x: operands.anchors,
        y: operands.candidates,
        row_labels: batch.own(batch.labels),
        column_labels: batch.labels,
        slot_labels,
        rows,
        columns: batch.shape.columns() as u32,
        first_slot,
        shift: first as u32,
        pieces: batch.shape.pieces() as u32,
        tiles: plan.tiles as u32,
        scale: batch.scale(),
    }
    .launch(gpu, plan.launch)?;
    let inverse_temperature = 1.0 / batch.temperature;
    kernels::ContrastiveRows { lse, weight, losses, partial, rows, splits, inverse_temperature }
        .launch(gpu, Launch::new(blocks, 256))?;
    Loss::new(loss, 1.0 / total as f32, false).put(gpu, losses)
}

/// `dz [R, d]` (overwritten): the gradient of rows `first..first + anchors` in both roles. `lse` and `weight` are those
/// of all K rows, as [`forward`] gave them on the ranks that have them.
pub fn backward(gpu: &Gpu, dz: View<f32>, lse: View<f32>, weight: View<f32>, batch: Batch) -> Result<()> {
    batch.check();
    let Shape { anchors, candidates, dim, first, total, .. } = batch.shape;
    let (columns, (slot_labels, first_slot)) = (batch.shape.columns(), batch.slots());
    assert!(lse.len() == candidates && weight.len() == candidates, "contrastive backward: {lse:?} {weight:?}");
    assert_eq!(dz.len(), anchors * dim, "contrastive backward: gradient");
    assert!(dim % 2 == 1 || dz.is_aligned(8), "contrastive backward: alignment of {dz:?}");
    let operands = batch.split(gpu)?;
    let plan = Plan::backward(anchors, columns, dim, gpu.shared_per_block());
    let whole = kernels::ContrastiveBackward {
        out: dz,
        x: operands.anchors,
        y: operands.candidates,
        row_labels: batch.own(batch.labels),
        row_lse: batch.own(lse),
        row_weight: batch.own(weight),
        column_labels: batch.labels,
        column_lse: lse,
        column_weight: weight,
        slot_labels,
        rows: anchors as u32,
        columns: columns as u32,
        first_slot,
        shift: first as u32,
        pieces: batch.shape.pieces() as u32,
        tiles: plan.tiles as u32,
        d: dim as u32,
        scale: batch.scale(),
        factor: 1.0 / (total as f32 * batch.temperature),
    };
    plan.gradient(gpu, whole, operands.rest)
}
