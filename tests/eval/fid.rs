//! `eval fid` and `eval diversity` from files to reports.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use stablerep::error::Error;
use stablerep::eval::distance::kernel::Subsets;
use stablerep::eval::diversity::{self, DiversityConfig};
use stablerep::eval::encoder::{ModelSource, Placement};
use stablerep::eval::fid::report::FidReport;
use stablerep::eval::fid::{FidConfig, Source, run};
use stablerep::image::{Rgb8, encode_png};
use stablerep::models::vit::VitConfig;
use stablerep::rng::{Domain, Stream};
use stablerep::shards::ShardWriter;
use stablerep::weights::SafeTensors;
use tempfile::TempDir;

#[path = "../common/inception.rs"]
mod formula;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Noise around a colour of its own.
fn picture(id: u32, width: usize, height: usize) -> Rgb8 {
    let mut stream = Stream::new(1, Domain::Probe, [id, 0, 0]);
    let color = [0; 3].map(|_| stream.below(180));
    let data = (0..3 * width * height).map(|at| (color[at % 3] + stream.below(70)) as u8).collect();
    Rgb8 { width, height, data }
}

fn folder(root: &TempDir, name: &str, pictures: &[Rgb8]) -> PathBuf {
    let folder = root.path().join(name);
    fs::create_dir_all(folder.join("below")).unwrap();
    for (i, picture) in pictures.iter().enumerate() {
        let place = if i % 2 == 0 { folder.clone() } else { folder.join("below") };
        fs::write(place.join(format!("{i:03}.png")), encode_png(picture).unwrap()).unwrap();
    }
    folder
}

/// A shard of `count` captions with two pictures each, as `generate` writes it; the pictures of the first are equal.
fn shards(folder: &Path, count: u32, scale: f32, seed: u64) {
    fs::create_dir_all(folder).unwrap();
    let mut shard = ShardWriter::create(folder.join("00000.tar")).unwrap();
    for caption in 0..count {
        for index in 0..2 {
            let id = 1000 + 10 * caption + if caption == 0 { 0 } else { index } + scale as u32 * 777;
            let text = format!("caption {caption}");
            let record = json!({
                "caption_id": caption, "caption": text, "seed": seed, "image_index": index, "guidance_scale": scale,
            });
            let (png, record) = (encode_png(&picture(id, 20, 24)).unwrap(), record.to_string());
            let members = [("png", &png[..]), ("txt", text.as_bytes()), ("json", record.as_bytes())];
            shard.add(&format!("{caption:05}_{index:03}"), &members).unwrap();
        }
    }
    shard.finish().unwrap();
}

fn model() -> ModelSource {
    let model = VitConfig {
        image_size: 16,
        patch_size: 4,
        width: 16,
        depth: 1,
        heads: 2,
        mlp_ratio: 4,
        channels: 3,
        qk_norm: false,
        variant: Default::default(),
    };
    ModelSource::Random { model, seed: 3 }
}

fn config(real: &Path, generated: &[&Path]) -> FidConfig {
    FidConfig {
        source: Source::Encoder { model: model(), placement: Placement::default(), fit: None },
        real: real.to_path_buf(),
        generated: generated.iter().map(|path| path.to_path_buf()).collect(),
        kernel: Some(Subsets { count: 5, size: 8 }),
        neighbours: Some(2),
        seed: 0,
        max_bad: 0,
        output: None,
    }
}

fn pictures(count: u32, first: u32) -> Vec<Rgb8> {
    (0..count).map(|i| picture(first + i, 24, 18)).collect()
}

#[track_caller]
fn refused(config: &FidConfig, parts: &[&str]) -> Error {
    let error = run(config).unwrap_err();
    for part in parts {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    error
}

#[test]
fn a_sweep_is_compared_set_by_set_and_again_to_the_same_bytes() {
    let root = TempDir::new().unwrap();
    let real = folder(&root, "real", &pictures(30, 0));
    let sweep = root.path().join("sweep");
    shards(&sweep.join("w=10.0"), 12, 10.0, 0);
    shards(&sweep.join("w=2.5"), 12, 2.5, 0);
    let output = root.path().join("out");
    let config = FidConfig { output: Some(output.clone()), ..config(&real, &[&sweep, &real]) };
    let report = run(&config).unwrap();
    let scales: Vec<Option<f64>> = report.generated.iter().map(|found| found.guidance_scale).collect();
    assert_eq!(scales, [Some(2.5), Some(10.0), None]);
    let counts: Vec<usize> = report.generated.iter().map(|found| found.set.images).collect();
    assert_eq!((report.real.images, counts), (30, vec![24, 24, 30]));
    // Of the real pictures themselves.
    let same = &report.generated[2];
    assert!(same.frechet < 1e-9 && report.generated[0].frechet > 0.01, "{report:?}");
    let neighbours = same.neighbours.unwrap();
    assert_eq!((neighbours.precision, neighbours.recall, neighbours.coverage), (1.0, 1.0, 1.0));
    let text = report.text();
    for part in ["FD, not FID", "(N = 30)", "sets of 24 to 30 pictures", "KID", "recall", "w=2.5"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(report.markdown().contains("| set | w | N | FD | KID |"), "{}", report.markdown());
    let bytes = || ["report.json", "fid.png"].map(|name| fs::read(output.join(name)).unwrap());
    let before = bytes();
    let json: Value = serde_json::from_slice(&before[0]).unwrap();
    assert_eq!(json["generated"][1]["images"], 24);
    assert_eq!(json["generated"][1]["guidance_scale"], 10.0);
    run(&config).unwrap();
    assert_eq!(bytes(), before);
}

#[test]
fn sets_of_other_seeds_are_spoken_of() {
    let root = TempDir::new().unwrap();
    let real = folder(&root, "real", &pictures(30, 0));
    let sets = ["a", "b", "c"].map(|name| root.path().join(name));
    shards(&sets[0], 12, 2.0, 0);
    shards(&sets[1], 12, 3.0, 0);
    shards(&sets[2], 12, 4.0, 9);
    let remarks = |sets: &[&Path]| run(&config(&real, sets)).unwrap().remarks.join("\n");
    let same = remarks(&[&sets[0], &sets[1]]);
    assert!(same.contains("drawn from the same captions, seeds"), "{same}");
    let other = remarks(&[&sets[0], &sets[1], &sets[2]]);
    assert!(other.contains("/c and") && other.contains("24 picture(s) of the one and 24"), "{other}");
}

#[test]
fn sets_that_say_nothing_are_refused() {
    let root = TempDir::new().unwrap();
    let real = folder(&root, "real", &pictures(8, 0));
    let empty = folder(&root, "empty", &[]);
    refused(&config(&real, &[&empty]), &["empty: no pictures in it", "expected .jpg or .png files"]);
    let sweep = root.path().join("sweep");
    shards(&sweep.join("w=2.0"), 4, 2.0, 0);
    fs::write(sweep.join("w=2.0/contact-sheet.png"), encode_png(&picture(1, 9, 9)).unwrap()).unwrap();
    refused(&config(&sweep, &[&real]), &["sweep: holds shards further down", "w=2.0/00000.tar"]);
    let one = folder(&root, "one", &pictures(1, 50));
    refused(&config(&real, &[&one]), &["one: 1 picture has no covariance"]);
    let two = folder(&root, "two", &pictures(2, 50));
    refused(&config(&real, &[&two]), &["two: 2 pictures have no 2 neighbours", "--neighbours"]);
    let zero = FidConfig { neighbours: Some(0), ..config(&real, &[&real]) };
    assert_eq!(refused(&zero, &["--neighbours 0"]).exit_code(), 2);
    let zero = FidConfig { kernel: Some(Subsets { count: 3, size: 1 }), ..config(&real, &[&real]) };
    refused(&zero, &["--kid-subset-size 1"]);
    let zero = FidConfig { kernel: Some(Subsets { count: 0, size: 3 }), ..config(&real, &[&real]) };
    refused(&zero, &["--kid-subsets 0"]);
}

/// Fewer pictures than dimensions, equal pictures: numbers, and what they are worth in words.
#[test]
fn small_and_flat_sets_have_finite_distances() {
    let root = TempDir::new().unwrap();
    let real = folder(&root, "real", &pictures(5, 0));
    let flat = folder(&root, "flat", &vec![picture(7, 9, 9); 4]);
    let FidReport { generated, remarks, .. } = run(&config(&real, &[&flat])).unwrap();
    assert!(generated[0].frechet.is_finite() && generated[0].frechet > 0.0, "{generated:?}");
    assert!(remarks.iter().any(|line| line.contains("N = 4 is not above the 16 dimensions")), "{remarks:?}");
    let FidReport { generated, .. } = run(&config(&flat, &[&flat])).unwrap();
    assert!(generated[0].frechet < 1e-12, "{generated:?}");
    assert_eq!(generated[0].neighbours.unwrap().precision, 1.0);
}

/// Every kind of PNG and JPEG, a line of pixels, and a file that is cut.
#[test]
fn pictures_of_every_kind_are_read_and_damaged_ones_named() {
    let root = TempDir::new().unwrap();
    let odd = folder(&root, "odd", &[picture(1, 100, 1), picture(2, 1, 100), picture(3, 1, 1)]);
    for entry in fs::read_dir(fixtures().join("image")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending != "safetensors") {
            fs::copy(&path, odd.join(path.file_name().unwrap())).unwrap();
        }
    }
    let real = folder(&root, "real", &pictures(30, 0));
    let report = run(&config(&real, &[&odd])).unwrap();
    let count = report.generated[0].set.images;
    assert!(count > 25, "{count}");
    let cut = encode_png(&picture(4, 30, 30)).unwrap();
    fs::write(odd.join("cut.png"), &cut[..cut.len() / 2]).unwrap();
    let one = config(&real, &[&odd]);
    refused(&one, &["cut.png", "1 bad picture(s)", "--max-bad"]);
    let report = run(&FidConfig { max_bad: 1, ..one }).unwrap();
    assert_eq!((report.generated[0].set.images, report.generated[0].set.bad), (count, 1));
}

/// The whole command with Inception; features that are known are not computed again.
#[test]
fn inceptions_features_are_kept() {
    let root = TempDir::new().unwrap();
    let golden = SafeTensors::open(fixtures().join("inception.safetensors")).unwrap();
    let weights = root.path().join("inception.safetensors");
    formula::write(&weights, &golden, None);
    let (real, generated) = (folder(&root, "real", &pictures(2, 0)), folder(&root, "generated", &pictures(2, 5)));
    let (cache, output) = (root.path().join("cache"), root.path().join("out"));
    let fid = |weights: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stablerep"));
        command.args(["eval", "fid", "--resize", "clean-fid", "--inception"]).arg(weights).arg("--real").arg(&real);
        command.arg("--generated").arg(&generated).arg("--output").arg(&output).env("STABLEREP_CACHE", &cache);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let distance = || {
        let report: Value = serde_json::from_slice(&fs::read(output.join("report.json")).unwrap()).unwrap();
        assert_eq!(report["features"]["inception"]["resize"], "clean-fid");
        report["generated"][0]["frechet"].as_f64().unwrap()
    };
    let (code, said) = fid(&weights);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("FID") && said.contains("clean-fid") && distance() > 0.01, "{said}");
    // What is kept is believed.
    let kept: Vec<PathBuf> = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    for path in kept {
        let mut zeros = vec![0; 4 * 2 * 2048];
        zeros.extend(crc32c::crc32c(&zeros).to_le_bytes());
        fs::write(path, zeros).unwrap();
    }
    assert_eq!(fid(&weights).0, Some(0));
    assert_eq!(distance(), 0.0);
    // Flags of encoders, and a device that is not there.
    for (flags, code) in [(&["--heads", "3"][..], 2), (&["--fit", "pad"], 2), (&["--device", "cuda:99"], 4)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stablerep"));
        command.args(["eval", "fid", "--inception"]).arg(&weights).arg("--real").arg(&real);
        command.arg("--generated").arg(&generated).args(flags);
        assert_eq!(command.output().unwrap().status.code(), Some(code), "{flags:?}");
    }
    let pickle = root.path().join("pt_inception.pth");
    fs::write(&pickle, b"\x80\x02").unwrap();
    let (code, said) = fid(&pickle);
    assert!(code == Some(3) && said.contains("python dev/inception.py"), "{code:?} {said}");
}

#[test]
fn near_copies_are_named() {
    let root = TempDir::new().unwrap();
    let sweep = root.path().join("sweep");
    shards(&sweep.join("w=3.0"), 6, 3.0, 0);
    shards(&sweep.join("w=2.0"), 6, 2.0, 0);
    let output = root.path().join("out");
    let config = DiversityConfig {
        model: model(),
        placement: Placement::default(),
        fit: None,
        resize: None,
        sets: vec![sweep.clone()],
        near: 0.999_999,
        max_bad: 0,
        output: Some(output.clone()),
    };
    let report = diversity::run(&config).unwrap();
    assert_eq!(report.sets.iter().map(|set| set.guidance_scale).collect::<Vec<_>>(), [Some(2.0), Some(3.0)]);
    for set in &report.sets {
        assert_eq!((set.images, set.scores.captions, set.near.len()), (12, 6, 1));
        assert_eq!((set.near[0].caption.as_str(), set.near[0].pictures), ("caption 0", 2));
        assert!(set.scores.within > set.scores.between, "{set:?}");
        assert!(1.0 < set.scores.vendi && set.scores.vendi < 12.0, "{set:?}");
    }
    assert!(report.text().contains("near-copies in") && report.text().contains("\"caption 0\""), "{}", report.text());
    assert!(report.remarks.concat().contains("same captions, seeds"), "{report:?}");
    let before = fs::read(output.join("report.json")).unwrap();
    diversity::run(&config).unwrap();
    assert_eq!(fs::read(output.join("report.json")).unwrap(), before);
    let wrong = DiversityConfig { near: 1.5, ..config };
    assert_eq!(diversity::run(&wrong).unwrap_err().exit_code(), 2);
}

/// One caption of one picture has no pairs; pictures without captions are no set.
#[test]
fn captions_are_needed() {
    let root = TempDir::new().unwrap();
    let bare = root.path().join("bare.tar");
    let mut shard = ShardWriter::create(bare.clone()).unwrap();
    shard.add("000", &[("png", &encode_png(&picture(1, 9, 9)).unwrap()[..])]).unwrap();
    shard.finish().unwrap();
    let one = root.path().join("one.tar");
    let mut shard = ShardWriter::create(one.clone()).unwrap();
    shard.add("000", &[("png", &encode_png(&picture(1, 9, 9)).unwrap()[..]), ("txt", b"a cat")]).unwrap();
    shard.finish().unwrap();
    let of = |path: &Path| {
        let (model, sets) = (model(), vec![path.to_path_buf()]);
        diversity::run(&DiversityConfig {
            model,
            placement: Placement::default(),
            fit: None,
            resize: None,
            sets,
            near: 0.95,
            max_bad: 0,
            output: None,
        })
    };
    let error = of(&bare).unwrap_err();
    assert!(error.exit_code() == 3 && error.to_string().contains("no caption"), "{error}");
    let report = of(&one).unwrap();
    let scores = &report.sets[0].scores;
    assert_eq!((scores.captions, scores.within, scores.between, scores.uniformity), (0, None, None, None));
    assert!((scores.vendi - 1.0).abs() < 1e-12, "{scores:?}");
}
