//! Pictures against Pillow: decoding of every kind of PNG and JPEG, resizing, encoding, drawing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use stablerep::image::plot::{Axes, Series, lines};
use stablerep::image::sheet::{SheetRow, contact_sheet, title};
use stablerep::image::{
    Filter, MAX_PIXELS, Rgb8, decode, dimensions, encode_jpeg, encode_png, resize, resize_box, resize_window,
};

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
        // JPEG decoders round differently: inverse transforms and colour conversions agree within 2 levels, the
        // interpolation of subsampled chroma within 3. YCCK rounds between its two conversions.
        let bound = match file {
            "half_chroma.jpg" | "wide_chroma.jpg" | "ycck.jpg" => 3,
            _ if file.ends_with(".jpg") => 2,
            _ => 0,
        };
        assert!(worst <= bound, "{file}: {worst} levels off, {count} of {} values differ", got.data.len());
    }
}

/// Pillow clips these to white; the high byte is what 8-bit readers elsewhere take.
#[test]
fn gray_of_16_bits_keeps_its_high_byte() {
    let deep: Vec<u8> = (0..12u16).flat_map(|i| (i * 5000 + 129).to_be_bytes()).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 4, 3);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Sixteen);
    encoder.write_header().unwrap().write_image_data(&deep).unwrap();
    let got = decode(&file, "deep.png").unwrap();
    let want: Vec<u8> = deep.chunks_exact(2).flat_map(|sample| [sample[0]; 3]).collect();
    assert_eq!(got.data, want);
}

#[test]
fn windows_are_parts_of_the_whole() {
    let image = decode(&std::fs::read(fixtures().join("rgb.png")).unwrap(), "rgb.png").unwrap();
    for filter in [Filter::Box, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
        for (width, height) in [(24, 24), (74, 61), (37, 11), (9, 290), (300, 4), (37, 29)] {
            let whole = resize(&image, width, height, filter).unwrap();
            for [left, top, right, bottom] in
                [[0, 0, width, height], [1, 1, width - 1, height - 1], [width / 2, height / 2, width / 2 + 1, height]]
            {
                let part = resize_window(&image, (width, height), [left, top, right, bottom], filter).unwrap();
                assert_eq!((part.width, part.height), (right - left, bottom - top));
                for y in top..bottom {
                    let want = &whole.row(y)[3 * left..3 * right];
                    assert_eq!(part.row(y - top), want, "{filter:?} {width}×{height} row {y}");
                }
            }
        }
    }
    // What the whole picture would take 3 GB for.
    let line = Rgb8 { width: 1, height: 16_000, data: (0..48_000).map(|i| (i / 3 % 251) as u8).collect() };
    let part = resize_window(&line, (256, 256 * 16_000), [16, 128, 240, 352], Filter::Bilinear).unwrap();
    assert_eq!((part.pixel(0, 0), part.pixel(223, 223)), ([0; 3], [1; 3]));
    for window in [[0, 0, 0, 1], [0, 0, 257, 1], [4, 4, 2, 8]] {
        assert_eq!(resize_window(&line, (256, 256), window, Filter::Box).unwrap_err().exit_code(), 2);
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
    // Every cut of a JPEG, also of one whose thumbnail has an end marker of its own, as Pillow sees every one.
    for file in ["thumbnail.jpg", "gray.jpg", "progressive.jpg", "restart.jpg", "cmyk.jpg"] {
        let bytes = std::fs::read(fixtures().join(file)).unwrap();
        for cut in 0..bytes.len() {
            let error = decode(&bytes[..cut], "key_7").expect_err(&format!("{file} cut at {cut}"));
            assert_eq!(error.exit_code(), 3, "{error}");
        }
        let with_rest = [&bytes[..], b"\0\0 bytes behind the end \xff\xd8\xff"].concat();
        assert_eq!(decode(&with_rest, file).unwrap(), decode(&bytes, file).unwrap());
    }
    // Kinds that are named for what they are.
    let photograph = std::fs::read(fixtures().join("full_chroma.jpg")).unwrap();
    let frame = photograph.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    for (offset, value, said) in
        [(1, 0xc9, "arithmetic-coded JPEG"), (1, 0xc3, "lossless JPEG"), (4, 12, "12 bits per colour")]
    {
        let mut other = photograph.clone();
        other[frame + offset] = value;
        let error = decode(&other, "key_7").unwrap_err().to_string();
        assert!(error.starts_with("key_7: ") && error.contains(said), "{error}");
    }
    // A wrong checksum in any chunk, whether the pixels depend on it or not.
    let palette = std::fs::read(fixtures().join("palette_transparent.png")).unwrap();
    for chunk in [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"] {
        let at = palette.windows(4).position(|name| name == chunk).unwrap();
        let length = u32::from_be_bytes(palette[at - 4..at].try_into().unwrap()) as usize;
        let mut wrong = palette.clone();
        wrong[at + 4 + length] ^= 1;
        assert!(decode(&wrong, "x").is_err(), "checksum of {}", String::from_utf8_lossy(chunk));
    }
    let mut flipped = std::fs::read(fixtures().join("rgb.png")).unwrap();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    assert!(decode(&flipped, "x").unwrap_err().to_string().contains("corrupt PNG"));
    // A header that claims 4 billion pixels is refused before memory is reserved.
    let mut huge = std::fs::read(fixtures().join("rgb.png")).unwrap();
    for (width, height) in [(1u32 << 16, 1u32 << 16), (14_000, 14_000), (70_000, 1)] {
        huge[16..20].copy_from_slice(&width.to_be_bytes());
        huge[20..24].copy_from_slice(&height.to_be_bytes());
        let sum = crc(&huge[12..29]);
        huge[29..33].copy_from_slice(&sum.to_be_bytes());
        for error in [decode(&huge, "x").unwrap_err(), dimensions(&huge, "x").unwrap_err()] {
            let said = error.to_string();
            assert!(said.contains(&format!("{width}×{height}")) && said.contains(&MAX_PIXELS.to_string()), "{said}");
        }
    }
    // One that claims what could be decoded, but not from so few bytes, is refused before memory is reserved as well.
    let mut bilevel = std::fs::read(fixtures().join("bilevel.png")).unwrap();
    for (bytes, bits) in [(&mut huge, 24), (&mut bilevel, 1)] {
        bytes[16..24].copy_from_slice(&[0, 0, 0x30, 0, 0, 0, 0x30, 0]);
        let sum = crc(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&sum.to_be_bytes());
        let most = bytes.len() * (8 * 1032 / bits);
        let said = decode(bytes, "x").unwrap_err().to_string();
        assert!(said.contains("12288×12288") && said.contains(&format!("hold {most} pixels at most")), "{said}");
        assert_eq!(dimensions(bytes, "x").unwrap(), (12_288, 12_288));
    }
    for file in ["gray.jpg", "progressive.jpg", "cmyk.jpg"] {
        let mut huge = std::fs::read(fixtures().join(file)).unwrap();
        let frame = huge.windows(2).position(|pair| pair == [0xff, 0xc0] || pair == [0xff, 0xc2]).unwrap();
        huge[frame + 5..frame + 9].copy_from_slice(&[0x30, 0, 0x30, 0]);
        let said = decode(&huge, "x").unwrap_err().to_string();
        assert!(said.contains("12288×12288") && said.contains("pixels at most"), "{said}");
    }
    let mut huge = photograph.clone();
    huge[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    assert!(decode(&huge, "x").unwrap_err().to_string().contains("65535×65535"));
    assert!(decode(b"", "x").unwrap_err().to_string().contains("empty file"));
    assert!(decode(b"GIF89a", "x").unwrap_err().to_string().contains("neither JPEG nor PNG"));
}

/// A lone component's sampling factors mean nothing, and sides that fill 16 bits overflow nothing by them.
#[test]
fn gray_jpegs_of_any_sampling_are_the_same() {
    let small = std::fs::read(fixtures().join("gray.jpg")).unwrap();
    let frame = small.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    let mut wide = small.clone();
    wide[frame + 5..frame + 9].copy_from_slice(&[0, 2, 0xff, 0xff]);
    for gray in [small, wide] {
        let want = decode(&gray, "x").unwrap();
        for sampling in [0x21, 0x12, 0x22, 0x44] {
            let mut other = gray.clone();
            other[frame + 11] = sampling;
            let got = decode(&other, "x").unwrap();
            assert!(got.data == want.data, "{sampling:#x}, {} wide", want.width);
        }
    }
}

/// Pictures of one colour, which are as large as files of their length can be, are not taken for cut ones.
#[test]
fn the_emptiest_pictures_are_decoded() {
    let (side, black) = (6000, [0; 3]);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side as u32, side as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    encoder.set_deflate_compression(png::DeflateCompression::Level(9));
    encoder.set_filter(png::Filter::NoFilter);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![0; side * side / 8]).unwrap();
    writer.finish().unwrap();
    let ratio = side * side / 8 / bytes.len();
    assert!(ratio > 850, "{ratio}");
    assert!(decode(&bytes, "x").unwrap() == Rgb8::filled(side, side, black));
    let picture = Rgb8::filled(2000, 2000, [255; 3]);
    assert!(decode(&encode_jpeg(&picture, 50).unwrap(), "x").unwrap() == picture);
}

/// PNG's checksum.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
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
        SheetRow::new("a photo of a red square".into(), images.clone()),
        SheetRow::new(long, images),
        SheetRow::default(),
    ];
    let untitled = contact_sheet("", &rows).unwrap();
    let sheet = contact_sheet("3 of 60 captions", &rows).unwrap();
    let count = |picture: &Rgb8, color: [u8; 3]| picture.data.chunks_exact(3).filter(|p| *p == color).count();
    // The large picture is shown at 128×64, the small one beside it at its own size in the middle of its tile.
    assert_eq!(count(&sheet, [20, 160, 60]), 2 * 128 * 64);
    assert_eq!(count(&sheet, [200, 30, 40]), 2 * 32 * 32);
    assert!(count(&sheet, [38, 42, 48]) > 200, "the labels are drawn");
    assert!(count(&sheet, [38, 42, 48]) > count(&untitled, [38, 42, 48]) + 20, "the title is drawn");
    // Notes stand under their tiles: every row is as much higher as the longest of them takes.
    let mut noted = rows.clone();
    noted[0].notes = vec!["0.97".into(), "a note of several lines, wrapped to the width of its tile".into()];
    let noted = contact_sheet("3 of 60 captions", &noted).unwrap();
    assert_eq!((noted.width, noted.height), (sheet.width, sheet.height + rows.len() * (3 * 14 + 6)));
    assert_eq!(count(&noted, [20, 160, 60]), 2 * 128 * 64);
    let dark = |picture: &Rgb8| picture.data.chunks_exact(3).filter(|p| p.iter().all(|v| *v < 120)).count();
    assert!(dark(&noted) > dark(&sheet) + 100, "the notes are drawn");
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
