//! A call on the CPU: its tensors, and what a walk is given.

use std::borrow::Cow;

use crate::device::Plan;
use crate::layers::training::{Affine, BatchNorm, Buffer, Contrast, Layout, Linear, Pairs, Stages, Weights};
use crate::ops::gemm::Operands;
use crate::ops::linear::Weight;
use crate::ops::{contrastive, pairs, queue};
use crate::weights::Param;

/// The tensors of a layout.
#[derive(Debug, Default)]
pub struct Memory(pub(super) Vec<Vec<f32>>);

impl Memory {
    pub fn take(plan: &mut Plan, layout: &Layout) -> Self {
        Self(layout.tensors().map(|(group, name, len, _)| plan.f32(group, name, len)).collect())
    }

    pub fn read(&self, x: Buffer) -> &[f32] {
        &self.0[x.id][x.range()]
    }

    /// To write.
    pub fn of_mut(&mut self, x: Buffer) -> &mut [f32] {
        &mut self.0[x.id][x.range()]
    }

    /// Lends some values to `op`, which may read all others.
    pub(super) fn write<const N: usize>(&mut self, to: [Buffer; N], op: impl FnOnce([&mut [f32]; N], &Self)) {
        let mut lent = to.map(|buffer| std::mem::take(&mut self.0[buffer.id]));
        let mut places = to.iter();
        let slices = lent.each_mut().map(|values| &mut values[places.next().map_or(0..0, |buffer| buffer.range())]);
        op(slices, self);
        to.iter().zip(lent).for_each(|(buffer, values)| self.0[buffer.id] = values);
    }
}

/// A call. What a walk does not touch may be left as [`Call::new`] makes it.
pub struct Call<'a, 's> {
    pub memory: &'a mut Memory,
    pub params: &'a [f32],
    /// Of the same layout as `params`.
    pub grads: &'a mut [f32],
    /// Running statistics of the batch norms, and whatever else a network keeps but the parameters of a momentum copy.
    pub statistics: &'a mut [f32],
    /// These, and how far the copy's running statistics lie behind the online ones.
    pub momentum: (&'a [f32], usize),
    /// What the products of linear layers multiply.
    pub operands: Operands,
    /// Whose are read.
    pub weights: Weights,
    /// Normalised images `[N, H, W, 3]`.
    pub images: &'a [f32],
    /// What [`Numbers`](crate::layers::training::Numbers) are runs of.
    pub numbers: &'a [u32],
    /// What changes from step to step.
    pub scalars: &'a [f32],
    /// What [`crate::layers::training::Losses::contrastive`] gave.
    pub loss: f64,
    /// What it was when it was noted.
    pub noted: f64,
    pub stages: Stages<'a, 's>,
}

impl<'a> Call<'a, '_> {
    pub fn new(memory: &'a mut Memory, params: &'a [f32]) -> Self {
        Self {
            memory,
            params,
            grads: &mut [],
            statistics: &mut [],
            momentum: (&[], 0),
            operands: Operands::F32,
            weights: Weights::Online,
            images: &[],
            numbers: &[],
            scalars: &[],
            loss: 0.0,
            noted: 0.0,
            stages: None,
        }
    }

    /// The parameters that are read.
    pub(super) fn read(&self) -> &'a [f32] {
        match self.weights {
            Weights::Online => self.params,
            Weights::Momentum => self.momentum.0,
        }
    }

    pub(super) fn affine(&self, at: Affine) -> [&'a [f32]; 2] {
        at.map(|param| param.of(self.read()))
    }

    pub(super) fn weight(&self, w: Param) -> Weight<'a> {
        Weight { values: w.of(self.read()), operands: self.operands }
    }

    pub(super) fn linear_weights(&self, at: Linear) -> (Weight<'a>, Option<&'a [f32]>) {
        (self.weight(at.w), at.b.map(|b| b.of(self.read())))
    }

    /// Gain and shift of a batch norm; those that change nothing where it has none.
    pub(super) fn norm_weights(&self, norm: BatchNorm) -> [Cow<'a, [f32]>; 2] {
        match norm.affine {
            Some(affine) => self.affine(affine).map(Cow::Borrowed),
            None => [1.0, 0.0].map(|value| vec![value; norm.cols()].into()),
        }
    }

    /// The places of a batch norm's running mean and variance.
    pub(super) fn running(&self, norm: BatchNorm) -> [Param; 2] {
        norm.running.map(|param| match self.weights {
            Weights::Online => param,
            Weights::Momentum => Param { offset: param.offset + self.momentum.1, ..param },
        })
    }
}

/// What lies behind the rows of a contrastive loss, where anything does, among the running statistics.
pub(super) fn queue_of(rows: Contrast, statistics: &[f32]) -> contrastive::Queue<'_> {
    rows.queue.map_or_else(contrastive::Queue::default, |at| contrastive::Queue {
        keys: at.keys.of(statistics),
        labels: queue::labels(at.labels.of(statistics)),
    })
}

/// What the loss of `of` looks at.
pub(super) fn pair_batch<'a>(of: Pairs, memory: &'a Memory, numbers: &'a [u32]) -> pairs::Batch<'a> {
    let labels = of.labels.map(|labels| &numbers[labels.range()]);
    pairs::Batch { rows: memory.read(of.rows), keys: memory.read(of.keys), labels, temperature: of.temperature }
}
