//! Checkpoints that `train` meets when it goes on: what is whole goes on, what cannot be believed is refused and left
//! as it is.

use std::fs;
use std::path::Path;

use serde_json::Value;
use stablerep::weights::{SafeTensors, write_safetensors};

use crate::bad_train::Case;
use crate::common::{fails, run, succeeds, text};

/// Writes the checkpoint again with one value of its header or of a tensor (a number in all its places) changed.
fn edit(path: &Path, header: Option<(&str, &str)>, tensor: Option<(&str, f32)>) {
    let file = SafeTensors::open(path).unwrap();
    let read = |name: &str| {
        let shape = file.shape(name).unwrap().to_vec();
        let mut values = file.f32(name, &shape).unwrap();
        if let Some((_, value)) = tensor.filter(|(changed, _)| *changed == name) {
            *values.last_mut().unwrap() = value;
        }
        (name.to_owned(), shape, values)
    };
    let tensors: Vec<_> = file.names().map(read).collect();
    let tensors: Vec<_> = tensors.iter().map(|(n, s, v)| (n.clone(), s.clone(), v.as_slice())).collect();
    let mut metadata: Vec<(&str, String)> =
        file.metadata_entries().into_iter().map(|(key, value)| (key, value.to_owned())).collect();
    if let Some((key, value)) = header {
        metadata.retain(|(known, _)| *known != key);
        metadata.push((key, value.to_owned()));
    }
    write_safetensors(path, &tensors, &metadata).unwrap();
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A run with one of its four steps done: a whole checkpoint of it, and a copy to come back to.
fn begun() -> (Case, std::path::PathBuf, Vec<u8>) {
    let case = Case::new();
    case.succeeds(&["--steps", "1", "--warmup-steps", "0"]);
    for name in ["config.json", "done.json"] {
        fs::remove_file(case.path("run").join(name)).unwrap();
    }
    let checkpoint = case.path("run/checkpoint.safetensors");
    let config = SafeTensors::open(&checkpoint).unwrap().metadata("config").unwrap().to_owned();
    let config = config.replace(r#""length":{"steps":1}"#, r#""length":{"steps":4}"#);
    edit(&checkpoint, Some(("config", &config.replace(r#""warmup":{"steps":0}"#, r#""warmup":{"steps":1}"#))), None);
    let bytes = fs::read(&checkpoint).unwrap();
    (case, checkpoint, bytes)
}

#[test]
fn what_cannot_be_believed_is_refused_and_left() {
    let (case, checkpoint, whole) = begun();
    let refuses = |header: Option<(&str, &str)>, tensor: Option<(&str, f32)>, needles: &[&str]| {
        fs::write(&checkpoint, &whole).unwrap();
        edit(&checkpoint, header, tensor);
        let before = fs::read(&checkpoint).unwrap();
        let text = case.refuses(&[], 3, &[&["checkpoint.safetensors"], needles].concat());
        assert!(text.contains("remove it to train from the start"), "{text}");
        assert!(before == fs::read(&checkpoint).unwrap() && !case.path("run/done.json").exists());
    };
    refuses(Some(("step", "5")), None, &["has done 5 steps", "the run has 4"]);
    refuses(Some(("step", "1000000000000")), None, &["has done 1000000000000 steps", "the run has 4"]);
    refuses(Some(("step", "18446744073709551615")), None, &["18446744073709551615"]);
    refuses(Some(("step", "-1")), None, &["`step`", "\"-1\""]);
    refuses(Some(("epoch", "7")), None, &["`epoch` in its header is 7", "epoch 0"]);
    refuses(Some(("position", "3")), None, &["`position` in its header is 3", "position 1"]);
    for bad in ["[4294967295]", "[64]", "[3, 2]", "[1, 1]", "7", "[-1]"] {
        refuses(
            Some(("bad", bad)),
            None,
            &[&format!("`bad` in its header is {bad}, expected the numbers of pictures")],
        );
    }
    refuses(Some(("config", "{")), None, &["`config`", "not JSON"]);
    for (tensor, value) in [
        ("visual.norm.weight", f32::NAN),
        ("image_mlp.layer3.bias", f32::INFINITY),
        ("image_mlp.bn1.running_mean", f32::NEG_INFINITY),
        ("adam.m.visual.blocks.0.attn.qkv.weight", f32::NAN),
        ("adam.v.visual.cls_token", f32::INFINITY),
    ] {
        refuses(None, Some((tensor, value)), &[tensor, "not finite"]);
    }
    refuses(None, Some(("adam.v.visual.cls_token", -1.0)), &["adam.v.visual.cls_token", "below 0"]);
    fs::write(&checkpoint, &whole).unwrap();
    edit(&checkpoint, Some(("format", "another program")), None);
    case.refuses(&[], 3, &["checkpoint.safetensors", "--init-from"]);
    fs::write(&checkpoint, &whole).unwrap();
    case.succeeds(&[]);
    assert_eq!(json(&case.path("run/done.json"))["steps"], 4);
}

/// The header's settings are compared by value: spaces, the order of keys, 1 for 1.0, and settings that an older
/// version did not know.
#[test]
fn settings_are_compared_by_value() {
    let (case, checkpoint, whole) = begun();
    let config: Value =
        serde_json::from_str(SafeTensors::open(&checkpoint).unwrap().metadata("config").unwrap()).unwrap();
    let mut entries: Vec<(String, Value)> = config.as_object().unwrap().clone().into_iter().collect();
    entries.reverse();
    entries.retain(|(key, value)| !(key == "init_from" && value.is_null()));
    let reordered = serde_json::to_string_pretty(&Value::Object(entries.into_iter().collect())).unwrap();
    let reordered = reordered.replace("\"seed\": 0", "\"seed\": 0.0").replace("\"batch\": 4", "\"batch\": 4.0");
    assert!(reordered.contains("4.0"), "{reordered}");
    edit(&checkpoint, Some(("config", &reordered)), None);
    case.succeeds(&[]);
    let ended = fs::read(&checkpoint).unwrap();
    // The same file under config.json, and a run that kept its own spelling, end in the same bits.
    fs::remove_file(case.path("run/done.json")).unwrap();
    fs::write(case.path("run/config.json"), reordered).unwrap();
    fs::write(&checkpoint, &whole).unwrap();
    case.succeeds(&["--max-bad", "3"]);
    fs::write(&checkpoint, &whole).unwrap();
    fs::remove_file(case.path("run/done.json")).unwrap();
    case.succeeds(&[]);
    assert!(ended == fs::read(&checkpoint).unwrap());
}

/// Differences speak in flags, and say how to go on from the weights.
#[test]
fn another_length_is_named_by_its_flag() {
    let case = Case::new();
    case.succeeds(&[]);
    let differs = ["--steps: was 4, now 9", "--init-from", "run/checkpoint.safetensors"];
    case.refuses(&["--steps", "9"], 2, &differs);
    let flags = ["--steps", "UNSET", "--epochs", "2", "--blr", "UNSET", "--lr", "1e-3", "--warmup-steps", "2"];
    let differs = ["--epochs: was not set, now 2", "--lr: was not set, now 0.001", "--warmup-steps: was 1, now 2"];
    case.refuses(&flags, 2, &differs);
}

#[test]
fn steps_that_the_metrics_lost_are_said() {
    let (case, _, _) = begun();
    fs::remove_file(case.path("run/metrics.jsonl")).unwrap();
    let output = run(&case.words(&[]).iter().map(String::as_str).collect::<Vec<_>>());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("run/metrics.jsonl: 1 of the 1 steps so far have no line (0); going on without"), "{said}");
    assert_eq!(fs::read_to_string(case.path("run/metrics.jsonl")).unwrap().lines().count(), 3);
}

#[test]
fn a_finished_run_has_its_checkpoint() {
    let (case, checkpoint, whole) = begun();
    case.succeeds(&[]);
    let ended = fs::read(&checkpoint).unwrap();
    // An older checkpoint put back goes on to the same end, whatever done.json says.
    fs::write(&checkpoint, &whole).unwrap();
    case.succeeds(&[]);
    assert!(ended == fs::read(&checkpoint).unwrap());
    // One that cannot be trained on, or used, is no end of anything.
    edit(&checkpoint, None, Some(("visual.norm.weight", f32::NAN)));
    let said = case.refuses(&[], 3, &["checkpoint.safetensors", "visual.norm.weight", "not finite"]);
    assert!(!said.contains("finished already"), "{said}");
    fs::write(&checkpoint, &ended[..ended.len() - 100]).unwrap();
    case.refuses(&[], 3, &["checkpoint.safetensors"]);
    fs::remove_file(&checkpoint).unwrap();
    case.refuses(&[], 3, &["done.json", "checkpoint.safetensors", "train from the start"]);
    fs::remove_file(case.path("run/done.json")).unwrap();
    case.succeeds(&[]);
    assert!(checkpoint.exists());
}

/// An update that leaves the numbers is never saved over one that did not.
#[test]
fn a_diverged_state_is_not_saved() {
    let case = Case::new();
    let flags = ["--blr", "UNSET", "--lr", "1000", "--steps", "40", "--warmup-steps", "0", "--save-every", "1steps"];
    let checkpoint = case.path("run/checkpoint.safetensors");
    case.refuses(&flags, 5, &["step ", "first not finite"]);
    if checkpoint.exists() {
        let file = SafeTensors::open(&checkpoint).unwrap();
        for name in file.names() {
            file.f32(name, file.shape(name).unwrap()).unwrap();
        }
    }
}

/// One reader: what `export` takes, `--init-from` takes, under any prefix, as a file or as the folder it lies in.
#[test]
fn weights_to_start_from_come_from_wherever_an_encoder_does() {
    let case = Case::new();
    case.succeeds(&[]);
    let run = case.path("run");
    let timm = case.path("timm");
    succeeds(&["export", "--checkpoint", &text(&run), "--output", &text(&timm)]);
    let plain = SafeTensors::open(timm.join("model.safetensors")).unwrap();
    let read = |name: &str| {
        (name.to_owned(), plain.shape(name).unwrap().to_vec(), plain.f32(name, plain.shape(name).unwrap()))
    };
    let tensors: Vec<_> = plain.names().map(read).collect();
    let write = |file: &str, prefix: &str, rename: &dyn Fn(&str) -> Option<String>| {
        let renamed: Vec<_> = tensors
            .iter()
            .filter_map(|(name, shape, values)| {
                Some((format!("{prefix}{}", rename(name)?), shape.clone(), values.as_ref().unwrap().as_slice()))
            })
            .collect();
        let path = case.path(file);
        write_safetensors(&path, &renamed, &[]).unwrap();
        text(&path)
    };
    let same = |name: &str| Some(name.to_owned());
    let several = write("several.safetensors", "module.visual.", &same);
    let mut ends = Vec::new();
    for (i, from) in [text(&timm), several].iter().enumerate() {
        let output = text(&case.path(&format!("from{i}")));
        case.succeeds(&["--init-from", from, "--output", &output, "--seed", "7"]);
        let file = SafeTensors::open(case.path(&format!("from{i}/checkpoint.safetensors"))).unwrap();
        ends.push(file.names().map(|name| file.f32(name, file.shape(name).unwrap()).unwrap()).collect::<Vec<_>>());
    }
    case.succeeds(&["--init-from", &text(&run), "--output", &text(&case.path("from-run"))]);
    assert!(ends[0] == ends[1]);

    let refuses = |from: &str, more: &[&str], exit: i32, needles: &[&str]| {
        let output = text(&case.path("refused"));
        case.refuses(&[&["--init-from", from, "--output", &output], more].concat(), exit, needles);
        assert!(!case.path("refused").exists());
    };
    let scaled = write("scaled.safetensors", "", &|name| Some(name.replace("norm1.bias", "gamma_1")));
    refuses(&scaled, &[], 3, &["blocks.0.gamma_1", "layer scale"]);
    let deeper = case.path("deeper");
    case.succeeds(&["--depth", "2", "--output", &text(&deeper)]);
    refuses(&text(&deeper), &[], 3, &["2 blocks", "`visual.blocks.1.norm1.weight`", "--depth 2"]);
    refuses(&text(&run), &["--heads", "4"], 3, &["--heads 3", "--heads 4"]);
    refuses(&text(&run), &["--patch-size", "16"], 3, &["--patch-size 8", "--patch-size 16"]);
    refuses(&text(&run), &["--head-dims", "32,8"], 3, &["image_mlp.layer3.weight", "--head-dims"]);
    // The run's own checkpoints would be refused with it.
    let checkpoint = run.join("checkpoint.safetensors");
    let good = fs::read(&checkpoint).unwrap();
    edit(&checkpoint, None, Some(("image_mlp.bn1.running_var", -1.0)));
    refuses(&text(&run), &[], 3, &["checkpoint.safetensors", "image_mlp.bn1.running_var", "a variance below 0"]);
    fs::write(&checkpoint, good).unwrap();
    edit(&checkpoint, None, Some(("visual.norm.bias", f32::NAN)));
    refuses(&text(&run), &[], 3, &["visual.norm.bias", "not finite"]);
    let export = ["export", "--checkpoint", &text(&run), "--output", &text(&case.path("refused"))];
    fails(&export, 3, &["visual.norm.bias", "not finite"]);
    fails(&["export", "--checkpoint", &text(&timm), "--output", &text(&run)], 2, &["training run"]);
}

/// A pickle is named as what it is, with lines for Python.
#[test]
fn a_pickle_comes_with_its_conversion() {
    let case = Case::new();
    let pickle = case.path("vit.pth");
    fs::write(&pickle, b"PK\x03\x04").unwrap();
    let lines = ["vit.pth", "pickle", "weights_only=False)", "sd.get(\"model\"", "save_file({", "vit.safetensors\")"];
    case.refuses(&["--init-from", &text(&pickle)], 3, &lines);
    fails(&["export", "--checkpoint", &text(&pickle), "--output", &text(&case.path("o"))], 3, &lines);
}

/// Of a run with a momentum copy either can be read: DINO's is the teacher where nothing is said, MoCo v3's the
/// student; what a file does not have is refused.
#[test]
fn a_teacher_or_its_student_is_read() {
    let case = Case::new();
    let name = |file: &SafeTensors, name: &str| file.f32(name, file.shape(name).unwrap()).unwrap();
    for (method, asked, prefix) in [
        ("dino", None, "momentum.visual."),
        ("dino", Some("student"), "visual."),
        ("dino", Some("teacher"), "momentum.visual."),
        ("mocov3", None, "visual."),
        ("mocov3", Some("teacher"), "momentum.visual."),
    ] {
        let run = case.path(method);
        case.succeeds(&["--method", method, "--images-per-caption", "UNSET", "--output", &text(&run)]);
        let (given, timm) =
            (asked.unwrap_or("default"), case.path(&format!("{method}-{}", asked.unwrap_or("default"))));
        let [from, to] = [text(&run), text(&timm)];
        let whose = asked.map_or_else(Vec::new, |asked| vec!["--weights", asked]);
        let words = [&["export", "--checkpoint", &from, "--output", &to], &whose[..]].concat();
        let said = succeeds(&words);
        let side = if prefix == "visual." { "student" } else { "teacher" };
        assert!(said.contains(&format!("the {side}'s weights")), "{method}, {given}: {said}");
        let [from, to] = [run.join("checkpoint.safetensors"), timm.join("model.safetensors")]
            .map(|path| SafeTensors::open(path).unwrap());
        let of = |prefix: &str| name(&from, &format!("{prefix}blocks.0.attn.qkv.weight"));
        let got = name(&to, "blocks.0.attn.qkv.weight");
        assert!(got == of(prefix) && of("visual.") != of("momentum.visual."), "{method}, {given}");
        // What goes on from it begins with the same.
        let next = case.path(&format!("next-{method}-{given}"));
        let (start, output) = (text(&run), text(&next));
        let whose = asked.map_or_else(Vec::new, |asked| vec!["--init-weights", asked]);
        let mut flags = vec!["--method", method, "--images-per-caption", "UNSET", "--init-from", &start];
        flags.extend(["--output", &output, "--lr", "0", "--blr", "UNSET"].into_iter().chain(whose));
        case.succeeds(&flags);
        let next = SafeTensors::open(next.join("checkpoint.safetensors")).unwrap();
        assert!(name(&next, "visual.blocks.0.attn.qkv.weight") == got, "{method}, {given}");
    }
    let plain = case.path("plain");
    case.succeeds(&["--output", &text(&plain)]);
    for whose in ["teacher", "student"] {
        let out = text(&case.path("refused"));
        let words = ["export", "--checkpoint", &text(&plain), "--output", &out, "--weights", whose];
        fails(&words, 3, &["no momentum copy", "leave out --weights"]);
    }
    case.refuses(&["--init-weights", "teacher"], 2, &["--init-weights is of --init-from"]);
}
