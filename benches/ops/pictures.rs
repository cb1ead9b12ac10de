//! Pictures: resizing, JPEG, PNG. One picture per call, one thread, as a task of the loader or of the writer works.

use std::hint::black_box;

use stablerep::image::{Filter, Rgb8, decode, encode_jpeg, encode_png, resize};

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
