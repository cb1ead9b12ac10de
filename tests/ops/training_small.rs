//! The smaller ops of training: unit rows, rectifier, sums, patch embedding, AdamW.

use stablerep::ops::optimizer::{AdamW, Group};
use stablerep::ops::patch_embed::{self, Gradients, Shape, Weights};
use stablerep::ops::{l2norm, reduce, relu};

use crate::support::{assert_close, differences, dot, random, wide};

#[test]
fn l2norm_matches_f64_and_central_differences() {
    let reference = |x: &[f64], d: usize| -> Vec<f64> {
        x.chunks_exact(d).flat_map(|row| row.iter().map(|v| v / dot(row, row).sqrt()).collect::<Vec<_>>()).collect()
    };
    for (rows, d) in [(1, 1), (3, 2), (65, 7), (2, 33)] {
        let (x, dy) = (random(rows * d, 1), random(rows * d, 2));
        let (mut y, mut norms, mut dx) = (vec![0.0; rows * d], vec![0.0; rows], vec![f32::NAN; rows * d]);
        l2norm::forward(&mut y, &mut norms, &x, 1e-12);
        assert_close("y", &y, &reference(&wide(&x), d), 1e-6);
        l2norm::backward(&mut dx, &dy, &y, &norms, 1e-12);
        if d > 1 {
            assert_close("dx", &dx, &differences(&x, |x| dot(&reference(x, d), &wide(&dy))), 2e-5);
        }
    }
    // Rows shorter than eps are divided by eps.
    let (mut y, mut norms, mut dx) = ([0.0; 2], [0.0], [0.0; 2]);
    l2norm::forward(&mut y, &mut norms, &[3e-13, 0.0], 1e-12);
    assert!((y[0] - 0.3).abs() < 1e-6 && y[1] == 0.0);
    l2norm::backward(&mut dx, &[1e-12, 2e-12], &y, &norms, 1e-12);
    assert!((dx[0] - 1.0).abs() < 1e-6 && (dx[1] - 2.0).abs() < 1e-6);
}

#[test]
fn relu_forward_and_backward() {
    let mut x = random(20_001, 1);
    let original = x.clone();
    relu::forward_in_place(&mut x);
    let mut dx = random(20_001, 2);
    let dy = dx.clone();
    relu::backward_in_place(&mut dx, &x);
    for i in 0..x.len() {
        assert_eq!(x[i], original[i].max(0.0));
        assert_eq!(dx[i], if original[i] > 0.0 { dy[i] } else { 0.0 });
    }
    let mut nan = [f32::NAN, -1.0];
    relu::forward_in_place(&mut nan);
    assert!(nan[0].is_nan() && nan[1] == 0.0);
}

#[test]
fn sums_and_finiteness() {
    for (rows, cols) in [(1, 1), (300, 7), (128, 16), (129, 33)] {
        let x = random(rows * cols, 1);
        let mut got = vec![1.0; cols];
        reduce::add_column_sums(&mut got, &x);
        let want: Vec<f64> =
            (0..cols).map(|c| 1.0 + (0..rows).map(|r| f64::from(x[r * cols + c])).sum::<f64>()).collect();
        assert_close("column sums", &got, &want, 1e-5);
    }
    let mut x = random(100_003, 2);
    let want: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
    assert!((reduce::sum_of_squares(&x) - want).abs() < 1e-9 * want);
    assert!(reduce::all_finite(&x) && reduce::all_finite(&[]) && reduce::all_finite(&[f32::MAX; 64]));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        x[77_777] = bad;
        assert!(!reduce::all_finite(&x));
    }
}

/// Convolution with stride = kernel, leading tokens, positions, written out over pixels.
fn embed(w: &[f64], b: &[f64], cls: &[f64], pos: &[f64], images: &[f32], s: Shape) -> Vec<f64> {
    let mut out = Vec::new();
    for n in 0..s.n {
        out.extend((0..s.leading * s.dim).map(|i| cls[i] + pos[i]));
        for gy in 0..s.height / s.patch {
            for gx in 0..s.width / s.patch {
                let token = gy * (s.width / s.patch) + gx + s.leading;
                for o in 0..s.dim {
                    let mut sum = b[o] + pos[token * s.dim + o];
                    for c in 0..s.channels {
                        for ky in 0..s.patch {
                            for kx in 0..s.patch {
                                let (y, x) = (gy * s.patch + ky, gx * s.patch + kx);
                                sum += f64::from(images[((n * s.height + y) * s.width + x) * s.channels + c])
                                    * w[((o * s.channels + c) * s.patch + ky) * s.patch + kx];
                            }
                        }
                    }
                    out.push(sum);
                }
            }
        }
    }
    out
}

#[test]
fn patch_embedding_matches_the_convolution() {
    let plain = [(1, 2, 2, 2, 1), (3, 4, 6, 2, 5), (2, 9, 3, 3, 2), (40, 6, 6, 2, 3)];
    let plain =
        plain.map(|(n, height, width, patch, dim)| Shape { n, height, width, channels: 3, patch, dim, leading: 1 });
    for s in plain.into_iter().chain([Shape { leading: 4, ..plain[1] }]) {
        let Shape { n, height, width, dim, .. } = s;
        let images = random(n * height * width * 3, 1);
        let (w, b, cls) = (random(s.patch_len() * dim, 2), random(dim, 3), random(s.leading * dim, 4));
        let (pos, dtokens) = (random(s.tokens() * dim, 5), random(n * s.tokens() * dim, 6));
        let mut patches = vec![f32::NAN; n * s.patches() * s.patch_len()];
        patch_embed::unfold(&mut patches, &images, s);
        let mut tokens = vec![f32::NAN; dtokens.len()];
        let weights = Weights { w: &w, b: &b, cls: &cls, pos: &pos };
        patch_embed::forward(&mut tokens, &patches, weights, s);
        let (w64, b64, cls64, pos64, d64) = (wide(&w), wide(&b), wide(&cls), wide(&pos), wide(&dtokens));
        assert_close("tokens", &tokens, &embed(&w64, &b64, &cls64, &pos64, &images, s), 2e-6);

        let [mut dw, mut db, mut dcls, mut dpos] = [&w, &b, &cls, &pos].map(|p| vec![0.5f32; p.len()]);
        let gradients = Gradients { w: &mut dw, b: &mut db, cls: &mut dcls, pos: &mut dpos };
        let mut scratch = vec![f32::NAN; n * s.patches() * dim];
        patch_embed::backward(gradients, &mut scratch, &dtokens, &patches, s);
        let plus = |v: Vec<f64>| v.into_iter().map(|v| v + 0.5).collect::<Vec<_>>();
        let d = |x: &[f32], f: &dyn Fn(&[f64]) -> Vec<f64>| plus(differences(x, |x| dot(&f(x), &d64)));
        assert_close("dw", &dw, &d(&w, &|w| embed(w, &b64, &cls64, &pos64, &images, s)), 1e-5);
        assert_close("db", &db, &d(&b, &|b| embed(&w64, b, &cls64, &pos64, &images, s)), 1e-5);
        assert_close("dcls", &dcls, &d(&cls, &|cls| embed(&w64, &b64, cls, &pos64, &images, s)), 1e-5);
        assert_close("dpos", &dpos, &d(&pos, &|pos| embed(&w64, &b64, &cls64, pos, &images, s)), 1e-5);
    }
}

/// Loshchilov & Hutter's algorithm 2 in f64, one group decayed and one not.
#[test]
fn adamw_matches_f64() {
    let len = 40_000;
    let (mut p, mut m, mut v) = (random(len, 1), vec![0.0; len], vec![0.0; len]);
    let (mut p64, mut m64, mut v64) = (wide(&p), vec![0.0; len], vec![0.0; len]);
    let groups = [Group::new(0..30_001, true), Group::new(30_001..len, false)];
    for step in 1..=10u64 {
        let g = random(len, 100 + step as u32);
        let lr = 1e-2 * step as f64;
        let adamw = AdamW { lr, beta1: 0.9, beta2: 0.98, eps: 1e-8, weight_decay: 0.1, step };
        adamw.update(&mut p, &mut m, &mut v, &g, &groups);
        for i in 0..len {
            let g = f64::from(g[i]);
            p64[i] *= if i < 30_001 { 1.0 - lr * 0.1 } else { 1.0 };
            m64[i] = 0.9 * m64[i] + 0.1 * g;
            v64[i] = 0.98 * v64[i] + 0.02 * g * g;
            let (mh, vh) = (m64[i] / (1.0 - 0.9f64.powi(step as i32)), v64[i] / (1.0 - 0.98f64.powi(step as i32)));
            p64[i] -= lr * mh / (vh.sqrt() + 1e-8);
        }
    }
    assert_close("p", &p, &p64, 1e-6);
    assert_close("m", &m, &m64, 1e-6);
    assert_close("v", &v, &v64, 1e-6);
}
