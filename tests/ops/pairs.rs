//! Losses of rows against the keys of a momentum copy: the vectors of their specification, and f64.

use stablerep::ops::cosine::{self, Shape};
use stablerep::ops::distill;
use stablerep::ops::interpolate;
use stablerep::ops::l2norm;
use stablerep::ops::pairs::{Batch, backward_rows, forward};
use stablerep::rng::{Domain, Stream};

use crate::support::{assert_close, differences, dot, random, wide};

/// f(a, n, d): value k of row i is sin(a + 1 + i·d + k).
fn sines(a: usize, rows: usize, d: usize) -> Vec<f32> {
    (0..rows * d).map(|i| ((a + 1 + i) as f64).sin() as f32).collect()
}

fn unit(x: &[f32], rows: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut z, mut norms) = (vec![0.0; x.len()], vec![0.0; rows]);
    l2norm::forward(&mut z, &mut norms, x, 1e-12);
    (z, norms)
}

/// MoCo v3: both views' cross-entropies, the loss 2τ times their sum, and the gradient of the first view's rows.
#[test]
fn moco_v3_vectors() {
    let [q1, q2, k1, k2] = [0, 6, 20, 26].map(|a| sines(a, 3, 2));
    let (own, temperature) = ([0, 1, 2], 0.2f32);
    let mut losses = Vec::new();
    let mut gradient = Vec::new();
    for (q, k) in [(&q1, &k2), (&q2, &k1)] {
        let ((rows, norms), (keys, _)) = (unit(q, 3), unit(k, 3));
        let batch = Batch { rows: &rows, keys: &keys, labels: [&own; 2], temperature };
        let (mut lse, mut weight) = ([0.0; 3], [0.0; 3]);
        losses.push(forward(&mut lse, &mut weight, batch));
        let (mut drows, mut dq) = ([f32::NAN; 6], [f32::NAN; 6]);
        backward_rows(&mut drows, &lse, &weight, 2.0 * temperature, batch);
        l2norm::backward(&mut dq, &drows, &rows, &norms, 1e-12);
        gradient.push(dq);
    }
    assert!((losses[0] - 0.765_038_884_418_667_6).abs() < 1e-6, "{losses:?}");
    assert!((losses[1] - 3.292_014_598_158_645).abs() < 1e-6, "{losses:?}");
    assert!((0.4 * (losses[0] + losses[1]) - 1.622_821_393_030_925).abs() < 1e-6);
    let want = [-0.020_827_822_9, 0.019_274_230_9, 0.025_351_485, 0.004_727_259_5, 0.263_772_442_9, -0.905_238_972_2];
    assert_close("dq1", &gradient[0], &want, 1e-5);
}

/// BYOL: the second view's rows ask for the first view's keys.
#[test]
fn byol_vectors() {
    let [p1, p2, z1, z2] = [0, 6, 20, 26].map(|a| sines(a, 2, 3));
    let (rows, norms) = unit(&[p1, p2].concat(), 4);
    let (keys, _) = unit(&[z1, z2].concat(), 4);
    let (mut drows, mut dp) = ([f32::NAN; 12], [f32::NAN; 12]);
    let loss = cosine::forward(&mut drows, &rows, &keys, Shape { rows: 4, dim: 3, shift: 2, factor: 2.0 });
    l2norm::backward(&mut dp, &drows, &rows, &norms, 1e-12);
    assert!((loss - 2.433_484_105_202_479_6).abs() < 1e-6, "{loss}");
    let want = [-0.294_037_421, 0.193_945_071_6, 0.503_615_359_9, 0.342_191_670_8, -0.129_560_459_9, -0.482_195_301_3];
    assert_close("dp1", &dp[..6], &want, 1e-5);
}

/// DINO: two global views and a local one, of which the teacher sees the first two.
#[test]
fn dino_vectors() {
    let student: Vec<f32> = [0, 6, 12].iter().flat_map(|&a| sines(a, 2, 3)).collect();
    let teacher: Vec<f32> = [30, 36].iter().flat_map(|&a| sines(a, 2, 3)).collect();
    let mut centre = [0.1, -0.2, 0.05];
    let shape = distill::Shape { images: 2, views: 3, teachers: 2, classes: 3, temperature: 0.1 };
    let mut ds = [f32::NAN; 18];
    let loss = distill::forward(&mut ds, &student, &teacher, &centre, 1.0 / 0.04, shape);
    assert!((loss - 3.282_344_353_433_252_6).abs() < 1e-5, "{loss}");
    let want = [0.008_034_128_3, 2.403_011_713_8, -2.411_045_842_5, -0.027_041_896_1, 0.002_939_027_7, 0.024_102_868_4];
    assert_close("local view", &ds[12..], &want, 1e-5);
    distill::centre(&mut centre, &teacher);
    assert_close("centre", &centre, &[0.095_665_501_7, -0.173_475_252, 0.046_385_171_1], 1e-6);
}

/// Loss of rows against keys word for word in f64.
fn reference(x: &[f64], y: &[f64], labels: [&[u32]; 2], temperature: f64) -> f64 {
    let ([rows, keys], d) = (labels.map(<[u32]>::len), x.len() / labels[0].len());
    let s = |i: usize, j: usize| dot(&x[i * d..][..d], &y[j * d..][..d]) / temperature;
    let loss = |i: usize| {
        let own: Vec<usize> = (0..keys).filter(|&j| labels[1][j] == labels[0][i]).collect();
        let log_sum = (0..keys).map(|j| s(i, j).exp()).sum::<f64>().ln();
        own.iter().map(|&j| log_sum - s(i, j)).sum::<f64>() / own.len().max(1) as f64
    };
    (0..rows).map(loss).sum::<f64>() / rows as f64
}

#[test]
fn several_keys_of_a_row_match_f64_and_central_differences() {
    for (rows, keys, d, classes) in [(1, 1, 3, 1), (4, 9, 5, 3), (65, 3, 3, 2), (3, 300, 2, 40), (70, 65, 2, 90)] {
        let mut stream = Stream::new(2, Domain::Init, [4, 0, 0]);
        let mut labels = |len: usize| -> Vec<u32> { (0..len).map(|_| stream.below(classes) as u32).collect() };
        let (of_rows, of_keys) = (labels(rows), labels(keys));
        let ((x, _), (y, _)) = (unit(&random(rows * d, 1), rows), unit(&random(keys * d, 2), keys));
        let batch = Batch { rows: &x, keys: &y, labels: [&of_rows, &of_keys], temperature: 0.2 };
        let (mut lse, mut weight) = (vec![0.0; rows], vec![0.0; rows]);
        let loss = forward(&mut lse, &mut weight, batch);
        let temperature = f64::from(0.2f32);
        let loss_of = |x: &[f64]| reference(x, &wide(&y), [&of_rows, &of_keys], temperature);
        let want = loss_of(&wide(&x));
        assert!((loss - want).abs() < 1e-6, "{rows} rows, {keys} keys: {loss} {want}");
        let mut drows = vec![f32::NAN; x.len()];
        backward_rows(&mut drows, &lse, &weight, 3.0, batch);
        let want: Vec<f64> = differences(&x, loss_of).into_iter().map(|value| 3.0 * value).collect();
        if want.iter().any(|value| value.abs() > 1e-6) {
            assert_close(&format!("{rows} rows, {keys} keys"), &drows, &want, 1e-4);
        }
    }
}

/// Positions of another grid: PyTorch's `interpolate` (bicubic, corners not aligned) of sines, in f64; the gradient is
/// the transposed map, added to what is there.
#[test]
fn positions_of_another_grid() {
    let smaller = [
        -0.105_092_863,
        0.263_866_501,
        0.286_727_109,
        0.768_668_002,
        0.854_598_908,
        -0.180_399_209,
        0.280_612_498,
        -0.068_725_181,
        -0.327_919_929,
    ];
    // The first two rows.
    let larger = [
        -0.178_820_242,
        -0.006_870_473,
        0.306_153_674,
        0.678_025_581,
        0.949_490_226,
        1.086_801_666,
        1.181_121_747,
        0.072_875_923,
        0.184_651_284,
        0.394_137_134,
        0.624_087_826,
        0.761_618_776,
        0.809_370_076,
        0.849_691_284,
    ];
    for (from, to, want) in [(5, 3, &smaller[..]), (3, 7, &larger[..])] {
        let shape = interpolate::Shape { from, to, d: 2 };
        let [before, behind] = shape.lens();
        // The class token's two values, then of each place the sine and its double.
        let value = |i: usize| (f64::from(i as u32) * 0.7).sin() as f32;
        let pos: Vec<f32> =
            [3.0, 4.0].into_iter().chain((0..from * from).flat_map(|i| [value(i), 2.0 * value(i)])).collect();
        let mut y = vec![f32::NAN; behind];
        interpolate::forward(&mut y, &pos, shape);
        assert_eq!(y[..2], [3.0, 4.0], "the class token's");
        let first: Vec<f32> = y[2..].iter().step_by(2).copied().take(want.len()).collect();
        assert_close("positions", &first, want, 4e-6);
        let second: Vec<f64> = y[2..].iter().step_by(2).map(|v| 2.0 * f64::from(*v)).collect();
        assert_close("second values", &y[3..].iter().step_by(2).copied().collect::<Vec<_>>(), &second, 1e-6);

        let dy = random(behind, 3);
        let mut dpos = vec![1.0; before];
        interpolate::backward(&mut dpos, &dy, shape);
        let gained: Vec<f64> = dpos.iter().map(|v| f64::from(*v) - 1.0).collect();
        let (there, back) = (dot(&wide(&y), &wide(&dy)), dot(&wide(&pos), &gained));
        assert!((there - back).abs() < 1e-5 * there.abs().max(1.0), "{there} and {back}");
    }
}
