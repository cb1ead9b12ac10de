use stablerep::error::Error;
use stablerep::eval::transform::{Fit, Transform, crop_flip};
use stablerep::image::{Filter, Rgb8, resize};
use stablerep::models::vit::{CropMode, Preprocessing};
use stablerep::rng::{Domain, Stream};

/// Red counts columns, green counts rows.
fn ramp(width: usize, height: usize) -> Rgb8 {
    let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 7]));
    Rgb8 { width, height, data: pixels.collect() }
}

fn transform(size: usize, fit: Fit, resize: Option<usize>) -> Transform {
    Transform::new(size, Some(fit), resize, None).unwrap()
}

#[test]
fn weights_may_tell_their_transform() {
    let told = |crop_pct, mode, filter| Some(Preprocessing { crop_pct, mode, filter });
    let center = told(0.9, CropMode::Center, Filter::Bicubic);
    // timm: floor(224 / 0.9).
    let made = Transform::new(224, None, None, center).unwrap();
    assert_eq!(made, Transform { size: 224, fit: Fit::Crop, resize: 248, filter: Filter::Bicubic });
    // Flags come first.
    assert_eq!(Transform::new(224, None, Some(256), center).unwrap().resize, 256);
    assert_eq!(Transform::new(224, Some(Fit::Pad), None, center).unwrap().fit, Fit::Pad);
    let image = ramp(30, 20);
    let made = Transform::new(16, None, None, told(1.0, CropMode::Squash, Filter::Lanczos)).unwrap();
    assert_eq!(made.apply(&image).unwrap(), resize(&image, 16, 16, Filter::Lanczos).unwrap());
    for other in [told(0.9, CropMode::Squash, Filter::Box), told(1.0, CropMode::Border, Filter::Box)] {
        let error = Transform::new(16, None, None, other).unwrap_err();
        assert!(error.exit_code() == 3 && error.to_string().contains("--fit"), "{error}");
        Transform::new(16, Some(Fit::Crop), None, other).unwrap();
    }
}

#[test]
fn default_resize_is_the_papers_for_large_encoders() {
    let default = |size| transform(size, Fit::Crop, None).resize;
    assert_eq!([224, 128, 256, 384].map(default), [256, 146, 292, 438]);
    assert_eq!([32, 64].map(default), [32, 64]);
    assert_eq!(transform(32, Fit::Crop, Some(40)).resize, 40);
}

#[test]
fn crops_the_middle_after_resizing_the_short_side() {
    // The short side is there already: torchvision returns the picture as it is, then rounds half offsets to even.
    for (width, height, left, top) in [(8, 8, 2, 2), (11, 8, 4, 2), (8, 13, 2, 4), (9, 8, 2, 2)] {
        let out = transform(4, Fit::Crop, Some(8)).apply(&ramp(width, height)).unwrap();
        assert_eq!((out.width, out.height), (4, 4));
        assert_eq!(out.pixel(0, 0), [left, top, 7], "{width}×{height}");
        assert_eq!(out.pixel(3, 3), [left + 3, top + 3, 7]);
    }
    // 30×20 to 24×16, middle 16: columns 4 to 20.
    let image = ramp(30, 20);
    let whole = resize(&image, 24, 16, Filter::Bilinear).unwrap();
    let out = transform(16, Fit::Crop, None).apply(&image).unwrap();
    for y in 0..16 {
        assert_eq!(out.row(y), &whole.row(y)[12..60]);
    }
}

#[test]
fn stretch_and_pad() {
    let image = ramp(28, 20);
    let stretched = transform(32, Fit::Stretch, None).apply(&image).unwrap();
    assert_eq!(stretched, resize(&image, 32, 32, Filter::Bilinear).unwrap());
    let padded = transform(32, Fit::Pad, None).apply(&image).unwrap();
    for y in 0..32 {
        for x in 0..32 {
            let inside = (2..30).contains(&x) && (6..26).contains(&y);
            let want = if inside { image.pixel(x - 2, y - 6) } else { [0; 3] };
            assert_eq!(padded.pixel(x, y), want, "{x} {y}");
        }
    }
    // Larger than the square: shrunk until the long side fits.
    let padded = transform(16, Fit::Pad, None).apply(&ramp(64, 32)).unwrap();
    let small = resize(&ramp(64, 32), 16, 8, Filter::Bilinear).unwrap();
    assert_eq!(padded.row(3), [0; 48]);
    assert_eq!(padded.row(4), small.row(0));
    assert_eq!(padded.row(12), [0; 48]);
}

#[test]
fn unusable_settings_are_refused() {
    for (fit, resize) in [(Fit::Crop, 31), (Fit::Crop, 1 << 40), (Fit::Pad, 32), (Fit::Stretch, 32)] {
        let error = Transform::new(32, Some(fit), Some(resize), None).unwrap_err();
        assert!(matches!(&error, Error::Usage(text) if text.contains("--resize")), "{error}");
    }
}

/// Crops of a ramp tell where they came from: areas and ratios cover what the paper's augmentation allows, and no more.
#[test]
fn random_crops_cover_their_range() {
    let image = ramp(200, 150);
    let (mut flips, mut least, mut most) = (0, f64::INFINITY, 0.0f64);
    let mut ratios = (f64::INFINITY, 0.0f64);
    let draws = 600;
    for id in 0..draws {
        let out = crop_flip(&image, 32, &mut Stream::new(1, Domain::Probe, [0, id, 0])).unwrap();
        let middle = |y: usize, x: usize, c: usize| f64::from(out.pixel(x, y)[c]);
        let across = (middle(16, 31, 0) - middle(16, 0, 0)) * 32.0 / 31.0;
        let down = (middle(31, 16, 1) - middle(0, 16, 1)) * 32.0 / 31.0;
        flips += usize::from(across < 0.0);
        let area = across.abs() * down / (200.0 * 150.0);
        (least, most) = (least.min(area), most.max(area));
        ratios = (ratios.0.min(across.abs() / down), ratios.1.max(across.abs() / down));
    }
    assert!((flips as f64 - 300.0).abs() < 60.0, "{flips}");
    assert!((0.07..0.10).contains(&least) && (0.9..1.02).contains(&most), "{least} {most}");
    assert!((0.71..0.80).contains(&ratios.0) && (1.27..1.40).contains(&ratios.1), "{ratios:?}");
}

#[test]
fn pictures_of_any_shape_give_a_crop() {
    for (width, height) in [(1, 1), (1, 400), (400, 1), (3, 2)] {
        let out = crop_flip(&ramp(width, height), 8, &mut Stream::new(2, Domain::Probe, [0, 0, 0])).unwrap();
        assert_eq!((out.width, out.height, out.data.len()), (8, 8, 192));
    }
    for (width, height) in [(1, 1), (1, 400), (65_535, 1), (3, 2)] {
        for fit in [Fit::Crop, Fit::Stretch, Fit::Pad] {
            let out = transform(8, fit, None).apply(&Rgb8::filled(width, height, [5, 6, 7])).unwrap();
            assert_eq!((out.width, out.height, out.data.len()), (8, 8, 192), "{width}×{height} {fit:?}");
            if fit != Fit::Pad {
                assert_eq!(out, Rgb8::filled(8, 8, [5, 6, 7]));
            }
        }
    }
}
