//! Shards of labelled pictures.

use std::path::Path;

use stablerep::image::{Rgb8, encode_png};
use stablerep::shards::ShardWriter;

/// Pictures of `classes` colours, with noise, `count` in all, by the name of their place; `spoil` may change a class.
pub fn shards(folder: &Path, count: usize, classes: usize, spoil: &dyn Fn(usize) -> Option<String>) {
    let mut shard = ShardWriter::create(folder.join("00000.tar")).unwrap();
    for i in 0..count {
        let class = i % classes;
        // One channel of three lighter, or all of them.
        let light = |channel: usize| if class < 3 { 60 * u8::from(class == channel) } else { 30 * (class - 2) as u8 };
        let pixel = |at: usize| ((at * 31 + i * 17) % 60) as u8 + light(at % 3);
        let image = Rgb8 { width: 40, height: 36, data: (0..40 * 36 * 3).map(pixel).collect() };
        let png = encode_png(&image).unwrap();
        let class = spoil(i);
        let mut members = vec![("png", &png[..])];
        if let Some(class) = &class {
            members.push(("cls", class.as_bytes()));
        }
        shard.add(&format!("{i:06}"), &members).unwrap();
    }
    shard.finish().unwrap();
}

/// Classes in turn.
pub fn of_classes(classes: usize) -> impl Fn(usize) -> Option<String> {
    move |i| Some((i % classes).to_string())
}
