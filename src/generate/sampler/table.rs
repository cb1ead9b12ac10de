//! What every sampler is: a table with one row per call of the network.

use std::ops::Range;

use crate::ops::sampler_step::{SLOTS, Step};

/// One call of the network and the step behind it, in f64; the letters are those of [`crate::ops::sampler_step`].
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Training step the network is told, not always a whole one.
    pub timestep: f64,
    /// The network is given input·x.
    pub input: f64,
    /// d = d.0·x + d.1·e.
    pub d: (f64, f64),
    /// Bound of |d|.
    pub limit: f64,
    pub x: f64,
    pub e: f64,
    pub now: f64,
    pub kept: [f64; SLOTS],
    pub keep: Option<usize>,
    pub noise: f64,
}

impl Row {
    /// `x' = a·x + b·e` at `timestep`.
    pub(super) fn linear(timestep: f64, (a, b): (f64, f64)) -> Self {
        Self {
            timestep,
            input: 1.0,
            d: (0.0, 1.0),
            limit: f64::INFINITY,
            x: a,
            e: b,
            now: 0.0,
            kept: [0.0; SLOTS],
            keep: None,
            noise: 0.0,
        }
    }

    /// Whether every coefficient is a number.
    pub(super) fn is_finite(&self) -> bool {
        let Self { timestep, input, d, x, e, now, kept, noise, .. } = *self;
        [timestep, input, d.0, d.1, x, e, now, noise].iter().chain(&kept).all(|value| value.is_finite())
    }
}

/// A run's calls of the network, in order.
#[derive(Clone, Debug)]
pub struct Sampler {
    initial: f64,
    rows: Vec<Row>,
    /// The calls that are guided, where there is guidance.
    guided: Range<usize>,
    /// For every call, whether it reuses what the call before computed deep in the network.
    reusing: Vec<bool>,
    /// What whoever asked for it should know.
    pub remarks: Vec<String>,
}

impl Sampler {
    /// `initial`: standard deviation of the first latent.
    pub(super) fn of(initial: f64, rows: Vec<Row>) -> Self {
        Self { initial, guided: 0..rows.len(), reusing: vec![false; rows.len()], rows, remarks: Vec::new() }
    }

    /// The same with guidance in these calls alone.
    pub fn guided_in(self, guided: Range<usize>) -> Self {
        Self { guided, ..self }
    }

    /// Whether this call is guided, where there is guidance.
    pub fn guides(&self, call: usize) -> bool {
        self.guided.contains(&call)
    }

    /// The same with every call number `every` computed whole, and the first that is guided: before it there is nothing
    /// of a second branch to reuse.
    pub fn reusing(mut self, every: usize) -> Self {
        let first = self.guided.start;
        self.reusing = (0..self.rows.len()).map(|call| !call.is_multiple_of(every) && call != first).collect();
        self
    }

    /// Whether this call reuses what the call before computed deep in the network.
    pub fn reuses(&self, call: usize) -> bool {
        self.reusing[call]
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Training steps that the network is told, one per call.
    pub fn timesteps(&self) -> Vec<f32> {
        self.rows.iter().map(|row| row.timestep as f32).collect()
    }

    /// What unit noise is multiplied with to become the first latent.
    pub fn initial(&self) -> f32 {
        self.initial as f32
    }

    /// What the first latent is multiplied with to become the first call's input.
    pub fn first_input(&self) -> f32 {
        self.rows[0].input as f32
    }

    /// The step behind every call, as the op takes it.
    pub fn steps(&self) -> Vec<Step> {
        let inputs = self.rows.iter().skip(1).map(|next| next.input).chain([1.0]);
        let step = |(row, input): (&Row, f64)| Step {
            d: (row.d.0 as f32, row.d.1 as f32),
            limit: row.limit as f32,
            x: row.x as f32,
            e: row.e as f32,
            now: row.now as f32,
            kept: row.kept.map(|k| k as f32),
            keep: row.keep,
            noise: row.noise as f32,
            input: input as f32,
        };
        self.rows.iter().zip(inputs).map(step).collect()
    }

    /// Slots of history in use.
    pub fn slots(&self) -> usize {
        self.rows.iter().filter_map(|row| row.keep).max().map_or(0, |last| last + 1)
    }

    /// Whether an image also depends on noise that is drawn on the way.
    pub fn draws(&self) -> bool {
        self.rows.iter().any(|row| row.noise != 0.0)
    }
}
