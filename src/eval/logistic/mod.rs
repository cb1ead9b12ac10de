//! Logistic regression on frozen features, as scikit-learn and cuML define it: of weights W and intercepts b the
//! minimum of ½‖W‖² + C·Σ cross-entropy over the training images, intercepts free, for many strengths C at once.
//!
//! Strengths and classifiers are columns of the same two matrix products per step, each with an L-BFGS of its own
//! ([`lbfgs`]). Variables are scaled by the second derivatives where learning begins, in the basis where these are
//! diagonal ([`design`]), and steps by those where it has come to, once that is worth their price ([`curvature`]); the
//! minimum does not depend on either. Everything is f64, and its order fixed by the shapes.

pub mod classes;
pub mod curvature;
pub mod design;
pub mod lbfgs;
pub mod loss;

use rayon::prelude::*;

use self::curvature::Curvature;
use self::design::{Design, ROWS};
use self::lbfgs::{Lbfgs, Limits, State};
use self::loss::{Sums, Targets, differentiate};
use crate::error::Result;
use crate::ops::gemm::{Threads, double};
use crate::ops::squares::Squares;
use crate::store;

/// Scores that are computed side by side: more of them are no faster, and take more memory.
pub const COLUMNS: usize = 512;

/// Iterations before second derivatives are looked at, at least, and how many times as many before the next look.
const FIRST_LOOK: usize = 8;
const NEXT_LOOK: usize = 3;

/// Evaluations that a look may cost at most.
const DEAREST: usize = 64;

/// Iterations of a classifier of `columns` scores before its second derivatives are looked at: as many as cost what the
/// look does, D/4K (the lower triangle of D×D sums, beside two products with K columns each). None where that is too
/// much.
pub fn first_look(width: usize, columns: usize) -> Option<usize> {
    let price = width / (4 * columns);
    (price <= DEAREST).then_some(price.max(FIRST_LOOK))
}

/// What stops a regression, unless told otherwise: a decrease of 1e-13 of the objective, or so many iterations.
pub const LIMITS: Limits = Limits { tolerance: 1e-13, iterations: 1000 };

/// A classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// Of the standardised features, `[D, K]`.
    pub weights: Vec<f64>,
    /// `[K]`.
    pub intercepts: Vec<f64>,
    /// ½‖W‖² + C·Σ cross-entropy.
    pub objective: f64,
    pub iterations: usize,
    /// Whether the minimum was reached before the most iterations were made.
    pub converged: bool,
}

impl Fit {
    /// Scores `[N, K]` of standardised features `[N, D]`.
    pub fn scores(&self, x: &[f64]) -> Vec<f64> {
        let columns = self.intercepts.len();
        let width = self.weights.len() / columns;
        let mut scores = self.intercepts.repeat(x.len() / width);
        double::nn(&mut scores, x, &self.weights, (x.len() / width, columns, width), true, Threads::All);
        scores
    }
}

/// Fits every one of `tasks` at every one of `strengths` (C, rising), and tells `done` how many strengths are new.
/// Strengths that are not computed together begin where weaker ones ended.
///
/// # Errors
/// `Interrupted` on a signal.
pub fn fit(
    design: &Design,
    tasks: &[Targets<'_>],
    strengths: &[f64],
    limits: Limits,
    done: impl FnMut(usize),
) -> Result<Vec<Vec<Fit>>> {
    fit_beside(design, tasks, strengths, limits, COLUMNS, done)
}

/// The same with at most `most` scores side by side, but at least one strength.
fn fit_beside(
    design: &Design,
    tasks: &[Targets<'_>],
    strengths: &[f64],
    limits: Limits,
    most: usize,
    mut done: impl FnMut(usize),
) -> Result<Vec<Vec<Fit>>> {
    let columns: usize = tasks.iter().map(Targets::columns).sum();
    let mut starts: Vec<Vec<f64>> = tasks.iter().map(|task| vec![0.0; (design.width + 1) * task.columns()]).collect();
    let mut fits = Vec::with_capacity(strengths.len());
    for strengths in strengths.chunks((most / columns).max(1)) {
        let begin = |strength| {
            tasks.iter().zip(&starts).map(move |(task, at)| Problem::new(design, *task, strength, at, limits))
        };
        let mut problems: Vec<Problem<'_>> = strengths.iter().flat_map(|&strength| begin(strength)).collect();
        while problems.iter().any(Problem::asks) {
            store::check_interrupt("the regression of this data set begins anew when it is run again")?;
            let mut asking: Vec<&mut Problem<'_>> = problems.iter_mut().filter(|problem| problem.asks()).collect();
            step(design, &mut asking);
            asking.iter_mut().filter(|problem| problem.is_due()).for_each(|problem| problem.look(design));
        }
        let found: Vec<Found> = problems.into_iter().map(Problem::found).collect();
        starts = found[found.len() - tasks.len()..].iter().map(|found| found.point.clone()).collect();
        fits.extend(found.chunks(tasks.len()).map(|found| found.iter().map(|found| found.fit(design)).collect()));
        done(strengths.len());
    }
    Ok(fits)
}

/// One classifier at one strength, under way.
struct Problem<'a> {
    targets: Targets<'a>,
    strength: f64,
    /// Weights per variable of the solver, by features and of the intercepts, `[D + 1]`.
    scale: Vec<f64>,
    solver: Lbfgs,
    /// Iterations before the next look at second derivatives; none where that is too dear.
    look: Option<usize>,
}

/// Where one has ended: `[D + 1, K]`, the last row of intercepts, in the design's basis.
struct Found {
    point: Vec<f64>,
    columns: usize,
    objective: f64,
    iterations: usize,
    converged: bool,
}

impl<'a> Problem<'a> {
    fn new(design: &Design, targets: Targets<'a>, strength: f64, start: &[f64], limits: Limits) -> Self {
        let curvature = strength * targets.curvature();
        let mut scale: Vec<f64> =
            design.squares.iter().map(|square| (1.0 + curvature * square).sqrt().recip()).collect();
        scale.push((curvature * design.rows() as f64).sqrt().recip());
        let rows = start.chunks_exact(targets.columns()).zip(&scale);
        let start = rows.flat_map(|(row, scale)| row.iter().map(move |x| x / scale)).collect();
        let look = match targets {
            Targets::Classes { classes, .. } => first_look(design.width, classes),
            // A matrix each would be for a single score.
            Targets::Present(_) => None,
        };
        Self { targets, strength, scale, solver: Lbfgs::new(start, limits), look }
    }

    fn is_due(&self) -> bool {
        self.asks() && self.look.is_some_and(|look| self.solver.iterations >= look)
    }

    /// Has the solver go on by the second derivatives at the best point, in its variables.
    fn look(&mut self, design: &Design) {
        self.look = Some(NEXT_LOOK * self.solver.iterations);
        let (width, columns, size) = (design.width, self.targets.columns(), design.width + 1);
        let point = self.point(self.solver.point());
        let (weights, intercepts) = point.split_at(width * columns);
        let mut squares = Squares::new(size);
        for (block, x) in design.x.chunks(ROWS * width).enumerate() {
            let (rows, first) = (x.len() / width, block * ROWS);
            let mut scores = intercepts.repeat(rows);
            double::nn(&mut scores, x, weights, (rows, columns, width), true, Threads::All);
            let mut sums = Sums { losses: vec![0.0], derivatives: vec![0.0; columns] };
            differentiate(&mut scores, first, &[self.targets], &mut sums);
            let derivatives = scores.chunks_exact(columns).enumerate();
            let weigh = |(i, row): (usize, &[f64])| (self.strength * self.targets.weight(first + i, row)).sqrt();
            let roots: Vec<f64> = derivatives.map(weigh).collect();
            squares.add(rows, |j, out| {
                for (i, (out, root)) in out.iter_mut().zip(&roots).enumerate() {
                    *out = self.scale[j] * root * if j < width { x[i * width + j] } else { 1.0 };
                }
            });
        }
        let mut matrix = squares.matrix();
        (0..width).for_each(|j| matrix[j * size + j] += self.scale[j].powi(2));
        if let Some(curvature) = Curvature::new(matrix, size) {
            self.solver.begin_from(curvature);
        }
    }

    fn asks(&self) -> bool {
        self.solver.state == State::Asking
    }

    /// Weights and intercepts for variables of the solver.
    fn point(&self, variables: &[f64]) -> Vec<f64> {
        let rows = variables.chunks_exact(self.targets.columns()).zip(&self.scale);
        rows.flat_map(|(row, scale)| row.iter().map(move |x| x * scale)).collect()
    }

    fn found(self) -> Found {
        Found {
            point: self.point(self.solver.point()),
            columns: self.targets.columns(),
            objective: self.solver.value(),
            iterations: self.solver.iterations,
            converged: self.solver.state == State::Converged,
        }
    }
}

impl Found {
    fn fit(&self, design: &Design) -> Fit {
        let (weights, intercepts) = self.point.split_at(design.width * self.columns);
        Fit {
            weights: design.weights(weights),
            intercepts: intercepts.to_vec(),
            objective: self.objective,
            iterations: self.iterations,
            converged: self.converged,
        }
    }
}

/// Evaluates all that ask, and tells them.
fn step(design: &Design, asking: &mut [&mut Problem<'_>]) {
    let width = design.width;
    let classifiers: Vec<Targets<'_>> = asking.iter().map(|problem| problem.targets).collect();
    let columns: usize = classifiers.iter().map(Targets::columns).sum();
    // Side by side, as the products take them.
    let points: Vec<Vec<f64>> = asking.par_iter().map(|problem| problem.point(problem.solver.trial())).collect();
    let mut beside = Vec::with_capacity((width + 1) * columns);
    for row in 0..=width {
        for (point, targets) in points.iter().zip(&classifiers) {
            beside.extend_from_slice(&point[row * targets.columns()..(row + 1) * targets.columns()]);
        }
    }
    let (weights, intercepts) = beside.split_at(width * columns);
    let mut sums = Sums { losses: vec![0.0; classifiers.len()], derivatives: vec![0.0; columns] };
    let mut gradient = vec![0.0; width * columns];
    let mut scores = Vec::new();
    for (block, x) in design.x.chunks(ROWS * width).enumerate() {
        let rows = x.len() / width;
        scores.clear();
        (0..rows).for_each(|_| scores.extend_from_slice(intercepts));
        double::nn(&mut scores, x, weights, (rows, columns, width), true, Threads::All);
        differentiate(&mut scores, block * ROWS, &classifiers, &mut sums);
        double::tn(&mut gradient, x, &scores, (width, columns, rows), true, Threads::All);
    }
    gradient.extend_from_slice(&sums.derivatives);
    let places = classifiers.iter().scan(0, |at, targets| Some(std::mem::replace(at, *at + targets.columns())));
    let places: Vec<usize> = places.collect();
    asking.par_iter_mut().zip(places).zip(points).zip(sums.losses).for_each(|(((problem, at), point), loss)| {
        let k = problem.targets.columns();
        let penalty: f64 = point[..width * k].iter().map(|weight| weight * weight).sum();
        let mut own = Vec::with_capacity(point.len());
        for (row, &scale) in problem.scale.iter().enumerate() {
            for column in 0..k {
                let penalty = if row < width { point[row * k + column] } else { 0.0 };
                own.push(scale * (penalty + problem.strength * gradient[row * columns + at + column]));
            }
        }
        problem.solver.tell(0.5 * penalty + problem.strength * loss, own);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::logistic::design::Standard;

    const WIDTH: usize = 12;

    /// Features that tell three classes in part.
    fn problem(rows: usize) -> (Vec<f32>, Vec<u32>) {
        let labels: Vec<u32> = (0..rows as u32).map(|i| i * 7 % 11 % 3).collect();
        let value = |i: usize, j: usize| ((i * 31 + j * 17) as f32).sin() * 3.0 + ((labels[i] as usize + j) % 3) as f32;
        ((0..rows * WIDTH).map(|at| value(at / WIDTH, at % WIDTH)).collect(), labels)
    }

    const STRENGTHS: [f64; 6] = [1e-5, 1e-3, 0.1, 1.0, 10.0, 100.0];

    #[test]
    fn where_it_begins_changes_no_minimum() {
        let (features, labels) = problem(1500);
        let design = Design::new(&Standard::of(&features, WIDTH), &features);
        let present: Vec<bool> = labels.iter().map(|label| *label == 1).collect();
        let tasks = [Targets::Classes { labels: &labels, classes: 3 }, Targets::Present(&present)];
        let fit = |most| {
            let mut strengths = 0;
            let fits = fit_beside(&design, &tasks, &STRENGTHS, LIMITS, most, |n| strengths += n).unwrap();
            assert_eq!(strengths, STRENGTHS.len());
            fits.concat()
        };
        let (together, pairs, alone) = (fit(512), fit(9), fit(1));
        for (i, first) in together.iter().enumerate() {
            for other in [&pairs[i], &alone[i]] {
                let said = |fit: &Fit| format!("{} {} {}", fit.objective, fit.iterations, fit.converged);
                let said = format!("{i}: {} {}", said(first), said(other));
                assert!(first.converged && other.converged, "{said}");
                assert!((first.objective / other.objective - 1.0).abs() < 1e-9, "{said}");
            }
        }
        let few = Limits { iterations: 2, ..LIMITS };
        let early = fit_beside(&design, &tasks, &STRENGTHS[5..], few, 512, |_| ()).unwrap().concat();
        assert!(early.iter().all(|fit| !fit.converged && fit.iterations == 2), "{early:?}");
    }

    /// At a weak penalty, where few images are left in doubt: the same minimum in far fewer steps.
    #[test]
    fn second_derivatives_shorten_the_way() {
        let (mut features, labels) = problem(600);
        // Features of very different weight, which correlate.
        for row in features.chunks_exact_mut(WIDTH) {
            (1..WIDTH).for_each(|j| row[j] = row[j - 1] + row[j] / (j * j) as f32);
        }
        let design = Design::new(&Standard::of(&features, WIDTH), &features);
        let found = |look: Option<usize>| {
            let targets = Targets::Classes { labels: &labels, classes: 3 };
            let mut problem = Problem::new(&design, targets, 1e4, &[0.0; (WIDTH + 1) * 3], LIMITS);
            problem.look = look;
            while problem.asks() {
                step(&design, &mut [&mut problem]);
                if problem.is_due() {
                    problem.look(&design);
                }
            }
            problem.found()
        };
        let (with, without) = (found(first_look(WIDTH, 3)), found(None));
        assert!((with.objective / without.objective - 1.0).abs() < 1e-9, "{} {}", with.objective, without.objective);
        assert!(2 * with.iterations < without.iterations, "{} {}", with.iterations, without.iterations);
        assert_eq!((first_look(384, 10), first_look(40, 100), first_look(1024, 2)), (Some(9), Some(8), None));
    }

    #[test]
    fn threads_change_no_bit() {
        let (features, labels) = problem(700);
        let fit = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let design = Design::new(&Standard::of(&features, WIDTH), &features);
                let tasks = [Targets::Classes { labels: &labels, classes: 3 }];
                fit(&design, &tasks, &STRENGTHS, LIMITS, |_| ()).unwrap()
            })
        };
        assert_eq!(fit(1), fit(3));
    }
}
