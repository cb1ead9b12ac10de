//! A queue of keys and labels of earlier steps (MoCo, arXiv 1911.05722): a ring, in which the newest take the places of
//! the oldest.
//!
//! It is kept as f32 and saved as such: of a label the bits are, so that every label is one exactly.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

/// The label of a slot that nothing was put in. It is the largest whose bits are those of a finite f32; texts and
/// pictures, whose numbers labels are, are fewer.
pub const EMPTY: u32 = f32::MAX.to_bits();

/// The labels `[Q]` of what is kept of them.
pub fn labels(kept: &[f32]) -> &[u32] {
    bytemuck::cast_slice(kept)
}

/// What is kept of a queue of empty slots: keys `[Q, d]` of zeros, and labels `[Q]`.
pub fn clear(keys: &mut [f32], labels: &mut [f32]) {
    keys.fill(0.0);
    labels.fill(f32::from_bits(EMPTY));
}

/// Puts `rows [n, d]` and their labels `[n]` in the slots from `start` on of a ring of keys `[Q, d]` and labels `[Q]`,
/// Q ≥ n.
pub fn put(keys: &mut [f32], kept: &mut [f32], rows: &[f32], labels: &[u32], start: usize) {
    let (slots, d) = (kept.len(), rows.len() / labels.len());
    assert!(
        start < slots && labels.len() <= slots && keys.len() == slots * d && rows.len() == labels.len() * d,
        "queue: {} rows of {d} from slot {start} of {slots}",
        labels.len()
    );
    for (i, (row, label)) in rows.chunks_exact(d).zip(labels).enumerate() {
        let slot = (start + i) % slots;
        keys[slot * d..(slot + 1) * d].copy_from_slice(row);
        kept[slot] = f32::from_bits(*label);
    }
}
