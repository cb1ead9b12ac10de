use stablerep::eval::knn::{KnnConfig, classify};
use stablerep::rng::{Domain, Stream};

fn random(len: usize, id: u32) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Stream::new(5, Domain::Init, [id, 0, 0]).fill_normal(&mut values);
    values
}

/// All similarities in f64, sorted, exp(s/T) votes.
fn brute_force(config: &KnnConfig, x: &[f32], labels: &[u32], classes: usize, q: &[f32], width: usize) -> Vec<u32> {
    let unit = |row: &[f32]| -> Vec<f64> {
        let norm = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        row.iter().map(|&v| f64::from(v) / norm).collect()
    };
    let train: Vec<Vec<f64>> = x.chunks_exact(width).map(unit).collect();
    q.chunks_exact(width)
        .map(|row| {
            let row = unit(row);
            let mut all: Vec<(f64, u32)> = train
                .iter()
                .zip(labels)
                .map(|(t, &label)| (t.iter().zip(&row).map(|(a, b)| a * b).sum(), label))
                .collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            let mut votes = vec![0.0; classes];
            for &(s, label) in all.iter().take(config.k) {
                votes[label as usize] += (s / f64::from(config.temperature)).exp();
            }
            (0..classes).max_by(|&a, &b| f64::total_cmp(&votes[a], &votes[b]).then(b.cmp(&a))).unwrap() as u32
        })
        .collect()
}

#[test]
fn matches_brute_force_in_f64() {
    // Sizes around the block of 8192 training images and the 64 test images of a task.
    for (train, queries, width, classes, k, temperature) in [
        (1, 3, 4, 2, 20, 0.07),
        (50, 64, 16, 5, 1, 0.07),
        (300, 65, 32, 10, 20, 0.07),
        (300, 20, 8, 3, 300, 1.0),
        (8200, 10, 12, 7, 20, 0.5),
    ] {
        let (x, q) = (random(train * width, 1), random(queries * width, 2));
        let labels: Vec<u32> = (0..train).map(|i| (i * 31 % classes) as u32).collect();
        let config = KnnConfig { k, temperature };
        let got = classify(&config, &x, &labels, classes, &q, width).unwrap();
        assert_eq!(got, brute_force(&config, &x, &labels, classes, &q, width), "{train} {queries} {width} {k}");
    }
}

#[test]
fn length_does_not_count_and_nearer_neighbours_weigh_more() {
    // One training image exactly along the query, two at 60 degrees: the one wins at a low temperature, the two at a
    // high one.
    let half = 3.0f32.sqrt() / 2.0;
    let x = [100.0, 0.0, 0.5, half, 0.5, -half];
    let labels = [0, 1, 1];
    let run = |temperature| classify(&KnnConfig { k: 3, temperature }, &x, &labels, 2, &[0.01, 0.0], 2).unwrap();
    assert_eq!(run(0.07), [0]);
    assert_eq!(run(10.0), [1]);
}

/// Of a picture and its copy under another class the earlier one is the neighbour, wherever the blocks of the product
/// end between them.
#[test]
fn of_copies_the_earlier_is_nearer() {
    let width = 40;
    for train in [9, 70, 8190, 8200, 16_390] {
        let mut x = random(train * width, 3);
        let copies = 4;
        let (first, last) = x.split_at_mut((train - copies) * width);
        last.copy_from_slice(&first[..copies * width]);
        let labels: Vec<u32> = (0..train).map(|i| u32::from(i >= train - copies)).collect();
        let config = KnnConfig { k: 1, temperature: 0.07 };
        let got = classify(&config, &x, &labels, 2, &x[..copies * width], width).unwrap();
        assert_eq!(got, vec![0; copies], "{train}");
    }
}

#[test]
fn features_that_are_not_finite_are_refused() {
    let config = KnnConfig { k: 1, temperature: 0.07 };
    let good = [1.0, 2.0, 3.0, 4.0];
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let bad = [1.0, 2.0, wrong, 4.0];
        for (x, q, named) in [(bad, good, "training image 1"), (good, bad, "test image 1")] {
            let error = classify(&config, &x, &[0, 1], 2, &q, 2).unwrap_err();
            assert!(error.exit_code() == 5 && error.to_string().contains(named), "{error}");
        }
    }
}

#[test]
fn zero_neighbours_and_temperatures_are_refused() {
    for (config, named) in [
        (KnnConfig { k: 0, temperature: 0.07 }, "--knn 0"),
        (KnnConfig { k: 1, temperature: 0.0 }, "--knn-temperature"),
        (KnnConfig { k: 1, temperature: f32::NAN }, "--knn-temperature"),
    ] {
        let error = classify(&config, &[1.0], &[0], 1, &[1.0], 1).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(named), "{error}");
    }
}
