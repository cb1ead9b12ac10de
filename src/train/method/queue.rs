//! A queue of keys of earlier steps for the multi-positive loss: what a momentum copy of the network made of their
//! images (MoCo, arXiv 1911.05722), with their labels. A caption that comes again finds its images of epochs before.

use crate::layers::training::{Buffer, Kind, Layout, MomentumCopy, Numbers, Queue};
use crate::models::projector::{Projector, ProjectorActs};
use crate::ops::queue::clear;
use crate::weights::{COPY, ParamTable, pair_mut};

/// Momentum of the copy at the beginning of a run, on its way to 1 in half a cosine: that of SynCLR's teacher
/// (arXiv 2312.17742).
pub const QUEUE_MOMENTUM: f64 = 0.994;

/// The most slots: of these and the rows of a step kernels number the values in 31 bits.
pub const MOST_SLOTS: usize = 1 << 24;

/// The copy, its keys of a step, and the queue.
#[derive(Debug)]
pub(super) struct Queued {
    pub copy: MomentumCopy,
    /// Momentum at the beginning.
    pub base: f64,
    pub queue: Queue,
    /// Differ from the online head's in the last layer alone: what else it stores, the online forward overwrites.
    pub acts: ProjectorActs,
    /// Unit rows `[n, d]`, and the lengths they had.
    pub keys: Buffer,
    pub norms: Buffer,
    /// The slot of the first of them.
    pub start: Numbers,
}

impl Queued {
    /// Appends to `kept`, where the head's running statistics are, the copy's, the queue and the copy's parameters.
    pub fn new(
        (slots, base): (usize, f64),
        (parameters, kept): (&ParamTable, &mut ParamTable),
        layout: &mut Layout,
        (head, acts): (&Projector, &ProjectorActs),
    ) -> Self {
        let statistics = kept.clone();
        kept.add_all(COPY, &statistics);
        let (rows, values) = (acts.rows(), acts.out().len());
        let queue =
            Queue { keys: kept.add("queue.keys", &[slots, values / rows]), labels: kept.add("queue.labels", &[slots]) };
        let copied = kept.add_all(COPY, parameters);
        let copy = MomentumCopy { parameters: copied, statistics: statistics.len(), rate: 0 };
        let acts = acts.before(layout, head, Kind::Exact);
        let keys = layout.take("loss", "keys", values, Kind::Exact);
        let norms = layout.take("loss", "norms of keys", rows, Kind::Exact);
        Self { copy, base, queue, acts, keys, norms, start: Numbers { start: rows, len: 1 } }
    }

    /// The copy begins as what it copies, the queue empty.
    pub fn begin(&self, parameters: &[f32], kept: &mut [f32]) {
        self.copy.begin(parameters, kept);
        let Queue { keys, labels } = self.queue;
        let (keys, labels) = pair_mut(kept, keys, labels);
        clear(keys, labels);
    }

    /// The slot at which update `step` of the run begins.
    pub fn start(&self, step: u64) -> u32 {
        (step * self.norms.len() as u64 % self.queue.labels.len as u64) as u32
    }
}
