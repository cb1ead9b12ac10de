use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;
use stablerep::eval::logistic::classes::Classes;
use stablerep::eval::logistic::design::{Design, Standard};
use stablerep::eval::logistic::loss::Targets;
use stablerep::eval::logistic::{Fit, LIMITS, fit};

#[derive(Deserialize)]
struct Case {
    features: Vec<Vec<f32>>,
    labels: Vec<u32>,
    strengths: Vec<f64>,
    objectives: Vec<f64>,
    weights: Vec<Vec<f64>>,
    intercepts: Vec<f64>,
}

fn cases() -> BTreeMap<String, Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/logistic.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

impl Case {
    fn fits(&self) -> Vec<Fit> {
        let features = self.features.concat();
        let design = Design::new(&Standard::of(&features, self.features[0].len()), &features);
        let classes = Classes::of(&self.labels);
        let labels = classes.places(&self.labels);
        let present: Vec<bool> = labels.iter().map(|place| *place == 1).collect();
        let targets = match classes.count() {
            2 => Targets::Present(&present),
            classes => Targets::Classes { labels: &labels, classes },
        };
        let fits = fit(&design, &[targets], &self.strengths, LIMITS, |_| ()).unwrap();
        fits.into_iter().flatten().collect()
    }
}

#[test]
fn minima_are_scikit_learns() {
    for (name, case) in cases() {
        let fits = case.fits();
        for (fit, want) in fits.iter().zip(&case.objectives) {
            let apart = (fit.objective / want - 1.0).abs();
            assert!(fit.converged && apart < 1e-9, "{name}: {} {want}: {apart:e}", fit.objective);
        }
        let (fit, rows) = (&fits[1], case.weights.len());
        let mean = if rows > 1 { fit.intercepts.iter().sum::<f64>() / rows as f64 } else { 0.0 };
        for (k, row) in case.weights.iter().enumerate() {
            for (j, want) in row.iter().enumerate() {
                assert!((fit.weights[j * rows + k] - want).abs() < 2e-5, "{name}: weight {k} {j} {want}");
            }
            assert!((fit.intercepts[k] - mean - case.intercepts[k]).abs() < 2e-5, "{name}: intercept {k}");
        }
    }
}

/// What METHOD's vectors say of a sine, whose features are f64 there.
#[test]
fn the_wave_has_its_known_minima() {
    let case = &cases()["wave"];
    for (fit, want) in case.fits().iter().zip([0.064_769_800_616, 3.072_162_305_392, 19.708_090_587_823]) {
        assert!((fit.objective / want - 1.0).abs() < 1e-7, "{} {want}", fit.objective);
    }
}

#[test]
fn numbers_of_classes_may_have_gaps() {
    let case = &cases()["four"];
    let classes = Classes::of(&case.labels);
    let features = case.features.concat();
    let x = Standard::of(&features, 8).apply(&features);
    let predicted = classes.largest(&case.fits()[3].scores(&x));
    let right = predicted.iter().zip(&case.labels).filter(|(a, b)| a == b).count();
    assert_eq!(classes.count(), 4);
    assert!(right > 55 && predicted.contains(&900_000), "{right}");
    assert_eq!(Classes::of(&[900_000, 0]).largest(&[1.0, 1.0, 0.0, 2.0]), [0, 900_000]);
}
