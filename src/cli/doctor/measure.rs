//! Quick measurements: half a second each.

use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::ops::gemm::{Threads, nn};

/// Side of the matrices multiplied.
const SIDE: usize = 1024;

/// Values copied: far more than any cache holds.
const COPIED: usize = 1 << 25;

/// Bytes written to the disk.
const WRITTEN: usize = 64 << 20;

/// FLOP/s of an f32 matrix product on all threads.
pub fn gemm_flops() -> f64 {
    let (a, b) = (vec![0.5; SIDE * SIDE], vec![0.25; SIDE * SIDE]);
    let mut y = vec![0.0; SIDE * SIDE];
    2.0 * (SIDE as f64).powi(3) / fastest(|| nn(&mut y, &a, &b, (SIDE, SIDE, SIDE), false, Threads::All))
}

/// Bytes per second of a copy, read and written ones counted.
pub fn copy_bytes() -> f64 {
    let from = vec![1.0f32; COPIED];
    let mut to = vec![0.0f32; COPIED];
    let chunk = 1 << 18;
    let copy = || to.par_chunks_mut(chunk).zip(from.par_chunks(chunk)).for_each(|(to, from)| to.copy_from_slice(from));
    8.0 * COPIED as f64 / fastest(copy)
}

/// Bytes per second written to a file in `folder` and made durable; the file is removed.
pub fn write_speed(folder: &Path) -> std::io::Result<f64> {
    let block = vec![0x5Au8; 1 << 20];
    let mut file = tempfile::tempfile_in(folder)?;
    let start = Instant::now();
    for _ in 0..WRITTEN / block.len() {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    Ok(WRITTEN as f64 / start.elapsed().as_secs_f64())
}

/// Seconds of the fastest call within half a second.
fn fastest(mut call: impl FnMut()) -> f64 {
    let (start, mut least) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < Duration::from_millis(500) {
        let begin = Instant::now();
        black_box(&mut call)();
        least = least.min(begin.elapsed().as_secs_f64());
    }
    least
}
