//! Criterion measures; the samples are kept for a closing table beside the machine's peaks.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use rayon::prelude::*;
use stablerep::ops::gemm::{self, Threads};

/// Side of the matrices of the arithmetic peak.
const GEMM: usize = 1024;

/// Values copied for the memory peak: far more than any cache holds.
const COPY: usize = 1 << 26;

/// What one call does at least.
#[derive(Clone, Copy)]
pub struct Work {
    pub flops: f64,
    pub bytes: f64,
}

impl Work {
    pub fn new(flops: f64, bytes: f64) -> Self {
        Self { flops, bytes }
    }
}

/// Collects measurements.
pub struct Bench {
    criterion: Criterion,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    work: Work,
    seconds: f64,
}

impl Bench {
    pub fn new() -> Self {
        let criterion = Criterion::default()
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(2))
            .sample_size(20)
            .without_plots()
            .configure_from_args();
        Self { criterion, rows: Vec::new() }
    }

    /// Measures `call`, which does `work`, as `op/shape`.
    pub fn measure(&mut self, name: &str, work: Work, mut call: impl FnMut()) {
        let mut samples: Vec<(u64, f64)> = Vec::new();
        self.criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let start = Instant::now();
                for _ in 0..iterations {
                    call();
                }
                let time = start.elapsed();
                samples.push((iterations, time.as_secs_f64() / iterations as f64));
                time
            });
        });
        // A name the filter leaves out has no samples.
        let Some(&(last, _)) = samples.last() else { return };
        let mut times: Vec<f64> = samples.iter().filter(|(n, _)| 2 * n >= last).map(|(_, seconds)| *seconds).collect();
        times.sort_unstable_by(f64::total_cmp);
        self.rows.push(Row { name: name.to_owned(), work, seconds: times[times.len() / 2] });
    }

    /// Measures the peaks and prints the table.
    pub fn finish(self) {
        self.criterion.final_summary();
        // Under `cargo test`, and with --test, every call runs once and cold: nothing to report.
        let measured = std::env::args().any(|word| word == "--bench") && !std::env::args().any(|word| word == "--test");
        if self.rows.is_empty() || !measured {
            return;
        }
        let (flops, bytes) = (peak_flops(), peak_bytes());
        println!(
            "\npeaks of this machine, {} threads: {:.1} GFLOP/s (product of {GEMM}³), {:.1} GB/s (copy of {} MiB)",
            rayon::current_num_threads(),
            flops / 1e9,
            bytes / 1e9,
            (COPY * 4) >> 20
        );
        println!("of limit = least time the two peaks allow / measured time; above 1 where the data stays in cache\n");
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        println!(
            "{:<width$} {:>11} {:>9} {:>7} {:>8} {:>7} {:>8}",
            "op/shape", "µs", "GFLOP/s", "of peak", "GB/s", "of copy", "of limit"
        );
        for Row { name, work, seconds } in &self.rows {
            let limit = (work.flops / flops).max(work.bytes / bytes);
            println!(
                "{name:<width$} {:>11.1} {:>9.1} {:>7.2} {:>8.2} {:>7.2} {:>8.2}",
                seconds * 1e6,
                work.flops / seconds / 1e9,
                work.flops / seconds / flops,
                work.bytes / seconds / 1e9,
                work.bytes / seconds / bytes,
                limit / seconds
            );
        }
    }
}

/// Values in ±1 that no two neighbours share.
pub fn values(len: usize) -> Vec<f32> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}

fn peak_flops() -> f64 {
    let (a, b) = (values(GEMM * GEMM), values(GEMM * GEMM));
    let mut y = vec![0.0; GEMM * GEMM];
    let call = || gemm::nn(&mut y, &a, &b, (GEMM, GEMM, GEMM), false, Threads::All);
    2.0 * (GEMM as f64).powi(3) / fastest(call)
}

fn peak_bytes() -> f64 {
    let from = values(COPY);
    let mut to = vec![0.0f32; COPY];
    let call =
        || to.par_chunks_mut(1 << 18).zip(from.par_chunks(1 << 18)).for_each(|(to, from)| to.copy_from_slice(from));
    8.0 * COPY as f64 / fastest(call)
}

/// Seconds of the fastest of some calls, over one second.
fn fastest(mut call: impl FnMut()) -> f64 {
    let (start, mut least) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < Duration::from_secs(1) {
        let begin = Instant::now();
        black_box(&mut call)();
        least = least.min(begin.elapsed().as_secs_f64());
    }
    least
}
