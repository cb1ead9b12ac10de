use stablerep::ops::activation::{geglu, gelu, quick_gelu, silu};
use stablerep::ops::embed::timestep;
use stablerep::ops::pixels::to_u8;

use crate::support::{assert_close, random};

/// erf by its Maclaurin series.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

#[test]
fn activations_match_f64() {
    let x = random(1003, 1);
    let gelu_of = |v: f64| 0.5 * v * (1.0 + erf(v / 2f64.sqrt()));
    let check = |op: fn(&mut [f32]), formula: &dyn Fn(f64) -> f64| {
        let mut y = x.clone();
        op(&mut y);
        let want: Vec<f64> = x.iter().map(|&v| formula(f64::from(v))).collect();
        assert_close("activation", &y, &want, 1e-6);
    };
    check(silu, &|v| v / (1.0 + (-v).exp()));
    check(quick_gelu, &|v| v / (1.0 + (-1.702 * v).exp()));
    check(gelu, &gelu_of);
    let (rows, width) = (17, 29);
    let x = random(rows * 2 * width, 2);
    let mut y = vec![0.0; rows * width];
    geglu(&mut y, &x, width);
    let want: Vec<f64> = (0..rows * width)
        .map(|i| {
            let at = i / width * 2 * width + i % width;
            f64::from(x[at]) * gelu_of(f64::from(x[at + width]))
        })
        .collect();
    assert_close("geglu", &y, &want, 1e-6);
}

#[test]
fn timestep_embedding_has_its_order_and_shift() {
    for (dim, flip, shift) in [(8, true, 0.0), (8, false, 1.0), (7, false, 0.0)] {
        let half = dim / 2;
        let y = timestep(21.0, dim, flip, shift);
        let mut want = vec![0.0; dim];
        for i in 0..half {
            let angle = 21.0 * (10_000f64).powf(-(i as f64) / (half as f64 - f64::from(shift)));
            let (sin, cos) = if flip { (half + i, i) } else { (i, half + i) };
            (want[sin], want[cos]) = (angle.sin(), angle.cos());
        }
        assert_close("timestep", &y, &want, 4e-6);
    }
}

#[test]
fn pixels_are_clamped_and_truncated() {
    let x = [-2.0, -1.0, 0.0, 1.0, 5.0, f32::NAN, 2.0 * 200.9 / 255.0 - 1.0];
    let mut y = [7u8; 7];
    to_u8(&mut y, &x);
    assert_eq!(y, [0, 0, 127, 255, 255, 0, 200]);
}
