use stablerep::ops::cross_entropy::{Shape, backward_in_place, forward_in_place};
use stablerep::rng::{Domain, Stream};

fn random(len: usize, id: u32, scale: f32) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Stream::new(7, Domain::Init, [id, 0, 0]).fill_normal(&mut values);
    values.iter_mut().for_each(|v| *v *= scale);
    values
}

fn labels(shape: Shape) -> Vec<u32> {
    (0..shape.rows).map(|n| (n * 7 % shape.classes) as u32).collect()
}

/// The formula in f64: losses [N, G].
fn reference(logits: &[f64], labels: &[u32], shape: Shape) -> Vec<f64> {
    logits
        .chunks_exact(shape.classes)
        .enumerate()
        .map(|(i, x)| {
            let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = max + x.iter().map(|v| (v - max).exp()).sum::<f64>().ln();
            log_sum - x[labels[i / shape.heads] as usize]
        })
        .collect()
}

const SHAPES: [Shape; 5] = [
    Shape { rows: 1, heads: 1, classes: 1 },
    Shape { rows: 1, heads: 1, classes: 2 },
    Shape { rows: 5, heads: 3, classes: 10 },
    Shape { rows: 33, heads: 10, classes: 17 },
    Shape { rows: 70, heads: 2, classes: 1000 },
];

#[test]
fn losses_match_f64_also_for_large_logits() {
    for (shape, scale) in SHAPES.into_iter().flat_map(|shape| [(shape, 1.0), (shape, 40.0)]) {
        let logits = random(shape.rows * shape.heads * shape.classes, 1, scale);
        let labels = labels(shape);
        let mut losses = vec![f32::NAN; shape.rows * shape.heads];
        forward_in_place(&mut losses, &mut logits.clone(), &labels, shape);
        let exact: Vec<f64> = logits.iter().map(|&v| f64::from(v)).collect();
        for (got, want) in losses.iter().zip(reference(&exact, &labels, shape)) {
            assert!((f64::from(*got) - want).abs() <= 1e-6 * (1.0 + f64::from(scale) * 4.0), "{shape:?}: {got} {want}");
        }
    }
}

#[test]
fn gradient_matches_central_differences() {
    for shape in SHAPES.into_iter().take(4) {
        let logits = random(shape.rows * shape.heads * shape.classes, 2, 2.0);
        let labels = labels(shape);
        let scale = 1.0 / shape.rows as f32;
        let mut dlogits = logits.clone();
        forward_in_place(&mut vec![0.0; shape.rows * shape.heads], &mut dlogits, &labels, shape);
        backward_in_place(&mut dlogits, &labels, scale, shape);
        let mut exact: Vec<f64> = logits.iter().map(|&v| f64::from(v)).collect();
        for i in (0..exact.len()).step_by(1 + exact.len() / 60) {
            let centre = exact[i];
            let h = 1e-5;
            let mut total = |value| {
                exact[i] = value;
                reference(&exact, &labels, shape).iter().sum::<f64>()
            };
            let want = (total(centre + h) - total(centre - h)) / (2.0 * h) * f64::from(scale);
            total(centre);
            assert!((f64::from(dlogits[i]) - want).abs() < 1e-6, "{shape:?} {i}: {} {want}", dlogits[i]);
        }
    }
}

/// A head's losses and gradients have the same bits alone and among others.
#[test]
fn heads_are_independent() {
    let (rows, heads, classes) = (37, 4, 11);
    let shape = Shape { rows, heads, classes };
    let logits = random(rows * heads * classes, 3, 1.0);
    let labels = labels(shape);
    let run = |logits: &[f32], shape: Shape| {
        let (mut losses, mut x) = (vec![0.0; rows * shape.heads], logits.to_vec());
        forward_in_place(&mut losses, &mut x, &labels, shape);
        backward_in_place(&mut x, &labels, 0.25, shape);
        (losses, x)
    };
    let (losses, dlogits) = run(&logits, shape);
    for g in 0..heads {
        let pick = |x: &[f32], size: usize| -> Vec<f32> {
            x.chunks_exact(heads * size).flat_map(|row| row[g * size..(g + 1) * size].to_vec()).collect()
        };
        let alone = run(&pick(&logits, classes), Shape { heads: 1, ..shape });
        assert_eq!(alone.0, pick(&losses, 1));
        assert_eq!(alone.1, pick(&dlogits, classes));
    }
}

#[test]
#[should_panic(expected = "a label is not below 3")]
fn a_label_past_the_classes_panics() {
    let shape = Shape { rows: 1, heads: 1, classes: 3 };
    forward_in_place(&mut [0.0], &mut [0.0; 3], &[3], shape);
}
