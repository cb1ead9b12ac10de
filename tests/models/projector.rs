use stablerep::device::Plan;
use stablerep::layers::training::cpu::{Call, Memory};
use stablerep::layers::training::{Kind, Layout};
use stablerep::models::projector::{Projector, ProjectorActs, ProjectorConfig};
use stablerep::weights::ParamTable;

use crate::support::{assert_near, fixture};

#[test]
fn per_slot_and_global_match_pytorch() {
    let file = fixture("head.safetensors");
    let config = ProjectorConfig { input: 12, hidden: 20, output: 8 };
    let (mut table, mut statistics) = (ParamTable::new(), ParamTable::new());
    let head = Projector::new(&config, "param.", &mut table, &mut statistics).unwrap();
    assert!(head.is_in(&file, ""));
    let (x, upstream) = (file.f32("x", &[21, 12]).unwrap(), file.f32("upstream", &[21, 8]).unwrap());
    for (mode, slots) in [("per_slot", 3), ("global", 1)] {
        let (mut params, mut running) = (vec![0.0; table.len()], vec![0.0; statistics.len()]);
        head.load(&mut params, &mut running, &file, "").unwrap();
        let mut layout = Layout::default();
        let acts = ProjectorActs::new(&mut layout, &head, 21, slots);
        let mut take = |name: &str, len| layout.take("test", name, len, Kind::Rounded);
        let (features, dout, dfeatures) = (take("x", 21 * 12), take("d y", 21 * 8), take("d x", 21 * 12));
        let mut memory = Memory::take(&mut Plan::new(), &layout);
        memory.of_mut(features).copy_from_slice(&x);
        memory.of_mut(dout).copy_from_slice(&upstream);
        memory.of_mut(dfeatures).fill(f32::NAN);
        let mut grads = vec![0.0; params.len()];
        let mut call = Call { grads: &mut grads, statistics: &mut running, ..Call::new(&mut memory, &params) };
        head.forward(&mut call, &acts, features).unwrap();
        assert_near(mode, call.memory.read(acts.out()), &file.f32(&format!("{mode}.y"), &[21, 8]).unwrap(), 1e-5);
        head.backward(&mut call, &acts, dfeatures, dout, features).unwrap();
        let dx = call.memory.read(dfeatures);
        assert_near("dx", dx, &file.f32(&format!("{mode}.dx"), &[21, 12]).unwrap(), 1e-4);
        for info in table.iter() {
            let name = info.name.replace("param.", &format!("{mode}.grad."));
            // A bias before a batch norm has gradient 0 but for rounding: compare on the scale of the others.
            let want = file.f32(&name, &info.shape).unwrap();
            if name.ends_with("layer1.bias") || name.ends_with("layer2.bias") {
                let rounding = |v: &[f32]| v.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                assert!(rounding(&want) < 1e-4 && rounding(info.param.of(&grads)) < 1e-4, "{name}");
            } else {
                assert_near(&name, info.param.of(&grads), &want, 1e-4);
            }
        }
        for info in statistics.iter() {
            let name = info.name.replace("param.", &format!("{mode}.after."));
            assert_near(&name, info.param.of(&running), &file.f32(&name, &info.shape).unwrap(), 1e-5);
        }
        let want = file.f32(&format!("{mode}.y_eval"), &[21, 8]).unwrap();
        assert_near("y_eval", &head.infer(&params, &running, &x), &want, 1e-5);
    }
}

#[test]
fn absent_and_wrong_tensors_are_named() {
    let file = fixture("head.safetensors");
    let load = |config: ProjectorConfig, prefix: &str| {
        let (mut table, mut statistics) = (ParamTable::new(), ParamTable::new());
        let head = Projector::new(&config, prefix, &mut table, &mut statistics)?;
        head.load(&mut vec![0.0; table.len()], &mut vec![0.0; statistics.len()], &file, "")
    };
    let config = ProjectorConfig { input: 12, hidden: 20, output: 8 };
    load(config.clone(), "param.").unwrap();
    let error = load(config.clone(), "image_mlp.").unwrap_err();
    assert!(error.exit_code() == 3 && error.to_string().contains("`image_mlp.layer1.weight`"), "{error}");
    let error = load(ProjectorConfig { output: 9, ..config.clone() }, "param.").unwrap_err();
    assert!(error.exit_code() == 3 && error.to_string().contains("[8, 20], expected [9, 20]"), "{error}");
    let error = load(ProjectorConfig { hidden: 0, ..config }, "param.").unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("--head-dims 0,8"), "{error}");
}
