use stablerep::ops::optimizer::Group;
use stablerep::train::decay_groups;
use stablerep::train::schedule::{Decay, Schedule};
use stablerep::train::{Length, Rate};
use stablerep::weights::ParamTable;

use crate::support::{fixture_path, recipe};

#[test]
fn learning_rates_are_pytorchs() {
    let text = std::fs::read_to_string(fixture_path("lr_schedules.json")).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() >= 2);
    for case in cases {
        let value = |key: &str| case[key].as_f64().unwrap();
        let per_epoch = value("steps_per_epoch");
        let schedule = Schedule {
            peak: value("peak"),
            last: value("last"),
            steps: (value("epochs") * per_epoch).round() as u64,
            length: value("epochs") * per_epoch,
            warmup: value("warmup_epochs") * per_epoch,
            decay: Decay::Cosine,
        };
        let (steps, rates) = (case["steps"].as_array().unwrap(), case["lr"].as_array().unwrap());
        for (step, want) in steps.iter().zip(rates) {
            let (got, want) = (schedule.lr(step.as_u64().unwrap()), want.as_f64().unwrap());
            assert!((got - want).abs() <= 1e-12 * schedule.peak, "step {step}: {got} {want}");
        }
    }
}

#[test]
fn the_peak_follows_the_images_of_a_step() {
    let mut recipe = recipe();
    recipe.rate = Rate::Base(2e-4);
    (recipe.batch, recipe.images_per_caption) = (1376, 6);
    (recipe.length, recipe.warmup) = (Length::Epochs(15.0), Length::Epochs(0.5));
    let schedule = recipe.schedule(7267).unwrap();
    assert!((schedule.peak - 3.225e-3).abs() < 1e-12);
    assert_eq!(schedule.steps, 109_005);
    recipe.min_lr = Some(1e-5);
    assert_eq!(recipe.schedule(7267).unwrap().last, 1e-5);
    recipe.min_lr = Some(3.3e-3);
    assert!(recipe.schedule(7267).unwrap_err().to_string().contains("--min-lr 0.0033"));
    recipe.min_lr = None;
    recipe.warmup = Length::Epochs(15.0);
    assert!(recipe.schedule(7267).unwrap_err().to_string().contains("--warmup-epochs"));
}

/// ndim < 2 and names with bias, ln, bn do not decay; position embedding and class token do.
#[test]
fn groups_by_name_and_shape() {
    let mut table = ParamTable::new();
    let mut want = Vec::new();
    for (name, shape, decay) in [
        ("visual.cls_token", &[1, 1, 4][..], true),
        ("visual.pos_embed", &[1, 5, 4], true),
        ("visual.blocks.0.norm1.weight", &[4], false),
        ("visual.blocks.0.norm1.bias", &[4], false),
        ("visual.blocks.0.attn.qkv.weight", &[12, 4], true),
        ("image_mlp.layer1.bias", &[7], false),
        ("image_mlp.bn1.weight", &[7], false),
        ("ln_matrix", &[2, 2], false),
        ("image_mlp.layer3.weight", &[2, 7], true),
    ] {
        let param = table.add(name, shape);
        want.extend(std::iter::repeat_n(decay, param.len));
    }
    let groups = decay_groups(&table);
    assert!(groups.windows(2).all(|pair| pair[0].decay != pair[1].decay && pair[0].range.end == pair[1].range.start));
    let got: Vec<bool> = groups.iter().flat_map(|Group { range, decay, .. }| range.clone().map(|_| *decay)).collect();
    assert_eq!(got, want);
}
