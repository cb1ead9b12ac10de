use stablerep::device::Plan;
use stablerep::layers::training::cpu::{Call, Memory};
use stablerep::layers::training::{Kind, Layout};
use stablerep::models::text_tower::{Text, TextActs, TextConfig, TextTower};
use stablerep::weights::ParamTable;

use crate::support::{assert_near, fixture};

/// Texts of several lengths, one of them empty, one cut.
#[test]
fn features_and_every_gradient_match_open_clip() {
    let file = fixture("text_tower.safetensors");
    let value = |key| file.metadata(key).unwrap().parse::<usize>().unwrap();
    let config = TextConfig {
        vocabulary: value("vocabulary"),
        context: value("context"),
        width: value("width"),
        depth: value("depth"),
        heads: value("heads"),
        exact_gelu: false,
    };
    let mut table = ParamTable::new();
    let tower = TextTower::new(&config, &mut table);
    let mut params = vec![0.0; table.len()];
    for info in table.iter() {
        info.param.of_mut(&mut params).copy_from_slice(&file.f32(&info.name, &info.shape).unwrap());
    }
    let n = file.shape("features").unwrap()[0];
    let ids = file.f32("ids", &[n, config.context]).unwrap();
    let end = config.vocabulary as u32 - 1;
    let text = |ids: &[f32]| {
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        Text { end: ids.iter().position(|&id| id == end).unwrap(), ids }
    };
    let texts: Vec<Text> = ids.chunks_exact(config.context).map(text).collect();
    // Behind two other numbers.
    let mut numbers = vec![7, 7];
    TextActs::numbers(&config, &texts, &mut numbers);
    assert_eq!(numbers.len(), 2 + TextActs::numbers_len(&config, n));

    let (mut layout, values) = (Layout::default(), n * config.width);
    let features = layout.take("test", "features", values, Kind::Rounded);
    let dfeatures = layout.take("test", "d features", values, Kind::Rounded);
    let back = TextTower::gradients(&mut layout, &config, n);
    for again in [false, true] {
        let mut layout = layout.clone();
        let acts = TextActs::new(&mut layout, &config, (n, 2), features, again.then_some(&back));
        let mut memory = Memory::take(&mut Plan::new(), &layout);
        memory.of_mut(dfeatures).copy_from_slice(&file.f32("d features", &[n, config.width]).unwrap());
        let mut grads = vec![0.0; params.len()];
        let mut call = Call { numbers: &numbers, grads: &mut grads, ..Call::new(&mut memory, &params) };
        tower.forward(&mut call, &acts).unwrap();
        let want = file.f32("features", &[n, config.width]).unwrap();
        assert_near("features", call.memory.read(features), &want, 1e-5);
        tower.backward(&mut call, &acts, &back, dfeatures).unwrap();
        for info in table.iter() {
            let want = file.f32(&format!("d {}", info.name), &info.shape).unwrap();
            assert_near(&info.name, info.param.of(&grads), &want, 1e-4);
        }
    }
}

/// Spreads of OpenAI's initial values, one for each kind of tensor.
#[test]
fn initial_values_are_openais() {
    let config = TextConfig { vocabulary: 500, context: 20, width: 64, depth: 3, heads: 2, exact_gelu: false };
    let mut table = ParamTable::new();
    let tower = TextTower::new(&config, &mut table);
    let mut params = vec![f32::NAN; table.len()];
    tower.init(&mut params, 1, 5);
    for info in table.iter() {
        let values = info.param.of(&params);
        let len = values.len() as f64;
        let std = (values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / len).sqrt();
        let want = match info.name.rsplit_once("resblocks.").map_or(&info.name[..], |(_, name)| &name[2..]) {
            "token_embedding.weight" => 0.02,
            "positional_embedding" => 0.01,
            "attn.in_proj_weight" => 0.125,
            "attn.out_proj.weight" | "mlp.c_proj.weight" => 0.125 / 6f64.sqrt(),
            "mlp.c_fc.weight" => 1.0 / 128f64.sqrt(),
            // Uniform in ±1/√inputs.
            "mlp.c_fc.bias" => 1.0 / (3.0 * 64.0f64).sqrt(),
            "mlp.c_proj.bias" => 1.0 / (3.0 * 256.0f64).sqrt(),
            "ln_1.weight" | "ln_2.weight" | "ln_final.weight" => 1.0,
            _ => 0.0,
        };
        let exact = want == 0.0 || want == 1.0;
        let tolerance = if exact { 0.0 } else { 4.0 / (2.0 * len).sqrt() };
        assert!((std - want).abs() <= tolerance * want, "{}: spread {std}, wanted {want}", info.name);
    }
}
