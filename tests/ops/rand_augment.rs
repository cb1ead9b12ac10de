//! Every change of RandAugment against timm and Pillow, byte by byte.

use std::path::Path;

use stablerep::ops::rand_augment::Change;
use stablerep::weights::SafeTensors;

#[test]
fn every_change_has_pillows_bytes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rand_augment.safetensors");
    let file = SafeTensors::open(&path).unwrap();
    let shape = file.shape("source").unwrap().to_vec();
    let read = |name: &str| file.i64(name, &shape).unwrap().into_iter().map(|v| v as u8).collect::<Vec<u8>>();
    let (source, mut kinds) = (read("source"), [0; 15]);
    for name in file.names().filter(|name| *name != "source") {
        let (rest, negative) = name.rsplit_once('.').unwrap();
        let (kind, magnitude) = rest.split_once('.').unwrap();
        let (kind, magnitude): (usize, f64) = (kind.parse().unwrap(), magnitude.parse().unwrap());
        let change = Change::of(kind, magnitude, negative == "1");
        let mut pixels = source.clone();
        change.apply(&mut pixels, shape[1], &mut Vec::new());
        let apart = pixels.iter().zip(read(name)).filter(|(got, want)| **got != *want).count();
        assert_eq!(apart, 0, "{change:?} of {name}: {apart} of {} bytes differ", pixels.len());
        kinds[kind] += 1;
    }
    assert_eq!(kinds, [1, 1, 1, 6, 3, 3, 3, 6, 6, 6, 6, 6, 6, 6, 6]);
    // Beyond what Pillow takes: no bit is kept.
    let mut pixels = source.clone();
    Change::of(4, 10.0, false).apply(&mut pixels, shape[1], &mut Vec::new());
    assert!(pixels.iter().all(|value| *value == 0));
}
