//! What reads what this program wrote: folders of images, training runs, and files of flags. And `inspect`, which reads
//! all of it.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};
use stablerep::captions::{Captions, Format, Options, Read};
use stablerep::cli;
use stablerep::device::Plan;
use stablerep::error::Result;
use stablerep::generate::{Drawing, Identity, ImageFormat, Precision, Told, missing};
use stablerep::metrics::JsonLines;
use stablerep::shards::{Shards, unfinished};
use stablerep::store;
use stablerep::train::{DataRecord, Recipe, State, checkpoint};

use super::alone;
use crate::recipe::smallest;
use crate::valid::{bytes, fixture, picture, put, record, shards, tar_of};

fn recipe() -> Recipe {
    Recipe { max_bad: 3, ..smallest() }
}

/// Steps of the whole run, and of an epoch.
const STEPS: (u64, u64) = (90, 9);

fn data() -> DataRecord {
    let entry = json!({"name": "00000.tar", "samples": 4, "sha256": "ab"});
    serde_json::from_value(json!({"shards": [entry], "start": "random weights"})).unwrap()
}

fn saved(folder: &Path) -> Vec<u8> {
    let (recipe, mut plan) = (recipe(), Plan::new());
    let network = recipe.network().unwrap();
    let mut state = State::new(&mut plan, &*network);
    state.init(&*network, &recipe).unwrap();
    state.step = 20;
    let path = folder.join("made.safetensors");
    checkpoint::save(&path, &*network, &state, &recipe, STEPS.1, (&data(), &[1, 3])).unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(path).unwrap();
    bytes
}

/// A checkpoint as a resumed run takes it.
fn resume(folder: &Path) -> Result<()> {
    let (path, recipe, mut plan) = (folder.join("checkpoint.safetensors"), recipe(), Plan::new());
    let network = recipe.network()?;
    let mut state = State::new(&mut plan, &*network);
    let step = checkpoint::check(&path, &recipe, STEPS.0, STEPS.1)?;
    checkpoint::bad_pictures(&path, &data(), 4)?;
    checkpoint::load(&path, &*network, &mut state, &recipe)?;
    assert!(step == state.step && step <= STEPS.0);
    let values = [&state.params, &state.kept, &state.m, &state.v];
    assert!(values.iter().all(|values| values.iter().all(|value| value.is_finite())), "a value that is no number");
    Ok(())
}

/// A generation of two captions with one image each, one of them in each shard.
fn identity() -> Identity {
    let read = Read { format: Format::Txt, column: None, header: false, key_column: None };
    Identity {
        model_sha256: "ab".into(),
        precision: Precision::F32,
        loras: Vec::new(),
        fp8_sha256: None,
        caption_list_sha256: list_sha256(&["a bag", "a coat"]),
        captions: 2,
        captions_read: Some(read),
        images_per_caption: 1,
        captions_per_shard: 1,
        drawing: Drawing { steps: 2, seed: 7, ..Drawing::default() }.sized((16, 16)),
        store_size: None,
        format: ImageFormat::Png,
        quality: 95,
        initial_noise_sha256: None,
        save_latents: false,
        as_diffusers: false,
    }
}

/// What a folder knows its captions by.
fn list_sha256(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for (id, text) in (0u64..).zip(texts) {
        hash.update(id.to_le_bytes());
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
        hash.update(0u64.to_le_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn captions(path: &Path) -> Captions {
    Captions::open(path, &Options::default()).unwrap()
}

/// The record of a generation, as it is and as earlier versions wrote it.
fn recorded(folder: &Path) -> Vec<Vec<u8>> {
    let now = serde_json::to_value(identity()).unwrap();
    let mut earlier = now.clone();
    let map = earlier.as_object_mut().unwrap();
    map.remove("caption_list_sha256");
    map.remove("captions_read");
    map.insert("captions_sha256".into(), captions(&folder.join("captions.txt")).sha256.into());
    [now, earlier].map(|value| serde_json::to_vec_pretty(&value).unwrap()).into()
}

/// The other files of that folder.
fn generated(folder: &Path) {
    let stats =
        json!({"captions": 1, "images": 1, "truncated_captions": 0, "not_finite_images": 0, "constant_images": 0});
    put(
        folder,
        &[
            ("captions.txt", b"a bag\na coat\n".to_vec()),
            ("generate.json", serde_json::to_vec(&identity()).unwrap()),
            ("00000.tar", one_sample()),
            ("00000_stats.json", serde_json::to_vec(&stats).unwrap()),
        ],
    );
}

fn one_sample() -> Vec<u8> {
    let record = record().to_string();
    let picture = picture();
    tar_of(&[("00000000_000.png", &picture), ("00000000_000.txt", b"a bag"), ("00000000_000.json", record.as_bytes())])
}

/// What a resumed generation finds in its folder.
fn left(folder: &Path) -> Result<()> {
    unfinished(folder);
    missing(folder, &identity(), &captions(&folder.join("captions.txt"))).map(|_| ())
}

fn told(folder: &Path) -> Result<()> {
    let shards = Shards::open(&[folder.join("00000.tar")])?;
    Told::of(&shards, "00000000_000").map(|_| ())
}

fn words(line: &[&str]) -> Vec<OsString> {
    std::iter::once("stablerep").chain(line.iter().copied()).map(OsString::from).collect()
}

/// What `inspect` prints of `path`.
fn inspect(path: &Path, more: &[&str]) -> Result<()> {
    let path = path.display().to_string();
    cli::call(words(&[&["inspect", &path], more].concat())).unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// A file of flags for `command`. What it leaves unsaid is the command line's to say.
fn flags(folder: &Path, command: &str) -> Result<()> {
    let path = folder.join("x.toml").display().to_string();
    cli::check(words(&[command, "--config", &path])).unwrap_or_else(|wrong| {
        assert!(wrong.to_string().contains("required"), "{wrong}");
        Ok(())
    })
}

readers! {
    20 metrics: "metrics.jsonl", Text, |_| {
        let line = |step: u32| format!("{{\"step\":{step},\"loss\":{},\"lr\":0.001}}\n", 1.0 / f64::from(step + 1));
        vec![(0..9).map(line).collect::<String>().into_bytes()]
    }, alone, |folder| JsonLines::resume(folder.join("metrics.jsonl"), 9).map(|_| ());
    31 saved_checkpoint: "checkpoint.safetensors", Safetensors, |folder| vec![saved(folder)], alone, resume;
    47 start: "init.safetensors", Safetensors, |folder| vec![saved(folder)], alone, |folder| {
        let recipe = Recipe { init_from: Some(folder.join("init.safetensors")), ..recipe() };
        let network = recipe.network()?;
        State::new(&mut Plan::new(), &*network).init(&*network, &recipe)
    };
    32 data_record: "data.json", Json, |_| vec![serde_json::to_vec(&data()).unwrap()], alone,
        |folder| data().check(folder).map(|_| ());
    33 run_record: "config.json", Json, |_| vec![serde_json::to_vec(&recipe()).unwrap()], alone,
        |folder| store::claim_folder(folder, "config.json", &recipe(), &[]);
    34 generation: "generate.json", Json, recorded, generated, left;
    35 shard_counts: "00000_stats.json", Json, |folder| vec![fs::read(folder.join("00000_stats.json")).unwrap()],
        generated, left;
    36 drawn_shard: "00000.tar", Tar, |_| vec![one_sample()], generated, left;
    37 sample_record: "record.json", Json, |_| vec![record().to_string().into_bytes()], generated, |folder| {
        let record = fs::read(folder.join("record.json")).unwrap();
        put(folder, &[("00000.tar", tar_of(&[("00000000_000.png", &picture()), ("00000000_000.json", &record)]))]);
        told(folder)
    };
    38 told_by_folder: "generate.json", Json, recorded, generated, told;
    39 inspected_tensors: "x.safetensors", Safetensors,
        |folder| vec![saved(folder), bytes("head.safetensors")], alone,
        |folder| inspect(&folder.join("x.safetensors"), &[]);
    40 inspected_shards: "x.tar", Tar, |_| shards(), alone, |folder| inspect(&folder.join("x.tar"), &["--check"]);
    41 flags_of_generate: "x.toml", Toml, |folder| {
        let model = fixture("micro_sd/a").display().to_string();
        let captions = folder.join("captions.txt").display().to_string();
        vec![format!(
            "# A run.\nmodel = {model:?}\ncaptions = {captions:?}\noutput = \"images\"\nimages-per-caption = 2\nsteps = 4\n\
             guidance-scale = 2.0\nsampler = \"ddim\"\nsave-latents = true\nsweep-guidance = [1.5, 2]\n"
        ).replace("guidance-scale = 2.0\n", "").into_bytes()]
    }, generated, |folder| flags(folder, "generate");
    42 flags_of_train: "x.toml", Toml, |_| {
        let data = fixture("train_run/stablerep").display().to_string();
        vec![format!(
            "data = [{data:?}]\noutput = \"run\"\npreset = \"demo-simclr\"\nhead-dims = [32, 16]\nlr = 1e-3\ndownsample = false\n\
             save-every = \"2steps\"\nthreads = 1\n"
        ).into_bytes()]
    }, alone, |folder| flags(folder, "train");
}
