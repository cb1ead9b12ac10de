use stablerep::ops::activation::{geglu, gelu, quick_gelu, silu};
use stablerep::ops::embed::timestep;
use stablerep::ops::pixels::to_u8;
use stablerep::ops::sampler_step::{State, Step, advance};

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
fn sampler_step_guides_and_clips() {
    let (x, c, u) = (random(37, 1), random(37, 2), random(37, 3));
    let of = |values: &[f32], i: usize| f64::from(values[i]);
    let linear = Step::linear(1.25, -0.5);
    let clipped = Step { d: (1.5, -1.25), limit: 1.0, now: 0.75, ..Step::linear(0.5 * 0.25, 0.5) };
    for w in [None, Some(2.0f32), Some(7.5)] {
        let guided = |i: usize| match w {
            None => of(&c, i),
            Some(w) => of(&u, i) + f64::from(w) * (of(&c, i) - of(&u, i)),
        };
        let wants: [(Step, Vec<f64>); 2] = [
            (linear, (0..37).map(|i| 1.25 * of(&x, i) - 0.5 * guided(i)).collect()),
            (
                clipped,
                (0..37)
                    .map(|i| {
                        let clean = (1.5 * of(&x, i) - 1.25 * guided(i)).clamp(-1.0, 1.0);
                        0.75 * clean + 0.5 * (0.25 * of(&x, i) + guided(i))
                    })
                    .collect(),
            ),
        ];
        for (step, want) in wants {
            let mut y = x.clone();
            advance(State { x: &mut y, ..State::default() }, &c, w.map(|w| (&u[..], w)), &step);
            assert_close("step", &y, &want, 2e-6);
        }
    }
}

#[test]
fn pixels_are_clamped_and_truncated() {
    let x = [-2.0, -1.0, 0.0, 1.0, 5.0, f32::NAN, 2.0 * 200.9 / 255.0 - 1.0];
    let mut y = [7u8; 7];
    to_u8(&mut y, &x);
    assert_eq!(y, [0, 0, 127, 255, 255, 0, 200]);
}
