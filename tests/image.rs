//! Pictures against Pillow: decoding of every kind of PNG and JPEG, resizing, encoding, drawing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use stablerep::image::plot::{Axes, Series, lines};
use stablerep::image::sheet::{SheetRow, contact_sheet, title};
use stablerep::image::{Filter, Rgb8, decode, encode_jpeg, encode_png, resize, resize_box};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image")
}

/// What Pillow made of the fixtures, by name.
fn expected() -> BTreeMap<String, Rgb8> {
    let bytes = std::fs::read(fixtures().join("expected.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let picture = |view: &safetensors::tensor::TensorView<'_>| Rgb8 {
        width: view.shape()[1],
        height: view.shape()[0],
        data: view.data().to_vec(),
    };
    tensors.tensors().iter().map(|(name, view)| (name.clone(), picture(view))).collect()
}

/// Largest difference, and how many values differ.
fn difference(a: &Rgb8, b: &Rgb8) -> (u8, usize) {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let differences = || a.data.iter().zip(&b.data).map(|(x, y)| x.abs_diff(*y));
    (differences().max().unwrap(), differences().filter(|&d| d > 0).count())
}

#[test]
fn every_kind_of_file_decodes_as_in_pillow() {
    for (name, want) in expected() {
        let Some(file) = name.strip_prefix("decoded.") else { continue };
        let got = decode(&std::fs::read(fixtures().join(file)).unwrap(), file).unwrap();
        let (worst, count) = difference(&got, &want);
        // JPEG decoders round differently: inverse transforms and colour conversions agree within 2 levels, the interpolation of
        // subsampled chroma within 3.
        let bound = match file {
            "half_chroma.jpg" => 3,
            _ if file.ends_with(".jpg") => 2,
            _ => 0,
        };
        assert!(worst <= bound, "{file}: {worst} levels off, {count} of {} values differ", got.data.len());
    }
}

#[test]
fn resize_has_pillows_bits() {
    let image = decode(&std::fs::read(fixtures().join("rgb.png")).unwrap(), "rgb.png").unwrap();
    let mut cases = 0;
    for (name, want) in expected() {
        let parts: Vec<&str> = name.splitn(4, '.').collect();
        if parts[0] != "resized" {
            continue;
        }
        let filter = match parts[1] {
            "box" => Filter::Box,
            "bilinear" => Filter::Bilinear,
            "bicubic" => Filter::Bicubic,
            "lanczos" => Filter::Lanczos,
            other => panic!("{other}"),
        };
        let got = match parts[3] {
            "whole" => resize(&image, want.width, want.height, filter),
            part => {
                let edges: Vec<f64> = part.split('_').map(|v| v.parse().unwrap()).collect();
                resize_box(&image, edges.try_into().unwrap(), want.width, want.height, filter)
            }
        };
        let (worst, count) = difference(&got.unwrap(), &want);
        assert_eq!(worst, 0, "{name}: {count} of {} values differ", want.data.len());
        cases += 1;
    }
    assert_eq!(cases, 28);
}

#[test]
fn corrupt_files_are_named() {
    for file in ["rgb.png", "palette.png", "full_chroma.jpg", "half_chroma.jpg", "progressive.jpg"] {
        let bytes = std::fs::read(fixtures().join(file)).unwrap();
        for cut in [0, 1, 4, 8, 30, bytes.len() / 2, bytes.len() - 20, bytes.len() - 3] {
            let error = decode(&bytes[..cut], "key_7").expect_err(&format!("{file} cut at {cut}"));
            assert!(error.to_string().contains("key_7"), "{error}");
            assert_eq!(error.exit_code(), 3);
        }
    }
    let mut flipped = std::fs::read(fixtures().join("rgb.png")).unwrap();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    assert!(decode(&flipped, "x").unwrap_err().to_string().contains("corrupt PNG"));
    // A header that claims 4 billion pixels is refused before memory is reserved.
    let mut huge = std::fs::read(fixtures().join("rgb.png")).unwrap();
    huge[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    assert!(decode(&huge, "x").is_err());
    assert!(decode(b"GIF89a", "x").unwrap_err().to_string().contains("neither JPEG nor PNG"));
}

#[test]
fn encoders_round_trip_and_repeat() {
    let image = decode(&std::fs::read(fixtures().join("full_chroma.jpg")).unwrap(), "x").unwrap();
    let png = encode_png(&image).unwrap();
    assert_eq!(png, encode_png(&image).unwrap());
    assert_eq!(decode(&png, "x").unwrap(), image);
    let jpeg = encode_jpeg(&image, 95).unwrap();
    let back = decode(&jpeg, "x").unwrap();
    let mean: f64 = image.data.iter().zip(&back.data).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>();
    assert!(mean / (image.data.len() as f64) < 2.5, "{mean}");
    assert_eq!(encode_jpeg(&image, 0).unwrap_err().exit_code(), 2);
    let wrong = Rgb8 { width: 4, height: 4, data: vec![0; 47] };
    assert_eq!(encode_png(&wrong).unwrap_err().exit_code(), 2);
    assert_eq!(encode_png(&Rgb8::filled(0, 3, [0; 3])).unwrap_err().exit_code(), 2);
}

#[test]
fn resize_refuses_what_it_cannot_do() {
    let image = Rgb8::filled(8, 6, [1, 2, 3]);
    for (part, width, height) in [
        ([0.0, 0.0, 9.0, 6.0], 4, 4),
        ([0.0, -0.5, 8.0, 6.0], 4, 4),
        ([4.0, 0.0, 4.0, 6.0], 4, 4),
        ([0.0, 0.0, f64::NAN, 6.0], 4, 4),
        ([0.0, 0.0, 8.0, 6.0], 0, 4),
        ([0.0, 0.0, 8.0, 6.0], 4, 1 << 20),
    ] {
        assert_eq!(resize_box(&image, part, width, height, Filter::Bilinear).unwrap_err().exit_code(), 2);
    }
    assert_eq!(resize(&image, 8, 6, Filter::Lanczos).unwrap(), image);
    assert_eq!(resize(&image, 3, 2, Filter::Bicubic).unwrap(), Rgb8::filled(3, 2, [1, 2, 3]));
}

#[test]
fn sheets_and_plots_show_what_they_are_given() {
    let images = vec![Rgb8::filled(32, 32, [200, 30, 40]), Rgb8::filled(300, 150, [20, 160, 60])];
    let long =
        "a caption so long that it needs several lines and in the end does not fit beside its row of pictures at all, "
            .repeat(4);
    let rows = [
        SheetRow { label: "a photo of a red square".into(), images: images.clone() },
        SheetRow { label: long, images },
        SheetRow { label: String::new(), images: vec![] },
    ];
    let untitled = contact_sheet("", &rows).unwrap();
    let sheet = contact_sheet("3 of 60 captions", &rows).unwrap();
    let count = |picture: &Rgb8, color: [u8; 3]| picture.data.chunks_exact(3).filter(|p| *p == color).count();
    // The large picture is shown at 128×64, the small one beside it at its own size in the middle of its tile.
    assert_eq!(count(&sheet, [20, 160, 60]), 2 * 128 * 64);
    assert_eq!(count(&sheet, [200, 30, 40]), 2 * 32 * 32);
    assert!(count(&sheet, [38, 42, 48]) > 200, "the labels are drawn");
    assert!(count(&sheet, [38, 42, 48]) > count(&untitled, [38, 42, 48]) + 20, "the title is drawn");
    contact_sheet("", &[]).unwrap();
    assert_eq!(title((12, 60), (4, 4)), "12 of 60 captions");
    assert_eq!(title((8, 8), (10, 12)), "all 8 captions, 10 of up to 12 images of each");

    let curve = |f: fn(f64) -> f64| (0..200).map(|i| (f64::from(i), f(f64::from(i)))).collect::<Vec<_>>();
    let series = [
        Series { name: "StableRep".into(), points: curve(|x| 5.5 * (-x / 40.0).exp() + 1.2 + 0.1 * (x * 1.7).sin()) },
        Series {
            name: "SimCLR".into(),
            points: curve(|x| if x == 90.0 { f64::NAN } else { 5.0 * (-x / 90.0).exp() + 0.9 }),
        },
    ];
    let plot = lines(&series, "Training loss", Axes { x: "step", y: "loss" });
    assert!(count(&plot, [0, 114, 178]) > 200 && count(&plot, [213, 94, 0]) > 200);
    lines(&[], "empty", Axes { x: "x", y: "y" });
    lines(&[Series { name: "one".into(), points: vec![(1.0, 0.0)] }], "one point", Axes { x: "x", y: "y" });
    if let Some(folder) = std::env::var_os("STABLEREP_TEST_OUT") {
        std::fs::write(PathBuf::from(&folder).join("sheet.png"), encode_png(&sheet).unwrap()).unwrap();
        std::fs::write(PathBuf::from(&folder).join("plot.png"), encode_png(&plot).unwrap()).unwrap();
    }
}
