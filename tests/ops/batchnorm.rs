use stablerep::ops::batchnorm::{EPS, Running, backward, forward, infer};

use crate::support::{assert_close, differences, dot, random, wide};

/// Mean, biased variance and output per column.
fn reference(x: &[f64], gamma: &[f64], beta: &[f64]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let cols = gamma.len();
    let rows = x.len() / cols;
    let mean: Vec<f64> = (0..cols).map(|c| (0..rows).map(|r| x[r * cols + c]).sum::<f64>() / rows as f64).collect();
    let var: Vec<f64> =
        (0..cols).map(|c| (0..rows).map(|r| (x[r * cols + c] - mean[c]).powi(2)).sum::<f64>() / rows as f64).collect();
    let y = (0..x.len())
        .map(|i| (x[i] - mean[i % cols]) / (var[i % cols] + f64::from(EPS)).sqrt() * gamma[i % cols] + beta[i % cols])
        .collect();
    (mean, var, y)
}

#[test]
fn matches_f64_and_central_differences() {
    for (rows, cols) in [(2, 1), (3, 5), (33, 7), (70, 2), (5, 40)] {
        let (x, gamma, beta, dy) = (random(rows * cols, 1), random(cols, 2), random(cols, 3), random(rows * cols, 4));
        let (mut mean, mut var) = (random(cols, 5), vec![2.0; cols]);
        let (old_mean, old_var) = (wide(&mean), wide(&var));
        let (mut y, mut stats) = (vec![0.0; x.len()], vec![0.0; 2 * cols]);
        forward(&mut y, &mut stats, Running { mean: &mut mean, var: &mut var }, &x, &gamma, &beta);
        let (x64, gamma64, beta64, dy64) = (wide(&x), wide(&gamma), wide(&beta), wide(&dy));
        let (want_mean, want_var, want) = reference(&x64, &gamma64, &beta64);
        assert_close("y", &y, &want, 1e-5);
        let unbiased = rows as f64 / (rows - 1) as f64;
        let mix = |old: &[f64], new: &[f64], f: f64| -> Vec<f64> {
            old.iter().zip(new).map(|(o, n)| 0.9 * o + 0.1 * n * f).collect()
        };
        assert_close("running mean", &mean, &mix(&old_mean, &want_mean, 1.0), 1e-6);
        assert_close("running var", &var, &mix(&old_var, &want_var, unbiased), 1e-6);

        let (mut dx, mut dgamma, mut dbeta) = (vec![f32::NAN; x.len()], vec![1.0; cols], vec![2.0; cols]);
        backward(&mut dx, &mut dgamma, &mut dbeta, &dy, &x, &stats, &gamma);
        let loss = |x: &[f64], gamma: &[f64], beta: &[f64]| dot(&reference(x, gamma, beta).2, &dy64);
        let plus = |v: Vec<f64>, c: f64| v.into_iter().map(|v| v + c).collect::<Vec<_>>();
        if rows > 2 {
            assert_close("dx", &dx, &differences(&x, |x| loss(x, &gamma64, &beta64)), 1e-4);
        }
        assert_close("dgamma", &dgamma, &plus(differences(&gamma, |g| loss(&x64, g, &beta64)), 1.0), 1e-5);
        assert_close("dbeta", &dbeta, &plus(differences(&beta, |b| loss(&x64, &gamma64, b)), 2.0), 1e-5);

        infer(&mut y, &x, &mean, &var, &gamma, &beta);
        let want: Vec<f64> = (0..x.len())
            .map(|i| {
                let c = i % cols;
                (x64[i] - f64::from(mean[c])) / (f64::from(var[c]) + f64::from(EPS)).sqrt() * gamma64[c] + beta64[c]
            })
            .collect();
        assert_close("evaluation mode", &y, &want, 1e-5);
    }
}

/// A mean that is large against the spread does not spoil the variance.
#[test]
fn large_means_keep_their_variance() {
    let x: Vec<f32> = random(256, 1).iter().map(|v| 1000.0 + v).collect();
    let (mut y, mut stats) = (vec![0.0; 256], vec![0.0; 2]);
    forward(&mut y, &mut stats, Running { mean: &mut [0.0], var: &mut [1.0] }, &x, &[1.0], &[0.0]);
    let (_, _, want) = reference(&wide(&x), &[1.0], &[0.0]);
    assert_close("y", &y, &want, 1e-4);
}
