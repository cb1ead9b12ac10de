use std::path::Path;

use stablerep::error::Error;
use stablerep::eval::evaluator::Evaluator;
use stablerep::eval::heads::{Classifiers, Heads, Kind};
use stablerep::eval::linear_probe::{
    Augmentation, BASE_LRS, BatchNorm, LinearConfig, LinearReport, ProbeData, Select, StateFile, cosine, run,
};
use stablerep::rng::{Domain, Stream};

fn random(len: usize, id: u32) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Stream::new(11, Domain::Init, [id, 0, 0]).fill_normal(&mut values);
    values
}

/// `rows` points of `classes` clouds around far-apart centres.
fn clouds(rows: usize, width: usize, classes: usize, noise: f32, id: u32) -> (Vec<f32>, Vec<u32>) {
    let centres = random(classes * width, 1000);
    let mut x = random(rows * width, id);
    let labels: Vec<u32> = (0..rows).map(|n| (n % classes) as u32).collect();
    for (row, &label) in x.chunks_exact_mut(width).zip(&labels) {
        for (v, centre) in row.iter_mut().zip(&centres[label as usize * width..]) {
            *v = *v * noise + centre;
        }
    }
    (x, labels)
}

fn config(epochs: usize) -> LinearConfig {
    LinearConfig { epochs, batch: 64, eval_every: 5, augmentation: Augmentation::None, ..LinearConfig::default() }
}

fn fresh(width: usize, classes: usize, lrs: &[f32], batch_norm: bool, seed: u64) -> Heads {
    Heads::new(&Kind { width, classes, lrs: lrs.to_vec(), batch_norm, batch: 1, seed })
}

fn on_the_cpu(kind: &Kind) -> Result<Box<dyn Classifiers>, Error> {
    Ok(Box::new(Heads::new(kind)))
}

/// Runs the probe on features in memory.
fn probe(config: &LinearConfig, noise: f32, seed: u64) -> Vec<LinearReport> {
    probe_of(300, config, noise, seed, &mut |_| ()).unwrap()
}

/// The same of `count` training images; `seen` is told the images of every step.
fn probe_of(
    count: usize,
    config: &LinearConfig,
    noise: f32,
    seed: u64,
    seen: &mut dyn FnMut(&[usize]),
) -> Result<Vec<LinearReport>, Error> {
    let seen = &mut |indices: &[usize]| {
        seen(indices);
        Ok(())
    };
    probe_with(count, config, noise, seed, seen, None)
}

/// The same; `seen` may refuse a step, and the probe is kept on its way in the file at `state`.
fn probe_with(
    count: usize,
    config: &LinearConfig,
    noise: f32,
    seed: u64,
    seen: &mut dyn FnMut(&[usize]) -> Result<(), Error>,
    state: Option<&Path>,
) -> Result<Vec<LinearReport>, Error> {
    let (width, classes) = (24, 5);
    let (train, train_labels) = clouds(count, width, classes, noise, 1);
    let (test, test_labels) = clouds(200, width, classes, noise, 2);
    let gather = |indices: &[usize]| -> Vec<f32> {
        indices.iter().flat_map(|&i| train[i * width..(i + 1) * width].to_vec()).collect()
    };
    let data = ProbeData {
        width,
        classes,
        train_labels: &train_labels,
        val_features: &|indices| Ok(gather(indices)),
        test_features: &test,
        test_labels: &test_labels,
        heads: &on_the_cpu,
        state: state.map(|path| StateFile::new(path.to_owned(), format!("{config:?}"))),
    };
    let mut source = |_: usize, indices: &[usize], out: &mut [f32]| {
        seen(indices)?;
        out.copy_from_slice(&gather(indices));
        Ok(())
    };
    run(config, &data, &mut source, seed)
}

/// Wherever a signal stops it, a probe that is run again ends as one that was left alone; what is kept of other settings
/// is not gone on with.
#[test]
fn a_stopped_probe_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("linear.safetensors");
    let config = LinearConfig { batch: 64, epochs: 4, eval_every: 2, select: Select::Val, ..config(4) };
    // One head's loss is beyond numbers, which JSON has none for.
    let config = LinearConfig { base_lrs: vec![0.1, 1.0, 1e30], ..config };
    let whole = probe_of(300, &config, 1.0, 3, &mut |_| ()).unwrap();
    let steps = 4 * (270 / 64);
    let mut done = Vec::new();
    for stop in 1..steps {
        let mut seen = 0;
        let mut stopping = |_: &[usize]| {
            seen += 1;
            if seen > stop { Err(Error::Interrupted("a signal".into())) } else { Ok(()) }
        };
        let error = probe_with(300, &config, 1.0, 3, &mut stopping, Some(&state)).unwrap_err();
        assert!(matches!(error, Error::Interrupted(_)), "{error}");
        let mut left = 0;
        let mut counting = |_: &[usize]| {
            left += 1;
            Ok(())
        };
        let again = probe_with(300, &config, 1.0, 3, &mut counting, Some(&state)).unwrap();
        assert_eq!(again, whole, "stopped after {stop} steps");
        assert_eq!(left, steps - stop);
        done.push(left);
        // It is done: nothing is left to do, and all is known.
        let mut none = |_: &[usize]| panic!("a step again");
        assert_eq!(probe_with(300, &config, 1.0, 3, &mut none, Some(&state)).unwrap(), whole);
        std::fs::remove_file(&state).unwrap();
    }
    assert_eq!(done.len(), steps - 1);
    probe_with(300, &config, 1.0, 3, &mut |_| Ok(()), Some(&state)).unwrap();
    let other = LinearConfig { batch: 32, ..config };
    let alone = probe_of(300, &other, 1.0, 3, &mut |_| ()).unwrap();
    assert_eq!(probe_with(300, &other, 1.0, 3, &mut |_| Ok(()), Some(&state)).unwrap(), alone);
}

/// What an epoch leaves over waits: every step is a whole batch, and in time every image is in one.
#[test]
fn every_step_takes_a_whole_batch() {
    let mut steps = Vec::new();
    let reports = probe_of(65, &config(12), 0.1, 3, &mut |indices| steps.push(indices.to_vec())).unwrap();
    assert!(steps.len() == 12 && steps.iter().all(|step| step.len() == 64), "{} steps", steps.len());
    let mut seen = steps.concat();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 65);
    for head in reports.iter().flat_map(|report| &report.heads) {
        assert!(head.train_loss.unwrap() < 1.7, "{head:?}");
    }
    // Fewer images than a batch: all of them, each time.
    let mut steps = Vec::new();
    probe_of(7, &config(3), 0.1, 3, &mut |indices| steps.push(indices.len())).unwrap();
    assert_eq!(steps, [7, 7, 7]);
}

#[test]
fn a_batch_of_one_behind_a_batch_norm_is_refused() {
    for (count, batch, named) in [(1, 64, "one training image"), (20, 1, "--batch 1")] {
        for batch_norm in [BatchNorm::Both, BatchNorm::On] {
            let config = LinearConfig { batch, batch_norm, ..config(1) };
            let error = probe_of(count, &config, 0.1, 0, &mut |_| ()).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(named), "{error}");
        }
        let config = LinearConfig { batch, batch_norm: BatchNorm::Off, ..config(1) };
        probe_of(count, &config, 0.1, 0, &mut |_| ()).unwrap();
    }
}

/// A head whose loss left the finite numbers, or all that means anything, is reported without one, is wrong about
/// everything, and is never chosen, however well it did before; when all are so, the probe has no result.
#[test]
fn heads_that_diverge_are_never_chosen() {
    let config = LinearConfig { base_lrs: vec![0.1, 1e39], ..config(10) };
    for report in probe(&config, 0.1, 3) {
        let [good, bad] = &report.heads[..] else { panic!("{report:?}") };
        assert!(good.train_loss.is_some() && bad.train_loss.is_none(), "{report:?}");
        assert!(bad.evaluations.iter().all(|evaluation| evaluation.test == 0.0), "{bad:?}");
        assert_eq!((report.best.base_lr, report.last.base_lr), (0.1, 0.1));
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains("\"train_loss\":null"), "{text}");
        assert_eq!(serde_json::from_str::<LinearReport>(&text).unwrap(), report);
    }
    let config = LinearConfig { base_lrs: vec![1e39, 2e39], ..config };
    let error = probe_of(300, &config, 0.1, 3, &mut |_| ()).unwrap_err();
    assert!(matches!(&error, Error::Diverged(text) if text.contains("--lrs")), "{error}");
}

#[test]
fn separable_classes_reach_100_percent() {
    for select in [Select::Test, Select::Val] {
        let reports = probe(&LinearConfig { select, ..config(20) }, 0.1, 3);
        assert_eq!(reports.iter().map(|r| r.batch_norm).collect::<Vec<_>>(), [false, true]);
        for report in &reports {
            // The first head that is right about every held-out image need not be about every test image.
            assert!(report.best.evaluation.test >= 99.0, "{report:?}");
            assert_eq!(report.last.evaluation.test, 100.0, "{report:?}");
            assert_eq!(report.heads.len(), BASE_LRS.len());
            assert_eq!(report.best.evaluation.val.is_some(), select == Select::Val);
            for head in &report.heads {
                assert_eq!(head.evaluations.iter().map(|e| e.epoch).collect::<Vec<_>>(), [5, 10, 15, 20]);
                assert!((head.lr - head.base_lr * 64.0 / 256.0).abs() < 1e-9, "{} {}", head.lr, head.base_lr);
            }
        }
    }
}

/// Labels that no feature explains: a probe that saw its test labels anywhere would beat chance.
#[test]
fn noise_stays_at_chance() {
    let reports = probe(&LinearConfig { select: Select::Val, ..config(10) }, 1e4, 3);
    for report in reports {
        assert!((report.last.evaluation.test - 20.0).abs() < 12.0, "{:?}", report.last);
    }
}

#[test]
fn the_choice_follows_its_rule_and_repeats() {
    for select in [Select::Test, Select::Val] {
        let config = LinearConfig { select, ..config(15) };
        let reports = probe(&config, 3.0, 5);
        assert_eq!(reports, probe(&config, 3.0, 5));
        assert_ne!(reports, probe(&config, 3.0, 6));
        for report in reports {
            let score = |e: &stablerep::eval::linear_probe::Evaluation| match select {
                Select::Test => e.test,
                Select::Val => e.val.unwrap(),
            };
            let all = || report.heads.iter().flat_map(|head| &head.evaluations);
            let best = all().map(score).fold(0.0, f64::max);
            let last = all().filter(|e| e.epoch == 15).map(score).fold(0.0, f64::max);
            assert_eq!(score(&report.best.evaluation), best);
            assert_eq!(score(&report.last.evaluation), last);
            assert_eq!(report.last.evaluation.epoch, 15);
            assert!(report.best.evaluation.test < 100.0, "a task this easy cannot tell the heads apart");
        }
    }
}

/// Ten heads at once are ten runs of one head.
#[test]
fn many_heads_equal_single_heads() {
    for batch_norm in [BatchNorm::Off, BatchNorm::On] {
        let together = probe(&LinearConfig { batch_norm, ..config(6) }, 3.0, 1).remove(0);
        for (head, &base_lr) in together.heads.iter().zip(&BASE_LRS) {
            let alone = probe(&LinearConfig { batch_norm, base_lrs: vec![base_lr], ..config(6) }, 3.0, 1).remove(0);
            assert_eq!(alone.heads[0].evaluations, head.evaluations);
            let (alone, together) = (alone.heads[0].train_loss.unwrap(), head.train_loss.unwrap());
            assert!((alone - together).abs() <= 1e-6 * together);
        }
    }
}

#[test]
fn weights_of_many_heads_equal_those_of_single_heads() {
    let (width, classes, lrs) = (20, 7, [0.01f32, 0.3, 2.0]);
    let (x, labels) = clouds(96, width, classes, 1.0, 4);
    let train = |lrs: &[f32], batch_norm| {
        let mut heads = fresh(width, classes, lrs, batch_norm, 9);
        for step in 0..12 {
            heads.step(&x, &labels, cosine(step, 12) as f32).unwrap();
        }
        heads
    };
    for batch_norm in [false, true] {
        let together = train(&lrs, batch_norm);
        for (g, lr) in lrs.iter().enumerate() {
            let alone = train(&[*lr], batch_norm);
            for d in 0..width {
                for c in 0..classes {
                    let (a, b) =
                        (together.weight()[(d * lrs.len() + g) * classes + c], alone.weight()[d * classes + c]);
                    assert!((a - b).abs() <= 1e-6 * (1.0 + b.abs()), "{batch_norm} {lr} {d} {c}: {a} {b}");
                }
            }
        }
    }
}

/// Sum over heads of the mean cross-entropy in f64, batch norm written out.
fn reference_loss(
    x: &[f32],
    labels: &[u32],
    w: &[f64],
    b: &[f64],
    (width, heads, classes): (usize, usize, usize),
    bn: bool,
) -> f64 {
    let n = labels.len();
    let mut x: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
    if bn {
        for d in 0..width {
            let mean = (0..n).map(|i| x[i * width + d]).sum::<f64>() / n as f64;
            let var = (0..n).map(|i| (x[i * width + d] - mean).powi(2)).sum::<f64>() / n as f64;
            (0..n).for_each(|i| x[i * width + d] = (x[i * width + d] - mean) / (var + 1e-6).sqrt());
        }
    }
    let mut total = 0.0;
    for i in 0..n {
        for g in 0..heads {
            let logit = |c: usize| {
                let column = g * classes + c;
                b[column] + (0..width).map(|d| x[i * width + d] * w[d * heads * classes + column]).sum::<f64>()
            };
            let sum: f64 = (0..classes).map(|c| logit(c).exp()).sum();
            total += (sum.ln() - logit(labels[i] as usize)) / n as f64;
        }
    }
    total
}

#[test]
fn gradient_matches_central_differences() {
    let (width, classes, lrs) = (6, 4, [0.1f32, 0.5]);
    let (x, labels) = clouds(17, width, classes, 1.0, 8);
    for batch_norm in [false, true] {
        let mut heads = fresh(width, classes, &lrs, batch_norm, 2);
        heads.weight_mut().iter_mut().for_each(|w| *w *= 30.0);
        heads.bias_mut().copy_from_slice(&random(lrs.len() * classes, 20));
        let mut w: Vec<f64> = heads.weight().iter().map(|&v| f64::from(v)).collect();
        let mut b: Vec<f64> = heads.bias().iter().map(|&v| f64::from(v)).collect();
        let sizes = (width, lrs.len(), classes);
        let losses = heads.loss_and_gradient(&x, &labels);
        let want = reference_loss(&x, &labels, &w, &b, sizes, batch_norm);
        assert!((losses.iter().map(|&v| f64::from(v)).sum::<f64>() - want).abs() < 1e-5);
        let h = 1e-5;
        let (dw, db) = heads.gradient();
        for i in 0..w.len() {
            let centre = w[i];
            w[i] = centre + h;
            let up = reference_loss(&x, &labels, &w, &b, sizes, batch_norm);
            w[i] = centre - h;
            let down = reference_loss(&x, &labels, &w, &b, sizes, batch_norm);
            w[i] = centre;
            let want = (up - down) / (2.0 * h);
            assert!((f64::from(dw[i]) - want).abs() < 2e-6, "{batch_norm} weight {i}: {} {want}", dw[i]);
        }
        for i in 0..b.len() {
            let centre = b[i];
            b[i] = centre + h;
            let up = reference_loss(&x, &labels, &w, &b, sizes, batch_norm);
            b[i] = centre - h;
            let down = reference_loss(&x, &labels, &w, &b, sizes, batch_norm);
            b[i] = centre;
            let want = (up - down) / (2.0 * h);
            assert!((f64::from(db[i]) - want).abs() < 2e-6, "{batch_norm} bias {i}: {} {want}", db[i]);
        }
    }
}

/// SGD with momentum by hand: v ← 0.9·v + g, w ← w − lr·schedule·v.
#[test]
fn steps_are_sgd_with_momentum() {
    let (width, classes, lrs) = (5, 3, [0.2f32, 0.7]);
    let (x, labels) = clouds(12, width, classes, 1.0, 9);
    let mut heads = fresh(width, classes, &lrs, false, 4);
    let mut twin = fresh(width, classes, &lrs, false, 4);
    let mut velocity = vec![0.0f64; heads.weight().len()];
    let mut want: Vec<f64> = heads.weight().iter().map(|&v| f64::from(v)).collect();
    for schedule in [1.0f32, 0.5, 0.25] {
        twin.loss_and_gradient(&x, &labels);
        for (i, (v, w)) in velocity.iter_mut().zip(&mut want).enumerate() {
            *v = 0.9 * *v + f64::from(twin.gradient().0[i]);
            *w -= f64::from(lrs[i / classes % 2] * schedule) * *v;
        }
        twin.step(&x, &labels, schedule).unwrap();
        heads.step(&x, &labels, schedule).unwrap();
        for (got, want) in heads.weight().iter().zip(&want) {
            assert!((f64::from(*got) - want).abs() < 1e-6, "{got} {want}");
        }
    }
}

#[test]
fn batch_norm_statistics() {
    let (width, rows) = (3, 8);
    let x: Vec<f32> = random(rows * width, 30).iter().enumerate().map(|(i, v)| v * 2.0 + (i % width) as f32).collect();
    let mut heads = fresh(width, 2, &[0.1], true, 0);
    assert_eq!(heads.running().unwrap().mean, [0.0; 3]);
    assert_eq!(heads.running().unwrap().var, [1.0; 3]);
    let labels = vec![0; rows];
    heads.loss_and_gradient(&x, &labels);
    let (mut mean_twice, mut var_twice) = (Vec::new(), Vec::new());
    for d in 0..width {
        let column: Vec<f64> = (0..rows).map(|i| f64::from(x[i * width + d])).collect();
        let mean = column.iter().sum::<f64>() / rows as f64;
        let unbiased = column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (rows - 1) as f64;
        let running = heads.running().unwrap();
        assert!((f64::from(running.mean[d]) - 0.1 * mean).abs() < 1e-6);
        assert!((f64::from(running.var[d]) - (0.9 + 0.1 * unbiased)).abs() < 1e-6);
        mean_twice.push(0.9 * 0.1 * mean + 0.1 * mean);
        var_twice.push(0.9 * (0.9 + 0.1 * unbiased) + 0.1 * unbiased);
    }
    heads.loss_and_gradient(&x, &labels);
    let running = heads.running().unwrap();
    for d in 0..width {
        assert!((f64::from(running.mean[d]) - mean_twice[d]).abs() < 1e-6);
        assert!((f64::from(running.var[d]) - var_twice[d]).abs() < 1e-6);
    }
}

/// Evaluation uses the running statistics, not those of the batch: a count does not depend on who is counted with whom.
#[test]
fn evaluation_does_not_depend_on_the_batch() {
    let (width, classes) = (10, 4);
    let (x, labels) = clouds(50, width, classes, 2.0, 31);
    let mut heads = fresh(width, classes, &[0.3, 1.0], true, 0);
    for _ in 0..5 {
        heads.step(&x, &labels, 1.0).unwrap();
    }
    let whole = heads.count_correct(&x, &labels).unwrap();
    let mut parts = vec![0; 2];
    for i in 0..50 {
        let one = heads.count_correct(&x[i * width..(i + 1) * width], &labels[i..=i]).unwrap();
        parts.iter_mut().zip(one).for_each(|(sum, count)| *sum += count);
    }
    assert_eq!(whole, parts);
    assert!(whole[1] > 20, "{whole:?}");
}

#[test]
fn learning_rates_follow_the_paper() {
    assert_eq!(BASE_LRS, [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5]);
    let default = LinearConfig::default();
    assert_eq!((default.batch, default.epochs, default.eval_every), (1024, 90, 10));
    // ½(1 + cos(π·i/total)), worked out by hand.
    for (iteration, want) in [(0, 1.0), (1, 0.853_553_390_6), (2, 0.5), (3, 0.146_446_609_4)] {
        assert!((cosine(iteration, 4) - want).abs() < 1e-9);
    }
    assert!(cosine(9_999, 10_000) > 0.0);
}

#[test]
fn settings_that_cannot_run_are_refused() {
    for (config, named) in [
        (LinearConfig { base_lrs: vec![], ..config(1) }, "--lrs"),
        (LinearConfig { base_lrs: vec![0.1, -1.0], ..config(1) }, "--lrs"),
        (LinearConfig { base_lrs: vec![0.1, 0.1], ..config(1) }, "--lrs"),
        (LinearConfig { base_lrs: vec![f64::NAN], ..config(1) }, "--lrs"),
        (LinearConfig { batch: 0, ..config(1) }, "--batch"),
        (config(0), "--epochs"),
        (LinearConfig { eval_every: 0, ..config(1) }, "--eval-every"),
    ] {
        let error = config.check().unwrap_err();
        assert!(matches!(error, Error::Usage(_)) && error.to_string().contains(named), "{error}");
    }
}

#[test]
fn features_that_are_not_numbers_are_refused() {
    let labels = [0, 1, 0, 1];
    let data = ProbeData {
        width: 2,
        classes: 2,
        train_labels: &labels,
        val_features: &|_| Ok(Vec::new()),
        test_features: &[0.0; 8],
        test_labels: &labels,
        heads: &on_the_cpu,
        state: None,
    };
    let mut source = |_: usize, _: &[usize], out: &mut [f32]| {
        out[3] = f32::NAN;
        Ok(())
    };
    let error = run(&config(1), &data, &mut source, 0).unwrap_err();
    assert!(matches!(error, Error::Diverged(_)) && error.to_string().contains("feature 1"), "{error}");
}
