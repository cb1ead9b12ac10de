//! Kernels of `compiled/corpus.cu` as nvcc compiled them: right ones, which no seed may flag, and the same with a
//! planted mistake, which every seed must find at its line of the source.

use std::collections::BTreeSet;

use crate::machine::{Arg, Machine, load};
use cuda_sim::check::{Finding, Kind};

const SEEDS: u64 = 20;
const SOURCE: &str = include_str!("compiled/corpus.cu");

/// The PTX of each value of `MISTAKE`.
const PTX: [&str; 8] = [
    include_str!("compiled/corpus_0.ptx"),
    include_str!("compiled/corpus_1.ptx"),
    include_str!("compiled/corpus_2.ptx"),
    include_str!("compiled/corpus_3.ptx"),
    include_str!("compiled/corpus_4.ptx"),
    include_str!("compiled/corpus_5.ptx"),
    include_str!("compiled/corpus_6.ptx"),
    include_str!("compiled/corpus_7.ptx"),
];

type Ran = Result<(), Box<Finding>>;

/// Pseudo-random numbers below `below`.
fn numbers(count: usize, below: u32) -> Vec<u32> {
    let mut x = 12345u32;
    let mut next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 8) % below
    };
    (0..count).map(|_| next()).collect()
}

fn floats(count: usize) -> Vec<f32> {
    numbers(count, 1000).into_iter().map(|n| n as f32 / 500.0 - 1.0).collect()
}

fn transpose(machine: &Machine, ptx: &str) -> Ran {
    let n = 45;
    let module = load(machine, ptx);
    let values = floats(n * n);
    let (out, input) = (machine.alloc(4 * n * n), machine.upload(&values));
    let args = [Arg::Ptr(out), Arg::Ptr(input), Arg::U32(n as u32)];
    machine.run_named(&module, "transpose", [2, 2, 1], [32, 8, 1], &args)?;
    let got: Vec<f32> = machine.download(out, n * n);
    for (i, &x) in got.iter().enumerate() {
        assert_eq!(x, values[i % n * n + i / n]);
    }
    Ok(())
}

fn scan(machine: &Machine, ptx: &str) -> Ran {
    let module = load(machine, ptx);
    let values = numbers(700, 100);
    let place = machine.upload(&values);
    machine.run_named(&module, "scan", [3, 1, 1], [256, 1, 1], &[Arg::Ptr(place), Arg::U32(700)])?;
    let got: Vec<u32> = machine.download(place, 700);
    for (values, got) in values.chunks(256).zip(got.chunks(256)) {
        let mut sum = 0;
        let expected: Vec<u32> = values.iter().map(|v| (sum += v, sum).1).collect();
        assert_eq!(got, expected);
    }
    Ok(())
}

fn histogram(machine: &Machine, ptx: &str) -> Ran {
    let module = load(machine, ptx);
    let values = numbers(1000, 64);
    let (counts, input) = (machine.upload(&[0u32; 64]), machine.upload(&values));
    let args = [Arg::Ptr(counts), Arg::Ptr(input), Arg::U32(1000)];
    machine.run_named(&module, "histogram", [3, 1, 1], [128, 1, 1], &args)?;
    let got: Vec<u32> = machine.download(counts, 64);
    let expected: Vec<u32> = (0..64).map(|v| values.iter().filter(|&&x| x == v).count() as u32).collect();
    assert_eq!(got, expected);
    Ok(())
}

fn softmax(machine: &Machine, ptx: &str) -> Ran {
    let (rows, n) = (7, 77);
    let module = load(machine, ptx);
    let values = floats(rows * n);
    let (out, input) = (machine.alloc(4 * rows * n), machine.upload(&values));
    let args = [Arg::Ptr(out), Arg::Ptr(input), Arg::U32(rows as u32), Arg::U32(n as u32)];
    machine.run_named(&module, "softmax", [2, 1, 1], [128, 1, 1], &args)?;
    let got: Vec<f32> = machine.download(out, rows * n);
    for (row, got) in values.chunks(n).zip(got.chunks(n)) {
        let sum: f64 = row.iter().map(|&x| (x as f64).exp()).sum();
        for (&x, &got) in row.iter().zip(got) {
            let want = (x as f64).exp() / sum;
            assert!((got as f64 - want).abs() < 1e-6 * want.max(0.01), "{got}, not {want}");
        }
    }
    Ok(())
}

fn sort(machine: &Machine, ptx: &str) -> Ran {
    let module = load(machine, ptx);
    let mut values = numbers(512, 5000);
    let place = machine.upload(&values);
    machine.run_named(&module, "sort", [1; 3], [256, 1, 1], &[Arg::Ptr(place)])?;
    values.sort_unstable();
    assert_eq!(machine.download::<u32>(place, 512), values);
    Ok(())
}

fn matmul(machine: &Machine, ptx: &str) -> Ran {
    let n = 96;
    let module = load(machine, ptx);
    let (a, b) = (floats(n * n), numbers(n * n, 9).into_iter().map(|x| x as f32 - 4.0).collect::<Vec<_>>());
    let out = machine.alloc(4 * n * n);
    let args = [Arg::Ptr(out), Arg::Ptr(machine.upload(&a)), Arg::Ptr(machine.upload(&b)), Arg::U32(n as u32)];
    machine.run_named(&module, "matmul", [3, 3, 1], [256, 1, 1], &args)?;
    let got: Vec<f32> = machine.download(out, n * n);
    for (i, &got) in got.iter().enumerate() {
        let want: f64 = (0..n).map(|k| a[i / n * n + k] as f64 * b[k * n + i % n] as f64).sum();
        assert!((got as f64 - want).abs() < 1e-4, "{got}, not {want}");
    }
    Ok(())
}

fn right(run: fn(&Machine, &str) -> Ran) {
    for seed in 0..SEEDS {
        run(&Machine::with_seed(seed), PTX[0]).unwrap_or_else(|finding| panic!("{finding}"));
    }
}

#[test]
fn right_kernels_are_not_flagged() {
    right(transpose);
    right(scan);
    right(histogram);
    right(softmax);
    right(sort);
    right(matmul);
}

/// Lines of the source that hold one of these.
fn lines(parts: &[&str]) -> BTreeSet<u32> {
    let holds = |line: &str| parts.iter().any(|part| line.contains(part));
    let lines: BTreeSet<u32> = (1..).zip(SOURCE.lines()).filter(|(_, line)| holds(line)).map(|(n, _)| n).collect();
    assert!(!lines.is_empty());
    lines
}

/// Every seed finds one of `kinds` at one of the lines that hold one of `parts`; with no parts, the place is inlined
/// from a header of the toolkit.
fn wrong(mistake: usize, run: fn(&Machine, &str) -> Ran, kinds: &[Kind], parts: &[&str]) {
    for seed in 0..SEEDS {
        let Err(finding) = run(&Machine::with_seed(seed), PTX[mistake]) else {
            panic!("mistake {mistake}, seed {seed}: nothing found");
        };
        assert!(kinds.contains(&finding.kind), "{finding}");
        let Some((file, line)) = &finding.source else { panic!("no source line: {finding}") };
        if !parts.is_empty() {
            assert!(file.ends_with("corpus.cu") && lines(parts).contains(line), "{finding}");
        }
    }
}

#[test]
fn missing_barrier() {
    let kinds = [Kind::SharedRace, Kind::UninitializedShared];
    wrong(1, transpose, &kinds, &["tile[threadIdx.y + i][threadIdx.x] =", "out[(v + i) * n + u] ="]);
}

#[test]
fn two_lanes_write_one_word() {
    wrong(2, scan, &[Kind::SharedRace], &["sums[warp] = x"]);
}

#[test]
fn counters_that_start_as_anything() {
    wrong(3, histogram, &[Kind::UninitializedShared], &[]);
}

#[test]
fn one_element_too_many() {
    wrong(4, softmax, &[Kind::OutOfBounds], &["top = fmaxf(top, in["]);
}

#[test]
fn barrier_missing_in_one_step_of_many() {
    wrong(5, sort, &[Kind::SharedRace], &["= v[i], b = v[o]", "v[i] = b, v[o] = a"]);
}

#[test]
fn wait_for_the_wrong_group() {
    wrong(6, matmul, &[Kind::AsyncNotWaited, Kind::SharedRace], &["sum[j] += as[", "for (int i = 0; i < 32; i++)"]);
}

#[test]
fn buffer_refilled_while_others_read_it() {
    wrong(7, matmul, &[Kind::SharedRace, Kind::AsyncNotWaited], &[]);
}
