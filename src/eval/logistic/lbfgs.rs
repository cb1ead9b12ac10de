//! L-BFGS (Nocedal 1980) for a convex function, with the strong Wolfe conditions, turned inside out: it says where it
//! wants the function and is told its value and gradient, so that many problems can be evaluated together.

use std::collections::VecDeque;

use super::curvature::Curvature;
use crate::ops::symmetric::dot;

/// Pairs of steps and changes of the gradient that are remembered.
const MEMORY: usize = 10;

/// The Wolfe conditions: the least share of the foreseen decrease, and the largest share of the slope that is left.
const DECREASE: f64 = 1e-4;
const SLOPE: f64 = 0.9;

/// Rounding of the value, relative, which no decrease can be seen below.
const ROUNDING: f64 = 1e-14;

/// Points on one line before it is given up.
const POINTS: usize = 40;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The decrease that the model of the function still foresees, relative to its value.
    pub tolerance: f64,
    pub iterations: usize,
}

/// A minimisation under way.
#[derive(Debug)]
pub struct Lbfgs {
    limits: Limits,
    x: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
    pairs: VecDeque<Pair>,
    /// What stands in the place of the unit matrix where a direction begins.
    curvature: Option<Curvature>,
    direction: Vec<f64>,
    line: Line,
    trial: Vec<f64>,
    pub iterations: usize,
    pub state: State,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The trial point waits for its value.
    Asking,
    Converged,
    /// The most iterations were made, or rounding hides every further decrease.
    Stopped,
}

#[derive(Debug)]
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    /// Their product.
    curvature: f64,
}

/// A point on the line: how many directions from its beginning, value, slope.
#[derive(Clone, Copy, Debug)]
struct Point {
    at: f64,
    value: f64,
    slope: f64,
}

/// The search along one direction: the minimum lies beyond `low` and, once it is known, before `high`.
#[derive(Debug)]
struct Line {
    begin: Point,
    low: Point,
    high: Option<Point>,
    at: f64,
    points: usize,
}

impl Line {
    fn from(value: f64, slope: f64) -> Self {
        let begin = Point { at: 0.0, value, slope };
        Self { begin, low: begin, high: None, at: 1.0, points: 0 }
    }

    /// Whether the point of this value and slope will do; if not, the next one is chosen. For a convex function a slope
    /// upwards, or a decrease that is too small, lies beyond the minimum.
    fn accepts(&mut self, value: f64, slope: f64) -> bool {
        let (begin, point) = (self.begin, Point { at: self.at, value, slope });
        let most = begin.value + DECREASE * self.at * begin.slope + ROUNDING * begin.value.abs();
        self.points += 1;
        // A value that is no number compares with nothing.
        let low_enough = value <= most && slope.is_finite();
        if low_enough && slope.abs() <= -SLOPE * begin.slope {
            return true;
        }
        if low_enough && slope < 0.0 {
            self.low = point;
        } else {
            self.high = Some(point);
        }
        self.at = match self.high {
            None => self.at * (begin.slope / (begin.slope - slope)).abs().clamp(2.0, 10.0),
            Some(high) => between(self.low, high),
        };
        false
    }
}

/// Where the cubic through both points has its minimum, but not too near to either.
fn between(low: Point, high: Point) -> f64 {
    let width = high.at - low.at;
    let mean = 3.0 * (high.value - low.value) / width;
    let theta = low.slope + high.slope - mean;
    let root = (theta * theta - low.slope * high.slope).sqrt();
    let share = (root + theta - low.slope) / (high.slope - low.slope + 2.0 * root);
    let share = if share.is_finite() { share.clamp(0.1, 0.9) } else { 0.1 };
    low.at + share * width
}

impl Lbfgs {
    pub fn new(start: Vec<f64>, limits: Limits) -> Self {
        Self {
            limits,
            x: Vec::new(),
            value: f64::INFINITY,
            gradient: Vec::new(),
            pairs: VecDeque::with_capacity(MEMORY),
            curvature: None,
            direction: Vec::new(),
            line: Line::from(f64::INFINITY, 0.0),
            trial: start,
            iterations: 0,
            state: State::Asking,
        }
    }

    /// Where the function is wanted.
    pub fn trial(&self) -> &[f64] {
        &self.trial
    }

    /// The best point, once one was told of.
    pub fn point(&self) -> &[f64] {
        &self.x
    }

    /// Its value.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Begins later directions from what is known of the second derivatives.
    pub fn begin_from(&mut self, curvature: Curvature) {
        self.curvature = Some(curvature);
    }

    /// Goes on with `value` and `gradient` of the trial point.
    pub fn tell(&mut self, value: f64, gradient: Vec<f64>) {
        if self.direction.is_empty() {
            (self.x, self.value, self.gradient) = (self.trial.clone(), value, gradient);
            return self.turn();
        }
        if self.line.accepts(value, dot(&gradient, &self.direction)) {
            self.iterations += 1;
            self.remember(&gradient);
            (self.value, self.gradient) = (value, gradient);
            std::mem::swap(&mut self.x, &mut self.trial);
            return self.turn();
        }
        if self.line.points == POINTS {
            self.state = State::Stopped;
        }
        self.step();
    }

    fn remember(&mut self, gradient: &[f64]) {
        if self.pairs.len() == MEMORY {
            self.pairs.pop_front();
        }
        let difference = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>();
        let (step, change) = (difference(&self.trial, &self.x), difference(gradient, &self.gradient));
        let curvature = dot(&step, &change);
        // The second condition has the slope rise; that rounding leaves nothing of it is possible.
        if curvature > 0.0 {
            self.pairs.push_back(Pair { step, change, curvature });
        }
    }

    /// Chooses the direction from the point that was accepted last, or ends.
    fn turn(&mut self) {
        let mut d: Vec<f64> = self.gradient.iter().map(|g| -g).collect();
        let mut shares = Vec::with_capacity(self.pairs.len());
        for pair in self.pairs.iter().rev() {
            let share = dot(&pair.step, &d) / pair.curvature;
            add(&mut d, -share, &pair.change);
            shares.push(share);
        }
        if let Some(known) = &self.curvature {
            d = known.apply(&d);
        }
        if let Some(Pair { change, curvature, .. }) = self.pairs.back() {
            let turned = self.curvature.as_ref().map(|known| known.apply(change));
            let scale = curvature / dot(change, turned.as_ref().unwrap_or(change));
            d.iter_mut().for_each(|d| *d *= scale);
        }
        for (pair, share) in self.pairs.iter().zip(shares.into_iter().rev()) {
            let back = dot(&pair.change, &d) / pair.curvature;
            add(&mut d, share - back, &pair.step);
        }
        let slope = dot(&self.gradient, &d);
        if -0.5 * slope <= self.limits.tolerance * self.value.abs() {
            self.state = State::Converged;
        } else if self.iterations == self.limits.iterations || !slope.is_finite() {
            self.state = State::Stopped;
        }
        (self.direction, self.line) = (d, Line::from(self.value, slope));
        self.step();
    }

    fn step(&mut self) {
        let at = self.line.at;
        self.trial.clear();
        self.trial.extend(self.x.iter().zip(&self.direction).map(|(x, d)| x + at * d));
    }
}

fn add(y: &mut [f64], scale: f64, x: &[f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += scale * x);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimise(
        start: Vec<f64>,
        limits: Limits,
        f: impl Fn(&[f64]) -> (f64, Vec<f64>),
    ) -> (Vec<f64>, f64, State, usize) {
        let mut solver = Lbfgs::new(start, limits);
        let mut calls = 0;
        while solver.state == State::Asking {
            let (value, gradient) = f(solver.trial());
            solver.tell(value, gradient);
            calls += 1;
        }
        (solver.point().to_vec(), solver.value(), solver.state, calls)
    }

    /// 1 + Σ c_i·(x_i − i)², with factors that differ by six orders.
    fn bowl(x: &[f64]) -> (f64, Vec<f64>) {
        let factor = |i: usize| 10f64.powf(i as f64 - 3.0);
        let gradient = x.iter().enumerate().map(|(i, x)| 2.0 * factor(i) * (x - i as f64)).collect();
        (1.0 + x.iter().enumerate().map(|(i, x)| factor(i) * (x - i as f64).powi(2)).sum::<f64>(), gradient)
    }

    #[test]
    fn the_bottom_of_a_bowl_is_found() {
        let limits = Limits { tolerance: 1e-14, iterations: 500 };
        let (x, value, state, _) = minimise(vec![100.0; 7], limits, bowl);
        assert_eq!(state, State::Converged);
        assert!((value - 1.0).abs() < 1e-12, "{value}");
        assert!(x.iter().enumerate().all(|(i, x)| (x - i as f64).abs() < 1e-3), "{x:?}");
        let (_, value, state, calls) = minimise(vec![100.0; 7], Limits { iterations: 3, ..limits }, bowl);
        assert_eq!(state, State::Stopped);
        assert!(value < bowl(&[100.0; 7]).0 && calls >= 4);
    }

    /// A first step that is far too long or too short, and values that overflow on the way.
    #[test]
    fn lines_are_searched_in_both_directions() {
        let limits = Limits { tolerance: 1e-15, iterations: 200 };
        for scale in [1e-6, 1.0, 1e6] {
            let f = |x: &[f64]| {
                let (up, down) = ((scale * x[0]).exp(), (-scale * x[0]).exp());
                (up + 2.0 * down, vec![scale * (up - 2.0 * down)])
            };
            let (x, value, state, calls) = minimise(vec![5.0 / scale], limits, f);
            assert_eq!(state, State::Converged, "{scale}");
            assert!((value - 8f64.sqrt()).abs() < 1e-12 && (scale * x[0] - 2f64.sqrt().ln()).abs() < 1e-6, "{x:?}");
            assert!(calls < 80, "{scale}: {calls}");
        }
    }
}
