//! Every kernel that this processor has, by every kind of operand, against the definition.

use super::*;

/// Values of a few bits, whose products and sums of a block are exact in every order, and some fractions.
fn values<T: From<f32>>(len: usize, seed: usize) -> Vec<T> {
    (0..len).map(|i| T::from(((i * 7919 + seed * 104_729) % 211) as f32 / 64.0 - 1.5)).collect()
}

/// The promised order: in each block one chain of fused multiply-adds from 0, blocks added one after the other.
macro_rules! in_order {
    ($value:ty, $a:expr, $b:expr, $sizes:expr, $start:expr, $alpha:expr) => {{
        let (m, n, k): (usize, usize, usize) = $sizes;
        let mut y: Vec<$value> = vec![$start; m * n];
        for (at, y) in y.iter_mut().enumerate() {
            let mut from = 0;
            loop {
                let to = k.min(from + <$value>::BLOCK);
                let chain = |sum: $value, l: usize| $a[at / n * k + l].mul_add($b[l * n + at % n], sum);
                *y = $alpha.mul_add((from..to).fold(0.0, chain), *y);
                from = to;
                if from == k {
                    break;
                }
            }
        }
        y
    }};
}

fn transposed<T: Copy>(x: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..rows * columns).map(|at| x[at % rows * columns + at / rows]).collect()
}

/// Sizes that fill tiles, panels, blocks and tasks, and that do not.
const SIZES: [(usize, usize, usize); 17] = [
    (1, 1, 1),
    (1, 50, 3),
    (2, 48, 7),
    (9, 16, 0),
    (10, 17, 5),
    (18, 96, 64),
    (19, 97, 256),
    (23, 49, 257),
    (7, 200, 513),
    (40, 33, 1025),
    (449, 5, 12),
    (451, 210, 4),
    // Columns of the left operand that are packed, in groups of tiles, over blocks of the reduction.
    (1024, 3, 12),
    (1024, 20, 520),
    // Tasks of several threads: by rows and columns, and by blocks of the reduction.
    (150, 100, 520),
    (1000, 130, 20),
    (230, 70, 1600),
];

macro_rules! every_kernel {
    ($name:ident: $value:ty) => {
        #[test]
        fn $name() {
            for kernels in <$value>::all() {
                for sizes in SIZES {
                    let (m, n, k) = sizes;
                    let (a, b): (Vec<$value>, Vec<$value>) = (values(m * k, 1), values(k * n, 2));
                    let (a_t, b_t) = (transposed(&a, m, k), transposed(&b, k, n));
                    let panels = Panels::new(&b, k, n);
                    assert_eq!(panels.unpacked(), b);
                    let lefts = [Mat::rows(&a, k), Mat::rows(&a_t, m).t()];
                    let rights = [
                        Right::Strided(Mat::rows(&b, n)),
                        Right::Strided(Mat::rows(&b_t, k).t()),
                        Right::Packed(panels.all()),
                    ];
                    for (keep, alpha) in [(false, 1.0), (true, 1.0), (false, 0.3), (true, 0.3)] {
                        let start = if keep { 0.7 } else { 0.0 };
                        let want = in_order!($value, a, b, sizes, start, <$value>::from(alpha));
                        for (i, a) in lefts.into_iter().enumerate() {
                            for (j, b) in rights.into_iter().enumerate() {
                                if matches!(b, Right::Packed(rows) if rows.kernels.name != kernels.name) {
                                    continue;
                                }
                                // Two columns more than are asked for, which stay.
                                let mut y = vec![if keep { 0.7 } else { <$value>::NAN }; m * (n + 2)];
                                y.chunks_exact_mut(n + 2).for_each(|row| row[n..].fill(-3.0));
                                let held = y.as_mut_ptr();
                                let from = keep.then_some((held.cast_const(), n + 2));
                                let target = Target { y: held, stride: n + 2, from, alpha };
                                let whole = Product { kernels, target, a, b, sizes };
                                let threads = if i == j { Threads::All } else { Threads::One };
                                // SAFETY: all sizes are those of the matrices; the processor has the kernels.
                                unsafe { whole.run(threads) };
                                for (row, want) in y.chunks_exact(n + 2).zip(want.chunks_exact(n)) {
                                    assert_eq!(&row[..n], want, "{} {sizes:?} {i} {j} {keep} {alpha}", kernels.name);
                                    assert_eq!(row[n..], [-3.0; 2], "{} {sizes:?} beyond", kernels.name);
                                }
                            }
                        }
                    }
                }
            }
        }
    };
}
every_kernel!(products_in_f32_have_the_promised_bits: f32);
every_kernel!(products_in_f64_have_the_promised_bits: f64);

#[test]
fn blocks_of_panels_are_their_rows() {
    let (m, n, k) = (5, 70, 1100);
    let (a, b): (Vec<f32>, Vec<f32>) = (values(m * k, 3), values(k * n, 4));
    let panels = Panels::new(&b, k, n);
    let run = |a: Mat, b, k, y: &mut Vec<f32>, keep: bool| {
        let y = y.as_mut_ptr();
        let target = Target { y, stride: n, from: keep.then_some((y.cast_const(), n)), alpha: 1.0 };
        // SAFETY: sizes of the matrices.
        unsafe { product(target, a, Right::Packed(b), (m, n, k), Threads::One) }
    };
    let (mut whole, mut by_blocks) = (vec![0.0; m * n], vec![0.0; m * n]);
    run(Mat::rows(&a, k), panels.all(), k, &mut whole, false);
    for start in (0..k).step_by(f32::BLOCK) {
        let block = panels.block(start);
        let a = Mat { data: a[start..].as_ptr(), ..Mat::rows(&a, k) };
        run(a, block, block.k, &mut by_blocks, start > 0);
    }
    assert_eq!(whole, by_blocks);
}

/// What AMX asks for, by kernels that every processor has: rows of the left operand packed side by side.
static ADJACENT: Kernels<Pair, f32> = Kernels { name: "portable, adjacent", adjacent: true, ..portable::PAIRS };

#[test]
fn products_in_bf16_are_those_of_the_rounded_values() {
    for kernels in Pair::all().into_iter().chain([&ADJACENT]) {
        for (m, n, k) in SIZES {
            let (a, b): (Vec<f32>, Vec<f32>) = (values(2 * m * k, 1), values(2 * k * n, 2));
            let rounded = |values: &[f32]| -> Vec<f64> {
                values.iter().map(|&value| f64::from(half::bf16::from_f32(value).to_f32())).collect()
            };
            let mut pairs = vec![Pair::default(); m * k];
            Pair::round(&mut pairs, &a);
            let right = Pair::of_rows(&b, n);
            let (a, b) = (rounded(&a), rounded(&b));
            let panels = Panels::new(&right, k, n);
            let a_t = transposed(&pairs, m, k);
            let lefts = [Mat::rows(&pairs, k), Mat::rows(&a_t, m).t()];
            for (i, left) in lefts.into_iter().enumerate() {
                for b_of in [Right::Strided(Mat::rows(&right, n)), Right::Packed(panels.all())] {
                    if matches!(b_of, Right::Packed(rows) if rows.kernels.name != kernels.name) {
                        continue;
                    }
                    let mut y = vec![f32::NAN; m * n];
                    let row = vec![0.7; n];
                    // One row for all.
                    let target = Target { y: y.as_mut_ptr(), stride: n, from: Some((row.as_ptr(), 0)), alpha: 0.5 };
                    let whole = Product { kernels, target, a: left, b: b_of, sizes: (m, n, k) };
                    // SAFETY: all sizes are those of the matrices; the processor has the kernels.
                    unsafe { whole.run(if i == 0 { Threads::All } else { Threads::One }) };
                    for (at, &got) in y.iter().enumerate() {
                        let term = |l: usize| a[at / n * 2 * k + l] * b[l * n + at % n];
                        let want = (0..2 * k).map(term).sum::<f64>() * 0.5 + 0.7;
                        let size = (0..2 * k).map(|l| term(l).abs()).sum::<f64>() + 1.0;
                        let off = (f64::from(got) - want).abs();
                        assert!(off <= 2e-6 * size, "{} {:?} at {at}: {got}, {want}", kernels.name, (m, n, k));
                    }
                }
            }
        }
    }
}
