//! `stablerep generate`, whole: against diffusers from the same noise, and the same bits however the work is cut.

use std::fs;
use std::path::Path;

use crate::common::{assert_same_files, command, fails, files, fixture, root, run, succeeds, text};
use safetensors::SafeTensors;
use serde_json::Value;
use stablerep::image;
use stablerep::shards::Shards;
use tempfile::TempDir;

fn write_captions(folder: &Path, lines: &[&str]) -> String {
    let path = folder.join("captions.txt");
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    text(&path)
}

fn tiny_sd() -> String {
    text(&root().join("assets/tiny-sd"))
}

/// `generate` into `output` with `extra` flags.
fn args<'a>(model: &'a str, captions: &'a str, output: &'a str, extra: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["generate", "--model", model, "--captions", captions, "--output", output];
    args.extend(extra);
    args
}

const LINES: [&str; 5] = [
    "a photo of a dark patterned slim dress",
    "a photo of a bag",
    "",
    "a light plain wide ankle boot",
    "a photo of a gray t-shirt",
];

#[test]
fn same_bits_for_any_batch_threads_and_ranks() {
    same_bits("f32");
}

#[test]
fn same_bits_for_any_batch_threads_and_ranks_in_bf16() {
    same_bits("bf16");
}

fn same_bits(precision: &str) {
    let folder = TempDir::new().unwrap();
    let (model, captions) = (tiny_sd(), write_captions(folder.path(), &LINES));
    let common = ["-m", "3", "--steps", "4", "--seed", "7", "--images-per-shard", "6", "--save-latents"];
    let common = [&common[..], &["--precision", precision]].concat();
    let out = |name: &str| text(&folder.path().join(name));
    let reference = out("reference");
    succeeds(&args(&model, &captions, &reference, &common));
    let expected: Vec<String> = files(Path::new(&reference)).into_keys().collect();
    for name in [
        "00000.tar",
        "00000_stats.json",
        "00001.tar",
        "contact-sheet.png",
        "generate.json",
        "latents/00001.safetensors",
        "sizes.json",
        "stats.json",
    ] {
        assert!(expected.contains(&name.to_owned()), "{name} is missing of {expected:?}");
    }
    for (name, extra) in [
        ("batch1", ["--batch", "1", "--threads", "2"]),
        ("batch3", ["--batch", "3", "--threads", "1"]),
        ("batch8", ["--batch", "8", "--threads", "2"]),
    ] {
        let output = out(name);
        let all: Vec<&str> = common.iter().copied().chain(extra).collect();
        succeeds(&args(&model, &captions, &output, &all));
        assert_same_files(Path::new(&reference), Path::new(&output), name);
    }
    // Two ranks at the same time in one folder, one of them told by its launcher's environment.
    let output = out("ranks");
    let all: Vec<&str> = common.iter().copied().chain(["--rank", "1", "--world-size", "2"]).collect();
    let mut second = command(&args(&model, &captions, &output, &all)).spawn().unwrap();
    let first =
        command(&args(&model, &captions, &output, &common)).env("RANK", "0").env("WORLD_SIZE", "2").status().unwrap();
    assert!(first.success() && second.wait().unwrap().success());
    assert_same_files(Path::new(&reference), Path::new(&output), "two ranks");
}

/// Pictures in bf16 are near those in f32 and are told apart from them; `auto` is one of the two, whichever this
/// machine multiplies faster.
#[test]
fn bf16_is_near_f32_and_another_configuration() {
    let folder = TempDir::new().unwrap();
    let (model, captions) = (tiny_sd(), write_captions(folder.path(), &LINES[..2]));
    let draw = |name: &str, precision: &str| {
        let output = folder.path().join(name);
        let flags = ["-m", "2", "--steps", "10", "--format", "png", "--precision", precision];
        succeeds(&args(&model, &captions, &text(&output), &flags));
        let shards = Shards::open(&[output.join("00000.tar")]).unwrap();
        let decode = |bytes: Option<Vec<u8>>| image::decode(&bytes.unwrap(), name).unwrap().data;
        let pixels: Vec<u8> = shards.iter().flat_map(|sample| decode(sample.read("png").unwrap())).collect();
        let record: Value = serde_json::from_slice(&fs::read(output.join("generate.json")).unwrap()).unwrap();
        (pixels, record["precision"].as_str().unwrap().to_owned())
    };
    let ((full, f32), (short, bf16), (auto, either)) = (draw("f32", "f32"), draw("bf16", "bf16"), draw("auto", "auto"));
    assert_eq!((&f32[..], &bf16[..]), ("f32", "bf16"));
    let off = full.iter().zip(&short).map(|(&a, &b)| f64::from(a.abs_diff(b))).sum::<f64>() / full.len() as f64;
    assert!(off > 0.0 && off < 3.0, "{off} of 255 apart");
    assert!(auto == if either == "f32" { full } else { short }, "auto is {either}");
    let (output, other) = (text(&folder.path().join("f32")), ["-m", "2", "--steps", "10", "--precision", "bf16"]);
    fails(&args(&model, &captions, &output, &other), 2, &["--precision: was \"f32\", now \"bf16\""]);
    fails(&args(&model, &captions, &output, &["--precision", "f16"]), 2, &["--precision f16", "--device cuda"]);
}

#[test]
fn shards_hold_captions_whole_and_described() {
    let folder = TempDir::new().unwrap();
    let long = "a very long caption ".repeat(30);
    let mut lines = LINES.to_vec();
    lines.push(&long);
    let (model, captions) = (tiny_sd(), write_captions(folder.path(), &lines));
    let output = folder.path().join("out");
    let extra = ["-m", "2", "--steps", "2", "--images-per-shard", "5", "--format", "jpg", "--store-size", "16"];
    let printed = succeeds(&args(&model, &captions, &text(&output), &extra));
    assert!(printed.contains("10 images of 5 captions") && printed.contains("1 captions were longer"), "{printed}");
    let sizes: Value = serde_json::from_slice(&fs::read(output.join("sizes.json")).unwrap()).unwrap();
    assert_eq!(sizes, serde_json::json!({"00000.tar": 4, "00001.tar": 4, "00002.tar": 2}));
    let stats: Value = serde_json::from_slice(&fs::read(output.join("stats.json")).unwrap()).unwrap();
    assert_eq!(
        (&stats["images"], &stats["captions"], &stats["truncated_captions"]),
        (&10.into(), &5.into(), &1.into())
    );
    let mut keys = Vec::new();
    for name in ["00000.tar", "00001.tar", "00002.tar"] {
        for sample in Shards::open(&[output.join(name)]).unwrap().iter() {
            let json: Value = serde_json::from_slice(&sample.read("json").unwrap().unwrap()).unwrap();
            let caption = sample.record().unwrap().caption.unwrap();
            let line = json["caption_id"].as_u64().unwrap() as usize;
            assert_eq!(caption, lines[line].trim());
            assert_eq!(json["caption"], caption);
            assert_eq!(sample.key(), format!("{line:08}_{:03}", json["image_index"].as_u64().unwrap()));
            assert_eq!(json["flags"], if line == 5 { serde_json::json!(["truncated"]) } else { serde_json::json!([]) });
            assert!((json["truncated_tokens"].as_u64().unwrap() > 0) == (line == 5));
            let image = image::decode(&sample.picture().unwrap().read().unwrap(), sample.key()).unwrap();
            assert_eq!((image.width, image.height), (16, 16));
            keys.push(sample.key().to_owned());
        }
    }
    let want: Vec<String> =
        [0, 1, 3, 4, 5].iter().flat_map(|id| (0..2).map(move |i| format!("{id:08}_{i:03}"))).collect();
    assert_eq!(keys, want, "ids are line numbers, images of a caption adjacent and in order");
}

/// Fixture `ddim…` of diffusers: same noise in, same 8-bit images out but for at most one value in a thousand off by
/// one.
#[test]
fn images_equal_those_of_diffusers() {
    let bytes = fs::read(fixture("tiny_sd.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    let captions: Vec<String> = serde_json::from_str(&metadata["captions"]).unwrap();
    let negative: String =
        serde_json::from_str(&metadata["negative_prompt"]).unwrap_or_else(|_| metadata["negative_prompt"].clone());
    let folder = TempDir::new().unwrap();
    let noise = tensors.tensor("ddim.noise").unwrap();
    let model = tiny_sd();

    let all = ["-m", "2", "--batch", "3"];
    let cases: [(&str, &str, usize, Vec<&str>); 5] = [
        ("ddim50.w2", &model, 4, vec!["--steps", "50", "-w", "2"]),
        ("ddim50.w8", &model, 4, vec!["--steps", "50", "-w", "8"]),
        ("ddim7.w1", &model, 2, vec!["--steps", "7", "-w", "1"]),
        ("ddim7.w3", &model, 2, vec!["--steps", "7", "-w", "3"]),
        ("ddim7.w3_negative", &model, 2, vec!["--steps", "7", "-w", "3", "--negative-prompt", &negative]),
    ];
    for (name, model, rows, flags) in cases {
        let lines: Vec<&str> = captions[..rows].iter().map(String::as_str).collect();
        let file = write_captions(folder.path(), &lines);
        let noise_file = text(&folder.path().join("noise.safetensors"));
        let data = &noise.data()[..rows * 2 * 4 * 4 * 4 * 4];
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![rows * 2, 4, 4, 4], data).unwrap();
        safetensors::serialize_to_file([("noise", view)], None, noise_file.as_ref()).unwrap();
        let output = folder.path().join(name);
        let extra: Vec<&str> =
            all.iter().copied().chain(["--save-latents", "--initial-noise", &noise_file]).chain(flags).collect();
        succeeds(&args(model, &file, &text(&output), &extra));

        let steps = if name.starts_with("ddim50") { 50 } else { 7 };
        let ours = fs::read(output.join("latents/00000.safetensors")).unwrap();
        let ours = f32s(SafeTensors::deserialize(&ours).unwrap().tensor("latents").unwrap().data());
        let theirs = f32s(tensors.tensor(&format!("{name}.latents_{steps}")).unwrap().data());
        let largest = theirs.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let worst = ours.iter().zip(&theirs).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        assert_eq!(ours.len(), theirs.len());
        assert!(worst <= 1e-4 * largest, "{name}: latents differ by {worst} of {largest}");

        let want = tensors.tensor(&format!("{name}.u8_truncated")).unwrap();
        let shard = Shards::open(&[output.join("00000.tar")]).unwrap();
        let pixels = |bytes: Vec<u8>| image::decode(&bytes, name).unwrap().data;
        let got: Vec<u8> = shard.iter().flat_map(|sample| pixels(sample.picture().unwrap().read().unwrap())).collect();
        assert_eq!(got.len(), want.data().len());
        let differ = got.iter().zip(want.data()).filter(|(a, b)| a != b).count();
        assert!(
            got.iter().zip(want.data()).all(|(a, b)| a.abs_diff(*b) <= 1),
            "{name}: a value is off by more than one"
        );
        assert!(differ * 1000 <= got.len(), "{name}: {differ} of {} values differ", got.len());
    }
}

/// Every w of a sweep has the bytes that a run of its own gives, and resumes on its own.
#[test]
fn a_sweep_is_one_run_per_guidance_scale() {
    let folder = TempDir::new().unwrap();
    let (model, captions) = (tiny_sd(), write_captions(folder.path(), &LINES));
    let common = ["-m", "2", "--steps", "3", "--sampler", "euler_a", "--images-per-shard", "4", "--batch", "3"];
    let out = |name: &str| text(&folder.path().join(name));
    let sweep = |scales: &str| {
        let all: Vec<&str> = common.iter().copied().chain(["--sweep-guidance", scales]).collect();
        succeeds(&args(&model, &captions, &out("sweep"), &all))
    };
    let printed = sweep("1,2.5,8");
    assert!(printed.contains("w=2.5: 8 images of 4 captions") && printed.lines().count() == 3, "{printed}");
    for (w, name) in [("1", "w=1.0"), ("2.5", "w=2.5"), ("8", "w=8.0")] {
        let all: Vec<&str> = common.iter().copied().chain(["-w", w]).collect();
        succeeds(&args(&model, &captions, &out(name), &all));
        assert_same_files(&folder.path().join(name), &folder.path().join("sweep").join(name), name);
    }
    // One shard of one set is gone, and one w is new: only those are drawn.
    let whole = files(&folder.path().join("sweep"));
    fs::remove_file(folder.path().join("sweep/w=2.5/00001.tar")).unwrap();
    sweep("1,2.5,8");
    assert!(files(&folder.path().join("sweep")) == whole);
    sweep("8,4");
    let after = files(&folder.path().join("sweep"));
    assert!(after.contains_key("w=4.0/stats.json") && whole.iter().all(|(name, bytes)| after[name] == *bytes));
    let both = ["--sweep-guidance", "2", "-w", "3"];
    fails(&args(&model, &captions, &out("x"), &both), 2, &["--sweep-guidance", "--guidance-scale"]);
    fails(&args(&model, &captions, &out("x"), &["--sweep-guidance", "2,2"]), 2, &["--sweep-guidance", "2 twice"]);
    fails(&args(&model, &captions, &out("x"), &["--sweep-guidance", "2,NaN"]), 2, &["--sweep-guidance NaN"]);
    assert!(!folder.path().join("x").exists());
}

#[test]
fn another_sampler_is_another_configuration() {
    let folder = TempDir::new().unwrap();
    let (model, captions) = (tiny_sd(), write_captions(folder.path(), &LINES[..1]));
    let output = text(&folder.path().join("out"));
    succeeds(&args(&model, &captions, &output, &["--steps", "2", "--sampler", "dpmpp_2m"]));
    let other = ["--steps", "2", "--sampler", "dpmpp_2m_karras"];
    fails(&args(&model, &captions, &output, &other), 2, &["sampler: was \"dpmpp_2m\", now \"dpmpp_2m_karras\""]);
}

/// Sets every value of an f16 tensor.
fn fill(model: &Path, file: &str, tensor: &str, value: u16) {
    let path = model.join(file).with_extension("safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let (start, end) = {
        let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let info = metadata.info(tensor).unwrap();
        (8 + header + info.data_offsets.0, 8 + header + info.data_offsets.1)
    };
    bytes[start..end].chunks_exact_mut(2).for_each(|half| half.copy_from_slice(&value.to_le_bytes()));
    fs::write(&path, bytes).unwrap();
}

/// Models that give no picture: latents divided by next to nothing go beyond all numbers, and a decoder whose last
/// weights are 0 paints one color.
#[test]
fn degenerate_images_are_flagged_and_counted() {
    let folder = TempDir::new().unwrap();
    let captions = write_captions(folder.path(), &LINES[..2]);
    let (huge, flat) = (folder.path().join("model huge"), folder.path().join("model flat"));
    copy_folder(&root().join("assets/tiny-sd"), &huge);
    let config = huge.join("vae/config.json");
    let mut vae: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    vae["scaling_factor"] = 1e-40.into();
    fs::write(&config, vae.to_string()).unwrap();
    copy_folder(&root().join("assets/tiny-sd"), &flat);
    fill(&flat, "vae/diffusion_pytorch_model", "decoder.conv_out.weight", 0);
    for (name, model, code, flags) in
        [("huge", &huge, 5, vec!["not_finite", "constant"]), ("flat", &flat, 0, vec!["constant"])]
    {
        let output = folder.path().join(name);
        let (model, out) = (text(model), text(&output));
        let words = args(&model, &captions, &out, &["--steps", "2", "-m", "2"]);
        // The second time nothing is drawn, and the answer is the same.
        for _ in 0..2 {
            let ran = run(&words);
            let [printed, said] = [&ran.stdout, &ran.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            assert_eq!(ran.status.code(), Some(code), "{said}");
            let counted = printed.contains("4 images are one single color");
            assert!(counted && printed.contains("not numbers") == (name == "huge"), "{printed}");
            assert_eq!(said.contains("every image") && said.contains("--precision bf16"), name == "huge", "{said}");
        }
        let stats: Value = serde_json::from_slice(&fs::read(output.join("stats.json")).unwrap()).unwrap();
        let not_finite = if name == "huge" { 4 } else { 0 };
        assert_eq!((&stats["not_finite_images"], &stats["constant_images"]), (&not_finite.into(), &4.into()));
        for sample in Shards::open(&[output.join("00000.tar")]).unwrap().iter() {
            assert_eq!(sample.record().unwrap().flags, flags, "{}", sample.key());
        }
        let table = succeeds(&["inspect", &text(&output)]);
        assert!(flags.iter().all(|flag| table.contains(&format!("{flag} (4 of 4: 00000000_000,"))), "{table}");
    }
}

/// Noise that lies beyond what the networks can compute with spoils its own picture: the others are as ever, and the
/// run says which it was, as soon as it sees it and at its end.
#[test]
fn a_picture_that_is_no_picture_is_warned_of() {
    let folder = TempDir::new().unwrap();
    let captions = write_captions(folder.path(), &LINES[..2]);
    let mut noise = vec![0.5f32; 2 * 64];
    noise[64..].fill(3e38);
    let bytes: Vec<u8> = noise.iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 4, 4, 4], &bytes).unwrap();
    let file = folder.path().join("noise.safetensors");
    safetensors::serialize_to_file([("noise", view)], None, &file).unwrap();
    let output = text(&folder.path().join("out"));
    let (model, noise) = (tiny_sd(), text(&file));
    let ran = run(&args(&model, &captions, &output, &["--steps", "2", "--initial-noise", &noise]));
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    assert!(said.contains("warning: 00000001_000: ") && said.contains("warning: 1 of 2 images: "), "{said}");
}

/// Weights that are no numbers are refused wherever they stand, before anything is drawn.
#[test]
fn weights_that_are_no_numbers_are_refused() {
    let folder = TempDir::new().unwrap();
    let captions = write_captions(folder.path(), &LINES[..1]);
    let output = folder.path().join("out");
    for (i, (file, tensor, value)) in [
        ("unet/diffusion_pytorch_model", "conv_out.bias", 0x7e00),
        ("vae/diffusion_pytorch_model", "decoder.conv_out.weight", 0x7c00),
        ("text_encoder/model", "final_layer_norm.weight", 0xfc00),
    ]
    .into_iter()
    .enumerate()
    {
        let model = folder.path().join(format!("model{i}"));
        copy_folder(&root().join("assets/tiny-sd"), &model);
        fill(&model, file, tensor, value);
        let (model, out) = (text(&model), text(&output));
        let words = args(&model, &captions, &out, &["--steps", "1"]);
        fails(&words, 3, &[&format!("{file}.safetensors"), &format!("`{tensor}`"), "not finite"]);
        assert!(!output.exists());
    }
}

#[test]
fn stored_samples_are_drawn_again() {
    let folder = TempDir::new().unwrap();
    let (model, captions) = (tiny_sd(), write_captions(folder.path(), &LINES));
    let again = text(&folder.path().join("again"));
    for (name, extra) in [
        ("png", &["--sampler", "euler_a", "--seed", "9", "-w", "3.3"][..]),
        ("jpg", &["--format", "jpg", "--quality", "71", "--store-size", "20", "--width", "48", "-w", "1"]),
        ("negative", &["--negative-prompt", "a photo of a bag", "--sampler", "pndm"]),
    ] {
        let output = text(&folder.path().join(name));
        let all: Vec<&str> = ["--steps", "3", "-m", "3"].iter().chain(extra).copied().collect();
        succeeds(&args(&model, &captions, &output, &all));
        for key in ["00000003_002", "00000000_001"] {
            let words = ["inspect", &output, "--regenerate", key, "--model", &model, "--output", &again];
            let printed = succeeds(&words);
            assert!(printed.contains(&format!("{key}: the same picture, byte for byte")), "{printed}");
            let shards = Shards::open(&[folder.path().join(name)]).unwrap();
            let stored = shards.iter().find(|sample| sample.key() == key).unwrap();
            assert_eq!(fs::read(&again).unwrap(), stored.picture().unwrap().read().unwrap());
        }
    }
    let shards = text(&folder.path().join("png"));
    let again = |key: &str, model: &str, code, needles: &[&str]| {
        fails(&["inspect", &shards, "--regenerate", key, "--model", model], code, needles)
    };
    again("00000009_000", &model, 2, &["00000009_000", "png/00000.tar", "keys here look like 00000000_000"]);
    fails(&["inspect", &shards, "--regenerate", "00000000_000"], 2, &["--model"]);
    // Another model: one bit of a weight.
    let other = folder.path().join("other");
    copy_folder(&root().join("assets/tiny-sd"), &other);
    let path = other.join("vae/diffusion_pytorch_model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    again("00000000_000", &text(&other), 2, &["another model", "sha256"]);
    // Another picture than the record leads to: the json tells another seed.
    let tar = folder.path().join("png/00000.tar");
    let bytes = fs::read(&tar).unwrap();
    let mut spoiled = bytes.clone();
    let at = bytes.windows(8).position(|w| w == b"\"seed\":9").unwrap();
    spoiled[at + 7] = b'8';
    fs::write(&tar, &spoiled).unwrap();
    again("00000000_000", &model, 1, &["another picture", "on average"]);
    let at = bytes.windows(6).position(|w| w == b"\"seed\"").unwrap();
    spoiled = bytes;
    spoiled[at + 1] = b'S';
    fs::write(&tar, &spoiled).unwrap();
    again("00000000_000", &model, 3, &["00000000_000", "seed"]);
    // Given latents are not in the record.
    let noise = folder.path().join("noise.safetensors");
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1, 4, 4, 4], &[1; 256]).unwrap();
    safetensors::serialize_to_file([("noise", view)], None, &noise).unwrap();
    let (one, output) = (write_captions(folder.path(), &LINES[..1]), text(&folder.path().join("given")));
    succeeds(&args(&model, &one, &output, &["--steps", "1", "--initial-noise", &text(&noise)]));
    let words = ["inspect", &output, "--regenerate", "00000000_000", "--model", &model];
    fails(&words, 3, &["--initial-noise"]);
}

#[test]
fn a_folder_belongs_to_one_configuration() {
    let folder = TempDir::new().unwrap();
    let (model, captions) = (tiny_sd(), write_captions(folder.path(), &LINES));
    let output = folder.path().join("out");
    let output_text = text(&output);
    succeeds(&args(&model, &captions, &output_text, &["--steps", "2"]));
    let before = files(&output);
    succeeds(&args(&model, &captions, &output_text, &["--steps", "2", "--batch", "2"]));
    fails(
        &args(&model, &captions, &output_text, &["--steps", "3", "--seed", "5"]),
        2,
        &["steps: was 2, now 3", "seed: was 0, now 5", "another output folder"],
    );
    fs::write(&captions, "another caption\n").unwrap();
    fails(
        &args(&model, &captions, &output_text, &["--steps", "2"]),
        2,
        &["--captions (hash of the captions): was", "--captions (how many): was 4, now 1"],
    );
    assert_eq!(files(&output), before, "a refused run changes nothing");
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn copy_folder(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// The same noise, with calls that do less and without; then the shards are drawn as without `--compare`.
#[test]
fn calls_that_do_less_are_compared() {
    let folder = TempDir::new().unwrap();
    let captions = write_captions(folder.path(), &["a photo of a bag", "a photo of a coat"]);
    let less = ["--steps", "6", "--cache-every", "3", "--guidance-interval", "0,0.5"];
    let draw = |name: &str, extra: &[&str]| {
        let output = folder.path().join(name);
        let said = succeeds(&args(&tiny_sd(), &captions, &text(&output), &[&less[..], extra].concat()));
        (said, output)
    };
    let ((said, compared), (_, plain)) = (draw("compared", &["--compare"]), draw("plain", &[]));
    for words in ["2 images: 8-bit values differ by", "of the UNet's work", "compare.png"] {
        assert!(said.contains(words), "{said}");
    }
    assert!(image::decode(&fs::read(compared.join("compare.png")).unwrap(), "compare.png").unwrap().width > 200);
    let shard = |folder: &Path| fs::read(folder.join("00000.tar")).unwrap();
    assert!(shard(&compared) == shard(&plain));
    // What says no more than its absence is neither recorded nor another setting.
    let json = |name: &str, flags: &[&str]| {
        let output = folder.path().join(name);
        succeeds(&args(&tiny_sd(), &captions, &text(&output), &[&["--steps", "2"][..], flags].concat()));
        fs::read_to_string(output.join("generate.json")).unwrap()
    };
    assert_eq!(json("default", &[]), json("plain-too", &["--cache-every", "1", "--guidance-interval", "0,1"]));
    let output = text(&folder.path().join("refused"));
    fails(&args(&tiny_sd(), &captions, &output, &["--compare"]), 2, &["--compare", "--cache-every"]);
}
