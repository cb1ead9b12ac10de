//! Pictures with the classes of their pixels as data sets have them, good and bad.

use std::fs;
use std::path::Path;

use stablerep::shards::ShardWriter;

use crate::scenes::{png_of, scene};

/// A shard of a good one and four that cannot be used: without class numbers, with those of another size, with colours
/// in their place, and with a cut picture.
pub fn bad_shard(path: &Path) {
    let mut shard = ShardWriter::create(path).unwrap();
    let (picture, numbers) = scene(3);
    shard.add("good", &[("png", &picture), ("seg.png", &numbers)]).unwrap();
    shard.add("without", &[("png", &picture)]).unwrap();
    shard.add("other", &[("png", &picture), ("seg.png", &png_of(9, 9, &[1; 81]))]).unwrap();
    shard.add("colours", &[("png", &picture), ("seg.png", &picture)]).unwrap();
    shard.add("cut", &[("png", &picture[..picture.len() / 2]), ("seg.png", &numbers)]).unwrap();
    shard.finish().unwrap();
}

/// The same as a part of a folder of ADE20k's layout.
pub fn ade(folder: &Path, part: &str, count: usize) {
    let [images, annotations] = ["images", "annotations"].map(|what| folder.join(what).join(part));
    fs::create_dir_all(&images).unwrap();
    fs::create_dir_all(&annotations).unwrap();
    for i in 0..count {
        let (picture, numbers) = scene(i);
        fs::write(images.join(format!("ADE_{i:08}.png")), picture).unwrap();
        fs::write(annotations.join(format!("ADE_{i:08}.png")), numbers).unwrap();
    }
}
