//! Neighbours among pictures of shards and folders.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stablerep::error::Result;
use stablerep::eval::encoder::{ModelSource, Placement};
use stablerep::eval::nearest::{DrawnSample, Found, NearestConfig, find};
use stablerep::image::{Rgb8, encode_png};
use stablerep::models::vit::VitConfig;
use stablerep::shards::ShardWriter;
use tempfile::TempDir;

fn model() -> ModelSource {
    let model = VitConfig {
        image_size: 16,
        patch_size: 4,
        width: 32,
        depth: 2,
        heads: 2,
        mlp_ratio: 4,
        channels: 3,
        qk_norm: false,
        variant: Default::default(),
    };
    ModelSource::Random { model, seed: 5 }
}

/// Left half of one brightness, right half of another.
fn picture(left: u8, right: u8) -> Vec<u8> {
    let data = (0..16 * 16).flat_map(|at| [if at % 16 < 8 { left } else { right }; 3]).collect();
    encode_png(&Rgb8 { width: 16, height: 16, data }).unwrap()
}

/// A shard as `generate` writes it, with a picture that its json does not tell enough of.
fn shard(folder: &Path) {
    let mut shard = ShardWriter::create(folder.join("00000.tar")).unwrap();
    let drawn = |seed: u64| json!({"caption": "from json", "seed": seed, "model_sha256": "abc", "precision": "f16"});
    let latents = json!({"caption": "x", "seed": 3, "model_sha256": "abc", "initial_noise_sha256": "def"});
    let samples = [
        ("00000000_000", picture(10, 240), "dark at the left", drawn(1)),
        ("00000000_001", picture(240, 10), "dark at the right", drawn(2)),
        ("00000001_000", picture(128, 130), "gray", latents),
    ];
    for (key, png, caption, record) in &samples {
        let record = record.to_string();
        shard.add(key, &[("png", png), ("txt", caption.as_bytes()), ("json", record.as_bytes())]).unwrap();
    }
    shard.finish().unwrap();
}

fn run(config: &NearestConfig) -> Result<Found> {
    find(config, |DrawnSample { shard, key, precision }| format!("{} {key} {precision}", shard.display()))
}

#[test]
fn the_nearest_come_first_with_what_their_samples_tell() {
    let root = TempDir::new().unwrap();
    let at = |name: &str| root.path().join(name);
    ["shards", "photos"].iter().for_each(|name| fs::create_dir(at(name)).unwrap());
    shard(&at("shards"));
    fs::write(at("photos/bright.png"), picture(250, 250)).unwrap();
    for (name, bytes) in [("right.png", picture(238, 12)), ("left.png", picture(10, 240))] {
        fs::write(at(name), bytes).unwrap();
    }
    let config = NearestConfig {
        model: model(),
        placement: Placement { features: Some(at("kept")), ..Placement::default() },
        fit: None,
        resize: None,
        pictures: vec![at("right.png"), at("left.png")],
        data: vec![at("photos"), at("shards")],
        top: 3,
    };
    let found = run(&config).unwrap();
    let near = &found.report.nearest;
    assert_eq!(near.len(), 2 * 3);
    let ranks: Vec<usize> = near.iter().map(|near| near.rank).collect();
    assert_eq!(ranks, [1, 2, 3, 1, 2, 3]);
    assert!(near.chunks_exact(3).all(|near| near.is_sorted_by(|a, b| a.cosine >= b.cosine)));
    assert!(near[..3].iter().all(|near| near.picture.ends_with("right.png")));
    let tar = at("shards").join("00000.tar").display().to_string();
    let (first, own) = (&near[0], &near[3]);
    assert_eq!(first.found, format!("{tar}: 00000000_001"));
    assert_eq!(
        (first.caption.as_deref(), first.seed, first.model.as_deref()),
        (Some("dark at the right"), Some(2), Some("abc"))
    );
    assert_eq!(first.again, Some(format!("{tar} 00000000_001 f16")));
    // The picture itself is among them, and nothing is nearer.
    assert_eq!((own.caption.as_deref(), (own.cosine - 1.0).abs() < 1e-6), (Some("dark at the left"), true));
    assert_eq!(encode_png(&found.image(own).unwrap()).unwrap(), picture(10, 240));

    // All there are, where more are asked for; what began with latents of a file cannot be drawn again.
    let all = run(&NearestConfig { top: 100, ..config.clone() }).unwrap().report;
    assert_eq!(all.nearest.len(), 2 * 4);
    assert_eq!(all.nearest[..3], near[..3]);
    let of = |what: &str| all.nearest.iter().find(|near| near.found.contains(what)).unwrap();
    assert_eq!((&of("00000001_000").again, of("00000001_000").seed), (&None, Some(3)));
    let bright = of("bright.png");
    assert_eq!((&bright.caption, bright.seed, &bright.again), (&None, None, &None));

    // What was computed is kept, and read as it was.
    let kept = || fs::read_dir(at("kept")).unwrap().count();
    let before = kept();
    assert_eq!(before, 3, "of the pictures and of each set");
    assert_eq!(run(&config).unwrap().report, found.report);
    assert_eq!(kept(), before);

    let path = at("nearest.json");
    found.report.write(&path).unwrap();
    let report: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(report["nearest"][0]["caption"], "dark at the right");
    assert_eq!(report["data"][1]["images"], 3);
}

#[test]
fn what_cannot_be_read_is_named() {
    let root = TempDir::new().unwrap();
    shard(root.path());
    let picture_of = |name: &str, bytes: &[u8]| {
        let path = root.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let refused = |pictures: Vec<PathBuf>, data: PathBuf, part: &str| {
        let placement = Placement::default();
        let config =
            NearestConfig { model: model(), placement, fit: None, resize: None, pictures, data: vec![data], top: 1 };
        let error = run(&config).unwrap_err();
        assert!(error.exit_code() == 3 && error.to_string().contains(part), "{error}");
    };
    let (good, text) = (picture_of("good.png", &picture(1, 2)), picture_of("text.png", b"no picture"));
    let tar = root.path().join("00000.tar");
    refused(vec![good.clone(), text], tar.clone(), "text.png: neither JPEG nor PNG");
    refused(vec![good.clone(), root.path().join("gone.png")], tar.clone(), "gone.png: is gone");
    let bytes = fs::read(&tar).unwrap();
    let cut = picture_of("cut.tar", &bytes[..bytes.len() - 2000]);
    refused(vec![good], cut, "problem(s), first: ");
}
