//! The multi-positive contrastive loss on CUDA: `kernels/contrastive.cu`, on every card.
//!
//! Anchors are `candidates[first..first + anchors]` or other values in their place (queries against keys of another network); labels are
//! those of the candidates. What a rank of a data-parallel run does, with everybody's features and labels gathered:
//! - [`forward`] for its own rows: its part of the mean over all rows, and its rows' log-sum-exps and weights;
//! - gather these two numbers per row; [`backward`] then gives the whole gradient of its own rows, in one pass and with no reduction; or
//! - without a second gather, [`backward_anchors`] and [`backward_candidates`], the latter's result to be summed over the ranks.

use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;

/// Sizes of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows whose losses are taken, R.
    pub anchors: usize,
    /// Rows they are compared with, K.
    pub candidates: usize,
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
        Self { anchors: rows, candidates: rows, dim, first: 0, total: rows }
    }

    /// Rows `first..first + anchors` of `candidates` gathered ones.
    pub fn rank(first: usize, anchors: usize, candidates: usize, dim: usize) -> Self {
        Self { anchors, candidates, dim, first, total: candidates }
    }

    fn check(self) {
        let Self { anchors, candidates, dim, first, total } = self;
        assert!(
            anchors > 0 && first + anchors <= candidates && (1..=1024).contains(&dim) && total > 0,
            "contrastive: {self:?}"
        );
        // The kernels count quarters of an operand's lines in 31 bits.
        assert!(
            candidates * self.pieces() < 1 << 29 && candidates * dim < 1 << 31,
            "contrastive: {self:?} is too large"
        );
    }

    /// Pieces of 32 values, zeros after the last.
    fn pieces(self) -> usize {
        self.dim.div_ceil(PIECE)
    }

    /// Length of `rows` split rows, counted in f32.
    fn operand_len(self, rows: usize) -> usize {
        rows * self.pieces() * PIECE
    }
}

/// Values per piece of a row; each takes 4 bytes, two bf16.
const PIECE: usize = 32;

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

/// What `own` pieces take of a block's shared memory, bytes: three slots of 128 lines for the rows, `own` + 2 slots of
/// 64 lines for the columns.
fn backward_shared(own: usize) -> usize {
    (3 * 128 + (own + 2) * 64) * 128
}

/// Of the backward kernels, beside that.
const BACKWARD_STATIC: usize = 2048;

/// Splits of `columns` tiles, none of them empty, so that `rows` tiles make about `blocks` blocks; and tiles per split, at least `least`.
fn split_columns(rows: usize, columns: usize, blocks: usize, most: usize, least: usize) -> (usize, usize) {
    let tiles = columns.div_ceil(blocks.div_ceil(rows).min(most)).max(least);
    (columns.div_ceil(tiles), tiles)
}

impl Plan {
    /// The forward: tiles of 128 × 128.
    pub fn forward(shape: Shape) -> Self {
        let (rows, columns) = (shape.anchors.div_ceil(128), shape.candidates.div_ceil(128));
        let (splits, tiles) = split_columns(rows, columns, FORWARD_BLOCKS, usize::MAX, FORWARD_TILES);
        // Two stages of 128 + 128 lines of 128 bytes.
        Self { launch: Launch::grid([rows, splits, 1], 128).shared(2 * 256 * 128), splits, tiles, own: 0 }
    }

    /// A gradient of `rows` rows over `columns`: tiles of 128 × 64; the third axis cuts d into what a block's registers
    /// and its `shared_per_block` bytes of shared memory hold (256 dimensions are two cuts in a consumer card's 99 KB).
    pub fn backward(rows: usize, columns: usize, dim: usize, shared_per_block: u32) -> Self {
        let (rows, columns) = (rows.div_ceil(128), columns.div_ceil(64));
        let (splits, tiles) = split_columns(rows, columns, BACKWARD_BLOCKS, MAX_BACKWARD_SPLITS, BACKWARD_TILES);
        let fits = |own| backward_shared(own) + BACKWARD_STATIC <= shared_per_block as usize;
        let own = if dim <= 128 || !fits(8) { 4 } else { 8 };
        let chunks = dim.div_ceil(PIECE).div_ceil(own);
        let launch = Launch::grid([rows, splits, chunks], 256).shared(backward_shared(own));
        Self { launch, splits, tiles, own }
    }
}

/// Length of the scratch memory that any of the functions needs for a shape: linear in the rows.
pub fn scratch_len(shape: Shape) -> usize {
    let Shape { anchors, candidates, dim, .. } = shape;
    let forward = Plan::forward(shape).splits * anchors * 4 + 2 * anchors.div_ceil(256);
    // However d is cut, the columns are split alike.
    let part = |rows, columns| match Plan::backward(rows, columns, dim, 0).splits {
        1 => 0,
        splits => splits * rows * dim,
    };
    let backward = part(anchors, candidates).max(part(candidates, anchors));
    // The two halves of operands come first: 16-byte lines, so that what follows is aligned.
    shape.operand_len(anchors) + shape.operand_len(candidates) + forward.max(backward)
}

/// What the loss looks at.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    pub shape: Shape,
    /// Unit rows `[R, d]`; rows of `candidates` itself are recognised by their address and not worked on twice.
    pub anchors: View<f32>,
    /// Unit rows `[K, d]`.
    pub candidates: View<f32>,
    /// Labels of the candidates, `[K]`.
    pub labels: View<u32>,
    pub temperature: f32,
    /// At least [`scratch_len`] values; what is left in it is of no use.
    pub scratch: View<f32>,
}

/// Operands split into bf16 halves, and the scratch memory behind them.
struct Operands {
    anchors: View<f32>,
    candidates: View<f32>,
    rest: View<f32>,
}

impl Batch {
    /// Rows `first..` of unit rows `z [K, d]` as anchors, all as candidates.
    pub fn of(shape: Shape, z: View<f32>, labels: View<u32>, temperature: f32, scratch: View<f32>) -> Self {
        let anchors = z.slice(shape.first * shape.dim..(shape.first + shape.anchors) * shape.dim);
        Self { shape, anchors, candidates: z, labels, temperature, scratch }
    }

    fn check(&self) {
        let Self { shape, anchors, candidates, labels, scratch, temperature } = *self;
        shape.check();
        assert!(
            anchors.len() == shape.anchors * shape.dim
                && candidates.len() == shape.candidates * shape.dim
                && labels.len() == shape.candidates
                && scratch.len() >= scratch_len(shape)
                && temperature > 0.0,
            "contrastive: {self:?}"
        );
        let aligned = |view: View<f32>| !shape.dim.is_multiple_of(4) || view.is_aligned(16);
        assert!(
            aligned(anchors) && aligned(candidates) && scratch.is_aligned(16),
            "contrastive: alignment of {self:?}"
        );
    }

    fn anchor_labels(&self) -> View<u32> {
        self.labels.slice(self.shape.first..self.shape.first + self.shape.anchors)
    }

    /// log2(e)/τ: logits become powers of two.
    fn scale(&self) -> f32 {
        std::f32::consts::LOG2_E / self.temperature
    }

    fn split(&self, gpu: &Gpu) -> Result<Operands> {
        let Shape { anchors, candidates, dim, first, .. } = self.shape;
        let pieces = self.shape.pieces();
        let (all, own) = (self.shape.operand_len(candidates), self.shape.operand_len(anchors));
        let rest = self.scratch.slice(all + own..self.scratch.len());
        let split = |to: View<f32>, from: View<f32>, rows: usize| {
            let at = Launch::new((rows * pieces * 4).div_ceil(256), 256);
            kernels::contrastive_split_f32(gpu, at, to, from, rows as u32, dim as u32, pieces as u32)
        };
        let to = self.scratch.slice(0..all);
        split(to, self.candidates, candidates)?;
        if self.anchors.address() == self.candidates.address() + 4 * (first * dim) as u64 {
            let start = self.shape.operand_len(first);
            return Ok(Operands { anchors: to.slice(start..start + own), candidates: to, rest });
        }
        let separate = self.scratch.slice(all..all + own);
        split(separate, self.anchors, anchors)?;
        Ok(Operands { anchors: separate, candidates: to, rest })
    }
}

/// The anchors' share of the mean loss, `loss [1]`; for the backward, the log-sum-exp and 1/P (0 without positives) of each, `[R]`.
pub fn forward(gpu: &Gpu, loss: View<f32>, lse: View<f32>, weight: View<f32>, batch: Batch) -> Result<()> {
    batch.check();
    let Shape { anchors, candidates, first, total, .. } = batch.shape;
    assert!(
        loss.len() == 1 && lse.len() == anchors && weight.len() == anchors,
        "contrastive forward: {loss:?} {lse:?} {weight:?}"
    );
    let operands = batch.split(gpu)?;
    let plan = Plan::forward(batch.shape);
    let partial = operands.rest.slice(0..plan.splits * anchors * 4);
    let blocks = anchors.div_ceil(256);
    // f64: two values' room each, behind a multiple of 16 bytes.
    let losses = operands.rest.slice(partial.len()..partial.len() + 2 * blocks);
    kernels::contrastive_forward(
        gpu,
        plan.launch,
        partial,
        operands.anchors,
        operands.candidates,
        batch.anchor_labels(),
        batch.labels,
        anchors as u32,
        candidates as u32,
        first as u32,
        batch.shape.pieces() as u32,
        plan.tiles as u32,
        batch.scale(),
    )?;
    let inverse = 1.0 / batch.temperature;
    let at = Launch::new(blocks, 256);
    kernels::contrastive_rows(gpu, at, lse, weight, losses, partial, anchors as u32, plan.splits as u32, inverse)?;
    kernels::contrastive_loss(gpu, Launch::new(1, 256), loss, losses, blocks as u32, total as u32)
}

/// One side of the tiles of a gradient: operands, labels, and the log-sum-exps and weights of those that are anchors.
#[derive(Clone, Copy)]
struct Side {
    operand: View<f32>,
    count: usize,
    labels: View<u32>,
    stats: Option<(View<f32>, View<f32>)>,
    /// Number of row 0 among the candidates.
    first: usize,
}

fn gradient(gpu: &Gpu, out: View<f32>, batch: &Batch, rest: View<f32>, rows: Side, columns: Side) -> Result<()> {
    let Shape { dim, total, .. } = batch.shape;
    assert_eq!(out.len(), rows.count * dim, "contrastive backward: gradient");
    assert!(dim % 2 == 1 || out.is_aligned(8), "contrastive backward: alignment of {out:?}");
    let plan = Plan::backward(rows.count, columns.count, dim, gpu.shared_per_block());
    let factor = 1.0 / (total as f32 * batch.temperature);
    let (to, inner) = match plan.splits {
        1 => (out, factor),
        splits => (rest.slice(0..splits * out.len()), 1.0),
    };
    let lse = |side: Side| side.stats.map(|stats| stats.0);
    let weight = |side: Side| side.stats.map(|stats| stats.1);
    macro_rules! launch {
        ($kernel:ident) => {
            kernels::$kernel(
                gpu,
                plan.launch,
                to,
                rows.operand,
                columns.operand,
                rows.labels,
                lse(rows),
                weight(rows),
                columns.labels,
                lse(columns),
                weight(columns),
                rows.count as u32,
                columns.count as u32,
                (rows.first as i32 - columns.first as i32) as u32,
                batch.shape.pieces() as u32,
                plan.tiles as u32,
                dim as u32,
                batch.scale(),
                inner,
            )?
        };
    }
    match plan.own {
        4 => launch!(contrastive_backward_d128),
        _ => launch!(contrastive_backward_d256),
    }
    if plan.splits > 1 {
        let at = Launch::new(out.len().div_ceil(256), 256);
        kernels::contrastive_gradient(gpu, at, out, to, out.len() as u32, plan.splits as u32, factor)?;
    }
    Ok(())
}

impl Batch {
    fn anchor_side(&self, operands: &Operands, stats: Option<(View<f32>, View<f32>)>) -> Side {
        let Shape { anchors, first, .. } = self.shape;
        Side { operand: operands.anchors, count: anchors, labels: self.anchor_labels(), stats, first }
    }

    fn candidate_side(&self, operands: &Operands, stats: Option<(View<f32>, View<f32>)>) -> Side {
        Side { operand: operands.candidates, count: self.shape.candidates, labels: self.labels, stats, first: 0 }
    }
}

/// `dz [R, d]` (overwritten): the gradient of rows `first..first + anchors` in both roles, when anchors and candidates are the same rows.
/// `lse` and `weight` are those of all K rows, as [`forward`] gave them on the ranks that have them.
pub fn backward(gpu: &Gpu, dz: View<f32>, lse: View<f32>, weight: View<f32>, batch: Batch) -> Result<()> {
    batch.check();
    let Shape { anchors, candidates, first, .. } = batch.shape;
    assert!(lse.len() == candidates && weight.len() == candidates, "contrastive backward: {lse:?} {weight:?}");
    let operands = batch.split(gpu)?;
    let own = |view: View<f32>| view.slice(first..first + anchors);
    let rows = batch.anchor_side(&operands, Some((own(lse), own(weight))));
    let columns = batch.candidate_side(&operands, Some((lse, weight)));
    gradient(gpu, dz, &batch, operands.rest, rows, columns)
}

/// `danchors [R, d]` (overwritten): the gradient of the anchors as anchors. `lse`, `weight` `[R]` are [`forward`]'s.
pub fn backward_anchors(gpu: &Gpu, danchors: View<f32>, lse: View<f32>, weight: View<f32>, batch: Batch) -> Result<()> {
    batch.check();
    let operands = batch.split(gpu)?;
    let rows = batch.anchor_side(&operands, Some(check_stats(&batch, lse, weight)));
    gradient(gpu, danchors, &batch, operands.rest, rows, batch.candidate_side(&operands, None))
}

/// `dcandidates [K, d]` (overwritten): the gradient of the candidates as candidates of these anchors.
pub fn backward_candidates(
    gpu: &Gpu,
    dcandidates: View<f32>,
    lse: View<f32>,
    weight: View<f32>,
    batch: Batch,
) -> Result<()> {
    batch.check();
    let operands = batch.split(gpu)?;
    let columns = batch.anchor_side(&operands, Some(check_stats(&batch, lse, weight)));
    gradient(gpu, dcandidates, &batch, operands.rest, batch.candidate_side(&operands, None), columns)
}

fn check_stats(batch: &Batch, lse: View<f32>, weight: View<f32>) -> (View<f32>, View<f32>) {
    let rows = batch.shape.anchors;
    assert!(lse.len() == rows && weight.len() == rows, "contrastive backward: {lse:?} {weight:?} for {rows} anchors");
    (lse, weight)
}
