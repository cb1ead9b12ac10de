//! Pictures with the classes of their pixels, which are their colours: red, green and blue regions, numbered from 1.

use std::path::Path;

use stablerep::image::{Rgb8, encode_png};
use stablerep::shards::ShardWriter;

/// A gray PNG of class numbers.
pub fn png_of(width: usize, height: usize, numbers: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().unwrap().write_image_data(numbers).unwrap();
    bytes
}

/// Picture `i` and the numbers of its pixels: three regions and a border that is none.
pub fn scene(i: usize) -> (Vec<u8>, Vec<u8>) {
    let (width, height) = (44 + i % 5, 40 + i % 3);
    let class_of = |x: usize, y: usize| {
        let (cut, down) = (14 + i * 7 % 16, 12 + i * 5 % 16);
        let class = if x < cut { i % 3 } else { (i + 1 + usize::from(y < down)) % 3 };
        if x < 2 { None } else { Some(class) }
    };
    let mut data = Vec::with_capacity(3 * width * height);
    let mut numbers = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let class = class_of(x, y);
            let noise = ((x * 31 + y * 17 + i * 7) % 40) as u8;
            data.extend((0..3).map(|channel| if class == Some(channel) { 200 + noise } else { 20 + noise }));
            numbers.push(class.map_or(0, |class| class as u8 + 1));
        }
    }
    let numbers = png_of(width, height, &numbers);
    (encode_png(&Rgb8 { width, height, data }).unwrap(), numbers)
}

/// A shard of `count` of them.
pub fn shards(folder: &Path, count: usize) {
    let mut shard = ShardWriter::create(folder.join("00000.tar")).unwrap();
    for i in 0..count {
        let (picture, numbers) = scene(i);
        shard.add(&format!("{i:06}"), &[("png", &picture), ("seg.png", &numbers)]).unwrap();
    }
    shard.finish().unwrap();
}
