//! What the tests of trained ops share: inputs, f64 central differences, and one comparison.

use stablerep::rng::{Domain, Stream};

/// `len` values of N(0, 1), different for each `id`.
pub fn random(len: usize, id: u32) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Stream::new(7, Domain::Init, [id, 0, 0]).fill_normal(&mut values);
    values
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Central differences of `f` at `x` in f64.
pub fn differences(x: &[f32], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut x = wide(x);
    (0..x.len())
        .map(|i| {
            let (old, step) = (x[i], 1e-5);
            x[i] = old + step;
            let above = f(&x);
            x[i] = old - step;
            let below = f(&x);
            x[i] = old;
            (above - below) / (2.0 * step)
        })
        .collect()
}

/// Fails where `got` differs from `want` by more than `tolerance` of the largest wanted value.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let scale = want.iter().fold(0.0f64, |m, v| m.max(v.abs())).max(1e-12);
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs() / scale;
        assert!(
            error <= tolerance,
            "{what}[{i}]: got {got}, wanted {want}, error {error:e} of the largest value {scale}"
        );
    }
}
