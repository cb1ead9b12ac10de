//! Masked autoencoders: PyTorch's run of the same steps, whole runs, bad settings.

use std::fs;

use serde_json::Value;
use stablerep::device::{Device, Plan};
use stablerep::image::decode;
use stablerep::layers::training::Layout;
use stablerep::models::mae::{MaeActs, MaeConfig};
use stablerep::models::vit::{VitConfig, VitFile};
use stablerep::ops::augment::Normalize;
use stablerep::train::method::Name;
use stablerep::train::schedule::{Decay, Position, Schedule};
use stablerep::train::{
    Activations, Augmentation, CHECKPOINT, Config, CropFilter, Length, METRICS, PICTURES, Recipe, SaveEvery, State,
    Trainer, run,
};
use stablerep::weights::SafeTensors;
use tempfile::TempDir;

use crate::support::{fixture_path, golden_state, recipe};

fn mae() -> Recipe {
    Recipe {
        data: vec![fixture_path("train_run/simclr")],
        method: Name::Mae,
        batch: 6,
        weight_decay: 0.05,
        beta2: 0.95,
        init_from: None,
        mae: Some(MaeConfig { decoder_width: 16, decoder_depth: 1, decoder_heads: 2, mask_ratio: 0.75 }),
        ..recipe()
    }
}

/// Given weights, masks and pixels: losses and gradient norms of PyTorch's ten updates. Biases, norms and positions do
/// not decay, and positions stay.
#[test]
fn ten_steps_follow_pytorch() {
    let file = SafeTensors::open(fixture_path("mae.safetensors")).unwrap();
    let list = |key| serde_json::from_str::<Vec<f64>>(file.metadata(key).unwrap()).unwrap();
    let recipe = mae();
    let network = recipe.network().unwrap();
    let mut state = golden_state(&file, &*network);
    let (n, side) = (recipe.batch, recipe.model.image_size);
    let pixels: Vec<u8> =
        file.f32("pixels", &[n, side, side, 3]).unwrap().into_iter().map(|pixel| pixel as u8).collect();
    let mut images = vec![0.0; pixels.len()];
    Normalize::default().apply(&mut images, &pixels);
    let kept = file.f32("kept", &[10, n, 4]).unwrap();
    let masks =
        MaeActs::new(&mut Layout::default(), (&recipe.model, recipe.mae.as_ref().unwrap()), (n, n), n, false).masks();
    let position = network.parameters().get("visual.pos_embed").unwrap().param;
    let before = position.of(&state.params).to_vec();
    let mut trainer = Trainer::new(&mut Plan::new(), network, &recipe);
    let schedule = Schedule { peak: 2e-3, last: 0.0, steps: 10, length: 10.0, warmup: 3.0, decay: Decay::Cosine };
    for (step, kept) in kept.chunks_exact(n * 4).enumerate() {
        let mut numbers = vec![0; n];
        masks.write(&kept.iter().map(|&patch| patch as u32).collect::<Vec<_>>(), &mut numbers);
        let lr = schedule.lr(step as u64);
        assert!((lr - list("rate")[step]).abs() < 1e-12);
        let outcome = trainer.step(&mut state, &images, &numbers, Position::first(lr)).unwrap();
        for (what, got, want) in
            [("loss", outcome.loss, list("loss")[step]), ("grad_norm", outcome.grad_norm, list("grad_norm")[step])]
        {
            assert!((got / want - 1.0).abs() < 1e-4, "step {step}: {what} {got}, PyTorch {want}");
        }
    }
    assert_eq!(position.of(&state.params), before);
}

/// A whole run: the loss falls, the pictures lie beside the checkpoint, whose encoder is a plain ViT.
#[test]
fn a_run_learns_draws_and_leaves_an_encoder() {
    let folder = TempDir::new().unwrap();
    let recipe = Recipe {
        batch: 16,
        augmentation: Augmentation::Weak,
        crop_scale: [0.2, 1.0],
        crop_filter: Some(CropFilter::Bicubic),
        length: Length::Steps(60),
        warmup: Length::Steps(5),
        ..mae()
    };
    let job = Config {
        recipe: recipe.clone(),
        output: folder.path().to_owned(),
        save_every: SaveEvery::Steps(1000),
        device: Device::Cpu,
        allow_partial: false,
        watch: None,
        tokenizer: None,
        test: None,
        activations: Activations::default(),
    };
    run(&job).unwrap();
    let text = fs::read_to_string(folder.path().join(METRICS)).unwrap();
    let losses: Vec<f64> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap()).collect();
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&losses[50..]) < 0.8 * mean(&losses[..5]), "{losses:?}");
    let sheet = decode(&fs::read(folder.path().join(PICTURES)).unwrap(), "sheet").unwrap();
    assert!(sheet.width > 3 * 96 && sheet.height > 8 * 96, "{}×{}", sheet.width, sheet.height);
    let file = VitFile::open(folder.path()).unwrap();
    assert_eq!(file.config(None).unwrap(), recipe.model);
    // It starts another method, and goes on as what it is.
    let from = |method: Recipe| {
        let recipe = Recipe { init_from: Some(folder.path().join(CHECKPOINT)), ..method };
        let network = recipe.network().unwrap();
        let mut state = State::new(&mut Plan::new(), &*network);
        state.init(&*network, &recipe).unwrap();
        ["visual.cls_token", "visual.pos_embed", "decoder_pos_embed"].map(|name| {
            network.parameters().get(name).map_or_else(Vec::new, |info| info.param.of(&state.params).to_vec())
        })
    };
    let [encoder, ..] = from(recipe.clone());
    assert!(
        encoder.iter().any(|&v| v != 0.0) && encoder == from(Recipe { init_from: None, ..crate::support::recipe() })[0]
    );
    // On larger pictures too, encoder and decoder with positions between those that there were.
    let larger = VitConfig { image_size: 48, ..recipe.model.clone() };
    let [class, own, decoder] = from(Recipe { model: larger, ..recipe.clone() });
    assert_eq!((class, own.len(), decoder.len()), (encoder, 37 * recipe.model.width, 37 * 16));
    assert!(own.iter().chain(&decoder).all(|value| value.abs() < 1.2) && own.iter().any(|&value| value > 0.9));
}

fn refuses(recipe: &Recipe, needle: &str) {
    let error = recipe.validate().unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains(needle), "{error}");
}

#[test]
fn settings_without_a_network_are_refused() {
    let with = |change: &dyn Fn(&mut MaeConfig)| {
        let mut recipe = mae();
        change(recipe.mae.as_mut().unwrap());
        recipe
    };
    mae().validate().unwrap();
    refuses(&with(&|mae| mae.mask_ratio = 0.95), "--mask-ratio 0.95 leaves 0 of the 16 patches");
    refuses(&with(&|mae| mae.mask_ratio = 1.0), "--mask-ratio 1: expected");
    refuses(&with(&|mae| mae.mask_ratio = 0.0), "--mask-ratio 0: expected");
    refuses(&with(&|mae| mae.decoder_heads = 3), "--decoder-width 16 is not a multiple of --decoder-heads 3");
    refuses(&with(&|mae| mae.decoder_width = 18), "--decoder-width 18 with --method mae");
    refuses(&with(&|mae| mae.decoder_depth = 0), "--decoder-depth 0: expected 1 to 256");
    let mut odd = mae();
    odd.model = VitConfig { width: 30, ..odd.model };
    refuses(&odd, "--width 30 with --method mae");
}

/// ⌊L·(1 − ratio)⌋ as Python computes it: in floating point.
#[test]
fn as_many_patches_are_kept_as_by_the_official_code() {
    let kept = |image_size, mask_ratio| {
        let encoder = VitConfig { image_size, patch_size: 16, ..recipe().model };
        MaeConfig { mask_ratio, ..mae().mae.unwrap() }.kept(&encoder)
    };
    assert_eq!([kept(224, 0.75), kept(224, 0.6), kept(224, 0.9), kept(96, 0.75)], [49, 78, 19, 9]);
}

/// Masks depend on epoch, picture and crop, not on where a picture stands in the batch.
#[test]
fn masks_are_keyed_by_the_picture() {
    use std::sync::Arc;

    use stablerep::image::Rgb8;
    use stablerep::ops::augment::{Augment, AugmentParams, Policy};
    use stablerep::rng::{Domain, Stream};
    use stablerep::train::loader::{Batch, Row};

    let recipe = Recipe { batch: 3, ..mae() };
    let network = recipe.network().unwrap();
    let augment = Augment { policy: Policy::None, crop_scale: [1.0; 2], filter: Default::default(), downsample: false };
    let params = AugmentParams::draw(&mut Stream::new(0, Domain::SelfTest, [0; 3]), &augment, 32, 32);
    let row = |key| Row {
        image: Arc::new(Rgb8::filled(32, 32, [0; 3])),
        params: params.clone(),
        label: 0,
        key,
        mixed: None,
        map: None,
    };
    let kept = |keys: [[u32; 3]; 3]| {
        let sections = recipe.loader(None).sections();
        let batch = Batch { rows: keys.map(row).to_vec(), sections, texts: Vec::new() };
        let numbers = recipe.numbers(&*network, &batch, 0).unwrap();
        assert_eq!(numbers.len(), network.numbers());
        [0, 1, 2].map(|image| numbers[3 + 4 * image..][..4].to_vec())
    };
    let [a, b, c] = kept([[0, 1, 0], [0, 2, 0], [1, 1, 0]]);
    assert!(a != b && a != c && [&a, &b, &c].iter().all(|kept| kept.is_sorted_by(|x, y| x < y) && kept[3] < 16));
    assert_eq!(kept([[1, 1, 0], [0, 1, 0], [0, 2, 0]]), [c, a, b]);
}

/// Gradients of parts of a step add up to the whole's, and what is computed again has the same bits.
#[test]
fn parts_of_a_step_have_the_gradient_of_the_whole() {
    use stablerep::layers::training::cpu::{Call, Memory};
    use stablerep::rng::{Domain, Stream};

    let step = |chunk: Option<usize>, recompute: bool| {
        let recipe = Recipe { chunk, recompute, ..mae() };
        recipe.validate().unwrap();
        let network = recipe.network().unwrap();
        let mut plan = Plan::new();
        let mut state = State::new(&mut plan, &*network);
        state.init(&*network, &recipe).unwrap();
        let mut images = vec![0.0; 6 * 32 * 32 * 3];
        Stream::new(7, Domain::SelfTest, [0; 3]).fill_normal(&mut images);
        let mut numbers = vec![0; 6];
        let masks =
            MaeActs::new(&mut Layout::default(), (&recipe.model, recipe.mae.as_ref().unwrap()), (6, 6), 6, false)
                .masks();
        masks.write(&(0..24).map(|i| (i / 4 + 3 * (i % 4)) % 16).collect::<Vec<u32>>(), &mut numbers);
        let mut memory = Memory::take(&mut plan, network.layout());
        let mut grads = vec![0.0; state.params.len()];
        let call = Call::new(&mut memory, &state.params);
        let mut call = Call { grads: &mut grads, images: &images, numbers: &numbers, ..call };
        network.gradient(&mut call).unwrap();
        (call.loss, grads)
    };
    let (loss, whole) = step(None, false);
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let total = norm(&mut whole.iter().copied());
    for chunk in [1, 2, 4] {
        let (parted_loss, parted) = step(Some(chunk), false);
        assert!((parted_loss - loss).abs() < 1e-6, "{parted_loss} {loss}");
        let off = norm(&mut whole.iter().zip(&parted).map(|(a, b)| a - b));
        assert!(off < 1e-5 * total, "parts of {chunk}: {off:e} of {total:e}");
        assert!(step(Some(chunk), true) == (parted_loss, parted), "parts of {chunk}, computed again");
    }
    assert!(step(None, true) == (loss, whole));
}
