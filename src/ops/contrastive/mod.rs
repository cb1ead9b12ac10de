//! Multi-positive contrastive loss (StableRep, arXiv 2306.00984, eq. 1–3; the "out" form of SupCon, arXiv 2004.11362).
//!
//! With unit rows `z [K, d]`, logits `s_ij = z_i·z_j/τ` and self excluded: `q_ij = softmax_{j≠i}(s_ij)`, `p_ij = 1/P_i`
//! on the `P_i` other rows of the same label, `L = mean_i −Σ_j p_ij·log q_ij`. A row without positives contributes 0.
//!
//! Logits exist one block of `ROWS`·`COLS` at a time: the forward keeps one log-sum-exp per row, the backward
//! recomputes. As `s` is symmetric, the gradient of row i as anchor and as candidate is one sum over its own logits:
//! `dz_i = 1/(K·τ)·Σ_{j≠i} (a_i·q_ij − p_ij + a_j·q_ji − p_ji)·z_j` with `a_i = 1` if `P_i > 0`, else 0.
//!
//! Behind the rows may stand the slots of a [`Queue`], candidates that are no anchors (MoCo, arXiv 1911.05722): they
//! are in the softmax and among the positives of every row, get no gradient, and are nothing where they are empty.
//!
//! FLOPs: forward 2·K²·d, backward 4·K²·d, and about 20 per logit each (with Q slots K·(K + Q) in the place of K²).
//! Bytes: z is read K/`ROWS` times from cache.

use std::collections::HashMap;

use rayon::prelude::*;

use super::gemm::{Mat, Target, Threads, raw};
use super::math::{exp, exp_nonpositive};
use super::queue::EMPTY;
use super::simd::{max, sum, vectorize};

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

/// Anchors per task.
const ROWS: usize = 64;
/// Candidates per block.
const COLS: usize = 256;

/// What the loss looks at: unit rows, one label per row, keys of earlier steps, the temperature.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub z: &'a [f32],
    pub labels: &'a [u32],
    pub queue: Queue<'a>,
    pub temperature: f32,
}

/// Unit keys `[Q, d]` and their labels `[Q]`, [`EMPTY`] where there is none yet; no slots as a rule.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queue<'a> {
    pub keys: &'a [f32],
    pub labels: &'a [u32],
}

/// Anchors and candidates, a label for each row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sides<'a> {
    pub anchors: &'a [f32],
    pub candidates: &'a [f32],
    /// Of the anchors, of the candidates.
    pub labels: [&'a [u32]; 2],
    /// Candidates behind the others that ask for nothing.
    pub queue: Queue<'a>,
    /// Whether candidate i is anchor i itself, which is left out.
    pub same: bool,
    pub temperature: f32,
}

impl<'a> Batch<'a> {
    fn sides(self) -> Sides<'a> {
        let Self { z, labels, queue, temperature } = self;
        Sides { anchors: z, candidates: z, labels: [labels; 2], queue, same: true, temperature }
    }
}

/// Some candidates next to each other.
#[derive(Clone, Copy, Debug)]
struct Block<'a> {
    candidates: &'a [f32],
    labels: &'a [u32],
    /// Number of the first among all that are no slots of a queue; none of these.
    first: Option<usize>,
}

impl<'a> Sides<'a> {
    fn dim(&self) -> usize {
        let rows = self.labels[0].len();
        let fits = |z: &[f32]| rows > 0 && z.len().is_multiple_of(rows);
        assert!(fits(self.anchors), "contrastive: {} values for {rows} labels", self.anchors.len());
        let d = self.anchors.len() / rows;
        assert_eq!(self.candidates.len(), self.labels[1].len() * d, "contrastive: candidates of {d} values");
        assert_eq!(self.queue.keys.len(), self.queue.labels.len() * d, "contrastive: slots of {d} values");
        d
    }

    /// `s [rows, cols] = anchors[row..]·candidatesᵀ/τ`.
    fn logits(&self, s: &mut [f32], (row, rows): (usize, usize), block: Block) {
        let (d, cols) = (self.dim(), block.labels.len());
        let a = Mat::rows(&self.anchors[row * d..(row + rows) * d], d);
        let b = Mat::rows(block.candidates, d);
        assert!(s.len() >= rows * cols && block.candidates.len() == cols * d, "contrastive: block");
        let scale = 1.0 / self.temperature;
        // SAFETY: the slices above hold rows·d and cols·d values, `s` rows·cols.
        let target = Target { alpha: scale, ..Target::of(s, cols, false) };
        unsafe { raw(target, a, b.t(), (rows, cols, d), Threads::One) }
    }

    /// The candidates, and behind them the slots of the queue.
    fn blocks(self) -> impl Iterator<Item = Block<'a>> {
        let d = self.dim();
        let blocks = move |all: &'a [f32], labels: &'a [u32], slots: bool| {
            let parts = all.chunks(COLS * d).zip(labels.chunks(COLS)).enumerate();
            parts.map(move |(number, (candidates, labels))| Block {
                candidates,
                labels,
                first: (!slots).then_some(number * COLS),
            })
        };
        let Queue { keys, labels } = self.queue;
        blocks(self.candidates, self.labels[1], false).chain(blocks(keys, labels, true))
    }
}

impl Block<'_> {
    /// Which of these the anchor is itself; one beyond them all where it is none.
    #[inline(always)]
    fn place(&self, sides: &Sides, anchor: usize) -> usize {
        match self.first {
            Some(first) if sides.same => anchor.wrapping_sub(first),
            _ => usize::MAX,
        }
    }

    /// Sets to `value` what a row has at its own `anchor` and at slots that are empty.
    #[inline(always)]
    fn leave_out(&self, row: &mut [f32], anchor: usize, value: f32) {
        if let Some(own) = row.get_mut(anchor) {
            *own = value;
        }
        if self.first.is_none() {
            let empty = row.iter_mut().zip(self.labels).filter(|(_, label)| **label == EMPTY);
            empty.for_each(|(s, _)| *s = value);
        }
    }
}

/// The loss, in f64. Keeps for [`backward`] the log-sum-exp of each row and `1/P_i` (0 without positives), `[K]` each.
pub fn forward(lse: &mut [f32], weight: &mut [f32], batch: Batch) -> f64 {
    losses(lse, weight, batch.sides()) / batch.labels.len() as f64
}

/// The smallest value that [`forward`] may take for `labels`, without a queue: cross-entropy is at least the entropy of
/// its targets, `ln P_i` where row i has `P_i > 0` others of its label. It is approached where rows of one label are
/// alike and all others far away, for small temperatures.
pub fn floor(labels: &[u32]) -> f64 {
    let mut counts = HashMap::<u32, usize>::new();
    labels.iter().for_each(|label| *counts.entry(*label).or_default() += 1);
    let entropy = |label: &u32| (counts[label].max(2) as f64 - 1.0).ln();
    labels.iter().map(entropy).sum::<f64>() / labels.len() as f64
}

/// Sum of the losses of all anchors; keeps of each its log-sum-exp and one over the number of its positives (0
/// without).
pub(super) fn losses(lse: &mut [f32], weight: &mut [f32], sides: Sides) -> f64 {
    let total = sides.labels[0].len();
    assert!(lse.len() == total && weight.len() == total, "contrastive: lse and weight");
    let partials: Vec<f64> = lse
        .par_chunks_mut(ROWS)
        .zip(weight.par_chunks_mut(ROWS))
        .enumerate()
        .map(|(block, (lse, weight))| forward_rows(lse, weight, block * ROWS, sides))
        .collect();
    partials.iter().sum()
}

/// Sum of the losses of some rows, by an online log-sum-exp over the column blocks.
fn forward_rows(lse: &mut [f32], weight: &mut [f32], first: usize, sides: Sides) -> f64 {
    let rows = lse.len();
    let mut s = vec![0.0f32; ROWS * COLS];
    let mut top = [f32::NEG_INFINITY; ROWS];
    let mut total = [0.0f64; ROWS];
    let mut positive_sum = [0.0f64; ROWS];
    let mut positives = [0usize; ROWS];
    for block in sides.blocks() {
        sides.logits(&mut s, (first, rows), block);
        let (labels, cols) = (block.labels, block.labels.len());
        vectorize(
            #[inline(always)]
            || {
                for (r, s) in s.chunks_exact_mut(cols).take(rows).enumerate() {
                    let label = sides.labels[0][first + r];
                    // Where it is none of these it has a place behind them.
                    let anchor = block.place(&sides, first + r);
                    for (c, (&s, &other)) in s.iter().zip(labels).enumerate() {
                        if other == label && c != anchor {
                            positive_sum[r] += f64::from(s);
                            positives[r] += 1;
                        }
                    }
                    block.leave_out(s, anchor, f32::NEG_INFINITY);
                    let new_top = top[r].max(max(s));
                    if new_top > f32::NEG_INFINITY {
                        let part = sum(cols, |c| exp_nonpositive(s[c] - new_top));
                        total[r] = total[r] * f64::from(top[r] - new_top).exp() + f64::from(part);
                        top[r] = new_top;
                    } else {
                        // Only the anchor itself, or not a number: the sum tells them apart.
                        total[r] += f64::from(sum(cols, |c| exp(s[c])));
                    }
                }
            },
        );
    }
    let mut loss = 0.0;
    for r in 0..rows {
        let log_sum = if top[r] > f32::NEG_INFINITY { f64::from(top[r]) + total[r].ln() } else { total[r].ln() };
        lse[r] = log_sum as f32;
        weight[r] = if positives[r] > 0 { 1.0 / positives[r] as f32 } else { 0.0 };
        if positives[r] > 0 {
            loss += log_sum - positive_sum[r] / positives[r] as f64;
        }
    }
    loss
}

/// `dz [K, d]` (overwritten): the gradient of the loss for both roles of every row.
pub fn backward(dz: &mut [f32], lse: &[f32], weight: &[f32], batch: Batch) {
    let scale = 1.0 / (batch.labels.len() as f32 * batch.temperature);
    gradient(dz, [(lse, weight); 2], batch.sides(), scale);
}

/// `dz` of the anchors (overwritten): `scale`·Σ_j (q_ij − p_ij + q_ji − p_ji)·z_j over the candidates j. `known` are
/// what
/// [`losses`] kept of the anchors and of the candidates where these are compared with the anchors too; a side whose
/// weights are 0 asks for nothing, and its log-sum-exps are infinite.
pub(super) fn gradient(dz: &mut [f32], known: [(&[f32], &[f32]); 2], sides: Sides, scale: f32) {
    let ([anchors, candidates], d) = (sides.labels.map(<[u32]>::len), sides.dim());
    let [(lse, weight), (lse_of, weight_of)] = known;
    assert!(dz.len() == sides.anchors.len() && lse.len() == anchors && weight.len() == anchors, "contrastive: dz");
    assert!(lse_of.len() == candidates && weight_of.len() == candidates, "contrastive: lse, weight");
    dz.par_chunks_mut(ROWS * d).enumerate().for_each_init(
        || vec![0.0f32; ROWS * COLS],
        |s, (block, dz)| {
            let (first, rows) = (block * ROWS, dz.len() / d);
            dz.fill(0.0);
            for block in sides.blocks() {
                sides.logits(s, (first, rows), block);
                let (labels, cols) = (block.labels, block.labels.len());
                let (lse_j, weight_j) = match block.first {
                    Some(col) => (&lse_of[col..col + cols], &weight_of[col..col + cols]),
                    None => (&[f32::INFINITY; COLS][..cols], &[0.0; COLS][..cols]),
                };
                vectorize(
                    #[inline(always)]
                    || {
                        for (r, s) in s.chunks_exact_mut(cols).take(rows).enumerate() {
                            let anchor = first + r;
                            let (label, lse_i, weight_i) = (sides.labels[0][anchor], lse[anchor], weight[anchor]);
                            let active = |weight: f32| if weight > 0.0 { 1.0 } else { 0.0 };
                            let active_i = active(weight_i);
                            for c in 0..cols {
                                let q = active_i * exp_nonpositive(s[c] - lse_i)
                                    + active(weight_j[c]) * exp_nonpositive(s[c] - lse_j[c]);
                                let p = if labels[c] == label { weight_i + weight_j[c] } else { 0.0 };
                                s[c] = q - p;
                            }
                            block.leave_out(s, block.place(&sides, anchor), 0.0);
                        }
                    },
                );
                let z = Mat::rows(block.candidates, d);
                // SAFETY: `dz` holds rows·d values and belongs to this task, `s` rows·cols, the slice of z cols·d.
                let target = Target { alpha: scale, ..Target::of(dz, d, true) };
                unsafe { raw(target, Mat::rows(s, cols), z, (rows, d, cols), Threads::One) }
            }
        },
    );
}

/// FLOPs of the products of forward and backward of `rows` of `d` values with `candidates`.
pub fn flops(rows: usize, candidates: usize, d: usize) -> (f64, f64) {
    let product = 2.0 * (rows * candidates * d) as f64;
    (product, 2.0 * product)
}

/// Bytes forward and backward must move at least: the candidates, rows among them, once, and the rows' gradient.
pub fn bytes(rows: usize, candidates: usize, d: usize) -> (f64, f64) {
    let read = 4.0 * (candidates * d) as f64;
    (read, read + 4.0 * (rows * d) as f64)
}
