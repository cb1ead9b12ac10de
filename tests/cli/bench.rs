//! `stablerep bench` on the CPU: what is reported fits together, and what cannot be measured is refused.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{fails, root, succeeds};

/// What `bench WORDS` prints, and its JSON.
fn report(words: &str) -> (String, Value) {
    let folder = TempDir::new().unwrap();
    let json = folder.path().join("report.json").display().to_string();
    let words = format!("bench {words} --device cpu --json {json}");
    let text = succeeds(&words.split_whitespace().collect::<Vec<_>>());
    (text, serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn generate() {
    let model = root().join("assets/tiny-sd");
    let (text, report) = report(&format!("generate --model {} --batches 1,3 --steps 2 --images 4", model.display()));
    let start: Vec<f64> =
        ["opened_s", "first_unet_call_s", "first_batch_s"].map(|what| number(&report["start_up"][what])).to_vec();
    assert!(0.0 < start[0] && start[0] < start[1] && start[1] < start[2], "{start:?}");
    let rows = report["batches"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| number(&row["batch"])).collect::<Vec<_>>(), [1.0, 3.0]);
    // At least four images, in whole batches.
    assert_eq!(rows.iter().map(|row| number(&row["images"])).collect::<Vec<_>>(), [4.0, 6.0]);
    for row in rows {
        let rate = number(&row["images_per_s"]);
        assert!((rate * number(&row["seconds"]) / number(&row["images"]) - 1.0).abs() < 1e-9, "{row}");
        let flops = rate * number(&report["flops_per_image"]["model"]);
        assert!((number(&row["flops_per_s"]) / flops - 1.0).abs() < 1e-9, "{row}");
        assert!(number(&row["latency_s"]) > number(&row["unet_call_ms"]) * 2e-3 * 0.5, "{row}");
        // A GPU's alone.
        assert!(row.get("mfu").is_none() && row.get("device_ms").is_none(), "{row}");
        assert!(text.contains(&format!("\n| {} | ", row["batch"])), "{text}");
    }
    let best = rows.iter().map(|row| number(&row["images_per_s"])).fold(0.0, f64::max);
    assert_eq!(number(&report["best"]["images_per_s"]), best);
    assert_eq!(report["latency_at_batch_1_s"], rows[0]["latency_s"]);
}

#[test]
fn train() {
    let model = "--model custom --image-size 16 --patch-size 8 --width 32 --depth 2 --heads 1 --head-dims 32,16";
    let (text, report) = report(&format!("train {model} --batch 4 --images-per-caption 2 --steps 4"));
    assert_eq!((number(&report["updates"]), number(&report["images_per_update"])), (4.0, 8.0));
    let rate = 8e3 / number(&report["ms_per_update"]);
    assert!((number(&report["images_per_s"]) / rate - 1.0).abs() < 1e-9, "{report}");
    let seconds = 1e-3 * number(&report["ms_per_update"]);
    assert!((number(&report["flops_per_s"]) * seconds / number(&report["flops"]["update"]) - 1.0).abs() < 1e-9);
    let stages: f64 = report["stages"].as_array().unwrap().iter().map(|stage| number(&stage["ms"])).sum();
    assert!((number(&report["staged_ms"]) / stages - 1.0).abs() < 1e-9 && number(&report["loss"]) > 0.0);
    assert!(text.contains("4 captions × 2 images × 1 crops = 8 images"), "{text}");
    assert!(number(&report["planned_bytes"]) > 1e5, "{report}");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let model = root().join("assets/tiny-sd").display().to_string();
    let generate = ["bench", "generate", "--device", "cpu", "--model", &model];
    fails(&[&generate[..], &["--batches", "0"]].concat(), 2, &["--batches 0"]);
    fails(&[&generate[..], &["--seconds", "0"]].concat(), 2, &["--seconds"]);
    fails(&[&generate[..], &["--precision", "f16"]].concat(), 2, &["--device cuda"]);
    fails(&["bench", "generate", "--device", "cpu", "--model", "/no/such/model"], 2, &["/no/such/model"]);
    fails(&["bench", "train", "--device", "cpu"], 2, &["--batch is not set"]);
    fails(&["bench", "train", "--device", "cpu", "--batch", "4", "--seconds", "0"], 2, &["--seconds"]);
}
