use stablerep::ops::gemm::Threads;
use stablerep::ops::groupnorm::GroupNorm;

use crate::support::{assert_close, random};

#[test]
fn matches_the_formula_in_f64() {
    for (n, pixels, c, groups, offset) in
        [(1, 1, 2, 1, 0.0), (2, 16, 80, 8, 3.0), (3, 65, 12, 4, -1.0), (1, 1030, 6, 3, 100.0)]
    {
        let x: Vec<f32> = random(n * pixels * c, 1).iter().map(|v| v + offset).collect();
        let norm = GroupNorm { gamma: random(c, 2), beta: random(c, 3), groups, eps: 1e-5 };
        for silu in [false, true] {
            let mut want = vec![0.0; x.len()];
            for image in 0..n {
                for g in 0..groups {
                    let width = c / groups;
                    let index: Vec<usize> =
                        (0..pixels * width).map(|i| (image * pixels + i / width) * c + g * width + i % width).collect();
                    let mean = index.iter().map(|&i| f64::from(x[i])).sum::<f64>() / index.len() as f64;
                    let squares = index.iter().map(|&i| (f64::from(x[i]) - mean).powi(2)).sum::<f64>();
                    let rstd = 1.0 / (squares / index.len() as f64 + 1e-5).sqrt();
                    for i in index {
                        let z = (f64::from(x[i]) - mean) * rstd * f64::from(norm.gamma[i % c])
                            + f64::from(norm.beta[i % c]);
                        want[i] = if silu { z / (1.0 + (-z).exp()) } else { z };
                    }
                }
            }
            let mut first = None;
            for threads in [Threads::One, Threads::All] {
                let mut y = vec![0.0; x.len()];
                norm.forward(&mut y, &x, pixels, silu, threads);
                assert_close(
                    &format!("{n} {pixels} {c} {groups}"),
                    &y,
                    &want,
                    if offset == 100.0 { 2e-5 } else { 2e-6 },
                );
                assert_eq!(first.get_or_insert_with(|| y.clone()), &y, "threads change the bits");
            }
            let mut alone = vec![0.0; pixels * c];
            norm.forward(&mut alone, &x[..pixels * c], pixels, silu, Threads::One);
            assert_eq!(alone, first.unwrap()[..pixels * c], "the batch changes the bits");
        }
    }
}
