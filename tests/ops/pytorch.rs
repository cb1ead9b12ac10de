//! Loss and optimizer against PyTorch's results (tests/fixtures).

use std::path::Path;

use stablerep::ops::contrastive::{self, Batch, Queue};
use stablerep::ops::l2norm;
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
