use stablerep::ops::self_attention::{Shape, backward, forward, probabilities};

use crate::support::{assert_close, differences, dot, random, wide};

/// What leaves the attention `[N, queries, G, d]`, and its probabilities `[N, G, queries, T]`.
fn both(qkv: &[f64], s: Shape) -> (Vec<f64>, Vec<f64>) {
    let width = s.heads * s.head_dim;
    let part = |n: usize, t: usize, which: usize, g: usize| {
        &qkv[((n * s.tokens + t) * 3 + which) * width + g * s.head_dim..][..s.head_dim]
    };
    let (mut out, mut probabilities) = (vec![0.0; s.out_len()], Vec::new());
    for n in 0..s.n {
        for g in 0..s.heads {
            for i in 0..s.queries {
                let seen = if s.causal { i + 1 } else { s.tokens };
                let e: Vec<f64> = (0..seen)
                    .map(|j| (dot(part(n, i, 0, g), part(n, j, 1, g)) / (s.head_dim as f64).sqrt()).exp())
                    .collect();
                let total: f64 = e.iter().sum();
                probabilities.extend((0..s.tokens).map(|j| e.get(j).map_or(0.0, |e| e / total)));
                for d in 0..s.head_dim {
                    out[(n * s.queries + i) * width + g * s.head_dim + d] =
                        (0..seen).map(|j| e[j] / total * part(n, j, 2, g)[d]).sum();
                }
            }
        }
    }
    (out, probabilities)
}

fn reference(qkv: &[f64], shape: Shape) -> Vec<f64> {
    both(qkv, shape).0
}

#[test]
fn matches_f64_and_central_differences() {
    for (n, tokens, queries, heads, head_dim) in
        [(1, 1, 1, 1, 1), (2, 3, 3, 2, 5), (1, 17, 17, 3, 4), (2, 18, 1, 2, 3), (1, 7, 4, 1, 8), (3, 5, 5, 1, 2)]
    {
        for causal in [false, true] {
            let shape = Shape { n, tokens, queries, heads, head_dim, causal };
            let (qkv, dout) = (random(shape.qkv_len(), 1), random(shape.out_len(), 2));
            let (mut out, mut lse) = (vec![f32::NAN; shape.out_len()], vec![f32::NAN; shape.lse_len()]);
            forward(&mut out, &mut lse, &qkv, shape);
            assert_close("out", &out, &reference(&wide(&qkv), shape), 2e-6);
            assert_close("probabilities", &probabilities(&qkv, shape), &both(&wide(&qkv), shape).1, 2e-6);
            let mut dqkv = vec![f32::NAN; qkv.len()];
            backward(&mut dqkv, &dout, &qkv, &out, &lse, shape);
            let dout64 = wide(&dout);
            let want = differences(&qkv, |qkv| dot(&reference(qkv, shape), &dout64));
            assert_close(&format!("dqkv of {shape:?}"), &dqkv, &want, 1e-5);
        }
    }
}

/// Scores far apart: the softmax must not overflow.
#[test]
fn large_scores_stay_finite() {
    let shape = Shape { n: 1, tokens: 9, queries: 9, heads: 1, head_dim: 4, causal: false };
    let qkv: Vec<f32> = random(shape.qkv_len(), 1).iter().map(|v| v * 100.0).collect();
    let (mut out, mut lse) = (vec![0.0; shape.out_len()], vec![0.0; shape.lse_len()]);
    forward(&mut out, &mut lse, &qkv, shape);
    let mut dqkv = vec![0.0; qkv.len()];
    backward(&mut dqkv, &random(shape.out_len(), 2), &qkv, &out, &lse, shape);
    assert!(out.iter().chain(&dqkv).all(|v| v.is_finite()));
}
