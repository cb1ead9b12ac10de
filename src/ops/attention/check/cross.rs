//! Cross-attention beside the CPU op on the same rounded inputs.

use super::compare::{output, wide_values, width};
use crate::device::cuda::{Half, Owned, View};
use crate::error::Result;
use crate::ops::attention::cuda::{Heads, cross};
use crate::ops::attention::{self, Context, Shape};
use crate::ops::check::{Case, Tolerance};
use crate::ops::gemm::Threads;

/// Rows of a problem of cross-attention: images of queries, and whose context each row uses.
pub struct Rows {
    pub shape: Shape,
    pub q_rows: usize,
    pub which: Vec<u32>,
}

pub fn rows(shape: Shape, keys: usize, q_rows: usize, which: &[u32]) -> Rows {
    Rows { shape: Shape { keys, ..shape }, q_rows, which: which.to_vec() }
}

/// Queries and contexts on the device, and rounded.
pub struct Inputs<T: Half> {
    pub q: (Owned<T>, Vec<f32>),
    pub kv: (Owned<T>, Vec<f32>),
}

/// N(0, spread²); queries moved up by `apart`, keys down.
pub fn inputs<T: Half>(case: &Case, rows: &Rows, spread: f32, apart: f32) -> Result<Inputs<T>> {
    let Rows { shape, q_rows, which } = rows;
    let (width, contexts) = (width(*shape), which.iter().max().map_or(0, |&most| most as usize + 1));
    let mut q = case.normal(&format!("q of {shape:?}"), q_rows * shape.queries * width, spread);
    q.iter_mut().for_each(|q| *q += apart);
    let mut kv = case.normal(&format!("kv of {shape:?}"), contexts * shape.keys * 2 * width, spread);
    kv.chunks_exact_mut(2 * width).for_each(|token| token[..width].iter_mut().for_each(|k| *k -= apart));
    Ok(Inputs { q: case.half(&q)?, kv: case.half(&kv)? })
}

pub fn cross_on_gpu<T: Half>(case: &Case, rows: &Rows, q: View<T>, kv: View<T>) -> Result<Vec<T>> {
    let shape = rows.shape;
    let y = output(case, shape)?;
    let which = case.gpu().upload(&rows.which)?;
    let q = Heads { x: q, stride: width(shape) };
    cross(case.gpu(), y.view(), q, rows.q_rows, kv, which.view(), shape)?;
    case.gpu().read(y.view())
}

pub fn compare_cross<T: Half>(case: &Case, rows: &Rows, spread: f32, apart: f32) -> Result<()> {
    let &Rows { shape, q_rows, ref which } = rows;
    let inputs = inputs::<T>(case, rows, spread, apart)?;
    let width = width(shape);
    let contexts: Vec<Context> = inputs
        .kv
        .1
        .chunks_exact(shape.keys * 2 * width)
        .map(|context| {
            let part = |i: usize| -> Vec<f32> {
                context.chunks_exact(2 * width).flat_map(|token| token[i * width..][..width].iter().copied()).collect()
            };
            Context::new(&part(0), &part(1), shape.heads, shape.head_dim)
        })
        .collect();
    let image = shape.queries * width;
    let q: Vec<f32> = (0..shape.n).flat_map(|n| inputs.q.1[n % q_rows * image..][..image].iter().copied()).collect();
    let runs: Vec<(usize, &Context)> = which.iter().map(|&which| (1, &contexts[which as usize])).collect();
    let mut want = vec![0.0; q.len()];
    attention::cross(&mut want, &q, &runs, shape, Threads::All);
    let got = cross_on_gpu(case, rows, inputs.q.0.view(), inputs.kv.0.view())?;
    let what = format!("{} of {shape:?}, queries of {q_rows}, contexts {which:?}", T::DTYPE);
    case.close(&what, &wide_values(&got), &want, Tolerance::of::<T>())
}
