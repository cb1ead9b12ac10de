use stablerep::ops::contrastive::{Batch, Queue, backward, floor, forward};
use stablerep::ops::l2norm;
use stablerep::ops::queue::EMPTY;
use stablerep::rng::{Domain, Stream};

use crate::support::{assert_close, differences, dot, random, wide};

/// StableRep's loss (Tian et al. 2023, §3.2) word for word in f64: the loss of each anchor.
fn reference(z: &[f64], labels: &[u32], temperature: f64) -> Vec<f64> {
    let (total, d) = (labels.len(), z.len() / labels.len());
    let s = |i: usize, j: usize| dot(&z[i * d..][..d], &z[j * d..][..d]) / temperature;
    (0..total)
        .map(|i| {
            let others = || (0..total).filter(move |&j| j != i);
            let positives: Vec<usize> = others().filter(|&j| labels[j] == labels[i]).collect();
            let log_sum = others().map(|j| s(i, j).exp()).sum::<f64>().ln();
            positives.iter().map(|&j| log_sum - s(i, j)).sum::<f64>() / positives.len().max(1) as f64
        })
        .collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn unit(x: &[f32], rows: usize) -> Vec<f32> {
    let (mut z, mut norms) = (vec![0.0; x.len()], vec![0.0; rows]);
    l2norm::forward(&mut z, &mut norms, x, 1e-12);
    z
}

/// The vectors of the method's specification: two captions, three views.
#[test]
fn specification_vectors() {
    let raw = [1., 0., 0., 0., 1., 0., 1., 1., 0., 0., 1., 1., 1., 0., 1., 0., 2., -1.];
    let labels = [0, 1, 0, 1, 0, 1];
    let z = unit(&raw, 6);
    let batch = Batch { z: &z, labels: &labels, queue: Queue::default(), temperature: 0.1 };
    let loss = forward(&mut [0.0; 6], &mut [0.0; 6], batch);
    assert!((loss - 1.726451).abs() < 1e-6, "{loss}");
    let each = [0.694420, 1.204736, 2.038413, 2.195784, 1.261065, 2.964287];
    for (got, want) in reference(&wide(&z), &labels, 0.1).iter().zip(each) {
        assert!((got - want).abs() < 1e-6, "{got} {want}");
    }
}

/// Labels alone say how small the loss may be: it comes there where rows of a label are one and others are orthogonal.
#[test]
fn the_floor_is_approached_and_not_passed() {
    // Three of one label, two of another, one alone: (3·ln 2 + 2·ln 1)/6.
    let labels = [5, 9, 5, 7, 9, 5];
    let least = floor(&labels);
    assert!((least - 3.0 * 2f64.ln() / 6.0).abs() < 1e-15, "{least}");
    assert_eq!(floor(&[1, 2, 3]), 0.0);
    let axis = |label: u32| [5, 7, 9].map(|other| f32::from(u8::from(label == other)));
    let alike: Vec<f32> = labels.iter().flat_map(|&label| axis(label)).collect();
    let loss = |z: &[f32], temperature| {
        forward(&mut [0.0; 6], &mut [0.0; 6], Batch { z, labels: &labels, queue: Queue::default(), temperature })
    };
    assert!((loss(&alike, 0.05) - least).abs() < 1e-6, "{}", loss(&alike, 0.05));
    for (seed, temperature) in [(1, 0.05f32), (2, 0.1), (3, 0.5)] {
        assert!(loss(&unit(&random(18, seed), 6), temperature) > least);
    }
}

#[test]
fn matches_f64_and_central_differences() {
    for (rows, d, classes) in [(1, 3, 1), (2, 2, 1), (2, 2, 2), (9, 5, 4), (65, 3, 20), (70, 2, 1), (300, 2, 290)] {
        let mut stream = Stream::new(1, Domain::Init, [9, 0, 0]);
        let labels: Vec<u32> = (0..rows).map(|_| stream.below(classes) as u32).collect();
        let z = unit(&random(rows * d, 1), rows);
        for temperature in [0.1f32, 0.5] {
            let batch = Batch { z: &z, labels: &labels, queue: Queue::default(), temperature };
            let (mut lse, mut weight) = (vec![0.0; rows], vec![0.0; rows]);
            let loss = forward(&mut lse, &mut weight, batch);
            let t = f64::from(temperature);
            let want = mean(&reference(&wide(&z), &labels, t));
            assert!((loss - want).abs() < 1e-6, "{rows} {classes}: {loss} {want}");
            let mut dz = vec![f32::NAN; z.len()];
            backward(&mut dz, &lse, &weight, batch);
            if rows < 100 {
                let want = differences(&z, |z| mean(&reference(z, &labels, t)));
                assert_close("dz", &dz, &want, 2e-5);
            }
        }
    }
}

/// Blocks of rows and columns do not show: many rows, several positives in several blocks.
#[test]
fn gradient_over_many_blocks() {
    let (rows, d) = (600, 4);
    let labels: Vec<u32> = (0..rows as u32).map(|i| i % 150).collect();
    let z = unit(&random(rows * d, 3), rows);
    let batch = Batch { z: &z, labels: &labels, queue: Queue::default(), temperature: 0.1 };
    let (mut lse, mut weight) = (vec![0.0; rows], vec![0.0; rows]);
    forward(&mut lse, &mut weight, batch);
    let mut dz = vec![0.0; z.len()];
    backward(&mut dz, &lse, &weight, batch);
    // The same gradient written out over whole rows: as anchor and as candidate.
    let z64 = wide(&z);
    let s = |i: usize, j: usize| dot(&z64[i * d..][..d], &z64[j * d..][..d]) / 0.1;
    let log_sum: Vec<f64> =
        (0..rows).map(|i| (0..rows).filter(|&j| j != i).map(|j| s(i, j).exp()).sum::<f64>().ln()).collect();
    let slope =
        |i: usize, j: usize| (s(i, j) - log_sum[i]).exp() - if labels[i] == labels[j] { 1.0 / 3.0 } else { 0.0 };
    let mut want = vec![0.0; z.len()];
    for i in 0..rows {
        for j in (0..rows).filter(|&j| j != i) {
            for c in 0..d {
                want[i * d + c] += (slope(i, j) + slope(j, i)) * z64[j * d + c] / (0.1 * rows as f64);
            }
        }
    }
    assert_close("dz", &dz, &want, 2e-5);
}

#[test]
fn nan_is_not_hidden() {
    let mut z = unit(&random(20, 1), 5);
    z[7] = f32::NAN;
    let batch = Batch { z: &z, labels: &[0, 0, 1, 1, 2], queue: Queue::default(), temperature: 0.1 };
    assert!(forward(&mut [0.0; 5], &mut [0.0; 5], batch).is_nan());
}

/// Keys behind the rows, some slots of which are empty, in several blocks: the loss of rows and filled slots in f64, in
/// which no row is itself, and its differences, which reach no key.
#[test]
fn a_queue_matches_f64_and_central_differences() {
    for (rows, slots, d, classes) in [(2, 1, 3, 2), (6, 5, 3, 4), (9, 300, 2, 30), (70, 3, 2, 500)] {
        let mut stream = Stream::new(2, Domain::Init, [9, 0, 0]);
        let mut draw = |count: usize| -> Vec<u32> { (0..count).map(|_| stream.below(classes) as u32).collect() };
        let (labels, mut of_slots) = (draw(rows), draw(slots));
        let (z, keys) = (unit(&random(rows * d, 1), rows), unit(&random(slots * d, 2), slots));
        for filled in [slots, slots / 2, 0] {
            // Empty ones behind the others and, once, between them.
            of_slots[filled..].fill(EMPTY);
            if filled > 2 && filled < slots {
                of_slots[1] = EMPTY;
            }
            let queue = Queue { keys: &keys, labels: &of_slots };
            let batch = Batch { z: &z, labels: &labels, queue, temperature: 0.2 };
            let all = |z: &[f64]| {
                let some = || of_slots.iter().zip(keys.chunks_exact(d)).filter(|(label, _)| **label != EMPTY);
                let z: Vec<f64> = z.iter().copied().chain(some().flat_map(|(_, key)| wide(key))).collect();
                let labels: Vec<u32> = labels.iter().copied().chain(some().map(|(label, _)| *label)).collect();
                mean(&reference(&z, &labels, f64::from(0.2f32))[..rows])
            };
            let (mut lse, mut weight) = (vec![0.0; rows], vec![0.0; rows]);
            let (loss, want) = (forward(&mut lse, &mut weight, batch), all(&wide(&z)));
            assert!((loss - want).abs() < 1e-6, "{rows} rows, {filled} of {slots} slots: {loss} {want}");
            let mut dz = vec![f32::NAN; z.len()];
            backward(&mut dz, &lse, &weight, batch);
            assert_close("dz", &dz, &differences(&z, all), 2e-5);
        }
    }
}
