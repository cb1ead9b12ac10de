//! Supervised segmentation: PyTorch's run of the same steps and its logits, whole runs, bad data and settings.

use std::fs;
use std::path::Path;

use stablerep::device::{Device, Plan};
use stablerep::eval::segment::network::Network;
use stablerep::image::Rgb8;
use stablerep::models::segmenter::HeadKind;
use stablerep::models::vit::VitConfig;
use stablerep::ops::augment::Normalize;
use stablerep::train::method::Name;
use stablerep::train::schedule::{Position, Schedule};
use stablerep::train::segment::Segment;
use stablerep::train::{Augmentation, CHECKPOINT, Decay, Length, Rate, Recipe, Trainer, run};
use stablerep::weights::SafeTensors;
use tempfile::TempDir;

use crate::scene_data::{ade, bad_shard};
use crate::scenes::shards;
use crate::support::{fixture_path, golden_state, job, losses, recipe};

fn settings(head: HeadKind) -> Segment {
    Segment { head, classes: 5, first_label: 1, layer_decay: 0.65, auxiliary: 0.4, drop_channels: 0.25 }
}

fn segmenting(head: HeadKind) -> Recipe {
    Recipe {
        method: Name::Segment,
        model: VitConfig { image_size: 48, patch_size: 4, width: 16, depth: 3, heads: 2, ..recipe().model },
        batch: 2,
        weight_decay: 0.05,
        beta2: 0.999,
        init_from: None,
        segment: Some(settings(head)),
        ..recipe()
    }
}

/// Given weights, pixels, classes and channels left out: losses and gradient norms of PyTorch's ten updates, and the
/// statistics that are left behind.
#[test]
fn ten_steps_follow_pytorch() {
    for (head, name) in [(HeadKind::Uper, "uper"), (HeadKind::Linear, "linear")] {
        let file = SafeTensors::open(fixture_path(&format!("segmenter_{name}.safetensors"))).unwrap();
        let list = |key| serde_json::from_str::<Vec<f64>>(file.metadata(key).unwrap()).unwrap();
        let recipe = segmenting(head);
        let network = recipe.network().unwrap();
        let mut state = golden_state(&file, &*network);
        for info in network.kept().iter() {
            let values = file.f32(&format!("stat.{}", info.name), &info.shape).unwrap();
            info.param.of_mut(&mut state.kept).copy_from_slice(&values);
        }
        let (n, side, width) = (recipe.batch, recipe.model.image_size, recipe.model.width);
        let pixels: Vec<u8> =
            file.f32("pixels", &[n, side, side, 3]).unwrap().into_iter().map(|pixel| pixel as u8).collect();
        let mut images = vec![0.0; pixels.len()];
        Normalize::default().apply(&mut images, &pixels);
        let labels = file.f32("labels", &[n, side, side]).unwrap();
        let keep = file.f32("keep", &[10, 2, n, width]).unwrap();
        let (count, kept) = (network.numbers(), network.kept().clone());
        let parameters = network.parameters().clone();
        let mut trainer = Trainer::new(&mut Plan::new(), network, &recipe);
        let schedule = Schedule { peak: 2e-3, last: 0.0, steps: 10, length: 10.0, warmup: 3.0, decay: Decay::Linear };
        let before = state.params.clone();
        for step in 0..10 {
            let mut numbers = vec![0; n];
            numbers.extend(labels.iter().map(|&label| label as u32));
            numbers.extend(keep[step * 2 * n * width..].iter().take(count - numbers.len()).map(|&keep| keep as u32));
            let at = Position::first(schedule.lr(step as u64));
            let outcome = trainer.step(&mut state, &images, &numbers, at).unwrap();
            for (what, got) in [("loss", outcome.loss), ("grad_norm", outcome.grad_norm)] {
                let want = list(what)[step];
                assert!((got / want - 1.0).abs() < 1e-4, "{name} step {step}: {what} {got}, PyTorch {want}");
            }
        }
        for info in kept.iter() {
            let want = file.f32(&format!("stat_after.{}", info.name), &info.shape).unwrap();
            for (got, want) in info.param.of(&state.kept).iter().zip(want) {
                assert!((got - want).abs() < 2e-3 * want.abs().max(0.2), "{name}: {}: {got}, {want}", info.name);
            }
        }
        // A linear head leaves its encoder as it is.
        for info in parameters.iter().filter(|info| info.name.starts_with("visual.blocks")) {
            let same = info.param.of(&state.params) == info.param.of(&before);
            assert_eq!(same, head == HeadKind::Linear, "{}", info.name);
        }
    }
}

/// Of pictures of 32 pixels, whose classes are their colours.
fn a_run(data: &Path, head: HeadKind, steps: u64) -> Recipe {
    Recipe {
        data: vec![data.to_owned()],
        model: VitConfig { image_size: 32, patch_size: 4, width: 24, depth: 3, heads: 3, ..recipe().model },
        batch: 4,
        augmentation: Augmentation::Segment,
        shuffle: true,
        length: Length::Steps(steps),
        warmup: Length::Steps(2),
        rate: Rate::Peak(3e-3),
        lr_decay: Some(Decay::Linear),
        segment: Some(Segment { classes: 3, drop_channels: 0.1, ..settings(head) }),
        ..segmenting(head)
    }
}

/// Both heads learn what colours are called, and say so of pictures that they did not see.
#[test]
fn a_run_learns_the_classes_of_pixels() {
    let folder = TempDir::new().unwrap();
    shards(folder.path(), 16);
    for head in [HeadKind::Uper, HeadKind::Linear] {
        let output = folder.path().join(format!("{head:?}"));
        run(&job(a_run(folder.path(), head, 40), &output)).unwrap();
        let losses = losses(&output);
        let (first, last) = (losses[0], losses[35..].iter().sum::<f64>() / 5.0);
        assert!(last < 0.5 * first, "{head:?}: {losses:?}");
        let mut network = Network::open(&output.join(CHECKPOINT), Device::Cpu, 3).unwrap();
        // Fewer windows than go through at once give what they do among others.
        let picture = |color: [u8; 3]| Rgb8::filled(32, 32, color);
        let windows = [picture([220, 30, 30]), picture([30, 30, 220])];
        let logits = network.logits(&windows).unwrap();
        assert_eq!(network.logits(&windows[..1]).unwrap(), logits[..logits.len() / 2]);
        assert_eq!(logits.len(), 2 * network.side() * network.side() * 3);
        let best = |pixel: &[f32]| (0..3).max_by(|&a, &b| pixel[a].total_cmp(&pixel[b])).unwrap();
        let told: Vec<usize> = logits.chunks_exact(3).map(best).collect();
        for (class, told) in [0, 2].into_iter().zip(told.chunks_exact(told.len() / 2)) {
            let right = told.iter().filter(|&&told| told == class).count();
            assert!(10 * right > 9 * told.len(), "{head:?}: {right} of {} pixels of class {class}", told.len());
        }
    }
}

/// A folder of ADE20k's layout is packed into the folder of the run, once, and gives the same run as its shards.
#[test]
fn a_folder_of_ade20k_s_layout_is_packed_once() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("ade");
    ade(&data, "training", 8);
    let mut config = job(a_run(&data, HeadKind::Linear, 3), &folder.path().join("run"));
    stablerep::train::pack::pack(&mut config).unwrap();
    let packed = config.recipe.data[0].clone();
    assert_eq!(packed, folder.path().join("run/shards-0"));
    run(&config).unwrap();
    // What is packed is not packed again …
    let again = |number: &str| {
        let mut again = job(a_run(&data, HeadKind::Linear, 3), &folder.path().join(number));
        stablerep::train::pack::pack(&mut again).map(|()| again.recipe.data[0].join("00000.tar"))
    };
    let when = || fs::metadata(packed.join("00000.tar")).unwrap().modified().unwrap();
    let first = when();
    again("run").unwrap();
    assert_eq!(when(), first);
    // … unless its files are others.
    let before = fs::read(packed.join("00000.tar")).unwrap();
    let annotations: Vec<_> =
        fs::read_dir(data.join("annotations/training")).unwrap().map(|entry| entry.unwrap().path()).collect();
    fs::copy(&annotations[0], &annotations[1]).unwrap();
    fs::File::options().append(true).open(&annotations[1]).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let after = fs::read(again("run").unwrap()).unwrap();
    assert_ne!(after, before);
    assert_eq!(after, fs::read(again("fresh").unwrap()).unwrap());
    fs::remove_dir_all(data.join("annotations/training")).unwrap();
    fs::create_dir_all(data.join("annotations/training")).unwrap();
    let error = again("other").unwrap_err();
    assert!(error.to_string().contains("has no annotation"), "{error}");
    assert_eq!(error.exit_code(), 3);
}

/// Each is named, counted, and refused where there are more than allowed.
#[test]
fn bad_samples_are_named() {
    let folder = TempDir::new().unwrap();
    shards(folder.path(), 8);
    bad_shard(&folder.path().join("00001.tar"));
    let recipe = |max_bad| Recipe { max_bad, batch: 8, ..a_run(folder.path(), HeadKind::Linear, 4) };
    let error = run(&job(recipe(1), &folder.path().join("a"))).unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    run(&job(recipe(4), &folder.path().join("b"))).unwrap();
}

#[test]
fn settings_are_refused_by_their_flags() {
    let refuse = |change: &dyn Fn(&mut Recipe), says: &str| {
        let mut recipe = a_run(Path::new("nowhere"), HeadKind::Uper, 2);
        change(&mut recipe);
        let error = match recipe.validate() {
            Ok(()) => recipe.network().unwrap_err(),
            Err(error) => error,
        };
        assert!(error.to_string().contains(says) && error.exit_code() == 2, "{error}");
    };
    let with = |change: fn(&mut Segment)| move |recipe: &mut Recipe| change(recipe.segment.as_mut().unwrap());
    refuse(&with(|segment| segment.classes = 255), "--classes 255: expected 1 to 254");
    refuse(&with(|segment| segment.classes = 0), "--classes 0");
    refuse(&with(|segment| segment.drop_channels = 1.0), "--drop-channels 1");
    refuse(&with(|segment| segment.auxiliary = f64::NAN), "--auxiliary-weight NaN");
    refuse(&|recipe| recipe.augmentation = Augmentation::Strong, "--augmentation segment or none");
    refuse(&|recipe| recipe.chunk = Some(2), "holds all images of a step at once");
    refuse(&|recipe| recipe.model.image_size = 28, "which UperNet halves");
    refuse(&|recipe| recipe.segment = None, "--augmentation segment goes with --method segment alone");
}
