//! Batches: what is drawn, in which layout, the same whatever the cache and the threads; damaged data.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use stablerep::image::{Rgb8, encode_jpeg, encode_png};
use stablerep::ops::augment::{Normalize, Policy};
use stablerep::shards::{ShardWriter, image_key};
use stablerep::train::loader::{Loader, LoaderConfig};

const SIDE: usize = 8;

/// Image `image` of caption `caption` is one colour, which tells both.
fn color(caption: u64, image: usize) -> [u8; 3] {
    [caption as u8, image as u8, 200]
}

fn text(caption: u64) -> String {
    format!("caption {}", caption % 7)
}

fn write_shard(path: &Path, captions: std::ops::Range<u64>, images: usize, spoil: &dyn Fn(u64, usize, &mut Vec<u8>)) {
    let mut shard = ShardWriter::create(path).unwrap();
    for caption in captions {
        for image in 0..images {
            let mut png = encode_png(&Rgb8::filled(SIDE, SIDE, color(caption, image))).unwrap();
            spoil(caption, image, &mut png);
            let (text, json) = (text(caption), format!("{{\"caption_id\":{caption}}}"));
            let members = [("png", &png[..]), ("txt", text.as_bytes()), ("json", json.as_bytes())];
            shard.add(&image_key(caption, image), &members).unwrap();
        }
    }
    shard.finish().unwrap();
}

/// Two shards: captions 0–9 and 10–19, five images each.
fn data() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_shard(&folder.path().join("00000.tar"), 0..10, 5, &|_, _, _| {});
    write_shard(&folder.path().join("00001.tar"), 10..20, 5, &|_, _, _| {});
    folder
}

fn config(folder: &Path) -> LoaderConfig {
    LoaderConfig {
        data: vec![folder.to_path_buf()],
        captions_per_batch: 6,
        images_per_caption: 3,
        crops: 1,
        image_size: SIDE,
        augmentation: Policy::None,
        crop_scale: [1.0, 1.0],
        shuffle: true,
        seed: 11,
        max_bad: 0,
        downsample: false,
    }
}

/// A batch as (caption, image) and label of every row.
fn rows(loader: &mut Loader, config: &LoaderConfig, epoch: u64, step: u64) -> Vec<(u64, usize, u32)> {
    let (images, labels) = batch(loader, config, epoch, step);
    let pixel = |value: f32, c: usize| {
        ((value * Normalize::IMAGENET_STD[c] + Normalize::IMAGENET_MEAN[c]) * 255.0).round() as usize
    };
    let view = |values: &[f32]| {
        assert!(values.chunks(3).all(|p| p == &values[..3]), "every image is one colour");
        (pixel(values[0], 0) as u64, pixel(values[1], 1))
    };
    images.chunks(SIDE * SIDE * 3).zip(labels).map(|(v, label)| (view(v).0, view(v).1, label)).collect()
}

fn batch(loader: &mut Loader, config: &LoaderConfig, epoch: u64, step: u64) -> (Vec<f32>, Vec<u32>) {
    let count = config.views() * config.captions_per_batch;
    let side = config.image_size;
    let mut images = vec![f32::NAN; count * side * side * 3];
    let drawn = loader.batch(epoch, step).unwrap();
    drawn.render(&mut images).unwrap();
    (images, drawn.labels())
}

#[test]
fn images_are_drawn_without_replacement_and_captions_once_per_epoch() {
    let folder = data();
    let config = config(folder.path());
    let mut loader = Loader::new(&config).unwrap();
    assert_eq!((loader.captions(), loader.images(), loader.steps_per_epoch()), (20, 100, 3));
    let pixels = 100 * 8 * 8 * 3;
    assert!((pixels..2 * pixels).contains(&loader.cache_bytes()), "{}", loader.cache_bytes());
    assert_eq!(Loader::with_cache(&config, 5000).unwrap().cache_bytes(), 5000);
    let mut drawn = BTreeMap::<(u64, usize), usize>::new();
    let mut orders = BTreeSet::new();
    for epoch in 0..200 {
        let mut captions = Vec::new();
        for step in 0..3 {
            let rows = rows(&mut loader, &config, epoch, step);
            for place in 0..6 {
                // View-major: row = slot · n + caption.
                let images: Vec<usize> = (0..3).map(|slot| rows[slot * 6 + place].1).collect();
                assert_eq!(
                    images.iter().collect::<BTreeSet<_>>().len(),
                    3,
                    "the images of a caption differ: {images:?}"
                );
                for slot in 0..3 {
                    let (caption, image, label) = rows[slot * 6 + place];
                    assert_eq!(caption, rows[place].0, "a place is one caption");
                    assert_eq!(label, (caption % 7) as u32, "captions with the same text have the same label");
                    *drawn.entry((caption, image)).or_default() += 1;
                }
                captions.push(rows[place].0);
            }
        }
        assert_eq!(captions.iter().collect::<BTreeSet<_>>().len(), 18, "18 of 20 captions, each once");
        orders.insert(captions);
    }
    assert_eq!(orders.len(), 200, "every epoch has its own order");
    // 100 images, each in 200·18/20·3/5 = 108 batches on average (standard deviation 7).
    assert_eq!(drawn.len(), 100);
    assert!(drawn.values().all(|&count| (70..150).contains(&count)), "{drawn:?}");
}

#[test]
fn without_shuffling_captions_and_images_come_in_order() {
    let folder = data();
    let config = LoaderConfig { shuffle: false, ..config(folder.path()) };
    let mut loader = Loader::new(&config).unwrap();
    for (epoch, step) in [(0, 0), (0, 2), (7, 1)] {
        let rows = rows(&mut loader, &config, epoch, step);
        for (row, &(caption, image, _)) in rows.iter().enumerate() {
            assert_eq!((caption, image), (step * 6 + row as u64 % 6, row / 6));
        }
    }
}

#[test]
fn a_batch_depends_on_epoch_and_step_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut shard = ShardWriter::create(folder.path().join("00000.tar")).unwrap();
    for caption in 0..12u64 {
        for image in 0..3usize {
            let (width, height) = (20 + caption as usize, 17 + 5 * image);
            let data =
                (0..width * height * 3).map(|i| (i * (caption as usize + 3) * (image + 2) % 251) as u8).collect();
            let jpeg = encode_jpeg(&Rgb8 { width, height, data }, 90).unwrap();
            shard.add(&image_key(caption, image), &[("jpg", &jpeg), ("txt", text(caption).as_bytes())]).unwrap();
        }
    }
    shard.finish().unwrap();
    // No caption_id: texts alone decide, so 12 captions are 7 groups of 3 or 6 images.
    let config = LoaderConfig {
        captions_per_batch: 2,
        images_per_caption: 2,
        crops: 2,
        image_size: 12,
        augmentation: Policy::Strong,
        crop_scale: [0.2, 1.0],
        downsample: true,
        ..config(folder.path())
    };
    let mut whole = Loader::with_cache(&config, 1 << 30).unwrap();
    assert_eq!(whole.captions(), 7);
    let steps: Vec<(u64, u64)> = (0..4).flat_map(|epoch| (0..3).map(move |step| (epoch, step))).collect();
    let reference: Vec<_> = steps.iter().map(|&(e, s)| batch(&mut whole, &config, e, s)).collect();
    for i in 1..reference.len() {
        assert_ne!(reference[i - 1].0, reference[i].0);
    }
    // The two crops of an image differ.
    let view = 12 * 12 * 3;
    assert_ne!(reference[0].0[..view], reference[0].0[2 * view..3 * view]);
    for cache in [0, 4000, 1 << 30] {
        let mut loader = Loader::with_cache(&config, cache).unwrap();
        for (&(epoch, step), want) in steps.iter().zip(&reference) {
            assert!(batch(&mut loader, &config, epoch, step) == *want, "cache {cache}, epoch {epoch}, step {step}");
        }
    }
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut loader = Loader::with_cache(&config, 0).unwrap();
        // Backwards: resuming anywhere needs nothing but the two numbers.
        for (&(epoch, step), want) in steps.iter().zip(&reference).rev() {
            let got = pool.install(|| batch(&mut loader, &config, epoch, step));
            assert!(got == *want, "{threads} threads, epoch {epoch}, step {step}");
        }
    }
    let other = LoaderConfig { seed: 12, ..config.clone() };
    assert_ne!(batch(&mut Loader::new(&other).unwrap(), &other, 0, 0).0, reference[0].0);
}

#[test]
fn too_few_images_or_captions_are_named() {
    let folder = data();
    let error = |config: LoaderConfig| Loader::new(&config).map(|_| ()).unwrap_err();
    let six = error(LoaderConfig { images_per_caption: 6, ..config(folder.path()) });
    assert_eq!(six.exit_code(), 3);
    let message = six.to_string();
    for part in ["00000.tar", "00000000_000", "has 5 image(s)", "needs 6"] {
        assert!(message.contains(part), "{message}");
    }
    let batch = error(LoaderConfig { captions_per_batch: 21, ..config(folder.path()) });
    assert!(batch.exit_code() == 3 && batch.to_string().contains("20 usable caption(s), a batch takes 21"), "{batch}");
    for wrong in [
        LoaderConfig { captions_per_batch: 0, ..config(folder.path()) },
        LoaderConfig { image_size: 0, ..config(folder.path()) },
        LoaderConfig { crop_scale: [0.5, 0.1], ..config(folder.path()) },
        LoaderConfig { crop_scale: [f64::NAN, 1.0], ..config(folder.path()) },
    ] {
        assert_eq!(error(wrong).exit_code(), 2);
    }
    assert_eq!(error(LoaderConfig { data: vec![PathBuf::from("absent")], ..config(folder.path()) }).exit_code(), 3);
}

/// Image 1 of caption 2 and all but two images of caption 4 do not decode.
fn spoiled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_shard(&folder.path().join("00000.tar"), 0..8, 5, &|caption, image, png| {
        if (caption, image) == (2, 1) || (caption == 4 && image < 3) {
            let middle = png.len() - 20;
            png.truncate(middle);
        }
    });
    folder
}

#[test]
fn images_that_do_not_decode_are_replaced_and_counted() {
    let folder = spoiled();
    let tolerant = LoaderConfig { shuffle: false, captions_per_batch: 2, max_bad: 4, ..config(folder.path()) };
    let mut loader = Loader::new(&tolerant).unwrap();
    let epoch: Vec<Vec<(u64, usize)>> = (0..4)
        .map(|step| {
            rows(&mut loader, &tolerant, 0, step).into_iter().map(|(caption, image, _)| (caption, image)).collect()
        })
        .collect();
    assert_eq!(epoch[1], [(2, 0), (3, 0), (2, 2), (3, 1), (2, 3), (3, 2)], "image 3 stands in for image 1");
    assert_eq!(epoch[2], [(6, 0), (5, 0), (6, 1), (5, 1), (6, 2), (5, 2)], "caption 6 = 4 + n stands in for caption 4");
    assert_eq!(loader.bad(), 4);
    // A second pass counts nothing twice.
    rows(&mut loader, &tolerant, 1, 1);
    rows(&mut loader, &tolerant, 1, 2);
    assert_eq!(loader.bad(), 4);

    // The same with shuffling, whatever the cache.
    let shuffled = LoaderConfig { shuffle: true, ..tolerant.clone() };
    let all = |cache| {
        let mut loader = Loader::with_cache(&shuffled, cache).unwrap();
        (0..40).map(|i| rows(&mut loader, &shuffled, i / 4, i % 4)).collect::<Vec<_>>()
    };
    assert_eq!(all(0), all(1 << 20));
    assert!(all(0).iter().flatten().all(|&(caption, image, _)| caption != 4 && (caption, image) != (2, 1)));

    let strict = LoaderConfig { max_bad: 3, ..tolerant };
    let mut loader = Loader::new(&strict).unwrap();
    rows(&mut loader, &strict, 0, 1);
    let error = loader.batch(0, 2).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    for part in ["00000.tar: 00000004_00", "corrupt PNG", "--max-bad allows 3"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_truncated_shard_loses_its_last_captions() {
    let folder = data();
    let path = folder.path().join("00001.tar");
    let bytes = fs::read(&path).unwrap();
    // Inside image 2 of caption 15.
    let at = bytes.windows(12).position(|w| w == b"00000015_002").unwrap();
    fs::write(&path, &bytes[..at + 700]).unwrap();
    let strict = config(folder.path());
    let error = Loader::new(&strict).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("00001.tar at byte") && error.to_string().contains("cut short"), "{error}");
    // One for the damage, one for caption 15, of which too few images are left.
    let tolerant = LoaderConfig { max_bad: 2, ..strict };
    let mut loader = Loader::new(&tolerant).unwrap();
    assert_eq!((loader.captions(), loader.bad()), (15, 2));
    assert!(rows(&mut loader, &tolerant, 0, 0).iter().all(|&(caption, _, _)| caption < 15));
}

#[test]
fn nothing_left_to_fill_a_batch_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    write_shard(&folder.path().join("00000.tar"), 0..4, 3, &|_, _, png| png.truncate(40));
    let config = LoaderConfig { captions_per_batch: 2, max_bad: 100, ..config(folder.path()) };
    let mut loader = Loader::new(&config).unwrap();
    let error = loader.batch(0, 0).unwrap_err();
    assert!(
        error.exit_code() == 3 && error.to_string().contains("no caption with 3 readable images is left"),
        "{error}"
    );
}
