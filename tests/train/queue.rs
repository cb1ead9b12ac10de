//! A queue of keys: PyTorch's run of the same steps (dev/golden/key_queue.py), labels, what a run goes on with.

use std::fs;

use stablerep::device::{Device, Plan};
use stablerep::layers::training::cpu::{Call, Memory};
use stablerep::models::vit::{VitConfig, VitFile};
use stablerep::ops::queue::{EMPTY, labels};
use stablerep::train::loader::Loader;
use stablerep::train::method::{Held, Name, Network, QUEUE_MOMENTUM, Sizes};
use stablerep::train::schedule::{Decay, Position, Schedule};
use stablerep::train::{Activations, Chunk, Config, Length, METRICS, Recipe, SaveEvery, State, Trainer, run};
use stablerep::weights::SafeTensors;
use tempfile::TempDir;

use crate::momentum::{CAPTIONS, STEPS, assert_near, header, images, model};
use crate::support::{fixture_path, recipe};

const SLOTS: usize = 27;

fn sizes(file: &SafeTensors) -> Sizes {
    Sizes {
        model: model(),
        head_dims: [24, 12],
        images: 2 * CAPTIONS,
        captions: CAPTIONS,
        held: Held { images: 2 * CAPTIONS, again: false },
        seed: 0,
        mae: None,
        language: None,
        norm_slots: 2,
        temperature: header::<f64>(file, "temperature") as f32,
        momentum: header(file, "base"),
        drop_path: 0.0,
        local: None,
        finetune: None,
        segment: None,
        queue: Some(SLOTS),
    }
}

/// Labels of a golden step, and the slot of its first key.
fn numbers(file: &SafeTensors, step: u64) -> Vec<u32> {
    let labels: Vec<Vec<u32>> = header(file, "labels");
    let start = step as usize * 2 * CAPTIONS % SLOTS;
    labels[step as usize].iter().copied().chain([start as u32]).collect()
}

fn kept<'a>(network: &dyn Network, state: &'a State, name: &str) -> &'a [f32] {
    network.kept().get(name).unwrap().param.of(&state.kept)
}

/// Ten steps: losses and gradient norms, the gradient of the third, whose rows find some of their own in the queue and
/// slots that are still empty; the copy and the queue behind them.
#[test]
fn ten_steps_follow_pytorch() {
    let path = fixture_path("momentum/queue.safetensors");
    let file = SafeTensors::open(fixture_path("momentum/queue_steps.safetensors")).unwrap();
    let network = || Name::StableRep.method().network(&sizes(&file)).unwrap();
    let mut state = State::new(&mut Plan::new(), &*network());
    network().init(&mut state.params, &mut state.kept, 3);
    let said = network().load(&mut state.params, &mut state.kept, &VitFile::open(&path).unwrap()).unwrap();
    assert_eq!(said, "encoder and projection head");
    let of_gradient = network();
    let gradient = |state: &State, step: u64| {
        let (images, numbers) = (images(step), numbers(&file, step));
        let mut grads = vec![0.0; state.params.len()];
        let (statistics, copied) = state.kept.split_at(of_gradient.statistics_len());
        let mut statistics = statistics.to_vec();
        let mut memory = Memory::take(&mut Plan::new(), of_gradient.layout());
        let mut call = Call {
            grads: &mut grads,
            statistics: &mut statistics,
            momentum: (copied, of_gradient.momentum().unwrap().statistics),
            images: &images,
            numbers: &numbers,
            ..Call::new(&mut memory, &state.params)
        };
        of_gradient.gradient(&mut call).unwrap();
        grads
    };
    let recipe = Recipe { beta2: 0.999, weight_decay: 0.1, ..recipe() };
    let mut trainer = Trainer::new(&mut Plan::new(), network(), &recipe);
    let (peak, warmup) = (header(&file, "peak"), header(&file, "warmup"));
    let schedule = Schedule { peak, last: 0.0, steps: STEPS, length: STEPS as f64, warmup, decay: Decay::Cosine };
    for step in 0..STEPS {
        let filled =
            labels(kept(&*of_gradient, &state, "queue.labels")).iter().filter(|label| **label != EMPTY).count();
        assert_eq!(filled, SLOTS.min(step as usize * 2 * CAPTIONS));
        if step == 2 {
            let grads = gradient(&state, step);
            for info in of_gradient.parameters().iter() {
                let want = file.f32(&format!("grad.{}", info.name), &info.shape).unwrap();
                assert_near(&info.name, info.param.of(&grads), &want, 1e-4);
            }
        }
        let numbers = numbers(&file, step);
        let got = trainer.step(&mut state, &images(step), &numbers, schedule.position(step, STEPS)).unwrap();
        for (key, got) in [("loss", got.loss), ("loss_f64", got.loss), ("grad_norm", got.grad_norm)] {
            let want = header::<Vec<f64>>(&file, key)[step as usize];
            assert!((got / want - 1.0).abs() < 1e-4, "step {step}: {key} {got}, PyTorch {want}");
        }
    }
    let mut compared = 0;
    for info in of_gradient.kept().iter().filter(|info| file.contains(&format!("after.{}", info.name))) {
        let want = file.f32(&format!("after.{}", info.name), &info.shape).unwrap();
        // As in `momentum`: a bias before a batch norm moves by the rounding of its gradient, 0, and the mean with it.
        let tolerance = if info.name.ends_with("running_mean") { 1e-2 } else { 2e-4 };
        assert_near(&info.name, info.param.of(&state.kept), &want, tolerance);
        compared += 1;
    }
    assert_eq!(compared, 4 + 4 + 1, "tensors and running statistics of the copy, and the queue");
    assert_eq!(labels(kept(&*of_gradient, &state, "queue.labels")), header::<Vec<u32>>(&file, "slots"));
}

/// 16 captions × 4 pictures for StableRep, 32 × 1 for SimCLR, of which a step takes half.
fn queued(method: Name, slots: usize) -> Recipe {
    let (name, batch) = if method == Name::SimClr { ("simclr", 16) } else { ("stablerep", 8) };
    Recipe {
        data: vec![fixture_path(&format!("train_run/{name}"))],
        method,
        batch,
        queue: Some(slots),
        momentum: Some(QUEUE_MOMENTUM),
        length: Length::Steps(8),
        shuffle: true,
        ..recipe()
    }
}

/// A text, or a picture, has one number in all epochs, and keys go on where those of the step before ended.
#[test]
fn labels_mean_the_same_in_every_step() {
    for method in [Name::StableRep, Name::SimClr] {
        let recipe = queued(method, 50);
        let network = recipe.network().unwrap();
        let mut loader = Loader::new(&recipe.loader(None)).unwrap();
        let (mut of_picture, mut starts) = (std::collections::BTreeMap::new(), Vec::new());
        for step in 0..8 {
            let batch = loader.batch(step / 2, step % 2).unwrap();
            let numbers = recipe.numbers(&*network, &batch, step).unwrap();
            assert_eq!(numbers.len(), network.numbers());
            for (row, label) in batch.rows.iter().zip(&numbers) {
                assert_eq!(*of_picture.entry(row.key[1]).or_insert(*label), *label, "picture {}", row.key[1]);
            }
            starts.push(numbers[32]);
        }
        assert_eq!(starts, [0, 32, 14, 46, 28, 10, 42, 24]);
        let labels: std::collections::BTreeSet<u32> = of_picture.values().copied().collect();
        // Two texts come twice.
        assert_eq!((of_picture.len(), labels.len()), if method == Name::SimClr { (32, 32) } else { (64, 14) });
    }
}

fn job(recipe: Recipe, output: &std::path::Path) -> Config {
    Config {
        recipe,
        output: output.to_owned(),
        save_every: SaveEvery::Steps(1),
        activations: Activations { chunk: Some(Chunk::All), recompute: Some(false) },
        device: Device::Cpu,
        allow_partial: false,
        watch: None,
        test: None,
        tokenizer: None,
    }
}

#[test]
fn chunks_change_no_loss() {
    for method in [Name::StableRep, Name::SimClr] {
        let losses = [None, Some(5)].map(|chunk| {
            let folder = TempDir::new().unwrap();
            let mut job = job(queued(method, 50), folder.path());
            if let Some(images) = chunk {
                job.activations = Activations { chunk: Some(Chunk::Images(images)), recompute: Some(true) };
            }
            run(&job).unwrap();
            let text = fs::read_to_string(folder.path().join(METRICS)).unwrap();
            let loss = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].as_f64().unwrap();
            text.lines().map(loss).collect::<Vec<f64>>()
        });
        for (whole, chunked) in losses[0].iter().zip(&losses[1]) {
            assert!((whole - chunked).abs() <= 1e-5 * whole, "{method:?}: {losses:?}");
        }
    }
}

/// A copy with momentum 1 stays what it was; one with momentum 0 is what it follows.
#[test]
fn the_momentum_is_the_copys() {
    for momentum in [1.0, 0.0] {
        let recipe = Recipe { momentum: Some(momentum), ..queued(Name::StableRep, 32) };
        let network = recipe.network().unwrap();
        let mut state = State::new(&mut Plan::new(), &*network);
        state.init(&*network, &recipe).unwrap();
        let copy = network.momentum().unwrap().parameters;
        let before = state.params.clone();
        assert_eq!(copy.of(&state.kept), before);
        let mut trainer = Trainer::new(&mut Plan::new(), recipe.network().unwrap(), &recipe);
        let good: Vec<f32> = (0..32 * 32 * 32 * 3).map(|i| ((i * 37) % 101) as f32 * 0.01).collect();
        let numbers: Vec<u32> = (0..32).map(|i| i % 8).chain([0]).collect();
        trainer.step(&mut state, &good, &numbers, Position::first(1e-3)).unwrap();
        assert_ne!(state.params, before);
        if momentum == 1.0 {
            assert_eq!(copy.of(&state.kept), before);
        } else {
            assert_near("the copy", copy.of(&state.kept), &state.params, 1e-6);
        }
    }
}

/// An update that is left out puts nothing in the queue; what is put there after it finds its slots empty.
#[test]
fn a_bad_update_leaves_the_queue_as_it_was() {
    let recipe = Recipe { max_bad_updates: 1, ..queued(Name::StableRep, 70) };
    let network = recipe.network().unwrap();
    let mut state = State::new(&mut Plan::new(), &*network);
    state.init(&*network, &recipe).unwrap();
    let mut trainer = Trainer::new(&mut Plan::new(), recipe.network().unwrap(), &recipe);
    let good: Vec<f32> = (0..32 * 32 * 32 * 3).map(|i| ((i * 37) % 101) as f32 * 0.01).collect();
    let bad = vec![f32::INFINITY; good.len()];
    let filled = |state: &State| {
        let of_slots = labels(kept(&*network, state, "queue.labels"));
        of_slots.iter().map(|label| *label != EMPTY).collect::<Vec<bool>>()
    };
    for (images, start, want) in [(&bad, 0, 0..0), (&good, 32, 32..64)] {
        let numbers: Vec<u32> = (0..32).map(|i| i % 8).chain([start]).collect();
        trainer.step(&mut state, images, &numbers, Position::first(1e-3)).unwrap();
        assert_eq!(filled(&state), (0..70).map(|slot| want.contains(&slot)).collect::<Vec<bool>>());
    }
    assert!(kept(&*network, &state, "queue.keys").iter().all(|value| value.is_finite()));
}

#[test]
fn sizes_that_do_not_fit_are_named() {
    for (change, needle) in [
        (Recipe { queue: Some(31), ..queued(Name::StableRep, 0) }, "--queue 31: expected 32, the images of a step, to"),
        (Recipe { head_dims: [32, 1024], ..queued(Name::StableRep, 2_097_120) }, "--queue 2097120: expected 32"),
        (Recipe { method: Name::Byol, ..queued(Name::SimClr, 64) }, "--queue 64 does not go with --method byol"),
    ] {
        let error = change.validate().unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(needle), "{error}");
    }
    Recipe { head_dims: [32, 1024], ..queued(Name::StableRep, 2_097_119) }.validate().unwrap();
    let named = VitConfig::named("vit_base").unwrap();
    Recipe { model: named, ..queued(Name::StableRep, 65_536) }.validate().unwrap();
}
