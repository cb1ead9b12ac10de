use stablerep::ops::attention::{Context, Shape, Tokens, cross, forward};
use stablerep::ops::gemm::Threads;

use crate::support::{assert_close, random};

/// Attention by its definition in f64. q, k, v: `[N, T, G, d]`.
fn reference(q: &[f32], k: &[f32], v: &[f32], s: Shape) -> Vec<f64> {
    let Shape { n, queries, keys, heads, head_dim: d, causal } = s;
    let width = heads * d;
    let mut y = vec![0.0; n * queries * width];
    for (row, head) in (0..n * queries).flat_map(|row| (0..heads).map(move |head| (row, head))) {
        let (image, query) = (row / queries, row % queries);
        let at = |t: usize, c: usize| (image * keys + t) * width + head * d + c;
        let seen = if causal { query + 1 } else { keys };
        let score = |t: usize| {
            let dot: f64 = (0..d).map(|c| f64::from(q[row * width + head * d + c]) * f64::from(k[at(t, c)])).sum();
            (dot / (d as f64).sqrt()).exp()
        };
        let weights: Vec<f64> = (0..seen).map(score).collect();
        let total: f64 = weights.iter().sum();
        for c in 0..d {
            y[row * width + head * d + c] =
                weights.iter().enumerate().map(|(t, w)| w / total * f64::from(v[at(t, c)])).sum();
        }
    }
    y
}

#[test]
fn strided_self_attention_matches_f64() {
    for (n, tokens, heads, head_dim, causal) in [
        (1, 1, 1, 1, false),
        (3, 16, 2, 40, false),
        (2, 4, 2, 80, false),
        (1, 77, 3, 64, true),
        (1, 50, 1, 512, false),
        (1, 600, 1, 8, true),
        (2, 3, 5, 160, false),
    ] {
        let shape = Shape { n, queries: tokens, keys: tokens, heads, head_dim, causal };
        let width = heads * head_dim;
        let parts: Vec<Vec<f32>> = (1..4).map(|id| random(n * tokens * width, id)).collect();
        let mut qkv = Vec::new();
        for row in 0..n * tokens {
            parts.iter().for_each(|part| qkv.extend_from_slice(&part[row * width..(row + 1) * width]));
        }
        let want = reference(&parts[0], &parts[1], &parts[2], shape);
        for threads in [Threads::One, Threads::All] {
            let mut y = vec![0.0; n * tokens * width];
            let tokens_at = |part: usize| Tokens { data: &qkv[part * width..], stride: 3 * width };
            forward(&mut y, tokens_at(0), tokens_at(1), tokens_at(2), shape, threads);
            assert_close(&format!("{shape:?}"), &y, &want, 4e-6);
        }
    }
}

#[test]
fn images_that_share_a_context_match_f64_and_keep_their_bits() {
    for (queries, keys, heads, head_dim) in [(16, 77, 2, 40), (4, 77, 2, 80), (1, 5, 3, 7), (900, 300, 1, 16)] {
        let width = heads * head_dim;
        let counts = [2, 1, 3];
        let n = counts.iter().sum();
        let shape = Shape { n, queries, keys, heads, head_dim, causal: false };
        let q = random(n * queries * width, 1);
        let (k, v) = (random(3 * keys * width, 2), random(3 * keys * width, 3));
        let of = |data: &[f32], i: usize| data[i * keys * width..(i + 1) * keys * width].to_vec();
        let contexts: Vec<Context> = (0..3).map(|i| Context::new(&of(&k, i), &of(&v, i), heads, head_dim)).collect();
        let spread = |data: &[f32]| -> Vec<f32> {
            counts.iter().enumerate().flat_map(|(i, &count)| of(data, i).repeat(count)).collect()
        };
        let want = reference(&q, &spread(&k), &spread(&v), shape);
        let mut whole = vec![0.0; q.len()];
        let runs: Vec<_> = counts.into_iter().zip(&contexts).collect();
        cross(&mut whole, &q, &runs, shape, Threads::All);
        assert_close(&format!("{shape:?}"), &whole, &want, 4e-6);
        let image = queries * width;
        let mut alone = vec![0.0; image];
        for (i, context) in [(1, 0), (2, 1), (5, 2)] {
            let (from, to) = (i * image, (i + 1) * image);
            cross(&mut alone, &q[from..to], &[(1, &contexts[context])], Shape { n: 1, ..shape }, Threads::One);
            assert_eq!(alone, whole[from..to], "image {i} of {shape:?}");
        }
    }
}
