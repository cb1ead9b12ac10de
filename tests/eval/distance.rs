//! Distances between sets of features, against scipy, torch-fidelity and prdc.

use std::path::Path;

use serde_json::Value;
use stablerep::error::Result;
use stablerep::eval::distance::frechet::Normal;
use stablerep::eval::distance::kernel::{Subsets, kernel_distance};
use stablerep::eval::distance::moments::Moments;
use stablerep::eval::distance::neighbours::neighbours;
use stablerep::eval::distance::spectrum::singular_values;
use stablerep::rng::{Domain, Stream};
use stablerep::weights::SafeTensors;

struct Golden {
    file: SafeTensors,
    found: Value,
}

impl Golden {
    fn open() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/distances.safetensors");
        let file = SafeTensors::open(path).unwrap();
        let found = serde_json::from_str(file.metadata("found").unwrap()).unwrap();
        Self { file, found }
    }

    fn set(&self, name: &str) -> (Vec<f32>, usize) {
        let shape = self.file.shape(name).unwrap().to_vec();
        (self.file.f32(name, &shape).unwrap(), shape[1])
    }

    fn numbers(&self, key: &str) -> Vec<f64> {
        let found = &self.found[key];
        let number = |v: &Value| v.as_f64().unwrap();
        found.as_array().map_or_else(|| vec![number(found)], |list| list.iter().map(number).collect())
    }
}

fn close(got: f64, want: f64, tolerance: f64, what: &str) {
    assert!((got - want).abs() <= tolerance * want.abs().max(1.0), "{what}: {got}, expected {want}");
}

fn normal(len: usize, id: u32) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Stream::new(5, Domain::Init, [id, 0, 0]).fill_normal(&mut values);
    values
}

fn frechet(a: &Moments, b: &Moments) -> Result<f64> {
    Normal::of(a)?.distance(&Normal::of(b)?)
}

#[test]
fn frechet_distances_are_scipys() {
    let golden = Golden::open();
    let (real, width) = golden.set("real");
    let real = Moments::of(&real, width).unwrap();
    for (name, tolerance) in [("generated", 1e-10), ("few", 1e-6), ("flat", 1e-10), ("real", 1e-10)] {
        let other = Moments::of(&golden.set(name).0, width).unwrap();
        let [scipy, exact] = golden.numbers(&format!("frechet.{name}"))[..] else { panic!("{name}: two numbers") };
        for got in [frechet(&real, &other).unwrap(), frechet(&other, &real).unwrap()] {
            close(got, scipy, tolerance, name);
            close(got, exact, 1e-10, name);
            assert!(got >= 0.0, "{name}: {got}");
        }
    }
}

/// Distributions whose distance is known: two by their numbers, and one shifted.
#[test]
fn frechet_distances_are_those_of_the_formula() {
    let moments = |mean: [f64; 2], covariance: [f64; 4]| Moments {
        count: 10,
        mean: mean.to_vec(),
        covariance: covariance.to_vec(),
    };
    let (a, b) = (moments([1.0, 2.0], [2.0, 0.5, 0.5, 1.0]), moments([0.0, 1.0], [1.0, -0.3, -0.3, 3.0]));
    close(frechet(&a, &b).unwrap(), 2.9293118549677732, 1e-14, "two by two");
    close(frechet(&a, &moments([3.0, 2.0], [2.0, 0.5, 0.5, 1.0])).unwrap(), 4.0, 1e-14, "shifted");
    close(frechet(&moments([0.0; 2], [0.0; 4]), &b).unwrap(), 1.0 + 4.0, 1e-14, "a point");
}

/// Blocks of 256 rows and their rest; sets of fewer pictures than dimensions.
#[test]
fn moments_are_those_of_the_definition() {
    for (count, width) in [(2, 3), (600, 5), (256, 7), (4, 30)] {
        let x = normal(count * width, 3);
        let got = Moments::of(&x, width).unwrap();
        let mean = |c: usize| (0..count).map(|i| f64::from(x[i * width + c])).sum::<f64>() / count as f64;
        for c in 0..width {
            close(got.mean[c], mean(c), 1e-12, "mean");
            for d in 0..width {
                let product = |i| (f64::from(x[i * width + c]) - mean(c)) * (f64::from(x[i * width + d]) - mean(d));
                let want = (0..count).map(product).sum::<f64>() / (count - 1) as f64;
                close(got.covariance[c * width + d], want, 1e-12, "covariance");
            }
        }
    }
    let error = Moments::of(&[1.0, 2.0], 2).unwrap_err();
    assert!(error.exit_code() == 3 && error.to_string().contains("1 picture(s) have no covariance"), "{error}");
}

/// A = U·diag(σ)·Vᵀ of reflections, σ over ten orders of magnitude and 0.
#[test]
fn singular_values_are_right_to_the_rounding_of_the_largest() {
    for (rows, columns) in [(90, 40), (40, 90), (70, 70), (1, 6), (1, 1)] {
        let least = rows.min(columns);
        let sigma: Vec<f64> = (0..least)
            .map(|i| if i + 1 == least && least > 1 { 0.0 } else { 10f64.powf(-10.0 * i as f64 / least as f64) })
            .collect();
        let mut a = vec![0.0; rows * columns];
        (0..least).for_each(|i| a[i * columns + i] = sigma[i]);
        let unit = |len: usize, id: u32| {
            let v: Vec<f64> = normal(len, id).into_iter().map(f64::from).collect();
            let norm = v.iter().map(|v| v * v).sum::<f64>().sqrt();
            v.into_iter().map(|v| v / norm).collect::<Vec<f64>>()
        };
        for id in 0..3 {
            let (u, v) = (unit(rows, id), unit(columns, 10 + id));
            for c in 0..columns {
                let along: f64 = (0..rows).map(|r| u[r] * a[r * columns + c]).sum();
                (0..rows).for_each(|r| a[r * columns + c] -= 2.0 * along * u[r]);
            }
            for row in a.chunks_exact_mut(columns) {
                let along: f64 = row.iter().zip(&v).map(|(a, v)| a * v).sum();
                row.iter_mut().zip(&v).for_each(|(a, v)| *a -= 2.0 * along * v);
            }
        }
        let got = singular_values(&a, rows, columns).unwrap();
        assert_eq!(got.len(), least);
        for (got, want) in got.iter().zip(&sigma) {
            assert!((got - want).abs() < 1e-14, "{rows}×{columns}: {got} {want}");
        }
    }
    assert_eq!(singular_values(&[], 0, 4).unwrap(), [0.0; 0]);
    assert!(singular_values(&[f64::NAN], 1, 1).is_err());
}

#[test]
fn kernel_distances_are_torch_fidelitys() {
    let golden = Golden::open();
    let (real, width) = golden.set("real");
    for name in ["generated", "flat", "real"] {
        let (other, _) = golden.set(name);
        // The golden is of as many as the smaller set has, the first of each.
        let real = &real[..other.len().min(real.len())];
        let got = kernel_distance(&other, real, width, Subsets::default(), 0).unwrap();
        close(got.mean, golden.numbers(&format!("kernel.{name}"))[0], 1e-10, name);
        assert_eq!((got.std, got.subsets), (0.0, Subsets { count: 1, size: real.len() / width }), "{name}");
    }
}

/// The estimate has no bias: over many subsets of sets of one distribution its mean is that of all pictures.
#[test]
fn subsets_are_drawn_by_the_seed() {
    let golden = Golden::open();
    let ((real, width), (other, _)) = (golden.set("real"), golden.set("generated"));
    let of = |seed| kernel_distance(&real, &other, width, Subsets { count: 60, size: 50 }, seed).unwrap();
    let (one, again, two) = (of(1), of(1), of(2));
    assert_eq!(one, again);
    assert!(one.mean != two.mean && one.std > 0.0);
    assert_eq!(one.subsets, Subsets { count: 60, size: 50 });
    let whole = kernel_distance(&real, &other, width, Subsets { count: 400, size: 110 }, 3).unwrap();
    assert!((one.mean - whole.mean).abs() < 5.0 * one.std / 60f64.sqrt(), "{one:?} {whole:?}");
    let error = kernel_distance(&real[..width], &other, width, Subsets::default(), 0).unwrap_err();
    assert!(error.to_string().contains("subsets of 1 picture(s)"), "{error}");
}

#[test]
fn neighbours_are_those_of_torch_fidelity_and_prdc() {
    let golden = Golden::open();
    let (real, width) = golden.set("real");
    for name in ["generated", "flat", "real"] {
        let got = neighbours(&real, &golden.set(name).0, width, 3).unwrap();
        let want = golden.numbers(&format!("neighbours.{name}"));
        for (got, want) in [got.precision, got.recall, got.density, got.coverage].into_iter().zip(want) {
            close(got, want, 1e-7, name);
        }
    }
    let (few, _) = golden.set("few");
    let error = neighbours(&real, &few, width, 9).unwrap_err();
    assert!(error.to_string().contains("9 nearest neighbours of 150 real and 9 generated"), "{error}");
}

/// More pictures than a block of 256, against the definition.
#[test]
fn blocks_leave_no_picture_out() {
    let (n, m, width, k) = (300, 270, 4, 2);
    let (real, generated) = (normal(n * width, 1), normal(m * width, 2));
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    let rows = |x: &'static [f32]| x.chunks_exact(width).collect::<Vec<_>>();
    let (real_rows, generated_rows) = (rows(real.clone().leak()), rows(generated.clone().leak()));
    let radius = |set: &[&[f32]]| -> Vec<f64> {
        let of = |a: &&[f32]| {
            let mut all: Vec<f64> = set.iter().map(|b| distance(a, b)).collect();
            all.sort_by(f64::total_cmp);
            all[k]
        };
        set.iter().map(of).collect()
    };
    let (r, g) = (radius(&real_rows), radius(&generated_rows));
    let inside = |i: usize, j: usize, radius: f64| distance(real_rows[i], generated_rows[j]) <= radius;
    let share = |all: usize, of: &dyn Fn(usize) -> bool| (0..all).filter(|&i| of(i)).count() as f64 / all as f64;
    let got = neighbours(&real, &generated, width, k).unwrap();
    close(got.precision, share(m, &|j| (0..n).any(|i| inside(i, j, r[i]))), 0.0, "precision");
    close(got.recall, share(n, &|i| (0..m).any(|j| inside(i, j, g[j]))), 0.0, "recall");
    close(got.coverage, share(n, &|i| (0..m).any(|j| inside(i, j, r[i]))), 0.0, "coverage");
    let balls = (0..n).map(|i| (0..m).filter(|&j| inside(i, j, r[i])).count()).sum::<usize>();
    close(got.density, balls as f64 / (k * m) as f64, 0.0, "density");
}
