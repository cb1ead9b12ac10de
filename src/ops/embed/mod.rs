//! Embeddings: sinusoids of a diffusion timestep (Vaswani et al. 2017; Ho et al. 2020), and tokens of texts, with the
//! gradients of their tables and the choice of one token of each text.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

/// Rows of the table per task.
const ROWS: usize = 64;
/// What fills [`Places::order`] up.
pub const NONE: u32 = u32::MAX;

/// The places of texts by their ids, so that the gradient of a table's row is one sum in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Places (text·T + token) by id, and of one id ascending; [`NONE`] behind the last. As long as all texts.
    pub order: Vec<u32>,
    /// For the first of each id where its run in `order` ends; 0 for all others.
    pub ends: Vec<u32>,
}

impl Places {
    /// Of texts of `tokens` ids each, of which the first `lengths` have a gradient.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn new(ids: &[u32], lengths: impl Iterator<Item = usize>, tokens: usize) -> Self {
        let mut order: Vec<u32> = lengths
            .enumerate()
            .flat_map(|(text, length)| (text * tokens..text * tokens + length).map(|place| place as u32))
            .collect();
        assert!(order.len() <= ids.len(), "places: {} of {} ids", order.len(), ids.len());
        let id = |place: &u32| ids[*place as usize];
        order.sort_by_key(id);
        let mut ends = Vec::with_capacity(ids.len());
        for run in order.chunk_by(|a, b| id(a) == id(b)) {
            let end = ends.len() + run.len();
            ends.push(end as u32);
            ends.resize(end, 0);
        }
        order.resize(ids.len(), NONE);
        ends.resize(ids.len(), 0);
        Self { order, ends }
    }
}

/// `y [texts, T, d] = token[ids] + position`: rows of `token [vocabulary, d]` by `ids [texts·T]`, of `position [T, d]`
/// by place.
///
/// # Panics
/// If the lengths do not fit, or an id is outside the vocabulary.
pub fn text(y: &mut [f32], ids: &[u32], token: &[f32], position: &[f32], d: usize) {
    assert!(y.len() == ids.len() * d && (y.len() / d).is_multiple_of(position.len() / d), "embed: y {}", y.len());
    y.par_chunks_exact_mut(position.len()).zip(ids.par_chunks_exact(position.len() / d)).for_each(|(y, ids)| {
        for ((y, position), &id) in y.chunks_exact_mut(d).zip(position.chunks_exact(d)).zip(ids) {
            let token = &token[id as usize * d..][..d];
            y.iter_mut().zip(token).zip(position).for_each(|((y, t), p)| *y = t + p);
        }
    });
}

/// Adds the gradients of both tables: of each id the sum over its `places`, of each position that over the texts.
///
/// # Panics
/// If the lengths do not fit.
pub fn text_backward(
    dtoken: &mut [f32],
    dposition: &mut [f32],
    dy: &[f32],
    ids: &[u32],
    (order, ends): (&[u32], &[u32]),
    d: usize,
) {
    assert!(dy.len() == ids.len() * d && order.len() == ids.len() && ends.len() == ids.len(), "embed: dy {}", dy.len());
    let runs: Vec<&[u32]> =
        ends.iter().enumerate().filter(|(_, end)| **end > 0).map(|(i, &end)| &order[i..end as usize]).collect();
    let id = |run: &[u32]| ids[run[0] as usize] as usize;
    dtoken.par_chunks_mut(ROWS * d).enumerate().for_each(|(block, rows)| {
        let first = block * ROWS;
        let [begin, end] = [first, first + ROWS].map(|row| runs.partition_point(|run| id(run) < row));
        for run in &runs[begin..end] {
            let mut sum = vec![0.0; d];
            for &place in *run {
                sum.iter_mut().zip(&dy[place as usize * d..]).for_each(|(sum, dy)| *sum += dy);
            }
            let row = (id(run) - first) * d;
            rows[row..row + d].iter_mut().zip(sum).for_each(|(row, sum)| *row += sum);
        }
    });
    let text = dposition.len();
    dposition.par_chunks_mut(d).enumerate().for_each(|(token, sum)| {
        let mut total = vec![0.0; d];
        for dy in dy.chunks_exact(text) {
            total.iter_mut().zip(&dy[token * d..]).for_each(|(sum, dy)| *sum += dy);
        }
        sum.iter_mut().zip(total).for_each(|(sum, total)| *sum += total);
    });
}

/// `y [texts, d]`: of each text of `x [texts, T, d]` the token that `places` names, counted over all texts.
///
/// # Panics
/// If the lengths do not fit.
pub fn pick(y: &mut [f32], x: &[f32], places: &[u32]) {
    let d = y.len() / places.len();
    for (y, &place) in y.chunks_exact_mut(d).zip(places) {
        y.copy_from_slice(&x[place as usize * d..][..d]);
    }
}

/// `dx`: `dy` where [`pick`] read, 0 elsewhere.
///
/// # Panics
/// If the lengths do not fit.
pub fn pick_backward(dx: &mut [f32], dy: &[f32], places: &[u32]) {
    let d = dy.len() / places.len();
    dx.fill(0.0);
    for (dy, &place) in dy.chunks_exact(d).zip(places) {
        dx[place as usize * d..][..d].copy_from_slice(dy);
    }
}

/// `dim` values: `sin(t·f_i)` and `cos(t·f_i)` with `f_i = 10000^(−i/(dim/2 − shift))`, sines first or, when `flip`,
/// cosines first; an odd `dim` ends in 0. The angles are rounded to f32 as PyTorch computes them: at t = 981 that is
/// what the weights were trained with.
pub fn timestep(t: f32, dim: usize, flip: bool, shift: f32) -> Vec<f32> {
    let half = dim / 2;
    let frequency = |i: usize| {
        let exponent = -(10_000f32.ln()) * i as f32 / (half as f32 - shift);
        f64::from(exponent).exp() as f32
    };
    let angle = |i: usize| f64::from(t * frequency(i));
    let sines = (0..half).map(|i| angle(i).sin() as f32);
    let cosines = (0..half).map(|i| angle(i).cos() as f32);
    let mut out: Vec<f32> = if flip { cosines.chain(sines).collect() } else { sines.chain(cosines).collect() };
    out.resize(dim, 0.0);
    out
}
