use stablerep::ops::qk_norm::{Shape, backward, forward};

use crate::support::{assert_close, differences, dot, random, wide};

const EPS: f32 = 1e-6;

/// Every query by the first gain and shift, every key by the second, values as they are.
fn reference(qkv: &[f64], affine: &[f64], shape: Shape) -> Vec<f64> {
    let (d, heads) = (shape.head_dim, shape.heads);
    let row = |(number, x): (usize, &[f64])| -> Vec<f64> {
        let third = number / heads % 3;
        if third == 2 {
            return x.to_vec();
        }
        let mean = x.iter().sum::<f64>() / d as f64;
        let rstd = 1.0 / (x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / d as f64 + f64::from(EPS)).sqrt();
        let of = &affine[third * 2 * d..];
        x.iter().enumerate().map(|(i, v)| (v - mean) * rstd * of[i] + of[d + i]).collect()
    };
    qkv.chunks_exact(d).enumerate().flat_map(row).collect()
}

#[test]
fn matches_f64_and_central_differences() {
    for (tokens, heads, head_dim) in [(1, 1, 3), (5, 3, 4), (40, 2, 8), (70, 1, 5)] {
        let shape = Shape { tokens, heads, head_dim };
        let (len, count) = (shape.qkv_len(), shape.affine_len());
        let (qkv, affine, dy) = (random(len, 1), random(count, 2), random(len, 3));
        let (mut y, mut stats) = (vec![f32::NAN; len], vec![f32::NAN; shape.stats_len()]);
        forward(&mut y, &mut stats, &qkv, &affine, EPS, shape);
        let (qkv64, affine64, dy64) = (wide(&qkv), wide(&affine), wide(&dy));
        assert_close("y", &y, &reference(&qkv64, &affine64, shape), 2e-6);

        let (mut dx, mut daffine) = (dy.clone(), vec![0.25; count]);
        backward(&mut dx, &mut daffine, &qkv, &stats, &affine, shape);
        let want = differences(&qkv, |qkv| dot(&reference(qkv, &affine64, shape), &dy64));
        assert_close("dx", &dx, &want, 2e-4);
        let want = differences(&affine, |affine| dot(&reference(&qkv64, affine, shape), &dy64));
        let want: Vec<f64> = want.into_iter().map(|value| value + 0.25).collect();
        assert_close("daffine", &daffine, &want, 2e-5);
    }
}
