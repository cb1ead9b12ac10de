//! Pictures: augmentation, resizing, JPEG, PNG. One picture per call, one thread, as a task of the loader or of the
//! writer works.

use std::hint::black_box;

use stablerep::image::{Filter, Resampler, Rgb8, decode, encode_jpeg, encode_png, resize};
use stablerep::ops::augment::{self, Augment, AugmentParams, Normalize, Policy};
use stablerep::ops::{blur, jitter};
use stablerep::rng::{Domain, Stream};

use crate::harness::{Bench, Work};

/// A smooth picture with some texture, so that JPEG and PNG have something to do.
fn picture(side: usize) -> Rgb8 {
    let value = |x: usize, y: usize, c: usize| {
        let wave = ((x * (c + 1)) as f32 / 17.0).sin() * ((y + 31 * c) as f32 / 23.0).cos();
        let grain = ((x * 7919 + y * 104_729 + c) % 13) as f32;
        (128.0 + 100.0 * wave + grain) as u8
    };
    let data = (0..side * side).flat_map(|i| (0..3).map(move |c| value(i % side, i / side, c))).collect();
    Rgb8 { width: side, height: side, data }
}

pub fn run(bench: &mut Bench) {
    augmentation(bench);
    let large = picture(512);
    let bytes = |image: &Rgb8| image.data.len() as f64;
    for (from, to, filter) in [(512, 256, Filter::Bicubic), (256, 224, Filter::Bilinear), (256, 64, Filter::Lanczos)] {
        let image = picture(from);
        let radius = match filter {
            Filter::Box => 0.5,
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        };
        // Two passes (rows, then columns), each output value a sum over the filter's support.
        let taps = 2.0 * radius * from as f64 / to as f64;
        let flops = 2.0 * taps * 3.0 * ((from * to) + (to * to)) as f64;
        let work = Work::new(flops, (3 * (from * from + 2 * from * to + to * to)) as f64);
        bench.measure(&format!("resize {filter:?}/{from}² to {to}²"), work, || {
            black_box(resize(&image, to, to, filter)).ok();
        });
    }
    let small = picture(256);
    for (name, image) in [("256²", &small), ("512²", &large)] {
        let (Ok(jpeg), Ok(png)) = (encode_jpeg(image, 95), encode_png(image)) else { continue };
        bench.measure(&format!("jpeg decode/{name}"), Work::new(0.0, bytes(image) + jpeg.len() as f64), || {
            black_box(decode(&jpeg, "bench")).ok();
        });
        bench.measure(&format!("jpeg encode/{name}"), Work::new(0.0, bytes(image) + jpeg.len() as f64), || {
            black_box(encode_jpeg(image, 95)).ok();
        });
        bench.measure(&format!("png decode/{name}"), Work::new(0.0, bytes(image) + png.len() as f64), || {
            black_box(decode(&png, "bench")).ok();
        });
        bench.measure(&format!("png encode/{name}"), Work::new(0.0, bytes(image) + png.len() as f64), || {
            black_box(encode_png(image)).ok();
        });
    }
}

/// One change of the pixels of a view.
type Change<'a> = &'a mut dyn FnMut(&mut [u8]);

/// What a training view goes through, a 224² picture at a time, and all of it together from a 256² one.
fn augmentation(bench: &mut Bench) {
    let (source, side) = (picture(256), 224);
    let start = picture(side).data;
    let mut pixels = start.clone();
    let len = start.len() as f64;
    let mut scratch = blur::Scratch::default();
    // Repeated on its own result a change would saturate: each call starts from the same pixels, and the copy counts.
    let work = |flops: f64| Work::new(flops * len, 4.0 * len);
    // Name, FLOPs per value, the change.
    let changes: [(&str, f64, Change); 8] = [
        ("brightness", 2.0, &mut |pixels| jitter::brightness(pixels, 1.2)),
        ("contrast", 5.0, &mut |pixels| jitter::contrast(pixels, 1.2)),
        ("saturation", 5.0, &mut |pixels| jitter::saturation(pixels, 1.2)),
        ("hue", 20.0, &mut |pixels| jitter::hue(pixels, 0.05)),
        ("grayscale", 2.0, &mut jitter::grayscale),
        ("flip", 0.0, &mut |pixels| augment::flip(pixels, side)),
        ("blur 0.5", 12.0, &mut |pixels| blur::gaussian(pixels, (side, side), 0.5, &mut scratch)),
        ("nothing, the copy alone", 0.0, &mut |_| ()),
    ];
    for (name, flops, change) in changes {
        bench.measure(&format!("augment {name}/copy and {side}²"), work(flops), || {
            pixels.copy_from_slice(&start);
            change(&mut pixels)
        });
    }
    let normalize = Normalize::default();
    let mut out = vec![0.0; start.len()];
    bench.measure(&format!("augment normalize/{side}²"), Work::new(0.0, 5.0 * len), || {
        normalize.apply(&mut out, &start)
    });
    let recipe = Augment {
        policy: Policy::Strong,
        crop_scale: Policy::Strong.crop_scale(),
        filter: Filter::Bilinear,
        downsample: false,
    };
    let (mut view, mut resampler, mut scratch) = (Vec::new(), Resampler::default(), blur::Scratch::default());
    let mut id = 0;
    bench.measure("augment strong view/256² to 224²", Work::new(0.0, 5.0 * len + source.data.len() as f64), || {
        id += 1;
        let mut stream = Stream::new(0, Domain::Augmentation, [0, id % 64, 0]);
        let params = AugmentParams::draw(&mut stream, &recipe, source.width, source.height);
        if resampler.crop(&mut view, (side, side), &source, params.crop, Filter::Bilinear).is_ok() {
            params.apply(&mut view, side, &mut scratch);
            normalize.apply(&mut out, &view);
        }
    });
}
