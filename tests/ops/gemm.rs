use stablerep::ops::gemm::{Threads, nn, nt, tn};
use stablerep::rng::{Domain, Stream};

fn random(len: usize, id: u32) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Stream::new(1, Domain::Init, [id, 0, 0]).fill_normal(&mut values);
    values
}

fn transpose(a: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..rows * cols).map(|i| a[(i % rows) * cols + i / rows]).collect()
}

#[test]
fn all_layouts_match_f64_and_accumulate() {
    for (m, n, k) in [(1, 1, 1), (1, 7, 3), (5, 1, 9), (3, 5, 2), (17, 19, 23), (64, 64, 513), (130, 70, 1030)] {
        let (a, b) = (random(m * k, 1), random(k * n, 2));
        let want: Vec<f64> = (0..m * n)
            .map(|i| (0..k).map(|p| f64::from(a[i / n * k + p]) * f64::from(b[p * n + i % n])).sum())
            .collect();
        let (at, bt) = (transpose(&a, m, k), transpose(&b, k, n));
        for accumulate in [false, true] {
            for threads in [Threads::All, Threads::One] {
                let run = |f: &dyn Fn(&mut [f32])| {
                    let mut y = vec![0.5; m * n];
                    f(&mut y);
                    y
                };
                let results = [
                    run(&|y| nn(y, &a, &b, (m, n, k), accumulate, threads)),
                    run(&|y| nt(y, &a, &bt, (m, n, k), accumulate, threads)),
                    run(&|y| tn(y, &at, &b, (m, n, k), accumulate, threads)),
                ];
                for y in results {
                    for (got, want) in y.iter().zip(&want) {
                        let want = want + if accumulate { 0.5 } else { 0.0 };
                        assert!(
                            (f64::from(*got) - want).abs() < 1e-5 * (k as f64).sqrt() * 4.0,
                            "{m} {n} {k}: {got} {want}"
                        );
                    }
                }
            }
        }
    }
}

/// The image of a caption must not depend on the batch it was computed in: row 0 has the same bits for every M.
#[test]
fn rows_have_the_same_bits_for_every_batch() {
    for (n, k) in [(4, 36), (4, 1440), (80, 720), (160, 2880), (1280, 77)] {
        let (a, b, start) = (random(300 * k, 1), random(k * n, 2), random(300 * n, 3));
        for accumulate in [false, true] {
            let run = |m: usize, threads| {
                let mut y = start[..m * n].to_vec();
                nn(&mut y, &a[..m * k], &b, (m, n, k), accumulate, threads);
                y
            };
            let whole = run(300, Threads::All);
            for m in [1, 2, 3, 16, 17, 63, 64, 65, 128, 299] {
                for threads in [Threads::All, Threads::One] {
                    assert_eq!(run(m, threads), whole[..m * n], "M {m} N {n} K {k}, accumulate {accumulate}");
                }
            }
        }
    }
}
