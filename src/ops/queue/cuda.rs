//! Launches of `kernels/queue.cu`.

use crate::device::cuda::kernels::queue::THREADS;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;

/// As [`super::put`], of a ring `(keys [Q, d], labels [Q])`; `start [1]` is below Q.
pub fn put(
    gpu: &Gpu,
    (keys, kept): (View<f32>, View<f32>),
    rows: View<f32>,
    labels: View<u32>,
    start: View<u32>,
) -> Result<()> {
    let (slots, count) = (kept.len(), labels.len());
    assert!(0 < count && count <= slots && slots < 1 << 30, "queue: {count} rows in {slots} slots");
    let d = rows.len() / count;
    assert!(rows.len() == count * d && keys.len() == slots * d && start.len() == 1, "queue: {rows:?} {keys:?}");
    assert!(rows.len() < 1 << 31, "queue: {rows:?} is too large");
    let (to, at) = (kept.cast::<u32>(), Launch::new(rows.len().div_ceil(THREADS), THREADS as u32));
    let [count, slots, d] = [count, slots, d].map(|n| n as u32);
    kernels::QueuePut { keys, kept: to, rows, labels, start, count, slots, d }.launch(gpu, at)
}
