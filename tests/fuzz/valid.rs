//! Valid files, as small as they may be and still reach what reads them.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use stablerep::weights::{SafeTensors, write_safetensors};
use tar::{Builder, EntryType, Header};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures").join(name)
}

pub fn bytes(name: &str) -> Vec<u8> {
    fs::read(fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub fn pictures(extension: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(fixture("image")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Writes all of `files` into `folder`.
pub fn put(folder: &Path, files: &[(&str, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// A CLIP vocabulary for three letters, with the ids of its merges.
fn vocabulary() -> Map<String, Value> {
    let tokens = ["a", "b", "g", "a</w>", "b</w>", "g</w>", "ag</w>", "bag</w>", "<|startoftext|>", "<|endoftext|>"];
    tokens.iter().zip(0..).map(|(token, id)| ((*token).to_owned(), json!(id))).collect()
}

pub fn vocab_json() -> Vec<u8> {
    serde_json::to_vec(&vocabulary()).unwrap()
}

pub fn merges_txt() -> Vec<u8> {
    b"#version: 0.2\na g</w>\nb ag</w>\n".to_vec()
}

/// A folder's `tokenizer.json` of the same, its post-processor written in either way.
pub fn tokenizer_json() -> Vec<Vec<u8>> {
    let mut whole: Value = serde_json::from_slice(&bytes("tiny_tokenizer/tokenizer.json")).unwrap();
    whole["model"]["vocab"] = vocabulary().into();
    whole["model"]["merges"] = json!([["a", "g</w>"], ["b", "ag</w>"]]);
    for (token, id) in whole["added_tokens"].as_array_mut().unwrap().iter_mut().zip([8, 9]) {
        token["id"] = json!(id);
    }
    whole["post_processor"]["cls"] = json!(["<|startoftext|>", 8]);
    whole["post_processor"]["sep"] = json!(["<|endoftext|>", 9]);
    let roberta = serde_json::to_vec(&whole).unwrap();
    let special = |token: &str| json!({"SpecialToken": {"id": token, "type_id": 0}});
    let ids = |token: &str, id: u32| json!({"id": token, "ids": [id], "tokens": [token]});
    whole["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [special("<|startoftext|>"), {"Sequence": {"id": "A", "type_id": 0}}, special("<|endoftext|>")],
        "pair": [],
        "special_tokens": {
            "<|startoftext|>": ids("<|startoftext|>", 8), "<|endoftext|>": ids("<|endoftext|>", 9)
        }
    });
    vec![roberta, serde_json::to_vec(&whole).unwrap()]
}

/// The tokenizer of a small model, as files of a folder.
pub fn tokenizer(folder: &Path) {
    let named = bytes("micro_sd/a/tokenizer/special_tokens_map.json");
    put(folder, &[("vocab.json", vocab_json()), ("merges.txt", merges_txt()), ("special_tokens_map.json", named)]);
}

/// A settings file of it that leaves the added tokens to others, and one that lists them.
pub fn tokenizer_config() -> Vec<Vec<u8>> {
    let plain = bytes("micro_sd/a/tokenizer/tokenizer_config.json");
    let mut listing: Value = serde_json::from_slice(&plain).unwrap();
    let token = |content: &str| json!({"content": content, "lstrip": false, "normalized": true, "special": true});
    listing["added_tokens_decoder"] = json!({"8": token("<|startoftext|>"), "9": token("<|endoftext|>")});
    vec![plain, serde_json::to_vec(&listing).unwrap()]
}

/// The first images or labels of the photographs: a head of so many bytes, five entries of `each`.
fn idx(name: &str, head: usize, each: usize) -> Vec<u8> {
    let packed = fs::read(root().join("assets/fashion-mnist").join(name)).unwrap();
    let mut all = vec![0; head + 5 * each];
    flate2::read::GzDecoder::new(&packed[..]).read_exact(&mut all).unwrap();
    all[4..8].copy_from_slice(&5u32.to_be_bytes());
    all
}

pub static IDX_IMAGES: LazyLock<Vec<u8>> = LazyLock::new(|| idx("t10k-images-idx3-ubyte.gz", 16, 784));
pub static IDX_LABELS: LazyLock<Vec<u8>> = LazyLock::new(|| idx("t10k-labels-idx1-ubyte.gz", 8, 1));

pub fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// A picture of few bytes.
pub fn picture() -> Vec<u8> {
    bytes("image/interlaced_gray1.png")
}

fn member(tar: &mut Builder<Vec<u8>>, name: &str, data: &[u8]) {
    let mut header = Header::new_ustar();
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, data).unwrap();
}

/// A tar of these members.
pub fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    members.iter().for_each(|(name, data)| member(&mut tar, name, data));
    tar.into_inner().unwrap()
}

/// What `generate` records of a picture.
pub fn record() -> Value {
    json!({
        "caption": "a bag", "caption_id": 0, "image_index": 0, "seed": 7, "sampler": "ddim", "steps": 2,
        "guidance_scale": 2.0, "negative_prompt": "", "width": 16, "height": 16, "generated_width": 16,
        "generated_height": 16, "model_sha256": "ab", "precision": "f32", "fp8_sha256": null,
        "initial_noise_sha256": null, "flags": ["truncated"]
    })
}

/// Shards as `generate` writes them, and as other tools do: long names, extended headers, several pictures of a
/// caption, classes, folders.
pub fn shards() -> Vec<Vec<u8>> {
    let (picture, record) = (picture(), record().to_string());
    let plain = tar_of(&[
        ("0_000.png", &picture),
        ("0_000.txt", b"a bag"),
        ("0_000.json", record.as_bytes()),
        ("0_001.png", &picture),
        ("0_001.txt", b"a bag"),
        ("0_001.json", br#"{"caption":"a bag","caption_id":1}"#),
    ]);
    let mut tar = Builder::new(Vec::new());
    let mut folder = Header::new_ustar();
    folder.set_entry_type(EntryType::Directory);
    folder.set_size(0);
    tar.append_data(&mut folder, "d/", &b""[..]).unwrap();
    for (name, data) in
        [("d/k.0.png", &picture[..]), ("d/k.1.png", &picture), ("d/k.txt", b"a coat"), ("d/k.cls", b"3")]
    {
        member(&mut tar, name, data);
    }
    let name = "d/".to_owned() + &"n".repeat(120);
    let mut header = Header::new_gnu();
    header.set_size(picture.len() as u64);
    tar.append_data(&mut header, format!("{name}.png"), &picture[..]).unwrap();
    tar.append_pax_extensions([("path", format!("{name}.json").as_bytes()), ("comment", b"x")]).unwrap();
    member(&mut tar, "short", br#"{"caption":"a shirt"}"#);
    tar.append_pax_extensions([("path", format!("{name}.cls").as_bytes()), ("size", b"2")]).unwrap();
    member(&mut tar, "short", b"12");
    vec![plain, tar.into_inner().unwrap()]
}

/// A shard of classes, for a probe.
pub fn labelled() -> Vec<u8> {
    let picture = picture();
    let jpeg = bytes("image/gray.jpg");
    tar_of(&[("a.png", &picture), ("a.cls", b"0"), ("b.jpg", &jpeg), ("b.cls", b"11\n"), ("b.txt", b"a bag")])
}

/// A backbone of one block, with `more` in its header. Made in `folder`.
pub fn backbone(folder: &Path, more: &[(&str, String)]) -> Vec<u8> {
    let file = SafeTensors::open(fixture("train_run/init.safetensors")).unwrap();
    let kept: Vec<&str> =
        file.names().filter(|name| !name.contains("image_mlp.") && !name.contains("blocks.1.")).collect();
    let read = |name: &&str| {
        let shape = file.shape(name).unwrap().to_vec();
        (name.to_string(), file.f32(name, &shape).unwrap(), shape)
    };
    let tensors: Vec<(String, Vec<f32>, Vec<usize>)> = kept.iter().map(read).collect();
    let tensors: Vec<_> =
        tensors.iter().map(|(name, values, shape)| (name.clone(), shape.clone(), &values[..])).collect();
    let path = folder.join("made.safetensors");
    write_safetensors(&path, &tensors, more).unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(path).unwrap();
    bytes
}
