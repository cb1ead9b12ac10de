use stablerep::ops::layernorm::{backward, forward};

use crate::support::{assert_close, differences, dot, random, wide};

const EPS: f32 = 1e-6;

fn reference(x: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
    let d = gamma.len();
    let row = |x: &[f64]| {
        let mean = x.iter().sum::<f64>() / d as f64;
        let var = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / d as f64;
        (0..d).map(|i| (x[i] - mean) / (var + f64::from(EPS)).sqrt() * gamma[i] + beta[i]).collect::<Vec<_>>()
    };
    x.chunks_exact(d).flat_map(row).collect()
}

#[test]
fn matches_f64_and_central_differences() {
    for (rows, d) in [(1, 2), (3, 5), (70, 17), (2, 64), (129, 3)] {
        let (x, gamma, beta, dy) = (random(rows * d, 1), random(d, 2), random(d, 3), random(rows * d, 4));
        let (mut y, mut stats) = (vec![0.0; rows * d], vec![0.0; rows * 2]);
        forward(&mut y, &mut stats, &x, &gamma, &beta, EPS);
        let (x64, gamma64, beta64, dy64) = (wide(&x), wide(&gamma), wide(&beta), wide(&dy));
        assert_close("y", &y, &reference(&x64, &gamma64, &beta64), 2e-6);

        // dx, dgamma and dbeta are added to what is there.
        let (mut dx, mut dgamma, mut dbeta) = (vec![0.5; rows * d], vec![0.25; d], vec![-1.0; d]);
        backward(&mut dx, &mut dgamma, &mut dbeta, &dy, &x, &stats, &gamma);
        let plus = |v: Vec<f64>, c: f64| v.into_iter().map(|v| v + c).collect::<Vec<_>>();
        let want = differences(&x, |x| dot(&reference(x, &gamma64, &beta64), &dy64));
        // A row of two values is ±1 whatever they are: its gradient is nearly 0 against terms of size rstd.
        assert_close("dx", &dx, &plus(want, 0.5), if d == 2 { 1e-3 } else { 2e-5 });
        let want = differences(&gamma, |gamma| dot(&reference(&x64, gamma, &beta64), &dy64));
        assert_close("dgamma", &dgamma, &plus(want, 0.25), 1e-5);
        let want = differences(&beta, |beta| dot(&reference(&x64, &gamma64, beta), &dy64));
        assert_close("dbeta", &dbeta, &plus(want, -1.0), 1e-5);
    }
}
