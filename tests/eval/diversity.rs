//! Scores of a set by itself, against numpy.

use std::path::Path;

use serde_json::Value;
use stablerep::eval::diversity::scores::{scores, unit_rows, within};
use stablerep::weights::SafeTensors;

const CAPTIONS: usize = 7;

#[test]
fn scores_are_numpys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/diversity.safetensors");
    let file = SafeTensors::open(path).unwrap();
    let found: Value = serde_json::from_str(file.metadata("found").unwrap()).unwrap();
    for name in ["all", "few", "one", "caption"] {
        let [count, width] = file.shape(name).unwrap()[..] else { panic!("{name}: two dimensions") };
        let features = file.f32(name, &[count, width]).unwrap();
        let labels = file.i64(&format!("{name}.labels"), &[count]).unwrap();
        let labels: Vec<u32> = labels.into_iter().map(|label| label as u32).collect();
        let rows = unit_rows(&features, width, |i| format!("{i}")).unwrap();
        let got = scores(&rows, width, &labels, CAPTIONS).unwrap();
        let want = |key: &str| found[name][key].as_f64();
        for (key, got) in [
            ("within", got.within),
            ("between", got.between),
            ("vendi", Some(got.vendi)),
            ("alignment", got.alignment),
            ("uniformity", got.uniformity),
        ] {
            match (got, want(key)) {
                (Some(got), Some(want)) => {
                    assert!((got - want).abs() < 1e-12 * want.abs().max(1.0), "{name} {key}: {got} {want}")
                }
                (got, want) => assert_eq!(got, want, "{name} {key}"),
            }
        }
        let captions = within(&rows, width, &labels, CAPTIONS);
        assert_eq!(got.captions, captions.len());
        let wanted = found[name]["captions"].as_array().unwrap();
        assert_eq!(captions.len(), wanted.len(), "{name}");
        for (got, want) in captions.iter().zip(wanted) {
            assert!((got.cosine - want.as_f64().unwrap()).abs() < 1e-12, "{name}: {got:?} {want}");
        }
        if name == "all" {
            let near: Vec<u32> = captions.iter().filter(|one| one.cosine > 0.95).map(|one| one.label).collect();
            assert_eq!(near, [2]);
        }
    }
}

#[test]
fn a_feature_of_zeros_is_named() {
    let error = unit_rows(&[1.0, 0.0, 0.0, 0.0], 2, |i| format!("picture {i}")).unwrap_err();
    assert!(error.exit_code() == 3 && error.to_string().contains("picture 1: its feature is all zeros"), "{error}");
}
