//! The loss of classified pictures and the mean of their tokens against f64 formulas and central differences.

use stablerep::ops::soft_labels::{Labels, Shape, forward};
use stablerep::ops::token_mean;

use crate::support::{assert_close, differences, dot, random, wide};

/// timm's `mixup_target` and `SoftTargetCrossEntropy`: the loss of each row.
fn reference(x: &[f64], both: [&[u32]; 2], shares: &[f32], Shape { classes, smoothing, .. }: Shape) -> Vec<f64> {
    let (off, on) = (f64::from(smoothing) / classes as f64, 1.0 - f64::from(smoothing));
    let of_row = |(i, x): (usize, &[f64])| {
        let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let lse = top + x.iter().map(|v| (v - top).exp()).sum::<f64>().ln();
        let share = f64::from(shares[i]);
        let target = |c: usize| {
            let one = |label: u32| if label as usize == c { off + on } else { off };
            share * one(both[0][i]) + (1.0 - share) * one(both[1][i])
        };
        let targets: f64 = (0..classes).map(target).sum();
        assert!((targets - 1.0).abs() < 1e-6, "targets of row {i} add up to {targets}");
        -x.iter().enumerate().map(|(c, x)| target(c) * (x - lse)).sum::<f64>()
    };
    x.chunks_exact(classes).enumerate().map(of_row).collect()
}

#[test]
fn soft_labels_match_f64_and_central_differences() {
    for (classes, smoothing) in [(1, 0.1), (2, 0.0), (5, 0.1), (40, 0.3)] {
        let shape = Shape { rows: 6, of: 8, classes, smoothing };
        let (x, count) = (random(shape.len(), 1), classes as u32);
        let both = [0u32, 3].map(|first| (0..6).map(|i| (first + 2 * i) % count).collect::<Vec<u32>>());
        let shares = [1.0f32, 0.0, 0.25, 0.5, 0.8, 0.999];
        let bits = shares.map(f32::to_bits);
        let (mut dx, mut losses) = (vec![f32::NAN; shape.len()], vec![f32::NAN; 6]);
        let both = [&both[0][..], &both[1][..]];
        forward(&mut dx, &mut losses, &x, Labels { both, shares: &bits }, shape);
        for (got, want) in losses.iter().zip(reference(&wide(&x), both, &shares, shape)) {
            assert!((f64::from(*got) - want).abs() < 2e-6, "{shape:?}: {got} {want}");
        }
        let total = |x: &[f64]| reference(x, both, &shares, shape).iter().sum::<f64>() / 8.0;
        let want = differences(&x, total);
        // One class has nothing to learn.
        let shifted = |values: Vec<f64>| values.into_iter().map(|v| v + 0.1).collect::<Vec<f64>>();
        let got: Vec<f32> = dx.iter().map(|v| v + 0.1).collect();
        assert_close("gradient", &got, &shifted(want), 1e-6);
    }
}

#[test]
fn large_logits_stay_finite() {
    let shape = Shape { rows: 1, of: 1, classes: 3, smoothing: 0.1 };
    let (mut dx, mut losses) = ([f32::NAN; 3], [f32::NAN]);
    let labels = Labels { both: [&[0], &[2]], shares: &[0.5f32.to_bits()] };
    forward(&mut dx, &mut losses, &[300.0, -300.0, 100.0], labels, shape);
    assert!(dx.iter().all(|v| v.is_finite()) && (losses[0] - 116.666_67).abs() < 1e-3, "{losses:?}");
}

#[test]
fn the_mean_leaves_the_class_token_out() {
    let shape = token_mean::Shape { n: 3, tokens: 5, d: 6 };
    let (x, dy) = (random(90, 2), random(18, 3));
    let mean = |x: &[f64]| -> Vec<f64> {
        let of = |image: &[f64], c: usize| (1..5).map(|t| image[t * 6 + c]).sum::<f64>() / 4.0;
        x.chunks_exact(30).flat_map(|image| (0..6).map(|c| of(image, c)).collect::<Vec<_>>()).collect()
    };
    let (mut y, mut dx) = (vec![f32::NAN; 18], vec![f32::NAN; 90]);
    token_mean::forward(&mut y, &x, shape);
    assert_close("mean", &y, &mean(&wide(&x)), 1e-6);
    token_mean::backward(&mut dx, &dy, shape);
    assert_close("gradient", &dx, &differences(&x, |x| dot(&mean(x), &wide(&dy))), 1e-6);
}
