//! `stablerep bench` on the simulated driver: kernels, drawing and training are counted, and no count is called a time.

use std::fs;
use std::path::Path;
use std::process::Command;

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
        // Whatever way it is done, results reach memory; atomic operations are not counted.
        let atomic = case["kernel"] == "search for not finite bf16" || case["kernel"] == "absmax f16";
        assert!(atomic || count("global_write_bytes") + count("bulk_bytes") > 0, "{case}");
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

/// What `bench WORDS` reports of the simulated device.
fn report(model: Model, words: &str) -> Value {
    let folder = TempDir::new().unwrap();
    let json = folder.path().join("report.json");
    let words = format!("bench {words} --device cuda --json {}", json.display());
    let mut command = stablerep(model, &words.split_whitespace().collect::<Vec<_>>());
    command.env("STABLEREP_CACHE", folder.path().join("cache"));
    let output = command.env("CUDA_SIM_STATS", folder.path().join("stats")).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    for time in ["images/s", " ms ", "FLOP/s", "MFU", "Start-up"] {
        assert!(text.contains("no times") && !text.contains(time), "{time}: {text}");
    }
    let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    for time in ["start_up", "peak_flops_per_s", "best", "images_per_s", "mfu"] {
        assert!(report.get(time).is_none_or(Value::is_null), "{time}: {report}");
    }
    assert_eq!(report["simulated"], true);
    report
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// Every call of the UNet is one replay, and the driver sees as many launches as were queued.
fn drawing(model: Model, batch: usize, steps: u64) {
    if !has_kernels() {
        return;
    }
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny-sd");
    let report = report(model, &format!("generate --model {} --batches {batch} --steps {steps}", tiny.display()));
    assert_eq!((number(&report["unet_calls"]), report["precision"].as_str()), (steps, Some("f16")));
    let flops = |part: &str| report["flops_per_image"][part].as_f64().unwrap();
    let sum = flops("text") + steps as f64 * flops("unet_call") + flops("decoder");
    assert!((flops("model") / sum - 1.0).abs() < 1e-12 && flops("computed") < flops("model"), "{report}");

    let [row] = &report["batches"].as_array().unwrap()[..] else { panic!("{report}") };
    let counts = |stage: &str, what: &str| number(&row["counts"][stage][what]);
    let (replays, kernels) = (number(&row["replays"]), number(&row["kernels_per_call"]));
    assert_eq!((number(&row["batch"]), replays), (batch as u64, steps));
    // Beside the replays: the first input.
    assert_eq!((number(&row["kernels_beside_replays"]), counts("unet_calls", "launches")), (1, steps * kernels + 1));
    let stages = ["text", "unet_calls", "decode"];
    for stage in stages {
        assert!(counts(stage, "launches") > 0 && counts(stage, "mma") + counts(stage, "wgmma") > 0, "{stage}");
        assert!(counts(stage, "global_read_bytes") > 0 && counts(stage, "global_write_bytes") > 0, "{stage}");
    }
    // The calls came twice, the second time without text.
    let launches: u64 = stages.iter().map(|stage| counts(stage, "launches")).sum();
    assert_eq!(number(&row["kernels"]), launches + counts("unet_calls", "launches"));
    // One batch with marks around its stages, of which each call is one.
    assert_eq!(row["traced_calls"], serde_json::json!([steps]));
}

#[test]
fn drawing_on_hopper() {
    drawing(Model::H200, 2, 2);
}

#[test]
fn drawing_on_ampere() {
    drawing(Model::A100, 1, 1);
}

/// One update is one replay of all its kernels, whose parts are those of an update that is not recorded.
#[test]
fn training() {
    if !has_kernels() {
        return;
    }
    let model = "--model custom --image-size 32 --patch-size 8 --width 64 --depth 2 --heads 2 --head-dims 64,32";
    let report = report(Model::H200, &format!("train {model} --batch 4 --images-per-caption 3"));
    let images = number(&report["images_per_update"]);
    assert_eq!((images, number(&report["replays"])), (12, 1));
    let kernels = number(&report["kernels_per_update"]);
    assert_eq!(number(&report["counts"]["launches"]), kernels);
    let stages = report["stages"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "augmentation",
            "encoder, forward",
            "head, forward",
            "loss",
            "head, backward",
            "encoder, backward",
            "optimizer"
        ]
    );
    assert!(stages.iter().all(|stage| number(&stage["kernels"]) > 0), "{report}");
    assert_eq!(stages.iter().map(|stage| number(&stage["kernels"])).sum::<u64>(), kernels);
    // Twelve images in four groups of three: the loss of rows that do not differ yet is the logarithm of the others,
    // about.
    let loss = report["loss"].as_f64().unwrap();
    assert!((loss - 11f64.ln()).abs() < 1.5, "{loss}");
    let flops = |what: &str| report["flops"][what].as_f64().unwrap();
    let update = 3.0 * images as f64 * (flops("encoder_forward_per_image") + flops("head_forward_per_image"));
    assert!((flops("update") / (update + flops("loss_per_update")) - 1.0).abs() < 1e-12);
    // The plan is all that is taken of the card, but for the constants that loaded kernels bring.
    let [planned, used] = ["planned_bytes", "used_bytes"].map(|key| number(&report[key]));
    assert!(planned > 1 << 20 && (planned..planned + 4096).contains(&used), "{report}");
}

/// The paper's 8,256 images a step, planned without a card: ViT-B/16 takes 40 MB an image, and ViT-L/16 fits too.
#[test]
fn the_papers_batch_fits_one_card() {
    if !has_kernels() {
        return;
    }
    for (model, megabytes) in [("vit_base", 40.0), ("vit_large", 110.0)] {
        let folder = TempDir::new().unwrap();
        let json = folder.path().join("plan.json");
        let line = format!(
            "bench train --plan --memory 80GB --memory 141GB --preset stablerep-cc12m-1x --model {model} --json"
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_stablerep"));
        let output = command.args(line.split(' ')).arg(&json).output().unwrap();
        let said = text(&output);
        assert!(output.status.success() && said.contains("| yes |") && !said.contains("| no |"), "{said}");
        let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
        let [small, large] = &report["plans"].as_array().unwrap()[..] else { panic!("{report}") };
        let of = |plan: &Value| {
            let [free, planned, chunk] = ["free_bytes", "planned_bytes", "chunk"].map(|key| number(&plan[key]));
            assert!(plan["recompute"] == true && plan["fits"] == true && planned < free && chunk < 8256, "{plan}");
            (planned as f64, chunk as f64)
        };
        let ((low, few), (high, many)) = (of(small), of(large));
        assert!(few < many && (high - low) / (many - few) <= megabytes * 1e6, "{report}");
    }
}

/// The FLOP of a preset's head are its steps times those of an update as the program counts them; so are the images
/// that a card holds at once, and how many times the FLOP it takes to run the others twice.
#[test]
fn presets_say_what_they_cost() {
    if !has_kernels() {
        return;
    }
    let mut seen = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")).unwrap() {
        let path = entry.unwrap().path();
        let file = fs::read_to_string(&path).unwrap();
        let head: Vec<&str> = file.lines().filter_map(|line| line.strip_prefix('#')).map(str::trim).collect();
        let head = head.join(" ");
        let before = |mark: &str| head.split_once(mark)?.0.rsplit(' ').next()?.parse::<f64>().ok();
        let Some(flop) = before(" FLOP").filter(|flop| *flop > 1e15) else { continue };
        let steps = 1e3 * before(" k steps").unwrap();
        let folder = TempDir::new().unwrap();
        let json = folder.path().join("plan.json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_stablerep"));
        command.args("bench train --plan --memory 141GB --memory 80GB --memory 40GB --memory 24GB".split(' '));
        let output = command.args(["--preset", path.file_stem().unwrap().to_str().unwrap()]).arg("--json").arg(&json);
        assert!(output.output().unwrap().status.success(), "{}", path.display());
        let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
        // Both are rounded to two digits and more.
        let counted = steps * report["flops_per_update"].as_f64().unwrap();
        assert!((counted / flop - 1.0).abs() < 0.04, "{}: {counted:e}", path.display());
        for plan in report["plans"].as_array().unwrap() {
            let chunk = plan["chunk"].as_u64().map_or(String::new(), |chunk| format!(" {chunk} "));
            let times =
                plan["times_flops"].as_f64().filter(|times| *times > 1.0).map_or(String::new(), |t| format!("{t:.2}"));
            assert!(head.contains(&chunk) && head.contains(&times), "{}: {plan}", path.display());
        }
        seen += 1;
    }
    assert!(seen > 15, "{seen}");
}
