use half::bf16;
use stablerep::ops::activation::gelu_of;
use stablerep::ops::gemm::Operands;
use stablerep::ops::linear::{
    Shape, Weight, backward_input, backward_input_gelu, backward_weight, forward, forward_gelu, forward_residual,
};

use crate::support::{assert_close, differences, dot, random, wide};

fn reference(x: &[f64], w: &[f64], b: &[f64], shape: Shape) -> Vec<f64> {
    let Shape { rows, inputs, outputs } = shape;
    (0..rows * outputs)
        .map(|i| b[i % outputs] + dot(&x[i / outputs * inputs..][..inputs], &w[i % outputs * inputs..][..inputs]))
        .collect()
}

/// erf(x) = 2/√π·e^(−x²)·Σ 2ⁿ·x^(2n+1)/(2n+1)!!, whose terms have one sign.
fn erf(x: f64) -> f64 {
    if x.abs() > 8.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..300 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    sum * (-x * x).exp() * 2.0 / std::f64::consts::PI.sqrt()
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

const SHAPES: [(usize, usize, usize); 7] =
    [(1, 1, 1), (1, 3, 5), (7, 2, 3), (33, 17, 4), (5, 1, 19), (1025, 3, 2), (2311, 2, 3)];

const OPERANDS: [Operands; 2] = [Operands::F32, Operands::Bf16];

/// As products in `operands` see them.
fn rounded(values: &[f32], operands: Operands) -> Vec<f32> {
    let round = |&value: &f32| if operands == Operands::Bf16 { bf16::from_f32(value).to_f32() } else { value };
    values.iter().map(round).collect()
}

#[test]
fn forward_and_gradients_match_f64() {
    for ((rows, inputs, outputs), operands) in SHAPES.into_iter().flat_map(|shape| OPERANDS.map(|to| (shape, to))) {
        let shape = Shape { rows, inputs, outputs };
        // What is rounded already is multiplied as exactly.
        let of = |len: usize, id: u32| rounded(&random(len, id), operands);
        let (x, values, b) = (of(rows * inputs, 1), of(outputs * inputs, 2), random(outputs, 3));
        let w = Weight { values: &values, operands };
        let (dy, residual) = (of(rows * outputs, 4), random(rows * outputs, 5));
        let (x64, w64, b64, dy64) = (wide(&x), wide(&values), wide(&b), wide(&dy));
        let want = reference(&x64, &w64, &b64, shape);
        let mut y = vec![f32::NAN; rows * outputs];
        forward(&mut y, &x, w, Some(&b), shape);
        assert_close("y", &y, &want, 2e-6);
        // Every row of the residual, and every third.
        let sparse: Vec<f32> =
            residual.chunks_exact(outputs).flat_map(|row| [row, &[f32::NAN].repeat(2 * outputs)].concat()).collect();
        let sum: Vec<f64> = want.iter().zip(wide(&residual)).map(|(a, b)| a + b).collect();
        for (residual, stride) in [(&residual, outputs), (&sparse, 3 * outputs)] {
            forward_residual(&mut y, (residual, stride), &x, w, Some(&b), shape);
            assert_close("y with residual", &y, &sum, 2e-6);
        }
        let unbiased = reference(&x64, &w64, &vec![0.0; outputs], shape);
        forward(&mut y, &x, w, None, shape);
        assert_close("y without bias", &y, &unbiased, 2e-6);
        forward_residual(&mut y, (&sparse, 3 * outputs), &x, w, None, shape);
        let sum: Vec<f64> = unbiased.iter().zip(wide(&residual)).map(|(a, b)| a + b).collect();
        assert_close("y with residual without bias", &y, &sum, 2e-6);

        let mut dx = vec![f32::NAN; rows * inputs];
        backward_input(&mut dx, &dy, w, shape);
        let loss = |x: &[f64], w: &[f64], b: &[f64]| dot(&reference(x, w, b, shape), &dy64);
        if rows < 1000 {
            assert_close("dx", &dx, &differences(&x, |x| loss(x, &w64, &b64)), 1e-5);
        }
        let (mut dw, mut db) = (vec![1.0; values.len()], vec![2.0; b.len()]);
        backward_weight(&mut dw, Some(&mut db), &dy, &x, operands, shape);
        let plus = |v: Vec<f64>, c: f64| v.into_iter().map(|v| v + c).collect::<Vec<_>>();
        assert_close("dw", &dw, &plus(differences(&values, |w| loss(&x64, w, &b64)), 1.0), 1e-5);
        assert_close("db", &db, &plus(differences(&b, |b| loss(&x64, &w64, b)), 2.0), 1e-5);
        let mut alone = vec![1.0; values.len()];
        backward_weight(&mut alone, None, &dy, &x, operands, shape);
        assert_eq!(alone, dw);
    }
}

/// h = x·W1ᵀ + b, a = gelu(h), then a second layer whose input gradient goes back through the GELU.
#[test]
fn gelu_epilogues_match_f64() {
    for ((rows, inputs, outputs), operands) in SHAPES.into_iter().flat_map(|shape| OPERANDS.map(|to| (shape, to))) {
        let shape = Shape { rows, inputs, outputs };
        let of = |len: usize, id: u32| rounded(&random(len, id), operands);
        let (x, w, b) = (of(rows * inputs, 1), of(outputs * inputs, 2), random(outputs, 3));
        let (mut a, mut h) = (vec![f32::NAN; rows * outputs], vec![f32::NAN; rows * outputs]);
        forward_gelu(&mut a, &mut h, &x, Weight { values: &w, operands }, Some(&b), shape);
        let h64 = reference(&wide(&x), &wide(&w), &wide(&b), shape);
        assert_close("h", &h, &h64, 2e-6);
        if operands == Operands::F32 {
            assert_close("a", &a, &h64.iter().map(|&h| gelu(h)).collect::<Vec<_>>(), 2e-6);
        }
        let mut alone = vec![f32::NAN; a.len()];
        gelu_of(&mut alone, &h);
        assert_eq!(a, alone);

        let second = Shape { rows, inputs: outputs, outputs: inputs };
        let (w2, dy) = (of(inputs * outputs, 6), of(rows * inputs, 7));
        let w2 = Weight { values: &w2, operands };
        let mut dh = vec![f32::NAN; rows * outputs];
        backward_input_gelu(&mut dh, &dy, w2, &h, second);
        let mut da = vec![0.0; rows * outputs];
        backward_input(&mut da, &dy, w2, second);
        let slope = |x: f64| (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5;
        let want: Vec<f64> = wide(&da).iter().zip(wide(&h)).map(|(da, h)| da * slope(h)).collect();
        assert_close("dh", &dh, &want, 2e-6);
    }
}

/// Every operand is rounded, and nothing else: the bits are those of rounded operands, and not those of f32.
#[test]
fn products_in_bf16_round_both_operands() {
    let shape = Shape { rows: 300, inputs: 40, outputs: 24 };
    let (x, w, dy) = (random(300 * 40, 1), random(24 * 40, 2), random(300 * 24, 3));
    let run = |x: &[f32], w: &[f32], dy: &[f32], operands| {
        let w = Weight { values: w, operands };
        let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.values.len()]);
        forward(&mut y, x, w, None, shape);
        backward_input(&mut dx, dy, w, shape);
        backward_weight(&mut dw, None, dy, x, operands, shape);
        [y, dx, dw]
    };
    let of = |values: &[f32]| rounded(values, Operands::Bf16);
    let got = run(&x, &w, &dy, Operands::Bf16);
    assert_eq!(got, run(&of(&x), &of(&w), &of(&dy), Operands::Bf16));
    for (got, exact) in got.iter().zip(run(&x, &w, &dy, Operands::F32)) {
        assert_close("bf16 beside f32", got, &wide(&exact), 4e-3);
        assert_ne!(*got, exact);
    }
}
