//! Whole runs over the golden shards.

use std::fs;
use std::path::Path;

use serde_json::Value;
use stablerep::device::Plan;
use stablerep::error::Error;
use stablerep::ops::gemm::Operands;
use stablerep::train::method::{Name, Network};
use stablerep::train::schedule::Position;
use stablerep::train::{
    Activations, Augmentation, BatchNorm, CHECKPOINT, Chunk, Length, METRICS, Optimizer, Rate, Recipe,
};
use stablerep::train::{SaveEvery, State, Trainer, checkpoint, run};
use stablerep::weights::{SafeTensors, write_safetensors};
use tempfile::TempDir;

use crate::overflow::overflowing;
use crate::support::{fixture_path, job, recipe};

fn metrics(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join(METRICS)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Shards, no augmentation, given initial weights: losses, gradient norms and learning rates of PyTorch's run.
#[test]
fn twenty_steps_follow_pytorch() {
    let golden: Value = serde_json::from_str(&fs::read_to_string(fixture_path("train_run/run.json")).unwrap()).unwrap();
    for (name, method) in [("stablerep", Name::StableRep), ("simclr", Name::SimClr)] {
        let want = &golden[name];
        let recipe = Recipe {
            data: vec![fixture_path(&format!("train_run/{name}"))],
            method,
            batch: want["captions_per_step"].as_u64().unwrap() as usize,
            rate: Rate::Peak(want["peak_lr"].as_f64().unwrap()),
            ..recipe()
        };
        let folder = TempDir::new().unwrap();
        run(&job(recipe, folder.path())).unwrap();
        let lines = metrics(folder.path());
        assert_eq!(lines.len(), 20);
        for (step, line) in lines.iter().enumerate() {
            let near = |key: &str, want: &Value, tolerance: f64| {
                let (got, want) = (line[key].as_f64().unwrap(), want.as_f64().unwrap());
                assert!(
                    (got - want).abs() <= tolerance * want.abs(),
                    "{name} step {step}: {key} {got}, PyTorch {want}"
                );
            };
            near("loss", &want["loss"][step], 1e-4);
            near("loss", &want["loss_f64"][step], 1e-4);
            near("grad_norm", &want["grad_norm"][step], 1e-4);
            near("grad_norm", &want["grad_norm_f64"][step], 1e-4);
            near("lr", &want["lr"][step], 1e-12);
            assert_eq!(line["step"], step);
            assert_eq!(line["epoch"], step / 2);
            assert!(line["images_per_second"].as_f64().unwrap() > 0.0);
        }
    }
}

/// Wide enough that every product is cut into blocks and chunks.
fn larger() -> Recipe {
    let mut recipe = Recipe { init_from: None, augmentation: Augmentation::Strong, shuffle: true, ..recipe() };
    recipe.model.patch_size = 2;
    recipe.length = Length::Steps(2);
    recipe.warmup = Length::Steps(0);
    recipe.batch_norm = BatchNorm::Global;
    recipe
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let [exact, rounded] = [Operands::F32, Operands::Bf16].map(|cpu_precision| {
        let [one, two, five] = [1, 2, 5].map(|threads| {
            let folder = TempDir::new().unwrap();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(&job(Recipe { cpu_precision, ..larger() }, folder.path()))).unwrap();
            fs::read(folder.path().join(CHECKPOINT)).unwrap()
        });
        assert!(one == two && one == five, "{cpu_precision:?}");
        one
    });
    assert!(exact != rounded);
}

/// Linear layers that multiply bf16, forward and back, as PyTorch with its operands rounded; and a folder keeps to what
/// it began with.
#[test]
fn steps_in_bf16_follow_pytorch() {
    let read =
        |name: &str| -> Value { serde_json::from_str(&fs::read_to_string(fixture_path(name)).unwrap()).unwrap() };
    let (all, rounded) = (read("train_run/run.json"), read("train_run/bf16.json"));
    let exact = &all["simclr"];
    let recipe = Recipe {
        data: vec![fixture_path("train_run/simclr")],
        method: Name::SimClr,
        batch: exact["captions_per_step"].as_u64().unwrap() as usize,
        rate: Rate::Peak(exact["peak_lr"].as_f64().unwrap()),
        ..recipe()
    };
    let folder = TempDir::new().unwrap();
    run(&job(Recipe { cpu_precision: Operands::Bf16, ..recipe.clone() }, folder.path())).unwrap();
    let lines = metrics(folder.path());
    for key in ["loss", "grad_norm"] {
        let of =
            |values: &Value| values[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
        let (want, exact) = (of(&rounded), of(exact));
        assert_eq!(want.len(), 3);
        for (step, want) in want.into_iter().enumerate() {
            let got = lines[step][key].as_f64().unwrap();
            assert!((got - want).abs() <= 1e-4 * want, "step {step}: {key} {got}, PyTorch {want}");
            assert!((got - exact[step]).abs() > 1e-3 * want, "step {step}: {key} {got} as in f32");
        }
    }
    let text = fs::read_to_string(folder.path().join("config.toml")).unwrap();
    assert!(text.contains("precision = \"bf16\"\n"), "{text}");
    let error = run(&job(recipe, folder.path())).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("--precision"), "{error}");
}

/// The folder remembers what was held at once; a run that goes on is not asked again.
#[test]
fn a_folder_keeps_its_chunk() {
    let folder = TempDir::new().unwrap();
    let with = |chunk, recompute| {
        let mut job = job(larger(), folder.path());
        job.activations = Activations { chunk, recompute };
        job
    };
    run(&with(Some(Chunk::Images(12)), None)).unwrap();
    let record: Value = serde_json::from_str(&fs::read_to_string(folder.path().join("config.json")).unwrap()).unwrap();
    assert_eq!((&record["chunk"], record.get("recompute")), (&Value::from(12), None));
    let text = fs::read_to_string(folder.path().join("config.toml")).unwrap();
    assert!(["chunk = 12\n", "recompute = false\n"].iter().all(|line| text.contains(line)), "{text}");
    let kept = fs::read(folder.path().join(CHECKPOINT)).unwrap();
    for again in [with(None, None), with(Some(Chunk::Images(12)), Some(false))] {
        run(&again).unwrap();
        assert!(kept == fs::read(folder.path().join(CHECKPOINT)).unwrap());
    }
    for (other, flag) in [(with(Some(Chunk::All), None), "--chunk"), (with(None, Some(true)), "--recompute")] {
        let error = run(&other).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(flag), "{error}");
    }
    let error = run(&with(Some(Chunk::Images(33)), None)).unwrap_err().to_string();
    assert!(error.starts_with("--chunk 33: a step has 32 images"), "{error}");
}

/// A run whose loss leaves the numbers stops there, names step and layer, and keeps the last checkpoint.
#[test]
fn divergence_is_named_and_the_checkpoint_kept() {
    let folder = TempDir::new().unwrap();
    let mut recipe = larger();
    recipe.length = Length::Steps(50);
    recipe.rate = Rate::Peak(1000.0);
    let mut job = job(recipe, folder.path());
    job.save_every = SaveEvery::Steps(1);
    let error = run(&job).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.exit_code(), 5, "{text}");
    assert!(text.starts_with("step ") && text.contains("first not finite: "), "{text}");
    let kept = fs::read(folder.path().join(CHECKPOINT)).unwrap();
    assert_eq!(run(&job).unwrap_err().to_string(), text);
    assert!(kept == fs::read(folder.path().join(CHECKPOINT)).unwrap());
}

/// Spoils parameters or images.
type Poison<'a> = &'a dyn Fn(&dyn Network, &mut State, &mut [f32]);

#[test]
fn the_first_tensor_that_is_not_finite_is_named() {
    let recipe = recipe();
    let step = |poison: Poison<'_>| {
        let network = recipe.network().unwrap();
        let mut plan = Plan::new();
        let mut state = State::new(&mut plan, &*network);
        state.init(&*network, &recipe).unwrap();
        let mut images: Vec<f32> = (0..32 * 32 * 32 * 3).map(|i| ((i * 37) % 101) as f32 * 0.01).collect();
        poison(&*network, &mut state, &mut images);
        let labels: Vec<u32> = (0..32).map(|i| i % 8).collect();
        let before = state.params.clone();
        let mut trainer = Trainer::new(&mut plan, network, &recipe);
        let error = trainer.step(&mut state, &images, &labels, Position::first(1e-3)).unwrap_err();
        let same = before.iter().zip(&state.params).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same && state.step == 0 && matches!(error, Error::Diverged(_)), "{error}");
        error.to_string()
    };
    let fill = |name: &'static str, value: f32| {
        move |network: &dyn Network, state: &mut State, _: &mut [f32]| {
            let param = network.parameters().get(name).unwrap().param;
            param.of_mut(&mut state.params).fill(value);
        }
    };
    let text = step(&fill("visual.blocks.1.norm2.bias", f32::NAN));
    assert!(text.contains("first not finite: parameter visual.blocks.1.norm2.bias"), "{text}");
    let text = step(&|_, _, images| images[100] = f32::INFINITY);
    assert!(text.contains("first not finite: the images"), "{text}");
    // Finite weights whose product overflows.
    let text = step(&fill("visual.blocks.1.mlp.fc1.weight", 3e38));
    assert!(text.contains("step 0") && text.contains("the output of visual.blocks.1.mlp.fc1"), "{text}");
}

/// It changes nothing but the count of updates, and those behind it go on; one too many ends the run.
#[test]
fn a_bad_update_is_left_out() {
    let recipe = Recipe { max_bad_updates: 1, ..recipe() };
    let network = recipe.network().unwrap();
    let mut plan = Plan::new();
    let mut state = State::new(&mut plan, &*network);
    state.init(&*network, &recipe).unwrap();
    let mut trainer = Trainer::new(&mut plan, network, &recipe);
    let good: Vec<f32> = (0..32 * 32 * 32 * 3).map(|i| ((i * 37) % 101) as f32 * 0.01).collect();
    let bad: Vec<f32> = good.iter().map(|x| if *x == 0.5 { f32::INFINITY } else { *x }).collect();
    let labels: Vec<u32> = (0..32).map(|i| i % 8).collect();
    let bits = |state: &State| {
        let all = [&state.params, &state.m, &state.v, &state.kept];
        all.map(|values| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
    };
    trainer.step(&mut state, &good, &labels, Position::first(1e-3)).unwrap();
    let before = bits(&state);
    let outcome = trainer.step(&mut state, &bad, &labels, Position::first(1e-3)).unwrap();
    assert!(!outcome.loss.is_finite() && before == bits(&state));
    assert_eq!((state.step, state.bad_updates), (2, 1));
    let outcome = trainer.step(&mut state, &good, &labels, Position::first(1e-3)).unwrap();
    assert!(outcome.loss.is_finite() && before != bits(&state));
    let error = trainer.step(&mut state, &bad, &labels, Position::first(1e-3)).unwrap_err();
    assert!(error.exit_code() == 5 && error.to_string().starts_with("step 3: "), "{error}");
}

/// The count goes on with the run.
#[test]
fn a_checkpoint_counts_bad_updates() {
    let folder = TempDir::new().unwrap();
    let init = folder.path().join("init.safetensors");
    overflowing(&fixture_path("train_run/init.safetensors"), &init);
    let output = folder.path().join("run");
    let mut job = job(Recipe { init_from: Some(init), ..recipe() }, &output);
    job.save_every = SaveEvery::Steps(1);
    for most in [2, 3] {
        job.recipe.max_bad_updates = most;
        let error = run(&job).unwrap_err();
        assert!(error.exit_code() == 5 && error.to_string().starts_with(&format!("step {most}: ")), "{error}");
        let file = SafeTensors::open(output.join(CHECKPOINT)).unwrap();
        let found = ["step", "bad_updates"].map(|key| file.metadata(key).unwrap_or("none").to_owned());
        assert_eq!(found, [most.to_string(), most.to_string()]);
    }
}

/// Neither in memory nor in its checkpoints; those of versions that kept zeros for them are read.
#[test]
fn lars_has_no_second_moments() {
    let (folder, optimizer) = (TempDir::new().unwrap(), Optimizer::Lars);
    let length = (Length::Steps(3), Length::Steps(1));
    let recipe = Recipe { optimizer: Some(optimizer), length: length.0, warmup: length.1, ..recipe() };
    run(&job(recipe.clone(), folder.path())).unwrap();
    let [path, old] = [CHECKPOINT, "old.safetensors"].map(|name| folder.path().join(name));
    let file = SafeTensors::open(&path).unwrap();
    let all: Vec<(String, Vec<usize>, Vec<f32>)> = file
        .names()
        .map(|name| (name.to_owned(), file.shape(name).unwrap().to_vec()))
        .map(|(name, shape)| (name.clone(), shape.clone(), file.f32(&name, &shape).unwrap()))
        .collect();
    assert!(all.iter().all(|(name, ..)| !name.starts_with("adam.v.")));
    let first = all.iter().filter_map(|(name, shape, values)| Some((name.strip_prefix("adam.m.")?, shape, values)));
    let second: Vec<_> =
        first.map(|(name, shape, m)| (format!("adam.v.{name}"), shape.clone(), vec![0.0; m.len()])).collect();
    assert!(!second.is_empty());
    let tensors: Vec<_> =
        all.iter().chain(&second).map(|(name, shape, v)| (name.clone(), shape.clone(), &v[..])).collect();
    let metadata: Vec<_> = file.metadata_entries().into_iter().map(|(key, text)| (key, text.to_owned())).collect();
    write_safetensors(&old, &tensors, &metadata).unwrap();
    let network = recipe.network().unwrap();
    let states = [&path, &old].map(|path| {
        let mut plan = Plan::new();
        let mut state = State::by(&mut plan, &*network, optimizer);
        checkpoint::load(path, &*network, &mut state, &recipe).unwrap();
        let mut both = Plan::new();
        State::new(&mut both, &*network);
        assert_eq!(both.total_bytes() - plan.total_bytes(), 4 * network.parameters().len() as u64);
        (state.params, state.m, state.v, state.step)
    });
    assert!(states[0] == states[1] && states[0].2.is_empty() && states[0].3 == 3);
}
