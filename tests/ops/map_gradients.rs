//! Gradients of feature maps at more sizes than PyTorch was asked for: what is linear is the transpose of its backward,
//! and the loss of labelled pixels is told by its formula in f64.

use stablerep::ops::pixel_loss::{self, Loss};
use stablerep::ops::{bilinear, grid_pool, neighbourhood, spread};

use crate::support::{assert_close, differences, dot, random, wide};

/// That ⟨f(x), dy⟩ = ⟨x, f'(dy)⟩ for x and y of these lengths.
fn assert_transposed(
    what: &str,
    lens: [usize; 2],
    forward: impl Fn(&mut [f32], &[f32]),
    backward: impl Fn(&mut [f32], &[f32]),
) {
    let (x, dy) = (random(lens[0], 11), random(lens[1], 12));
    let (mut y, mut dx) = (vec![0.0; lens[1]], vec![0.0; lens[0]]);
    forward(&mut y, &x);
    backward(&mut dx, &dy);
    let (there, back) = (dot(&wide(&y), &wide(&dy)), dot(&wide(&x), &wide(&dx)));
    let scale = dot(&wide(&y), &wide(&y)).sqrt() * dot(&wide(&dy), &wide(&dy)).sqrt();
    assert!((there - back).abs() < 1e-6 * scale, "{what}: {there} {back}");
}

#[test]
fn linear_layers_are_the_transpose_of_their_backward() {
    for side in [1, 2, 3, 5, 8] {
        let shape = neighbourhood::Shape { n: 2, side, c: 3 };
        let (there, back) = (neighbourhood::forward, neighbourhood::backward);
        assert_transposed(&format!("{shape:?}"), shape.lens(), |y, x| there(y, x, shape), |dx, dy| back(dx, dy, shape));

        let shape = spread::Shape { n: 2, side, c: 3 };
        let (there, back) = (spread::forward, spread::backward);
        let lens = [shape.len(); 2];
        assert_transposed(
            &format!("{shape:?}"),
            lens,
            |y, x| there(y, x, None, shape),
            |dx, dy| back(dx, None, dy, shape),
        );

        for bins in [1, 2, 3, 6] {
            let shape = grid_pool::Shape { n: 2, side, bins, c: 3 };
            let (there, back) = (grid_pool::forward, grid_pool::backward);
            assert_transposed(
                &format!("{shape:?}"),
                shape.lens(),
                |y, x| there(y, x, shape),
                |dx, dy| back(dx, dy, shape),
            );
        }
        for (to, lead) in (side..20).flat_map(|to| [(to, 0), (to, 1), (to, 5)]) {
            let shape = bilinear::Shape { n: 2, lead, from: side, to, c: 2, column: 1, columns: 4 };
            let (there, back) = (bilinear::forward, bilinear::backward);
            let name = format!("{shape:?}");
            assert_transposed(&name, shape.lens(), |y, x| there(y, x, shape, true), |dx, dy| back(dx, dy, shape, true));
        }
    }
}

/// The loss of a step by its definition: places of pixels' centres, edges repeated.
fn reference(x: &[f64], labels: &[u32], of: Loss) -> f64 {
    let (shape, mut total) = (of.shape, 0.0);
    let pixel_loss::Shape { from, to, classes, .. } = shape;
    let real = |at: usize| ((at as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
    for (pixel, &label) in labels.iter().enumerate().filter(|(_, label)| (**label as usize) < classes) {
        let (image, down, across) = (pixel / (to * to), real(pixel / to % to), real(pixel % to));
        let z = |class: usize| -> f64 {
            let at = |row: usize, column: usize| {
                let (row, column) = (row.min(from - 1), column.min(from - 1));
                x[((image * from + row) * from + column) * classes + class]
            };
            let (row, column) = (down.floor() as usize, across.floor() as usize);
            let (t, s) = (down.fract(), across.fract());
            let line = |row: usize| (1.0 - s) * at(row, column) + s * at(row, column + 1);
            (1.0 - t) * line(row) + t * line(row + 1)
        };
        total += (0..classes).map(|class| z(class).exp()).sum::<f64>().ln() - z(label as usize);
    }
    f64::from(of.weight) * total / (shape.of * to * to) as f64
}

#[test]
fn labelled_pixels_match_f64_and_central_differences() {
    for (from, to, classes) in [(1, 1, 2), (1, 4, 3), (2, 2, 4), (2, 5, 3), (3, 4, 2), (3, 12, 20)] {
        let of = Loss { shape: pixel_loss::Shape { n: 2, of: 3, from, to, classes }, weight: 0.7, add: false };
        let ([values, pixels], name) = (of.shape.lens(), format!("{of:?}"));
        let x = random(values, 13);
        // Every fifth pixel is ignored.
        let labels: Vec<u32> = (0..pixels).map(|i| if i % 5 == 4 { 255 } else { (3 * i % classes) as u32 }).collect();
        let (mut losses, mut lse, mut d) = (vec![f32::NAN; 2 * to], vec![f32::NAN; pixels], vec![f32::NAN; values]);
        pixel_loss::forward(&mut losses, &mut lse, &x, &labels, of);
        pixel_loss::backward(&mut d, &x, &lse, &labels, of);
        // Of three images, of which the third has no loss.
        let loss = wide(&losses).iter().sum::<f64>() / (3 * to) as f64;
        let want = reference(&wide(&x), &labels, of);
        assert!((loss - want).abs() < 2e-6 * want, "{name}: {loss} {want}");
        assert_close(&name, &d, &differences(&x, |x| reference(x, &labels, of)), 1e-5);
    }
}

/// Logits whose exponentials are infinite or 0 in f32.
#[test]
fn large_logits_of_pixels_stay_finite() {
    let of = Loss { shape: pixel_loss::Shape { n: 1, of: 1, from: 2, to: 4, classes: 2 }, weight: 1.0, add: false };
    let x = [400.0, -400.0, -300.0, 300.0, 0.0, 500.0, 200.0, -1000.0];
    let (labels, mut lse) = ([0; 16], [f32::NAN; 16]);
    let (mut losses, mut d) = ([f32::NAN; 4], [f32::NAN; 8]);
    pixel_loss::forward(&mut losses, &mut lse, &x, &labels, of);
    pixel_loss::backward(&mut d, &x, &lse, &labels, of);
    assert!(losses.iter().chain(&d).all(|value| value.is_finite()), "{losses:?} {d:?}");
    assert!((lse[0], lse[3], losses[0] > 0.0) == (400.0, 300.0, true), "{lse:?} {losses:?}");
}
