//! `inspect --attention` and `inspect --nearest` through the binary.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use stablerep::eval::encoder::Encoder;
use stablerep::eval::timm;
use stablerep::image::{Rgb8, decode, encode_jpeg, encode_png};
use stablerep::models::vit::VitConfig;
use tempfile::TempDir;

use crate::common::{fails, succeeds, text};

/// A timm folder of random weights.
fn encoder(root: &Path) -> PathBuf {
    let model = VitConfig {
        image_size: 32,
        patch_size: 8,
        width: 32,
        depth: 2,
        heads: 2,
        mlp_ratio: 4,
        channels: 3,
        qk_norm: false,
        variant: Default::default(),
    };
    let folder = root.join("encoder");
    timm::export(&Encoder::random(&model, 1).unwrap(), &folder).unwrap();
    folder
}

/// A picture that is green at the left and red at the right.
fn picture(path: &Path, width: usize, height: usize) -> String {
    let data = (0..width * height).flat_map(|at| if at % width < width / 2 { [30, 180, 40] } else { [200, 30, 50] });
    let image = Rgb8 { width, height, data: data.collect() };
    let jpeg = path.extension().is_some_and(|extension| extension == "jpg");
    fs::write(path, if jpeg { encode_jpeg(&image, 90) } else { encode_png(&image) }.unwrap()).unwrap();
    text(path)
}

#[test]
fn maps_of_the_class_token_are_drawn() {
    let root = TempDir::new().unwrap();
    let at = |name: &str| root.path().join(name);
    let encoder = text(&encoder(root.path()));
    let (a, b) = (picture(&at("first.png"), 40, 50), picture(&at("second.jpg"), 64, 64));
    let sheet = at("maps.png");
    let out = succeeds(&["inspect", &encoder, "--attention", &a, &b, "--sheet", &text(&sheet)]);
    for map in ["mean ", "rollout ", "head 1 ", "head 2 "] {
        let line = out.lines().find(|line| line.starts_with(map)).unwrap_or_else(|| panic!("{map}:\n{out}"));
        let cells: Vec<&str> = line[map.len()..].split_whitespace().collect();
        let (share, over): (f64, f64) = (cells[0].parse().unwrap(), cells[1].parse().unwrap());
        assert!((0.0..=100.0).contains(&share) && (1.0..=16.0).contains(&over) && line.ends_with("of 16"), "{line}");
    }
    assert!(out.contains("maps of 2 picture(s), short side to 32") && !out.contains("head 3"), "{out}");
    // Two rows of a label, the picture, mean, rollout and two heads.
    let drawn = decode(&fs::read(&sheet).unwrap(), "sheet").unwrap();
    assert_eq!(drawn.width, 2 * 16 + 190 + 5 * (128 + 6));
    let tile =
        |column: usize, row: usize| drawn.pixel(16 + 190 + column * 134 + 30, 34 + row * (128 + 6 + 14 + 6) + 60);
    assert_eq!((tile(0, 0), tile(0, 1)[1] > 150), ([30, 180, 40], true));
    assert!((1..5).all(|column| tile(column, 0) != tile(0, 0)));
    let again = succeeds(&["inspect", &encoder, "--attention", &a, &b, "--sheet", &text(&sheet)]);
    assert_eq!(again, out);
    assert_eq!(decode(&fs::read(&sheet).unwrap(), "sheet").unwrap(), drawn);

    let larger = succeeds(&[
        "inspect",
        &encoder,
        "--attention",
        &a,
        "--sheet",
        &text(&sheet),
        "--image-size",
        "64",
        "--fit",
        "pad",
    ]);
    assert!(larger.contains("of 64") && larger.contains("padded to 64"), "{larger}");
}

/// Shards that the bundled model drew: what is found in them can be drawn again by the command that is printed.
#[test]
fn neighbours_are_told_with_the_command_that_draws_them_again() {
    let root = TempDir::new().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::write(at("captions.txt"), "a photo of a dark bag\na photo of a light dress\n").unwrap();
    let (captions, shards) = (text(&at("captions.txt")), text(&at("some shards")));
    let few = ["--images-per-caption", "2", "--steps", "2", "--seed", "3"];
    succeeds(&[&["generate", "--model", "bundled", "--captions", &captions, "--output", &shards][..], &few].concat());
    let (encoder, asked) = (text(&encoder(root.path())), picture(&at("asked.png"), 32, 32));
    let (sheet, json, kept) = (text(&at("near.png")), text(&at("report.json")), text(&at("kept")));
    let words = [
        &["inspect", &encoder, "--nearest", &asked, "--data", &shards, "--top", "3", "--model", "bundled"][..],
        &["--sheet", &sheet, "--json", &json, "--features", &kept],
    ]
    .concat();
    let out = succeeds(&words);
    let rows: Vec<&str> = out.lines().filter(|line| line.starts_with(&asked)).collect();
    assert_eq!(rows.len(), 3, "{out}");
    assert!(rows.iter().all(|row| row.contains("a photo of a") && row.contains("00000.tar: 0000000")), "{out}");
    let commands: Vec<&str> = out.lines().filter(|line| line.starts_with("stablerep inspect '")).collect();
    assert_eq!(commands.len(), 3, "{out}");
    // As a shell would read it: the quotes are the tar's.
    let (tar, rest) = commands[0].trim_start_matches("stablerep inspect '").split_once('\'').unwrap();
    let again: Vec<&str> = ["inspect", tar].into_iter().chain(rest.split_whitespace()).collect();
    assert!(succeeds(&again).contains("the same picture, byte for byte"));

    let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let first = &report["nearest"][0];
    assert_eq!(
        (first["again"].as_str(), first["seed"].as_u64(), first["rank"].as_u64()),
        (Some(commands[0]), Some(3), Some(1))
    );
    assert_eq!(first["model"].as_str().map(str::len), Some(64));
    let drawn = decode(&fs::read(&sheet).unwrap(), "sheet").unwrap();
    assert_eq!(drawn.width, 2 * 16 + 190 + 4 * (96 + 6));
    assert!(fs::read_dir(&kept).unwrap().count() >= 2);
    assert_eq!(succeeds(&words), out);

    // The page shows what was found.
    let page = text(&at("page.html"));
    fs::create_dir(at("scores")).unwrap();
    for (from, to) in [(&json, "report.json"), (&sheet, "nearest.png")] {
        fs::copy(from, at("scores").join(to)).unwrap();
    }
    succeeds(&["report", &text(&at("scores")), "--output", &page]);
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("a photo of a") && html.contains("--regenerate 0000000"), "{html}");
    assert_eq!(html.matches("<img").count(), 1);
}

#[test]
fn flags_that_have_nothing_to_act_on() {
    let root = TempDir::new().unwrap();
    let at = |name: &str| text(&root.path().join(name));
    let encoder = text(&encoder(root.path()));
    let (asked, sheet) = (picture(&root.path().join("asked.png"), 32, 32), at("sheet.png"));
    let attention = ["inspect", &encoder, "--attention", &asked];
    fails(&attention, 2, &["--sheet"]);
    fails(&["inspect", &encoder, "--nearest", &asked], 2, &["--data"]);
    for more in [["--check", "--sheet"], ["--nearest", &asked]] {
        fails(&[&attention[..], &more, &[&sheet]].concat(), 2, &["cannot be used with"]);
    }
    fails(&[&attention[..], &["--sheet", &sheet, "--device", "cuda"]].concat(), 2, &["--regenerate"]);
    for flag in [&["--weights", "student"][..], &["--image-size", "32"], &["--top", "3"], &["--json", "x.json"]] {
        fails(&[&["inspect", &encoder][..], flag].concat(), 2, &["required"]);
    }
    fails(&["inspect", &encoder, "--fit", "pad"], 2, &["--fit", "--attention or --nearest"]);
    fails(&[&attention[..3], &[&at("none.png"), "--sheet", &sheet]].concat(), 2, &["none.png", "does not exist"]);
    fails(&[&attention[..], &["--sheet", &sheet, "--weights", "teacher"]].concat(), 3, &["momentum"]);
    fs::write(root.path().join("text.png"), "no picture").unwrap();
    let text = at("text.png");
    fails(&[&attention[..3], &[&text, "--sheet", &sheet]].concat(), 3, &["text.png: neither JPEG nor PNG"]);
}
