//! Quick measurements: the best of many short ones, for half a second each and a few seconds on a busy machine.

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

/// Parts that are copied one by one.
const PARTS: usize = 16;

/// Bytes written to the disk.
const WRITTEN: usize = 64 << 20;

/// FLOP/s of an f32 matrix product on all threads.
pub fn gemm_flops() -> f64 {
    let (a, b) = (vec![0.5; SIDE * SIDE], vec![0.25; SIDE * SIDE]);
    let mut y = vec![0.0; SIDE * SIDE];
    2.0 * (SIDE as f64).powi(3) / fastest(|| nn(&mut y, &a, &b, (SIDE, SIDE, SIDE), false, Threads::All))
}

/// Bytes per second of a copy, read and written ones counted. Part after part of a large buffer: each is out of the
/// caches again when its turn comes, and short enough that some are copied between two turns of other processes.
pub fn copy_bytes() -> f64 {
    let from = vec![1.0f32; COPIED];
    // Written, so that no part meets its pages for the first time.
    let mut to = vec![2.0f32; COPIED];
    let (part, chunk) = (COPIED / PARTS, 1 << 16);
    let mut turn = 0;
    let copy = || {
        let range = turn % PARTS * part..(turn % PARTS + 1) * part;
        turn += 1;
        let pairs = to[range.clone()].par_chunks_mut(chunk).zip(from[range].par_chunks(chunk));
        pairs.for_each(|(to, from)| to.copy_from_slice(from));
    };
    8.0 * part as f64 / fastest(copy)
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

/// Seconds of the fastest call within half a second; on a machine that is too busy for many calls, of a few more within
/// three.
fn fastest(mut call: impl FnMut()) -> f64 {
    let (start, mut least, mut calls) = (Instant::now(), f64::INFINITY, 0);
    let more = |calls, elapsed: Duration| elapsed.as_millis() < 500 || (calls < 12 && elapsed.as_secs() < 3);
    while more(calls, start.elapsed()) {
        calls += 1;
        let begin = Instant::now();
        black_box(&mut call)();
        least = least.min(begin.elapsed().as_secs_f64());
    }
    least
}
