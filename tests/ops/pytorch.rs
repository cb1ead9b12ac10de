//! Loss and optimizer against PyTorch's results (tests/fixtures).

use std::path::Path;

use stablerep::ops::contrastive::{self, Batch, Queue};
use stablerep::ops::l2norm;
use stablerep::ops::lars::{Lars, Tensor};
use stablerep::ops::optimizer::{AdamW, Group};
use stablerep::weights::SafeTensors;

use crate::support::{assert_close, wide};

fn fixture(name: &str) -> SafeTensors {
    SafeTensors::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

#[test]
fn losses_and_gradients_of_every_case() {
    let file = fixture("loss.safetensors");
    let by_case = |key| serde_json::from_str::<serde_json::Value>(file.metadata(key).unwrap()).unwrap();
    let (means, temperatures) = (by_case("mean"), by_case("temperature"));
    let cases = means.as_object().unwrap();
    assert!(cases.len() >= 8 && cases.contains_key("lonely_anchors"));
    for (case, mean) in cases {
        let raw_shape = file.shape(&format!("{case}.raw")).unwrap().to_vec();
        let (rows, d) = (raw_shape[0], raw_shape[1]);
        let raw = file.f32(&format!("{case}.raw"), &raw_shape).unwrap();
        let labels = file.i64(&format!("{case}.labels"), &[rows]).unwrap();
        let labels: Vec<u32> = labels.iter().map(|&l| l as u32).collect();
        let temperature = temperatures[case].as_f64().unwrap() as f32;
        let (mut z, mut norms) = (vec![0.0; rows * d], vec![0.0; rows]);
        l2norm::forward(&mut z, &mut norms, &raw, 1e-12);
        let batch = Batch { z: &z, labels: &labels, queue: Queue::default(), temperature };
        let (mut lse, mut weight) = (vec![0.0; rows], vec![0.0; rows]);
        let (loss, want) = (contrastive::forward(&mut lse, &mut weight, batch), mean.as_f64().unwrap());
        assert!((loss - want).abs() <= 1e-6 * want.abs().max(1.0), "{case}: {loss} {want}");
        let (mut dz, mut draw) = (vec![0.0; rows * d], vec![0.0; rows * d]);
        contrastive::backward(&mut dz, &lse, &weight, batch);
        l2norm::backward(&mut draw, &dz, &z, &norms, 1e-12);
        assert_close(case, &draw, &file.f64(&format!("{case}.grad"), &raw_shape).unwrap(), 2e-5);
    }
}

#[test]
fn adamw_follows_pytorch_for_ten_steps() {
    let file = fixture("adamw.safetensors");
    let value = |key: &str| serde_json::from_str::<serde_json::Value>(file.metadata(key).unwrap()).unwrap();
    let decayed: Vec<String> = serde_json::from_value(value("decayed")).unwrap();
    let names: Vec<String> = file.names().filter_map(|n| n.strip_prefix("param.")).map(str::to_owned).collect();
    let load = |prefix: &str, name: &str| {
        let name = format!("{prefix}.{name}");
        file.f32(&name, file.shape(&name).unwrap()).unwrap()
    };
    let (mut p, mut groups) = (Vec::new(), Vec::new());
    for name in &names {
        let values = load("param", name);
        groups.push(Group::new(p.len()..p.len() + values.len(), decayed.contains(name)));
        p.extend(values);
    }
    let (mut m, mut v) = (vec![0.0; p.len()], vec![0.0; p.len()]);
    for step in 1..=10u64 {
        let mut g = Vec::new();
        for name in &names {
            let all = load("grads", name);
            let len = all.len() / 10;
            g.extend_from_slice(&all[(step as usize - 1) * len..][..len]);
        }
        let adamw = AdamW {
            lr: value("lr")[step as usize - 1].as_f64().unwrap(),
            beta1: value("beta1").as_f64().unwrap(),
            beta2: value("beta2").as_f64().unwrap(),
            eps: value("eps").as_f64().unwrap(),
            weight_decay: value("weight_decay").as_f64().unwrap(),
            step,
        };
        adamw.update(&mut p, &mut m, &mut v, &g, &groups);
        for (name, group) in names.iter().zip(&groups).filter(|_| step == 2 || step == 10) {
            assert_close(name, &p[group.range.clone()], &wide(&load(&format!("after_{step}"), name)), 1e-6);
        }
    }
    for (name, group) in names.iter().zip(&groups) {
        assert_close(name, &m[group.range.clone()], &wide(&load("m", name)), 1e-6);
        assert_close(name, &v[group.range.clone()], &wide(&load("v", name)), 1e-6);
    }
}

/// LARS on the same tensors and gradients, against its formula in f64.
#[test]
fn lars_follows_its_formula_for_ten_steps() {
    let (file, inputs) = (fixture("lars.safetensors"), fixture("adamw.safetensors"));
    let value = |key: &str| serde_json::from_str::<serde_json::Value>(file.metadata(key).unwrap()).unwrap();
    let scaled: Vec<String> = serde_json::from_str(inputs.metadata("decayed").unwrap()).unwrap();
    let names: Vec<String> = inputs.names().filter_map(|n| n.strip_prefix("param.")).map(str::to_owned).collect();
    let load = |file: &SafeTensors, name: &str| file.f32(name, file.shape(name).unwrap()).unwrap();
    let (mut p, mut tensors) = (Vec::new(), Vec::new());
    for name in &names {
        let values = load(&inputs, &format!("param.{name}"));
        tensors.push(Tensor { range: p.len()..p.len() + values.len(), scaled: scaled.contains(name) });
        p.extend(values);
    }
    let mut m = vec![0.0; p.len()];
    for step in 0..10 {
        let mut g = Vec::new();
        for name in &names {
            let all = load(&inputs, &format!("grads.{name}"));
            g.extend_from_slice(&all[step * all.len() / 10..(step + 1) * all.len() / 10]);
        }
        let number = |key: &str| value(key).as_f64().unwrap();
        let lars = Lars {
            lr: value("lr")[step].as_f64().unwrap(),
            momentum: number("momentum"),
            weight_decay: number("weight_decay"),
            trust: number("trust"),
        };
        lars.update(&mut p, &mut m, &g, &tensors);
        for (name, tensor) in names.iter().zip(&tensors).filter(|_| step == 1 || step == 9) {
            let want = load(&file, &format!("after_{}.{name}", step + 1));
            assert_close(name, &p[tensor.range.clone()], &wide(&want), 2e-6);
        }
    }
    for (name, tensor) in names.iter().zip(&tensors) {
        assert_close(name, &m[tensor.range.clone()], &wide(&load(&file, &format!("m.{name}"))), 2e-6);
    }
}

/// One step from rest, in f64; a tensor of zeros moves as if it were not scaled.
#[test]
fn lars_takes_a_share_of_the_norm() {
    let sines = |first: usize, scale: f64| (0..4).map(move |i| (scale * ((first + i) as f64).sin()) as f32);
    let (mut p, g): (Vec<f32>, Vec<f32>) = (sines(1, 1.0).chain([0.0]).collect(), sines(8, 0.1).chain([2.0]).collect());
    let tensors = [0..4, 4..5].map(|range| Tensor { range, scaled: true });
    let lars = Lars { lr: 0.45, momentum: 0.9, weight_decay: 1e-6, trust: 1e-3 };
    lars.update(&mut p, &mut [0.0; 5], &g, &tensors);
    let want = [0.841_055_646_0, 0.909_124_414_6, 0.141_348_389_0, -0.756_382_693_5, -0.9];
    assert_close("parameters", &p, &want, 1e-6);
}
