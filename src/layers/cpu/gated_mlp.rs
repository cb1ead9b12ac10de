//! The gated MLP of a transformer, some tokens at a time, so that their hidden values stay in a core's cache.

use std::cell::Cell;

use rayon::prelude::*;

use crate::ops::activation::geglu;
use crate::ops::gemm::Threads;
use crate::ops::layernorm;
use crate::ops::packed::{Packed, Start, linear};

/// Tokens per task.
const ROWS: usize = 128;

/// Its weights.
#[derive(Clone, Copy, Debug)]
pub struct GatedMlp<'a> {
    pub gamma: &'a [f32],
    pub beta: &'a [f32],
    pub eps: f32,
    /// Values and gates, side by side.
    pub gate: &'a Packed,
    pub out: &'a Packed,
}

thread_local! {
    /// Taken while in use, so that a task stolen in between gets its own.
    static HIDDEN: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// `x [rows, C] += out(geglu(gate(norm(x))))`.
pub fn forward(x: &mut [f32], mlp: GatedMlp<'_>, threads: Threads) {
    let some = ROWS * mlp.out.n;
    match threads {
        Threads::One => x.chunks_mut(some).for_each(|x| tokens(x, mlp)),
        Threads::All => x.par_chunks_mut(some).for_each(|x| tokens(x, mlp)),
    }
}

fn tokens(x: &mut [f32], mlp: GatedMlp<'_>) {
    let GatedMlp { gamma, beta, eps, gate, out } = mlp;
    let (rows, wide, narrow) = (x.len() / out.n, gate.n, out.k);
    let mut hidden = HIDDEN.take();
    if hidden.len() < rows * (wide + narrow) {
        hidden.resize(rows * (wide + narrow), 0.0);
    }
    let (wide, hidden_narrow) = hidden[..rows * (wide + narrow)].split_at_mut(rows * wide);
    // What the norm gives is read before the narrow values are written in its place.
    let normed = &mut hidden_narrow[..x.len()];
    layernorm::infer(normed, x, gamma, beta, eps, Threads::One);
    linear(wide, normed, gate, Start::Bias, Threads::One);
    geglu(hidden_narrow, wide, narrow);
    linear(x, hidden_narrow, out, Start::Keep, Threads::One);
    HIDDEN.set(hidden);
}
