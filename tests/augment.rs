//! Augmentation against torchvision on Pillow at fixed parameters, and the distribution of the drawn parameters.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use stablerep::image::{Filter, Resampler, Rgb8, resize, resize_box};
use stablerep::ops::augment::{
    Augment, AugmentParams, Jitter, Normalize, Policy, Turn, downsampled, flip, short_side, solarize,
};
use stablerep::ops::{blur, jitter};
use stablerep::rng::{Domain, Stream};
use stablerep::train::views::Augmenter;

fn filter(case: &Value) -> Filter {
    match case["filter"].as_str().unwrap() {
        "box" => Filter::Box,
        "bilinear" => Filter::Bilinear,
        "bicubic" => Filter::Bicubic,
        "lanczos" => Filter::Lanczos,
        other => panic!("{other}"),
    }
}

fn number(case: &Value, key: &str) -> usize {
    case[key].as_u64().unwrap_or_else(|| panic!("{case}: {key}")) as usize
}

/// Runs one case of the fixture; u8 pixels.
fn run(case: &Value, image: &Rgb8, augmenter: &mut Augmenter) -> Vec<u8> {
    let factor = || case["factor"].as_f64().unwrap() as f32;
    let mut pixels = image.data.clone();
    match case["op"].as_str().unwrap() {
        "resize" => {
            let (w, h) = (number(case, "w"), number(case, "h"));
            let out = match case["box"].as_array() {
                Some(edges) => {
                    let edges: Vec<f64> = edges.iter().map(|e| e.as_f64().unwrap()).collect();
                    resize_box(image, edges.try_into().unwrap(), w, h, filter(case))
                }
                None => resize(image, w, h, filter(case)),
            };
            return out.unwrap().data;
        }
        "short_side" => {
            let (w, h) = short_side((image.width, image.height), number(case, "size"));
            return resize(image, w, h, filter(case)).unwrap().data;
        }
        "downsample" => {
            let size = short_side((image.width, image.height), number(case, "low"));
            let low = resize(image, size.0, size.1, Filter::Bilinear).unwrap();
            let (w, h) = short_side(size, number(case, "high"));
            return resize(&low, w, h, Filter::Bilinear).unwrap().data;
        }
        "resized_crop" => {
            let (top, left) = (number(case, "top"), number(case, "left"));
            let part = [left, top, left + number(case, "w"), top + number(case, "h")];
            let size = number(case, "size");
            Resampler::default().crop(&mut pixels, (size, size), image, part, Filter::Bilinear).unwrap();
        }
        "brightness" => jitter::brightness(&mut pixels, factor()),
        "contrast" => jitter::contrast(&mut pixels, factor()),
        "saturation" => jitter::saturation(&mut pixels, factor()),
        "hue" => jitter::hue(&mut pixels, factor()),
        "grayscale" => jitter::grayscale(&mut pixels),
        "hflip" => flip(&mut pixels, image.width),
        "gaussian_blur" => {
            let sigma = case["sigma"].as_f64().unwrap() as f32;
            blur::gaussian(&mut pixels, (image.width, image.height), sigma, &mut blur::Scratch::default());
        }
        "chain_u8" | "chain" => {
            pixels = augmenter.pixels(image, &chain(case), number(case, "size")).unwrap().to_vec();
        }
        other => panic!("{other}"),
    }
    pixels
}

fn chain(case: &Value) -> AugmentParams {
    let list =
        |value: &Value| -> Option<Vec<f64>> { Some(value.as_array()?.iter().map(|v| v.as_f64().unwrap()).collect()) };
    let crop = list(&case["crop"]).unwrap();
    let [top, left, h, w] = [crop[0], crop[1], crop[2], crop[3]].map(|v| v as usize);
    let jitter = list(&case["order"]).map(|order| {
        let factors = list(&case["factors"]).unwrap();
        Jitter {
            order: [order[0] as u8, order[1] as u8, order[2] as u8, order[3] as u8],
            brightness: factors[0] as f32,
            contrast: factors[1] as f32,
            saturation: factors[2] as f32,
            hue: factors[3] as f32,
        }
    });
    AugmentParams {
        downsample: list(&case["down"]).map(|d| (d[0] as usize, d[1] as usize)),
        crop: [left, top, left + w, top + h],
        filter: Filter::Bilinear,
        jitter,
        grayscale: case["gray"].as_bool().unwrap(),
        blur: case["sigma"].as_f64().map(|s| s as f32),
        solarize: false,
        flip: case["flip"].as_bool().unwrap(),
    }
}

#[test]
fn fixed_parameters_give_the_bits_of_torchvision_on_pillow() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/augment.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&header.metadata().as_ref().unwrap()["cases"]).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut augmenter = Augmenter::default();
    let mut seen = BTreeMap::<String, usize>::new();
    for case in &cases {
        let op = case["op"].as_str().unwrap();
        if op == "short_side_center_crop" {
            continue; // a transform of the probes
        }
        let source = tensors.tensor(&format!("src.{}", case["src"].as_str().unwrap())).unwrap();
        let image = Rgb8 { width: source.shape()[1], height: source.shape()[0], data: source.data().to_vec() };
        let want = tensors.tensor(case["out"].as_str().unwrap()).unwrap();
        let got = run(case, &image, &mut augmenter);
        if op == "chain" {
            let size = number(case, "size");
            let mut view = vec![0.0; got.len()];
            augmenter.view(&mut view, &image, &chain(case), size).unwrap();
            let want: Vec<f32> =
                want.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
            for (i, value) in view.iter().enumerate() {
                let chw = want[(i % 3) * size * size + i / 3];
                assert_eq!(value.to_bits(), chw.to_bits(), "{case}: value {i}: {value} {chw}");
            }
        } else {
            assert_eq!(got.len(), want.data().len(), "{case}");
            let differ = got.iter().zip(want.data()).filter(|(a, b)| a != b).count();
            let worst = got.iter().zip(want.data()).map(|(a, b)| a.abs_diff(*b)).max();
            assert_eq!(differ, 0, "{case}: {differ} of {} values differ, by up to {worst:?}", got.len());
        }
        *seen.entry(op.to_string()).or_default() += 1;
    }
    assert_eq!(seen.len(), 13, "{seen:?}");
}

const STRONG: Augment =
    Augment { policy: Policy::Strong, crop_scale: [0.08, 1.0], filter: Filter::Bilinear, downsample: true };

fn draws(augment: Augment, width: usize, height: usize) -> Vec<AugmentParams> {
    let draw = |sample| {
        AugmentParams::draw(&mut Stream::new(5, Domain::Augmentation, [0, sample, 0]), &augment, width, height)
    };
    (0..20_000).map(draw).collect()
}

#[test]
fn drawn_parameters_follow_the_recipe() {
    let all = draws(STRONG, 200, 150);
    let share = |f: &dyn Fn(&AugmentParams) -> bool| all.iter().filter(|p| f(p)).count() as f64 / all.len() as f64;
    for (what, got, want) in [
        ("jitter", share(&|p| p.jitter.is_some()), 0.8),
        ("grayscale", share(&|p| p.grayscale), 0.2),
        ("blur", share(&|p| p.blur.is_some()), 0.5),
        ("flip", share(&|p| p.flip), 0.5),
        ("downsample", share(&|p| p.downsample.is_some()), 0.05),
        ("64 pixels", share(&|p| p.downsample == Some((64, 256))), 0.025),
        ("hue first", share(&|p| p.jitter.is_some_and(|j| j.order[0] == 3)), 0.2),
    ] {
        // Four standard deviations of a share of 20,000 draws.
        assert!((got - want).abs() < 4.0 * (want * (1.0 - want) / 20_000.0f64).sqrt(), "{what}: {got}, not {want}");
    }
    let mut areas = Vec::new();
    for params in &all {
        let (width, height) = if params.downsample.is_some() { (341, 256) } else { (200, 150) };
        let [left, top, right, bottom] = params.crop;
        assert!(left < right && right <= width && top < bottom && bottom <= height, "{params:?}");
        let (w, h) = ((right - left) as f64, (bottom - top) as f64);
        areas.push(w * h / (width * height) as f64);
        let slack = (w + 0.5) / (h - 0.5);
        assert!(slack >= 0.75 && (w - 0.5) / (h + 0.5) <= 4.0 / 3.0, "{params:?}");
        if let Some(j) = params.jitter {
            let mut order = j.order;
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2, 3]);
            assert!([j.brightness, j.contrast, j.saturation].iter().all(|f| (0.6..1.4).contains(f)), "{j:?}");
            assert!(j.hue.abs() <= 0.1);
        }
        assert!(params.blur.is_none_or(|sigma| (0.1..2.0).contains(&sigma)));
    }
    areas.sort_by(f64::total_cmp);
    assert!(areas[0] > 0.07 && areas[0] < 0.09, "{}", areas[0]);
    // Quartiles of 20,000 boxes that torchvision 0.26 draws for the same image (large ones often do not fit and are
    // drawn again).
    for (quarter, want) in [(1, 0.255), (2, 0.425), (3, 0.596)] {
        let got = areas[areas.len() * quarter / 4];
        assert!((got - want).abs() < 0.012, "quartile {quarter}: {got}, not {want}");
    }

    // Two unlike views: the first always blurred, the second solarised in one of five cases.
    // A small crop beside them is blurred in half of the cases.
    let byol = Policy::Byol(Turn::First);
    let slots = [(byol.of_slot(0), 1.0, 0.0), (byol.of_slot(1), 0.1, 0.2), (byol.of_slot(2), 1.0, 0.0)];
    for (slot, (policy, blur, solarize)) in slots.into_iter().chain([(byol.of_local(), 0.5, 0.0)]).enumerate() {
        let all = draws(Augment { policy, ..STRONG }, 200, 150);
        let share = |f: &dyn Fn(&AugmentParams) -> bool| all.iter().filter(|p| f(p)).count() as f64 / all.len() as f64;
        let near = |got: f64, want: f64| (got - want).abs() <= 4.0 * (want * (1.0 - want) / 20_000.0f64).sqrt();
        assert!(near(share(&|p| p.blur.is_some()), blur) && near(share(&|p| p.solarize), solarize), "view {slot}");
        assert!(near(share(&|p| p.jitter.is_some()), 0.8) && near(share(&|p| p.grayscale), 0.2), "view {slot}");
        let saturations: Vec<f32> = all.iter().filter_map(|p| p.jitter.map(|jitter| jitter.saturation)).collect();
        assert!(saturations.iter().all(|s| (0.8..1.2).contains(s)), "view {slot}");
        assert!(saturations.iter().any(|s| *s < 0.82) && saturations.iter().any(|s| *s > 1.18), "view {slot}");
    }
    assert!(all.iter().all(|params| !params.solarize));
    let mut pixels = [0, 1, 127, 128, 129, 255];
    solarize(&mut pixels);
    assert_eq!(pixels, [0, 1, 127, 127, 126, 0]);

    let weak = draws(
        Augment {
            policy: Policy::Weak,
            crop_scale: Policy::Weak.crop_scale(),
            filter: Filter::Bilinear,
            downsample: false,
        },
        100,
        100,
    );
    assert!(weak.iter().all(|p| p.jitter.is_none() && !p.grayscale && p.blur.is_none() && p.downsample.is_none()));
    let least = weak.iter().map(|p| (p.crop[2] - p.crop[0]) * (p.crop[3] - p.crop[1])).min().unwrap();
    assert!((4900..5200).contains(&least), "{least}");
    let none = draws(
        Augment { policy: Policy::None, crop_scale: [1.0, 1.0], filter: Filter::Bilinear, downsample: false },
        9,
        7,
    );
    assert!(none.iter().all(|p| p.crop == [0, 0, 9, 7] && !p.flip));
}

/// When nothing fits in ten tries, torchvision takes the largest centred box of an allowed aspect.
#[test]
fn slivers_are_cropped_in_the_middle() {
    let whole = Augment { policy: Policy::Weak, crop_scale: [1.0, 1.0], filter: Filter::Bilinear, downsample: false };
    for (size, want) in [((100, 10), [43, 0, 56, 10]), ((10, 100), [0, 43, 10, 56]), ((1, 1), [0, 0, 1, 1])] {
        for params in draws(whole, size.0, size.1).iter().take(50) {
            assert_eq!(params.crop, want);
        }
    }
}

#[test]
fn normalisation_is_torchvisions() {
    let mut out = [0.0; 6];
    Normalize::default().apply(&mut out, &[0, 128, 255, 255, 0, 7]);
    let value = |v: f32, mean: f32, std: f32| (v / 255.0 - mean) / std;
    assert_eq!(out[0], value(0.0, 0.485, 0.229));
    assert_eq!(out[1], value(128.0, 0.456, 0.224));
    assert_eq!(out[5], value(7.0, 0.406, 0.225));
}

/// Shrinking and enlarging goes by way of a picture of 256 on its short side: a line of pixels would become gigabytes,
/// and stays as it is.
#[test]
fn pictures_of_any_shape_give_views() {
    let augment =
        Augment { policy: Policy::Strong, crop_scale: [0.08, 1.0], filter: Filter::Bilinear, downsample: true };
    let mut augmenter = Augmenter::default();
    for (width, height) in [(1, 1), (1, 64), (1, 65), (1, 300), (4096, 1), (3, 2), (1, 65_535)] {
        let image = Rgb8::filled(width, height, [9, 8, 7]);
        let mut shrunk = 0;
        for id in 0..200 {
            let mut stream = Stream::new(3, Domain::Augmentation, [0, id, 0]);
            let params = AugmentParams::draw(&mut stream, &augment, width, height);
            shrunk += u32::from(params.downsample.is_some());
            let pixels = augmenter.pixels(&image, &AugmentParams { jitter: None, ..params }, 8).unwrap();
            assert!(pixels.chunks_exact(3).all(|pixel| pixel == [9, 8, 7] || pixel[0] == pixel[1]), "{width}×{height}");
        }
        let thin = width.max(height) > 64 * width.min(height);
        assert_eq!(downsampled((width, height), 64).is_none(), thin, "{width}×{height}");
        assert_eq!(shrunk == 0, thin, "{width}×{height}: {shrunk} of 200");
    }
}

#[test]
fn sizes_follow_the_short_side_and_a_bound_of_the_long_one() {
    use stablerep::ops::augment::bounded_short_side;

    assert_eq!(bounded_short_side((683, 512), 512.0), (683, 512));
    assert_eq!(bounded_short_side((100, 50), 256.0), (512, 256));
    // 2048 is the longest for 512.
    assert_eq!(bounded_short_side((1000, 100), 512.0), (2048, 205));
    assert_eq!(bounded_short_side((1, 100), 8.0), (1, 32));
}
