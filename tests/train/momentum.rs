//! The momentum methods against PyTorch's runs of a small instance (dev/golden/momentum.py).

use stablerep::device::Plan;
use stablerep::layers::training::cpu::{Call, Memory};
use stablerep::models::vit::{VitConfig, VitFile};
use stablerep::train::loader::Section;
use stablerep::train::method::{Held, Name, Network, Sizes};
use stablerep::train::schedule::{Decay, Schedule};
use stablerep::train::{Recipe, State, Trainer};
use stablerep::weights::SafeTensors;

use crate::support::{fixture_path, recipe};

pub const CAPTIONS: usize = 8;
pub const STEPS: u64 = 10;

pub fn model() -> VitConfig {
    VitConfig {
        image_size: 16,
        patch_size: 8,
        width: 16,
        depth: 2,
        heads: 2,
        mlp_ratio: 4,
        channels: 3,
        qk_norm: false,
        variant: Default::default(),
    }
}

/// Normalised images `[2·captions, 16, 16, 3]` of a step, by the script's formula.
pub fn images(step: u64) -> Vec<f32> {
    rows(step, 16, 0)
}

/// Rows `first` and following, as many as there are of a size.
fn rows(step: u64, side: usize, first: usize) -> Vec<f32> {
    let len = side * side * 3;
    let value = |i: usize| {
        let (row, k) = ((first + i / len) as f64, (i % len) as f64);
        (1.3 * row + 0.7 * step as f64 + 0.011 * k * (row % 5.0 + 1.0)).sin() as f32
    };
    (0..2 * CAPTIONS * len).map(value).collect()
}

/// Labels that no loss reads, then each row's own key.
fn numbers(network: &dyn Network) -> Vec<u32> {
    let own = (0..network.numbers() - 2 * CAPTIONS).map(|i| i as u32);
    vec![7; 2 * CAPTIONS].into_iter().chain(own).collect()
}

pub fn header<T: serde::de::DeserializeOwned>(file: &SafeTensors, key: &str) -> T {
    serde_json::from_str(file.metadata(key).unwrap()).unwrap()
}

pub fn assert_near(what: &str, got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{what}");
    // What stands before a batch norm has no gradient for its mean, but for rounding: others are above a hundredth.
    let scale = want.iter().fold(0.01f32, |most, value| most.max(value.abs()));
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= tolerance * scale, "{what}[{i}]: {got}, PyTorch {want} (scale {scale})");
    }
}

/// What a golden run's networks are made of.
fn sizes(file: &SafeTensors, head_dims: [usize; 2]) -> Sizes {
    Sizes {
        model: model(),
        head_dims,
        images: 2 * CAPTIONS,
        captions: CAPTIONS,
        held: Held { images: 2 * CAPTIONS, again: false },
        local: None,
        drop_path: 0.0,
        seed: 0,
        mae: None,
        finetune: None,
        segment: None,
        language: None,
        norm_slots: 2,
        temperature: header::<f64>(file, "temperature") as f32,
        momentum: header(file, "base"),
        queue: None,
    }
}

/// The network with the weights of the golden run, and the run's settings.
fn golden(name: &str, method: Name) -> (Box<dyn Network>, State, SafeTensors, Recipe) {
    let path = fixture_path(&format!("momentum/{name}.safetensors"));
    let file = SafeTensors::open(&path).unwrap();
    let sizes = sizes(&file, [24, 12]);
    let network = method.method().network(&sizes).unwrap();
    let mut state = State::new(&mut Plan::new(), &*network);
    network.init(&mut state.params, &mut state.kept, 3);
    let said = network.load(&mut state.params, &mut state.kept, &VitFile::open(&path).unwrap()).unwrap();
    assert_eq!(said, "encoder, projector and predictor");
    (network, state, file, Recipe { beta2: 0.999, weight_decay: 0.1, ..recipe() })
}

/// Loss and gradients of the first step, then ten steps: losses, gradient norms, and the copy behind them.
fn follows(name: &str, method: Name) {
    let (network, mut state, file, recipe) = golden(name, method);
    let losses: Vec<f64> = header(&file, "loss");
    let (copy, numbers) = (network.momentum().unwrap(), numbers(&*network));
    let mut memory = Memory::take(&mut Plan::new(), network.layout());
    let (mut grads, images_of_step) = (vec![0.0; state.params.len()], images(0));
    let (statistics, copied) = state.kept.split_at_mut(network.statistics_len());
    let mut before = statistics.to_vec();
    let mut call = Call {
        grads: &mut grads,
        statistics: &mut before,
        momentum: (copied, copy.statistics),
        images: &images_of_step,
        numbers: &numbers,
        ..Call::new(&mut memory, &state.params)
    };
    network.gradient(&mut call).unwrap();
    assert!((call.loss / losses[0] - 1.0).abs() < 1e-5, "{name}: {}, PyTorch {}", call.loss, losses[0]);
    let mut compared = 0;
    for info in network.parameters().iter() {
        let got = info.param.of(&grads);
        let golden = format!("grad.{}", info.name);
        if file.contains(&golden) {
            assert_near(&info.name, got, &file.f32(&golden, &info.shape).unwrap(), 1e-4);
            compared += 1;
        } else {
            assert!(got.iter().all(|value| *value == 0.0), "{} learns", info.name);
        }
    }
    assert_eq!(compared, network.parameters().iter().count() - 3, "positions and patch embedding learn nothing");

    let started = state.params.clone();
    let (network_of_run, ..) = golden(name, method);
    let mut trainer = Trainer::new(&mut Plan::new(), network_of_run, &recipe);
    let warmup: f64 = header(&file, "warmup");
    let schedule = Schedule {
        peak: header(&file, "peak"),
        last: 0.0,
        steps: STEPS,
        length: STEPS as f64,
        warmup,
        decay: Decay::Cosine,
    };
    for key in ["loss", "loss_f64", "grad_norm"] {
        assert_eq!(header::<Vec<f64>>(&file, key).len() as u64, STEPS);
    }
    for step in 0..STEPS {
        let got = trainer.step(&mut state, &images(step), &numbers, schedule.position(step, STEPS)).unwrap();
        for (key, got) in [("loss", got.loss), ("loss_f64", got.loss), ("grad_norm", got.grad_norm)] {
            let want = header::<Vec<f64>>(&file, key)[step as usize];
            assert!((got / want - 1.0).abs() < 1e-4, "{name}, step {step}: {key} {got}, PyTorch {want}");
        }
    }
    let mut compared = 0;
    for info in network.kept().iter() {
        let Some(of) = info.name.strip_prefix("momentum.") else { continue };
        if file.contains(&format!("after.{of}")) {
            let want = file.f32(&format!("after.{of}"), &info.shape).unwrap();
            // A mean before the first batch norm is what the encoder's last bias makes it, which AdamW moves by the
            // rounding of its gradient, 0.
            let tolerance = if of == "projector.bn1.running_mean" { 1e-2 } else { 1e-4 };
            assert_near(&info.name, info.param.of(&state.kept), &want, tolerance);
            compared += 1;
        }
    }
    assert_eq!(compared, 4 + 6, "tensors and running statistics of the copy");
    for name in ["visual.pos_embed", "visual.patch_embed.proj.weight", "visual.patch_embed.proj.bias"] {
        let param = network.parameters().get(name).unwrap().param;
        assert_eq!(param.of(&state.params), param.of(&started), "{name} moved");
    }
}

#[test]
fn moco_v3_follows_pytorch() {
    follows("mocov3", Name::MocoV3);
}

#[test]
fn byol_follows_pytorch() {
    follows("byol", Name::Byol);
}

/// A new network: the copy is one, the encoder begins with fixed positions and a small class token.
#[test]
fn a_new_network_begins_as_its_own_copy() {
    for method in [Name::MocoV3, Name::Byol] {
        let recipe = Recipe { method, model: model(), momentum: None, init_from: None, ..recipe() };
        let network = recipe.network().unwrap();
        let mut state = State::new(&mut Plan::new(), &*network);
        state.init(&*network, &recipe).unwrap();
        let (mut parameters, mut statistics) = (0, 0);
        for info in network.kept().iter() {
            let Some(of) = info.name.strip_prefix("momentum.") else { continue };
            let copied = info.param.of(&state.kept);
            if let Some(online) = network.parameters().get(of) {
                assert_eq!(copied, online.param.of(&state.params), "{of}");
                parameters += 1;
            } else {
                assert_eq!(copied, network.kept().get(of).unwrap().param.of(&state.kept), "{of}");
                statistics += 1;
            }
        }
        let heads = network.parameters().iter().filter(|info| info.name.starts_with("predictor.")).count();
        assert_eq!((parameters, statistics), (network.parameters().iter().count() - heads, 6));
        let values = |name: &str| network.parameters().get(name).unwrap().param.of(&state.params);
        assert!(values("visual.cls_token").iter().all(|v| v.abs() < 1e-5 && *v != 0.0));
        let positions = values("visual.pos_embed");
        // Token 1 is the patch of row 0, column 1: its first half is that of 0.
        assert_eq!(&positions[..16], [0.0; 16], "the class token's");
        assert_eq!(&positions[32..40], [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
        assert!((positions[40] - 1f32.sin()).abs() < 1e-6);
        let most = |name: &str| values(name).iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let bound = |sides: f32| (6.0 / sides).sqrt();
        for (name, bound) in [
            ("visual.blocks.0.attn.qkv.weight", bound(32.0)),
            ("visual.blocks.1.mlp.fc1.weight", bound(80.0)),
            ("visual.patch_embed.proj.weight", bound(192.0 + 16.0)),
        ] {
            assert!(most(name) <= bound && most(name) > 0.95 * bound, "{name}: {} of {bound}", most(name));
        }
        assert_eq!(most("visual.patch_embed.proj.bias"), 0.0);
    }
}

/// A step whose loss is not finite moves neither the parameters nor the copy.
#[test]
fn a_withheld_update_moves_no_copy() {
    let (network, mut state, file, recipe) = golden("mocov3", Name::MocoV3);
    let numbers = numbers(&*network);
    let mut trainer = Trainer::new(&mut Plan::new(), network, &recipe);
    let schedule = Schedule {
        peak: header(&file, "peak"),
        last: 0.0,
        steps: STEPS,
        length: STEPS as f64,
        warmup: 0.0,
        decay: Decay::Cosine,
    };
    trainer.step(&mut state, &images(0), &numbers, schedule.position(0, STEPS)).unwrap();
    let (parameters, kept) = (state.params.clone(), state.kept.clone());
    let copy = golden("mocov3", Name::MocoV3).0.momentum().unwrap().parameters;
    let mut broken = images(1);
    broken[5] = f32::NAN;
    let error = trainer.step(&mut state, &broken, &numbers, schedule.position(1, STEPS)).unwrap_err();
    assert!(error.to_string().contains("the images"), "{error}");
    assert!(state.params == parameters && copy.of(&state.kept) == copy.of(&kept));
    assert_ne!(copy.of(&kept), &parameters[..copy.len], "the copy moved before");
}

/// DINO: loss and gradients of the first step, then ten steps over epochs of three, with gradients cut, a decay that
/// grows and a last layer that waits; teacher and centre behind them.
#[test]
fn dino_follows_pytorch() {
    dino_follows("dino", None);
}

/// The same with two small crops of each image, whose positions are those of another grid.
#[test]
fn dino_with_small_crops_follows_pytorch() {
    dino_follows("dino_crops", Some(Section { rows: 16..32, side: 16, start: 16 * 32 * 32 * 3 }));
}

fn dino_follows(name: &str, local: Option<Section>) {
    const EPOCH: u64 = 3;
    let path = fixture_path(&format!("momentum/{name}.safetensors"));
    let file = SafeTensors::open(fixture_path(&format!("momentum/{name}_steps.safetensors"))).unwrap();
    let side = if local.is_some() { 32 } else { 16 };
    let images = |step: u64| match local {
        Some(_) => [rows(step, side, 0), rows(step, 16, 2 * CAPTIONS)].concat(),
        None => images(step),
    };
    let [decay, decay_end]: [f64; 2] = header(&file, "weight_decay");
    let recipe = Recipe {
        beta2: 0.999,
        weight_decay: decay,
        weight_decay_end: Some(decay_end),
        clip_gradient: Some(header(&file, "clip")),
        ..recipe()
    };
    let model = VitConfig { image_size: side, ..model() };
    let sizes = Sizes { model, local: local.clone(), ..sizes(&file, [24, 40]) };
    let network = || Name::Dino.method().network(&sizes).unwrap();
    let mut state = State::new(&mut Plan::new(), &*network());
    network().init(&mut state.params, &mut state.kept, 3);
    let said = network().load(&mut state.params, &mut state.kept, &VitFile::open(&path).unwrap()).unwrap();
    assert_eq!(said, "encoder and head");
    let losses: Vec<f64> = header(&file, "loss");
    let schedule = Schedule {
        peak: header(&file, "peak"),
        last: 0.0,
        steps: STEPS,
        length: STEPS as f64,
        warmup: header(&file, "warmup"),
        decay: Decay::Cosine,
    };
    let labels = vec![7; if local.is_some() { 4 } else { 2 } * CAPTIONS];
    assert_eq!(network().numbers(), labels.len());

    let network_of_gradient = network();
    let mut memory = Memory::take(&mut Plan::new(), network_of_gradient.layout());
    let (mut grads, images_of_step) = (vec![0.0; state.params.len()], images(0));
    let (statistics, copied) = state.kept.split_at_mut(network_of_gradient.statistics_len());
    let scalars = network_of_gradient.scalars(schedule.position(0, EPOCH));
    let mut centre = statistics.to_vec();
    let mut call = Call {
        grads: &mut grads,
        statistics: &mut centre,
        momentum: (copied, 0),
        images: &images_of_step,
        numbers: &labels,
        scalars: &scalars,
        ..Call::new(&mut memory, &state.params)
    };
    network_of_gradient.gradient(&mut call).unwrap();
    assert!((call.loss / losses[0] - 1.0).abs() < 1e-5, "{}, PyTorch {}", call.loss, losses[0]);
    for info in network_of_gradient.parameters().iter() {
        let want = file.f32(&format!("grad.{}", info.name), &info.shape).unwrap();
        assert_near(&info.name, info.param.of(&grads), &want, 1e-4);
    }

    let last = network_of_gradient.parameters().get("head.last_layer.weight_v").unwrap().param;
    let waiting = last.of(&state.params).to_vec();
    let mut trainer = Trainer::new(&mut Plan::new(), network(), &recipe);
    for step in 0..STEPS {
        let got = trainer.step(&mut state, &images(step), &labels, schedule.position(step, EPOCH)).unwrap();
        for (key, got) in [("loss", got.loss), ("loss_f64", got.loss), ("grad_norm", got.grad_norm)] {
            let want = header::<Vec<f64>>(&file, key)[step as usize];
            assert!((got / want - 1.0).abs() < 1e-4, "step {step}: {key} {got}, PyTorch {want}");
        }
        assert_eq!(last.of(&state.params) == waiting, step < EPOCH, "the last layer behind step {step}");
    }
    let mut compared = 0;
    for info in network_of_gradient.kept().iter() {
        let golden = format!("after.{}", info.name.strip_prefix("momentum.").unwrap_or(&info.name));
        if file.contains(&golden) {
            let want = file.f32(&golden, &info.shape).unwrap();
            assert_near(&info.name, info.param.of(&state.kept), &want, 1e-4);
            compared += 1;
        }
    }
    assert_eq!(compared, 5, "tensors of the teacher, and the centre");
}

/// With every branch of the last block left out the student says something else, the teacher what it said.
#[test]
fn a_teacher_leaves_no_branch_out() {
    let file = SafeTensors::open(fixture_path("momentum/dino_steps.safetensors")).unwrap();
    let logits = |drop_path: f64| {
        let network = Name::Dino.method().network(&Sizes { drop_path, ..sizes(&file, [24, 40]) }).unwrap();
        let mut state = State::new(&mut Plan::new(), &*network);
        let path = fixture_path("momentum/dino.safetensors");
        network.load(&mut state.params, &mut state.kept, &VitFile::open(&path).unwrap()).unwrap();
        let numbers = vec![0; network.numbers()];
        assert_eq!(numbers.len(), 2 * CAPTIONS * if drop_path > 0.0 { 3 } else { 1 });
        let mut memory = Memory::take(&mut Plan::new(), network.layout());
        let (mut grads, images) = (vec![0.0; state.params.len()], images(0));
        let (statistics, copied) = state.kept.split_at_mut(network.statistics_len());
        let scalars = [0.0, 25.0];
        let mut call = Call {
            grads: &mut grads,
            statistics,
            momentum: (copied, 0),
            images: &images,
            numbers: &numbers,
            scalars: &scalars,
            ..Call::new(&mut memory, &state.params)
        };
        network.gradient(&mut call).unwrap();
        let of = |name: &str| network.activations().into_iter().find(|(found, _)| found.contains(name)).unwrap().1;
        ["the teacher's logits", "the student's logits"].map(|name| memory.read(of(name)).to_vec())
    };
    let [teacher, student] = logits(0.0);
    let [same, other] = logits(0.5);
    assert!(teacher == same && student != other);
}
