//! Supervised fine-tuning: PyTorch's run of the same steps, whole runs, bad data and settings.

use std::fs;
use std::path::Path;

use serde_json::Value;
use stablerep::device::Plan;
use stablerep::eval::DataSource;
use stablerep::models::classifier::Pool;
use stablerep::models::vit::{VitConfig, VitFile};
use stablerep::ops::augment::Normalize;
use stablerep::ops::rand_augment::RandAugment;
use stablerep::train::finetune::FineTune;
use stablerep::train::method::Name;
use stablerep::train::schedule::{Decay, Position, Schedule};
use stablerep::train::{
    Augmentation, CHECKPOINT, Config, CropFilter, Length, METRICS, Rate, Recipe, SaveEvery, State, TestSet, Trainer,
    run,
};
use stablerep::weights::SafeTensors;
use tempfile::TempDir;

use crate::labelled::{of_classes, shards};
use crate::support::{fixture_path, golden_state, job, losses, recipe};

fn plain() -> FineTune {
    FineTune {
        classes: Some(7),
        pool: Pool::Mean,
        layer_decay: 0.65,
        label_smoothing: 0.1,
        ema: None,
        rand_augment: RandAugment::NONE,
        erase: 0.0,
        mixup: 0.0,
        cutmix: 0.0,
        mix_switch: 0.5,
    }
}

fn finetune(settings: FineTune) -> Recipe {
    Recipe {
        method: Name::FineTune,
        batch: 6,
        weight_decay: 0.05,
        beta2: 0.999,
        init_from: None,
        finetune: Some(settings),
        ..recipe()
    }
}

/// Given weights, pixels and mixed labels: losses and gradient norms of PyTorch's ten updates, at rates that fall from
/// layer to layer, whole and in parts.
#[test]
fn ten_steps_follow_pytorch() {
    let file = SafeTensors::open(fixture_path("finetune.safetensors")).unwrap();
    let list = |key| serde_json::from_str::<Vec<f64>>(file.metadata(key).unwrap()).unwrap();
    let (labels, shares) = (list("labels"), list("shares"));
    let labels: Vec<u32> = labels.into_iter().map(|label| label as u32).collect();
    let keep = file.f32("keep", &[10, 2, 6]).unwrap();
    for (case, pool, drop_path) in
        [("mean", Pool::Mean, None), ("class", Pool::Class, None), ("drop", Pool::Mean, Some(0.4))]
    {
        let want: Value = serde_json::from_str(file.metadata(case).unwrap()).unwrap();
        for chunk in [None, Some(4)] {
            let recipe = Recipe { chunk, drop_path, ..finetune(FineTune { pool, ..plain() }) };
            let network = recipe.network().unwrap();
            let mut state = golden_state(&file, &*network);
            let (n, side) = (recipe.batch, recipe.model.image_size);
            let pixels = file.f32("pixels", &[n, side, side, 3]).unwrap();
            let pixels: Vec<u8> = pixels.into_iter().map(|pixel| pixel as u8).collect();
            let mut images = vec![0.0; pixels.len()];
            Normalize::default().apply(&mut images, &pixels);
            let norm = network.parameters().get("visual.norm.weight").unwrap().param;
            let before = norm.of(&state.params).to_vec();
            let count = network.numbers();
            let mut trainer = Trainer::new(&mut Plan::new(), network, &recipe);
            let schedule =
                Schedule { peak: 4e-3, last: 1e-6, steps: 10, length: 10.0, warmup: 3.0, decay: Decay::Cosine };
            for (step, share) in shares.iter().enumerate() {
                // As timm mixes a batch: with itself, the other way round.
                let mut numbers: Vec<u32> = labels.iter().chain(labels.iter().rev()).copied().collect();
                numbers.resize(3 * n, (*share as f32).to_bits());
                // Of the second block, whose images leave branches out.
                numbers.extend(keep[step * 2 * n..][..count - 3 * n].iter().map(|&keep| keep as u32));
                let lr = schedule.lr(step as u64);
                assert!((lr - want["rate"][step].as_f64().unwrap()).abs() < 1e-12);
                let outcome = trainer.step(&mut state, &images, &numbers, Position::first(lr)).unwrap();
                for (what, got) in [("loss", outcome.loss), ("grad_norm", outcome.grad_norm)] {
                    let want = want[what][step].as_f64().unwrap();
                    assert!((got / want - 1.0).abs() < 1e-4, "{case} step {step}: {what} {got}, PyTorch {want}");
                }
            }
            // Where the mean is pooled nothing reads the encoder's own norm.
            assert_eq!(norm.of(&state.params) == before, pool == Pool::Mean);
        }
    }
}

fn changed() -> FineTune {
    FineTune {
        classes: None,
        rand_augment: "m9-n2-mstd0.5".parse().unwrap(),
        erase: 0.25,
        mixup: 0.8,
        cutmix: 1.0,
        ema: Some(0.9),
        ..plain()
    }
}

/// Of 24 pictures of 4 classes, for `steps` of 8.
fn a_run(data: &Path, settings: FineTune, steps: u64) -> Recipe {
    Recipe {
        data: vec![data.to_owned()],
        batch: 8,
        augmentation: Augmentation::FineTune,
        crop_filter: Some(CropFilter::Bicubic),
        shuffle: true,
        length: Length::Steps(steps),
        warmup: Length::Steps(2),
        rate: Rate::Peak(1e-3),
        ..finetune(settings)
    }
}

/// Every picture comes once per epoch, classes are counted, and the loss falls to what smoothing leaves of it.
#[test]
fn a_run_learns_classes_and_leaves_an_encoder() {
    let folder = TempDir::new().unwrap();
    shards(folder.path(), 24, 4, &of_classes(4));
    let output = folder.path().join("run");
    let recipe = Recipe {
        augmentation: Augmentation::None,
        rate: Rate::Peak(5e-3),
        ..a_run(folder.path(), FineTune { classes: None, ..plain() }, 90)
    };
    run(&job(recipe.clone(), &output)).unwrap();
    let found = losses(&output);
    assert!((found[0] - 4f64.ln()).abs() < 0.02 && found[80..].iter().all(|&loss| loss < 0.8), "{found:?}");
    let file = VitFile::open(&output).unwrap();
    assert_eq!(file.config(None).unwrap(), recipe.model);
    assert_eq!(file.tensors().shape("head.weight"), Some(&[4, 24][..]));
    // It goes on from itself, on larger pictures too; other classes begin anew.
    let from = |classes: usize, image_size: usize| {
        let settings = FineTune { classes: Some(classes), ..plain() };
        let recipe = Recipe { init_from: Some(output.join(CHECKPOINT)), ..a_run(folder.path(), settings, 5) };
        let recipe = Recipe { model: VitConfig { image_size, ..recipe.model.clone() }, ..recipe };
        let network = recipe.network().unwrap();
        let mut state = State::new(&mut Plan::new(), &*network);
        state.init(&*network, &recipe).unwrap();
        let head = network.parameters().get("head.weight").unwrap().param;
        head.of(&state.params).iter().fold(0.0f32, |most, value| most.max(value.abs()))
    };
    let most = [from(4, 32), from(4, 48), from(5, 32)];
    assert!(most[0] > 1e-2 && most[0] == most[1] && most[2] < 1e-3, "{most:?}");
}

/// With all changes of pictures and a moving average, which lags behind.
#[test]
fn the_number_of_threads_changes_no_bit() {
    let data = TempDir::new().unwrap();
    shards(data.path(), 26, 4, &of_classes(4));
    let results = [1, 3].map(|threads| {
        let folder = TempDir::new().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&job(a_run(data.path(), changed(), 7), folder.path()))).unwrap();
        let file = SafeTensors::open(folder.path().join(CHECKPOINT)).unwrap();
        let size = |name: &str| {
            let values = file.f32(name, file.shape(name).unwrap()).unwrap();
            values.iter().map(|v| v * v).sum::<f32>().sqrt()
        };
        let (average, now) = (size("momentum.head.weight"), size("head.weight"));
        assert!(average > 0.0 && average < now, "{average} {now}");
        fs::read(folder.path().join(CHECKPOINT)).unwrap()
    });
    assert!(results[0] == results[1]);
}

/// Every picture comes once per epoch, with its class; mixed rows name their partner's, the other way round.
#[test]
fn batches_hold_every_picture_once_and_mix_within_themselves() {
    use std::collections::BTreeSet;

    use stablerep::train::loader::Loader;

    let data = TempDir::new().unwrap();
    shards(data.path(), 24, 4, &of_classes(4));
    let (mut means, mut cuts) = (0, 0);
    for settings in [changed(), FineTune { rand_augment: RandAugment::NONE, erase: 0.0, ..changed() }] {
        let recipe = a_run(data.path(), settings, 5);
        let mut loader = Loader::new(&recipe.loader(None)).unwrap();
        assert_eq!((loader.captions(), loader.classes(), loader.steps_per_epoch()), (24, 4, 3));
        for epoch in 0..4 {
            let mut seen = BTreeSet::new();
            for step in 0..3 {
                let batch = loader.batch(epoch, step).unwrap();
                for (i, row) in batch.rows.iter().enumerate() {
                    assert!(seen.insert(row.key[1]) && row.label == row.key[1] % 4, "{:?}", row.key);
                    assert_eq!((row.image.width, row.image.height), (32, 32));
                    let mixed = row.mixed.unwrap();
                    assert_eq!(
                        (mixed.label, mixed.share),
                        (batch.rows[7 - i].label, batch.rows[0].mixed.unwrap().share)
                    );
                }
                // A rectangle of whole pixels, or any share.
                let pixels = f64::from(batch.rows[0].mixed.unwrap().share) * 1024.0;
                *(if (pixels - pixels.round()).abs() < 1e-3 { &mut cuts } else { &mut means }) += 1;
            }
            assert_eq!(seen.len(), 24);
        }
    }
    assert!(means > 4 && cuts > 4, "{means} {cuts}");
    let none = a_run(data.path(), FineTune { mixup: 0.0, cutmix: 0.0, ..changed() }, 5);
    let batch = Loader::new(&none.loader(None)).unwrap().batch(0, 0).unwrap();
    assert!(batch.rows.iter().all(|row| row.mixed.is_none()));
}

/// What a step is given: labels, those of the partners, and the first ones' shares.
#[test]
fn numbers_are_labels_partners_and_shares() {
    use stablerep::train::loader::Loader;

    let data = TempDir::new().unwrap();
    shards(data.path(), 24, 4, &of_classes(4));
    for (mixup, mixed) in [(0.8, true), (0.0, false)] {
        let settings = FineTune { mixup, cutmix: 0.0, classes: Some(4), ..changed() };
        let recipe = a_run(data.path(), settings, 5);
        let network = recipe.network().unwrap();
        let batch = Loader::new(&recipe.loader(None)).unwrap().batch(0, 0).unwrap();
        let numbers = recipe.numbers(&*network, &batch, 0).unwrap();
        assert_eq!(numbers.len(), network.numbers());
        let own: Vec<u32> = batch.rows.iter().map(|row| row.label).collect();
        let partners: Vec<u32> = own.iter().rev().copied().collect();
        assert_eq!((&numbers[..8], &numbers[8..16]), (&own[..], if mixed { &partners[..] } else { &own[..] }));
        let share = batch.rows[0].mixed.map_or(1.0, |mixed| mixed.share);
        assert!(share.to_bits() == numbers[16] && (share < 1.0) == mixed, "{share}");
    }
}

/// A run that is scored on what it learned: at every epoch, at the end, and into done.json.
#[test]
fn a_run_is_scored() {
    let data = TempDir::new().unwrap();
    shards(data.path(), 24, 4, &of_classes(4));
    let output = data.path().join("run");
    let settings = FineTune { classes: None, ema: Some(0.5), ..plain() };
    let recipe =
        Recipe { augmentation: Augmentation::None, rate: Rate::Peak(5e-3), ..a_run(data.path(), settings, 60) };
    let images = DataSource { path: data.path().join("00000.tar"), labels: None };
    let test = Some(TestSet { images, every: Some(SaveEvery::Steps(20)) });
    let hourly = test.clone().map(|test| TestSet { every: Some(SaveEvery::Seconds(3600.0)), ..test });
    let error = run(&Config { test: hourly, ..job(recipe.clone(), &output) }).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("--test-every 3600s: expected steps"), "{error}");
    let summary = run(&Config { test, ..job(recipe, &output) }).unwrap();
    let scores = summary.test.unwrap();
    assert!(scores.top1 > 90.0 && scores.top5 == 100.0 && scores.ema_top1.unwrap() > 90.0, "{scores:?}");
    let text = fs::read_to_string(output.join(METRICS)).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let tested: Vec<usize> = (0..60).filter(|&i| lines[i]["test"]["top1"].is_f64()).collect();
    assert_eq!(tested, [19, 39, 59]);
    let near = |found: &Value, score: f64| (found.as_f64().unwrap() - score).abs() < 1e-9;
    assert!(near(&lines[59]["test"]["ema_top1"], scores.ema_top1.unwrap()));
    let done: Value = serde_json::from_str(&fs::read_to_string(output.join("done.json")).unwrap()).unwrap();
    assert!(near(&done["test"]["top1"], scores.top1));
}

#[test]
fn data_without_classes_is_refused() {
    let error = |spoil: &dyn Fn(usize) -> Option<String>, settings: FineTune| {
        let folder = TempDir::new().unwrap();
        shards(folder.path(), 12, 4, spoil);
        let error = run(&job(a_run(folder.path(), settings, 5), &folder.path().join("run"))).unwrap_err();
        assert!(!folder.path().join("run").join("config.json").exists());
        (error.exit_code(), error.to_string())
    };
    let (code, said) = error(&|_| None, changed());
    assert!(code == 3 && said.contains("000000: no .cls beside the image, nor beside any other"), "{said}");
    let (code, said) = error(&|i| (i != 5).then(|| (i % 4).to_string()), changed());
    assert!(code == 3 && said.contains("000005: no .cls beside the image") && said.contains("--max-bad"), "{said}");
    let (code, said) = error(&|i| Some(if i == 7 { "dog".into() } else { (i % 4).to_string() }), changed());
    assert!(code == 3 && said.contains("000007.cls holds \"dog\""), "{said}");
    let (code, said) = error(&of_classes(4), FineTune { classes: Some(3), ..changed() });
    assert!(
        code == 3 && said.contains("000003.cls holds class 3, but --classes is 3") && said.contains("give --classes 4"),
        "{said}"
    );
}

/// Of all tensors with two and more dimensions these alone, as in timm.
#[test]
fn class_token_and_positions_do_not_decay() {
    let network = finetune(plain()).network().unwrap();
    let groups = network.groups();
    let decays = |at: usize| groups.iter().any(|group| group.decay && group.range.contains(&at));
    let kept = network.parameters().iter().filter(|info| info.shape.len() >= 2 && !decays(info.param.offset));
    let kept: Vec<&str> = kept.map(|info| info.name.as_str()).collect();
    assert_eq!(kept, ["visual.cls_token", "visual.pos_embed"]);
}

#[test]
fn settings_without_sense_are_refused() {
    let refuses = |change: &dyn Fn(&mut FineTune), needle: &str| {
        let mut settings = plain();
        change(&mut settings);
        let recipe = Recipe { augmentation: Augmentation::FineTune, ..finetune(settings) };
        let error = recipe.validate().unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(needle), "{error}");
    };
    refuses(&|s| s.classes = Some(0), "--classes 0: expected 1 to");
    refuses(&|s| s.layer_decay = 0.0, "--layer-decay 0: expected 0.01 to 1");
    refuses(&|s| s.label_smoothing = 1.0, "--label-smoothing 1: expected 0 to 0.99");
    refuses(&|s| s.ema = Some(1.5), "--ema 1.5: expected 0 to 1");
    refuses(&|s| s.erase = -0.1, "--erase -0.1: expected 0 to 1");
    refuses(&|s| s.mixup = f64::NAN, "--mixup NaN: expected 0 to 4");
    refuses(&|s| s.cutmix = 5.0, "--cutmix 5: expected 0 to 4");
    refuses(&|s| s.mix_switch = 2.0, "--mix-switch 2: expected 0 to 1");
    let weak = Recipe { augmentation: Augmentation::Weak, ..finetune(plain()) };
    assert!(weak.validate().unwrap_err().to_string().contains("--augmentation finetune or none"));
    let other = Recipe { augmentation: Augmentation::FineTune, ..recipe() };
    assert!(other.validate().unwrap_err().to_string().contains("--method finetune alone"));
}
