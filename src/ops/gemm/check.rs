//! Matrix products: every layout and epilogue of every variant the device can run, against the CPU's f32 products.
//!
//! Inputs lie in rows with gaps of NaN between them, so that a value taken from outside a matrix shows; outputs lie in
//! rows with gaps that must stay as they were.

use half::bf16;

use crate::device::cuda::{Arch, Element, Owned};
use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::gelu;
use crate::ops::gemm::cuda::{Epilogue, Layout, Matrix, Output, Variant, product, tn, tn_scratch_len};
use crate::ops::gemm::{self, Threads};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "gemm nt bias bf16", run: nt_bias },
    Check { name: "gemm nt bias f32", run: nt_bias_f32 },
    Check { name: "gemm nt gelu bf16", run: nt_gelu },
    Check { name: "gemm nt residual bf16", run: nt_residual },
    Check { name: "gemm nn bf16", run: nn },
    Check { name: "gemm nn gelu backward bf16", run: nn_gelu_backward },
    Check { name: "gemm tn accumulate f32", run: tn_accumulate },
    Check { name: "gemm tn has the same bits on any number of clusters", run: tn_on_cards },
    Check { name: "gemm rows do not depend on the batch", run: rows_alone },
]);

/// M, N, K and how far rows are padded: ones, primes, tiles ± 1, whole tiles; an odd pad makes rows unaligned.
const SHAPES: [(usize, usize, usize, usize); 10] = [
    (1, 1, 1, 0),
    (5, 3, 17, 0),
    (64, 64, 32, 0),
    (65, 63, 31, 1),
    (63, 72, 40, 8),
    (129, 136, 72, 0),
    (130, 128, 64, 3),
    (197, 96, 192, 0),
    (257, 264, 104, 8),
    (31, 520, 136, 0),
];

/// Shapes of a real card: ViT-B/16's layers at 8 images.
const FULL: [(usize, usize, usize, usize); 4] =
    [(1576, 2304, 768, 0), (1576, 768, 768, 0), (1576, 3072, 768, 0), (1576, 768, 3072, 0)];

fn shapes(case: &Case) -> Vec<(usize, usize, usize, usize)> {
    let mut all = SHAPES.to_vec();
    if case.full() {
        all.extend(FULL);
    }
    all
}

/// A matrix on the device and its values without gaps.
struct Input {
    _data: Owned<bf16>,
    at: Matrix<bf16>,
    values: Vec<f32>,
}

/// N(0, std²) in rows `pad` elements longer than they need to be, the surplus NaN; an odd pad also moves the first row
/// off alignment.
fn input(case: &Case, name: &str, (rows, columns, pad): (usize, usize, usize), std: f32) -> Result<Input> {
    let stride = columns + pad;
    let first = pad % 2;
    let values: Vec<f32> = case.normal(name, rows * columns, std).iter().map(|&v| bf16::from_f32(v).to_f32()).collect();
    let mut all = vec![bf16::NAN; first + rows * stride];
    for (padded, row) in all[first..].chunks_exact_mut(stride).zip(values.chunks_exact(columns)) {
        padded.iter_mut().zip(row).for_each(|(to, &v)| *to = bf16::from_f32(v));
    }
    let data = case.gpu().upload(&all)?;
    let at = Matrix::strided(data.view().slice(first..all.len()), rows, columns, stride);
    Ok(Input { _data: data, at, values })
}

/// What an output's gaps hold before and must hold afterwards.
const GAP: f32 = -77.0;

/// An output in padded rows.
struct Place<T: Element> {
    data: Owned<T>,
    at: Matrix<T>,
    pad: usize,
}

fn place<T: Element>(case: &Case, (rows, columns, pad): (usize, usize, usize), gap: T) -> Result<Place<T>> {
    let (stride, first) = (columns + pad, pad % 2);
    let data = case.gpu().upload(&vec![gap; first + rows * stride])?;
    let at = Matrix::strided(data.view().slice(first..first + rows * stride), rows, columns, stride);
    Ok(Place { data, at, pad })
}

impl<T: Element> Place<T> {
    /// The values without gaps, which are checked.
    fn read(&self, case: &Case, widen: impl Fn(T) -> f32) -> Result<Vec<f32>> {
        let all: Vec<f32> = case.gpu().read(self.data.view())?.into_iter().map(widen).collect();
        let Matrix { columns, stride, .. } = self.at;
        let (mut values, mut gaps) = (Vec::new(), all[..self.pad % 2].to_vec());
        for row in all[self.pad % 2..].chunks_exact(stride) {
            values.extend_from_slice(&row[..columns]);
            gaps.extend_from_slice(&row[columns..]);
        }
        case.same("gaps between rows", &gaps, &vec![GAP; gaps.len()])?;
        Ok(values)
    }
}

/// Names variant and shape in a failure.
fn label(what: &str, variant: Variant, (m, n, k, pad): (usize, usize, usize, usize)) -> String {
    format!("{what} {variant:?} {m}×{n}×{k} pad {pad}")
}

/// `a·bᵀ + bias` of one shape with its inputs.
struct Forward {
    a: Input,
    b: Input,
    bias: Owned<bf16>,
    want: Vec<f32>,
}

fn forward(case: &Case, (m, n, k, pad): (usize, usize, usize, usize)) -> Result<Forward> {
    let a = input(case, "a", (m, k, pad), 1.0)?;
    let b = input(case, "b", (n, k, pad), 1.0 / (k as f32).sqrt())?;
    let (bias, add) = case.bf16(&case.normal("bias", n, 1.0))?;
    let mut want = vec![0.0; m * n];
    gemm::nt(&mut want, &a.values, &b.values, (m, n, k), false, Threads::All);
    want.chunks_exact_mut(n).for_each(|row| row.iter_mut().zip(&add).for_each(|(y, b)| *y += b));
    Ok(Forward { a, b, bias, want })
}

fn nt_bias(case: &Case) -> Result<()> {
    for shape in shapes(case) {
        let (m, n, k, pad) = shape;
        let Forward { a, b, bias, want } = forward(case, shape)?;
        let mut plain = vec![0.0; m * n];
        gemm::nt(&mut plain, &a.values, &b.values, (m, n, k), false, Threads::All);
        for &variant in Variant::all(case.gpu()) {
            for (bias, want) in [(Some(bias.view()), &want), (None, &plain)] {
                let y = place(case, (m, n, pad), bf16::from_f32(GAP))?;
                let epilogue = Epilogue::Bias(bias);
                product(case.gpu(), Some(variant), Layout::Nt, Output::Bf16(y.at), (a.at, b.at), epilogue)?;
                let got = y.read(case, bf16::to_f32)?;
                case.close(&label("y", variant, shape), &got, want, Tolerance::bf16())?;
            }
        }
    }
    Ok(())
}

fn nt_bias_f32(case: &Case) -> Result<()> {
    for shape in shapes(case) {
        let (m, n, _, pad) = shape;
        let Forward { a, b, bias, want } = forward(case, shape)?;
        for &variant in Variant::all(case.gpu()) {
            let y = place(case, (m, n, pad), GAP)?;
            let epilogue = Epilogue::Bias(Some(bias.view()));
            product(case.gpu(), Some(variant), Layout::Nt, Output::F32(y.at), (a.at, b.at), epilogue)?;
            case.close(&label("y", variant, shape), &y.read(case, |v| v)?, &want, Tolerance::f32())?;
        }
    }
    Ok(())
}

fn nt_gelu(case: &Case) -> Result<()> {
    for shape in shapes(case) {
        let (m, n, _, pad) = shape;
        let Forward { a, b, bias, want } = forward(case, shape)?;
        let mut activated = vec![0.0; want.len()];
        gelu::forward(&mut activated, &want);
        for &variant in Variant::all(case.gpu()) {
            let y = place(case, (m, n, pad), bf16::from_f32(GAP))?;
            let h = place(case, (m, n, pad), bf16::from_f32(GAP))?;
            let epilogue = Epilogue::Gelu(Some(bias.view()), h.at);
            product(case.gpu(), Some(variant), Layout::Nt, Output::Bf16(y.at), (a.at, b.at), epilogue)?;
            case.close(&label("h", variant, shape), &h.read(case, bf16::to_f32)?, &want, Tolerance::bf16())?;
            case.close(&label("gelu", variant, shape), &y.read(case, bf16::to_f32)?, &activated, Tolerance::bf16())?;
        }
    }
    Ok(())
}

fn nt_residual(case: &Case) -> Result<()> {
    for shape in shapes(case) {
        let (m, n, _, pad) = shape;
        let Forward { a, b, bias, mut want } = forward(case, shape)?;
        // As for class tokens: rows far apart.
        let residual = input(case, "residual", (m, n, pad + 4 * n), 1.0)?;
        want.iter_mut().zip(&residual.values).for_each(|(y, r)| *y += r);
        for &variant in Variant::all(case.gpu()) {
            let y = place(case, (m, n, pad), bf16::from_f32(GAP))?;
            let epilogue = Epilogue::Residual(Some(bias.view()), residual.at);
            product(case.gpu(), Some(variant), Layout::Nt, Output::Bf16(y.at), (a.at, b.at), epilogue)?;
            case.close(&label("y", variant, shape), &y.read(case, bf16::to_f32)?, &want, Tolerance::bf16())?;
        }
    }
    Ok(())
}

/// `a·b` of one shape with its inputs.
fn backward(case: &Case, (m, n, k, pad): (usize, usize, usize, usize)) -> Result<(Input, Input, Vec<f32>)> {
    let a = input(case, "a", (m, k, pad), 1.0)?;
    let b = input(case, "b", (k, n, pad), 1.0 / (k as f32).sqrt())?;
    let mut want = vec![0.0; m * n];
    gemm::nn(&mut want, &a.values, &b.values, (m, n, k), false, Threads::All);
    Ok((a, b, want))
}

fn nn(case: &Case) -> Result<()> {
    for shape in shapes(case) {
        let (m, n, _, pad) = shape;
        let (a, b, want) = backward(case, shape)?;
        for &variant in Variant::all(case.gpu()) {
            let y = place(case, (m, n, pad), bf16::from_f32(GAP))?;
            product(case.gpu(), Some(variant), Layout::Nn, Output::Bf16(y.at), (a.at, b.at), Epilogue::Bias(None))?;
            case.close(&label("y", variant, shape), &y.read(case, bf16::to_f32)?, &want, Tolerance::bf16())?;
        }
    }
    Ok(())
}

fn nn_gelu_backward(case: &Case) -> Result<()> {
    for shape in shapes(case) {
        let (m, n, _, pad) = shape;
        let (a, b, mut want) = backward(case, shape)?;
        let h = input(case, "h", (m, n, pad), 1.5)?;
        gelu::backward_in_place(&mut want, &h.values);
        for &variant in Variant::all(case.gpu()) {
            let y = place(case, (m, n, pad), bf16::from_f32(GAP))?;
            let epilogue = Epilogue::GeluBackward(h.at);
            product(case.gpu(), Some(variant), Layout::Nn, Output::Bf16(y.at), (a.at, b.at), epilogue)?;
            case.close(&label("y", variant, shape), &y.read(case, bf16::to_f32)?, &want, Tolerance::bf16())?;
        }
    }
    Ok(())
}

/// Beside the common shapes, depths that are split over several blocks, with a short last part.
const DEEP: [(usize, usize, usize, usize); 3] = [(72, 40, 1000, 0), (130, 66, 777, 1), (8, 200, 2049, 8)];

fn tn_accumulate(case: &Case) -> Result<()> {
    for shape in shapes(case).into_iter().chain(DEEP) {
        let (m, n, k, pad) = shape;
        let a = input(case, "a", (k, m, pad), 1.0)?;
        let b = input(case, "b", (k, n, pad), 1.0)?;
        let (dw, db) = (case.normal("dw", m * n, 1.0), case.normal("db", m, 1.0));
        let (mut want, mut want_sums) = (dw.clone(), db.clone());
        gemm::tn(&mut want, &a.values, &b.values, (m, n, k), true, Threads::All);
        for row in a.values.chunks_exact(m) {
            want_sums.iter_mut().zip(row).for_each(|(s, v)| *s += v);
        }
        let scratch = case.gpu().alloc(tn_scratch_len(m, n, k))?;
        for &variant in Variant::all(case.gpu()) {
            let (w, s) = (case.f32(&dw)?, case.f32(&db)?);
            tn(case.gpu(), Some(variant), w.view(), Some(s.view()), (a.at, b.at), scratch.view())?;
            let first = case.gpu().read(w.view())?;
            case.close(&label("dw", variant, shape), &first, &want, Tolerance::f32())?;
            case.close(&label("db", variant, shape), &case.gpu().read(s.view())?, &want_sums, Tolerance::f32())?;
            let w = case.f32(&dw)?;
            tn(case.gpu(), Some(variant), w.view(), None, (a.at, b.at), scratch.view())?;
            case.same(&label("dw without db", variant, shape), &case.gpu().read(w.view())?, &first)?;
        }
    }
    Ok(())
}

/// A weight gradient in 16 parts of k, and in one half of k and 16 shares of the other: by a cluster for each, by 13,
/// and by two.
fn tn_on_cards(case: &Case) -> Result<()> {
    if case.gpu().arch() != Arch::Sm90 {
        case.skip("only Hopper's kernels have clusters");
        return Ok(());
    }
    let (m, n, k) = (130, 72, 8200);
    let (a, b) = (input(case, "a", (k, m, 0), 1.0)?, input(case, "b", (k, n, 0), 1.0)?);
    let (mut want, mut want_sums) = (vec![0.0; m * n], vec![0.0; m]);
    gemm::tn(&mut want, &a.values, &b.values, (m, n, k), false, Threads::All);
    for row in a.values.chunks_exact(m) {
        want_sums.iter_mut().zip(row).for_each(|(s, v)| *s += v);
    }
    let scratch = case.gpu().alloc(tn_scratch_len(m, n, k))?;
    for shared in [false, true] {
        let run = |sms| -> Result<(Vec<f32>, Vec<f32>)> {
            let variant = if shared { Variant::PingPong { sms } } else { Variant::Cooperative { sms } };
            let (w, s) = (case.f32(&vec![0.0; m * n])?, case.f32(&vec![0.0; m])?);
            tn(case.gpu(), Some(variant), w.view(), Some(s.view()), (a.at, b.at), scratch.view())?;
            Ok((case.gpu().read(w.view())?, case.gpu().read(s.view())?))
        };
        let (first, first_sums) = run(132)?;
        case.close("dw", &first, &want, Tolerance::f32())?;
        case.close("db", &first_sums, &want_sums, Tolerance::f32())?;
        for sms in [26, 4] {
            let (dw, db) = run(sms)?;
            case.same(&format!("dw on {sms} multiprocessors"), &dw, &first)?;
            case.same(&format!("db on {sms} multiprocessors"), &db, &first_sums)?;
        }
    }
    Ok(())
}

/// The first rows of a large product have the bits of a product of those rows alone, and every tile of a family gives
/// the same bits.
fn rows_alone(case: &Case) -> Result<()> {
    let (m, n, k) = (300, 88, 200);
    let a = input(case, "a", (m, k, 0), 1.0)?;
    let b = input(case, "b", (n, k, 0), 0.2)?;
    for &variant in Variant::all(case.gpu()) {
        let run = |variant, rows: usize| -> Result<(Vec<bf16>, Vec<f32>)> {
            let (y, z) = (case.gpu().alloc(rows * n)?, case.gpu().alloc(rows * n)?);
            let a = Matrix { rows, ..a.at };
            let (y, z) = (Matrix::new(y.view(), rows, n), Matrix::new(z.view(), rows, n));
            for out in [Output::Bf16(y), Output::F32(z)] {
                product(case.gpu(), Some(variant), Layout::Nt, out, (a, b.at), Epilogue::Bias(None))?;
            }
            Ok((case.gpu().read(y.data)?, case.gpu().read(z.data)?))
        };
        let whole = run(variant, m)?;
        for rows in [1, 17, 65, 128, 129] {
            let part = run(variant, rows)?;
            case.same(&format!("{rows} rows {variant:?} bf16"), &part.0, &whole.0[..rows * n])?;
            case.same(&format!("{rows} rows {variant:?} f32"), &part.1, &whole.1[..rows * n])?;
        }
        for &other in Variant::all(case.gpu()).iter().filter(|other| other.family() == variant.family()) {
            let all = run(other, m)?;
            case.same(&format!("{other:?} and {variant:?} bf16"), &all.0, &whole.0)?;
            case.same(&format!("{other:?} and {variant:?} f32"), &all.1, &whole.1)?;
        }
    }
    Ok(())
}
