//! `stablerep bench kernels` on the simulated driver: every kernel is counted, and no count is called a time.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Model, has_kernels, stablerep, text};

fn counted(model: Model) -> Vec<Value> {
    let folder = TempDir::new().unwrap();
    let json = folder.path().join("counts.json");
    let mut command = stablerep(model, &["bench", "kernels", "--quick", "--json", json.to_str().unwrap()]);
    let output = command.env("CUDA_SIM_STATS", folder.path().join("stats")).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("no times") && !text.contains("µs") && !text.contains("FLOP/s"), "{text}");
    let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(report["simulated"], true);
    let cases = report["cases"].as_array().unwrap().clone();
    for case in &cases {
        let count = |what: &str| case["counts"][what].as_u64().unwrap();
        assert!(case.get("median_us").is_none(), "{case}");
        assert!(count("launches") > 0 && count("warp_instructions") > 0, "{case}");
        assert!(count("lane_instructions") <= 32 * count("warp_instructions"), "{case}");
        // Whatever way it is done, results reach memory.
        assert!(
            count("global_write_bytes") + count("bulk_bytes") > 0 || case["kernel"] == "search for not finite bf16",
            "{case}"
        );
    }
    cases
}

fn total(cases: &[Value], op: &str, what: &str) -> u64 {
    let of_op: Vec<&Value> = cases.iter().filter(|case| case["op"] == op).collect();
    assert!(!of_op.is_empty(), "no {op}");
    of_op.iter().map(|case| case["counts"][what].as_u64().unwrap()).sum()
}

#[test]
fn counts_on_hopper() {
    if has_kernels() {
        let cases = counted(Model::H200);
        assert!(total(&cases, "linear", "wgmma") > 0 && total(&cases, "conv", "lane_instructions") > 0);
        assert_eq!(total(&cases, "groupnorm", "mma"), 0);
    }
}

#[test]
fn counts_on_ampere() {
    if has_kernels() {
        let cases = counted(Model::A100);
        for op in ["linear", "conv", "attention", "self-attention"] {
            assert!(total(&cases, op, "mma") > 0 && total(&cases, op, "wgmma") == 0, "{op}");
        }
    }
}

#[test]
fn counts_have_to_go_somewhere() {
    if has_kernels() {
        let output = stablerep(Model::H200, &["bench", "kernels"]).env_remove("CUDA_SIM_STATS").output().unwrap();
        let text = text(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("CUDA_SIM_STATS=FILE") && text.matches("error:").count() == 1, "{text}");
    }
}
