use stablerep::ops::linear::{
    Shape, backward_input, backward_input_gelu, backward_weight, forward, forward_gelu, forward_residual,
};

use crate::support::{assert_close, differences, dot, random, wide};

fn reference(x: &[f64], w: &[f64], b: &[f64], shape: Shape) -> Vec<f64> {
    let Shape { rows, inputs, outputs } = shape;
    (0..rows * outputs)
        .map(|i| b[i % outputs] + dot(&x[i / outputs * inputs..][..inputs], &w[i % outputs * inputs..][..inputs]))
        .collect()
}

/// erf(x) = 2/√π·e^(−x²)·Σ 2ⁿ·x^(2n+1)/(2n+1)!!, whose terms have one sign.
fn erf(x: f64) -> f64 {
    if x.abs() > 8.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..300 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    sum * (-x * x).exp() * 2.0 / std::f64::consts::PI.sqrt()
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

const SHAPES: [(usize, usize, usize); 6] = [(1, 1, 1), (1, 3, 5), (7, 2, 3), (33, 17, 4), (5, 1, 19), (1025, 3, 2)];

#[test]
fn forward_and_gradients_match_f64() {
    for (rows, inputs, outputs) in SHAPES {
        let shape = Shape { rows, inputs, outputs };
        let (x, w, b) = (random(rows * inputs, 1), random(outputs * inputs, 2), random(outputs, 3));
        let (dy, residual) = (random(rows * outputs, 4), random(rows * outputs, 5));
        let (x64, w64, b64, dy64) = (wide(&x), wide(&w), wide(&b), wide(&dy));
        let want = reference(&x64, &w64, &b64, shape);
        let mut y = vec![f32::NAN; rows * outputs];
        forward(&mut y, &x, &w, Some(&b), shape);
        assert_close("y", &y, &want, 2e-6);
        // Every row of the residual, and every third.
        let sparse: Vec<f32> =
            residual.chunks_exact(outputs).flat_map(|row| [row, &[f32::NAN].repeat(2 * outputs)].concat()).collect();
        let sum: Vec<f64> = want.iter().zip(wide(&residual)).map(|(a, b)| a + b).collect();
        for (residual, stride) in [(&residual, outputs), (&sparse, 3 * outputs)] {
            forward_residual(&mut y, (residual, stride), &x, &w, Some(&b), shape);
            assert_close("y with residual", &y, &sum, 2e-6);
        }
        let unbiased = reference(&x64, &w64, &vec![0.0; outputs], shape);
        forward(&mut y, &x, &w, None, shape);
        assert_close("y without bias", &y, &unbiased, 2e-6);
        forward_residual(&mut y, (&sparse, 3 * outputs), &x, &w, None, shape);
        let sum: Vec<f64> = unbiased.iter().zip(wide(&residual)).map(|(a, b)| a + b).collect();
        assert_close("y with residual without bias", &y, &sum, 2e-6);

        let mut dx = vec![f32::NAN; rows * inputs];
        backward_input(&mut dx, &dy, &w, shape);
        let loss = |x: &[f64], w: &[f64], b: &[f64]| dot(&reference(x, w, b, shape), &dy64);
        if rows < 1000 {
            assert_close("dx", &dx, &differences(&x, |x| loss(x, &w64, &b64)), 1e-5);
        }
        let (mut dw, mut db) = (vec![1.0; w.len()], vec![2.0; b.len()]);
        backward_weight(&mut dw, Some(&mut db), &dy, &x, shape);
        let plus = |v: Vec<f64>, c: f64| v.into_iter().map(|v| v + c).collect::<Vec<_>>();
        assert_close("dw", &dw, &plus(differences(&w, |w| loss(&x64, w, &b64)), 1.0), 1e-5);
        assert_close("db", &db, &plus(differences(&b, |b| loss(&x64, &w64, b)), 2.0), 1e-5);
        let mut alone = vec![1.0; w.len()];
        backward_weight(&mut alone, None, &dy, &x, shape);
        assert_eq!(alone, dw);
    }
}

/// h = x·W1ᵀ + b, a = gelu(h), then a second layer whose input gradient goes back through the GELU.
#[test]
fn gelu_epilogues_match_f64() {
    for (rows, inputs, outputs) in SHAPES {
        let shape = Shape { rows, inputs, outputs };
        let (x, w, b) = (random(rows * inputs, 1), random(outputs * inputs, 2), random(outputs, 3));
        let (mut a, mut h) = (vec![f32::NAN; rows * outputs], vec![f32::NAN; rows * outputs]);
        forward_gelu(&mut a, &mut h, &x, &w, Some(&b), shape);
        let h64 = reference(&wide(&x), &wide(&w), &wide(&b), shape);
        assert_close("h", &h, &h64, 2e-6);
        assert_close("a", &a, &h64.iter().map(|&h| gelu(h)).collect::<Vec<_>>(), 2e-6);

        let second = Shape { rows, inputs: outputs, outputs: inputs };
        let (w2, dy) = (random(inputs * outputs, 6), random(rows * inputs, 7));
        let mut dh = vec![f32::NAN; rows * outputs];
        backward_input_gelu(&mut dh, &dy, &w2, &h, second);
        let mut da = vec![0.0; rows * outputs];
        backward_input(&mut da, &dy, &w2, second);
        let slope = |x: f64| (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5;
        let want: Vec<f64> = wide(&da).iter().zip(wide(&h)).map(|(da, h)| da * slope(h)).collect();
        assert_close("dh", &dh, &want, 2e-6);
    }
}
