//! What reads files, each with valid ones.

use std::fs;
use std::path::{Path, PathBuf};

use stablerep::captions::{Captions, Options};
use stablerep::error::{Error, Result};
use stablerep::eval::dataset::idx;
use stablerep::generate::CalibrationFile;
use stablerep::generate::sampler::SchedulerConfig;
use stablerep::image;
use stablerep::metrics::JsonLines;
use stablerep::models::tokenizer::Tokenizer;
use stablerep::models::vit::VitFile;
use stablerep::models::{clip_text, unet, vae};
use stablerep::shards::{CaptionGroups, Shards, read_sizes};
use stablerep::weights::SafeTensors;

use crate::mutate::Structure;
use crate::{Reader, fuzz};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn pictures(extension: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(fixture("image")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn alone(_: &Path) {}

/// The tokenizer of a small model, but for the file that is fuzzed.
fn tokenizer(folder: &Path) {
    for entry in fs::read_dir(fixture("micro_sd/a/tokenizer")).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, folder.join(from.file_name().unwrap())).unwrap();
    }
}

fn read_tokenizer(folder: &Path) -> Result<()> {
    Tokenizer::open(folder, 16)?.encode("a photo of a bag").map(|_| ())
}

fn read_captions(folder: &Path, name: &str) -> Result<()> {
    Captions::open(&folder.join(name), &Options::default()).map(|_| ())
}

fn read_tensors(folder: &Path) -> Result<()> {
    let file = SafeTensors::open(folder.join("x.safetensors"))?;
    for name in file.names() {
        let shape = file.shape(name).unwrap_or_default();
        // Values of another kind, or that are no numbers, are refused by name.
        for result in [file.f32(name, shape).map(drop), file.i64(name, shape).map(drop)] {
            match result {
                Err(Error::Data(text)) if !text.contains("x.safetensors") => return Err(Error::Data(text)),
                _ => {}
            }
        }
    }
    Ok(())
}

fn read_shard(folder: &Path) -> Result<()> {
    let shards = Shards::open(&[folder.join("x.tar")])?;
    let damage = shards.damage().first().map(|damage| Error::Data(damage.to_string()));
    for sample in shards.iter() {
        let _ = (sample.name(), sample.record().is_ok());
        for picture in sample.pictures().unwrap_or_default() {
            let picture = picture.read()?;
            let _ = image::dimensions(&picture, "x.tar");
        }
    }
    CaptionGroups::new(&shards)?;
    damage.map_or(Ok(()), Err)
}

/// A little of the photographs, not packed.
fn idx_file(name: &str, head: usize, each: usize) -> Vec<u8> {
    let packed = fs::read(root().join("assets/fashion-mnist").join(name)).unwrap();
    let mut all = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed[..]), &mut all).unwrap();
    all.truncate(head + 5 * each);
    all[4..8].copy_from_slice(&5u32.to_be_bytes());
    all
}

macro_rules! readers {
    ($($number:literal $name:ident: $file:literal, $structure:ident, $valid:expr, $beside:expr, $read:expr;)*) => {
        $(
            #[test]
            fn $name() {
                fuzz(&Reader {
                    number: $number,
                    file: $file,
                    structure: Structure::$structure,
                    valid: $valid,
                    beside: $beside,
                    read: $read,
                    forgives: $file == "metrics.jsonl",
                });
            }
        )*
    };
}

readers! {
    1 safetensors: "x.safetensors", Safetensors,
        |_| vec![bytes("micro_sd/a/text_encoder/model.safetensors"), bytes("head.safetensors")], alone, read_tensors;
    2 shards: "x.tar", Tar, |_| vec![bytes("train_run/stablerep/00000.tar")], alone, read_shard;
    3 sizes: "sizes.json", Json, |_| vec![bytes("train_run/stablerep/sizes.json")], alone,
        |folder| read_sizes(folder).map(|_| ());
    4 unet: "config.json", Json, |_| vec![bytes("micro_sd/a/unet/config.json"), bytes("micro_sd/b/unet/config.json")],
        alone, |folder| unet::Config::open(&folder.join("config.json")).map(|_| ());
    5 vae: "config.json", Json, |_| vec![bytes("micro_sd/a/vae/config.json")], alone,
        |folder| vae::Config::open(&folder.join("config.json")).map(|_| ());
    6 text_encoder: "config.json", Json, |_| vec![bytes("micro_sd/a/text_encoder/config.json")], alone,
        |folder| clip_text::Config::open(&folder.join("config.json")).map(|_| ());
    7 scheduler: "scheduler_config.json", Json, |_| vec![bytes("micro_sd/a/scheduler/scheduler_config.json")], alone,
        |folder| SchedulerConfig::read(&folder.join("scheduler_config.json")).map(|_| ());
    8 vocabulary: "vocab.json", Json, |_| vec![bytes("micro_sd/a/tokenizer/vocab.json")], tokenizer, read_tokenizer;
    9 merges: "merges.txt", Text, |_| vec![bytes("micro_sd/a/tokenizer/merges.txt")], tokenizer, read_tokenizer;
    10 tokenizer_config: "tokenizer_config.json", Json, |_| vec![bytes("micro_sd/a/tokenizer/tokenizer_config.json")],
        tokenizer, read_tokenizer;
    11 special_tokens: "special_tokens_map.json", Json,
        |_| vec![bytes("micro_sd/a/tokenizer/special_tokens_map.json")], tokenizer, read_tokenizer;
    12 fast_tokenizer: "tokenizer.json", Json, |_| vec![bytes("tiny_tokenizer/tokenizer.json")], alone, |folder| {
        Tokenizer::open(folder, 77)?.encode("a photo of a bag").map(|_| ())
    };
    13 captions_txt: "x.txt", Text, |_| vec![b"a bag\r\n\na coat\nan \xc3\xa9clair\n".to_vec()], alone,
        |folder| read_captions(folder, "x.txt");
    14 captions_csv: "x.csv", Text,
        |_| vec![b"caption,url\n\"a \"\"bag\"\", blue\",u\na coat,v\n\"two\nlines\",w\n".to_vec()], alone,
        |folder| read_captions(folder, "x.csv");
    15 captions_tsv: "x.tsv", Text, |_| vec![b"caption\turl\na bag\tu\na coat\tv\n".to_vec()], alone,
        |folder| read_captions(folder, "x.tsv");
    16 idx_images: "x", Idx, |_| vec![idx_file("t10k-images-idx3-ubyte.gz", 16, 784)], alone, |folder| {
        let labels = idx_file("t10k-labels-idx1-ubyte.gz", 8, 1);
        idx::from_bytes(&fs::read(folder.join("x")).unwrap(), &labels, "x").map(|_| ())
    };
    17 idx_labels: "x", Idx, |_| vec![idx_file("t10k-labels-idx1-ubyte.gz", 8, 1)], alone, |folder| {
        let images = idx_file("t10k-images-idx3-ubyte.gz", 16, 784);
        idx::from_bytes(&images, &fs::read(folder.join("x")).unwrap(), "x").map(|_| ())
    };
    18 png: "x.png", Png, |_| pictures("png"), alone,
        |folder| image::decode(&fs::read(folder.join("x.png")).unwrap(), "x.png").map(|_| ());
    19 jpeg: "x.jpg", Jpeg, |_| pictures("jpg"), alone,
        |folder| image::decode(&fs::read(folder.join("x.jpg")).unwrap(), "x.jpg").map(|_| ());
    20 metrics: "metrics.jsonl", Text, |_| {
        let line = |step: u32| format!("{{\"step\":{step},\"loss\":{},\"lr\":0.001}}\n", 1.0 / f64::from(step + 1));
        vec![(0..9).map(line).collect::<String>().into_bytes()]
    }, alone, |folder| JsonLines::resume(folder.join("metrics.jsonl"), 9).map(|_| ());
    21 calibration: "fp8.json", Json, |_| vec![concat!(
        r#"{"model_sha256":"0","captions_sha256":"1","images":2,"sampler":"ddim","steps":2,"guidance_scale":2.0,"#,
        r#""negative_prompt":"","seed":0,"width":32,"height":32,"ranges":{"down_blocks.0.resnets.0.conv1":3.5}}"#
    ).into()], alone, |folder| CalibrationFile::open(&folder.join("fp8.json")).map(|_| ());
    22 backbone: "x.safetensors", Safetensors, |_| vec![bytes("train_run/init.safetensors")], alone,
        |folder| VitFile::open(&folder.join("x.safetensors")).map(|_| ());
}
