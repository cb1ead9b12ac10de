//! Batches: what is drawn, in which layout, the same whatever the cache and the threads; damaged data.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stablerep::image::{Filter, Rgb8, encode_jpeg, encode_png};
use stablerep::models::tokenizer::Tokenizer;
use stablerep::ops::augment::{Normalize, Policy, Turn};
use stablerep::shards::{ShardWriter, image_key};
use stablerep::train::loader::{Loader, LoaderConfig, LocalCrops, Positives, Section};

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

fn tokenizer() -> Arc<Tokenizer> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_tokenizer");
    Arc::new(Tokenizer::open(&fixture, 16).unwrap())
}

fn config(folder: &Path) -> LoaderConfig {
    LoaderConfig {
        data: vec![folder.to_path_buf()],
        weights: Vec::new(),
        positives: Positives::Text,
        captions_per_batch: 6,
        images_per_caption: 3,
        min_images: None,
        local: None,
        crops: 1,
        image_size: SIDE,
        augmentation: Policy::None,
        crop_scale: [1.0, 1.0],
        crop_filter: Filter::Bilinear,
        shuffle: true,
        seed: 11,
        max_bad: 0,
        tokenizer: Some(tokenizer()),
        any_caption: false,
        downsample: false,
        labelled: None,
        scene: None,
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
    for part in [
        "00000.tar",
        "00000000_000 has 5",
        "20 of 20 captions have fewer than 6",
        "20 have 5 or more: --images-per-caption 5",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let lonely = tempfile::tempdir().unwrap();
    write_shard(&lonely.path().join("00000.tar"), 0..10, 1, &|_, _, _| {});
    let message = error(config(lonely.path())).to_string();
    assert!(
        message.contains("10 of 10 captions have fewer than 3") && message.contains("--method simclr"),
        "{message}"
    );
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
    let tolerant = LoaderConfig { max_bad: 1, ..strict };
    let mut loader = Loader::new(&tolerant).unwrap();
    assert_eq!((loader.captions(), loader.bad()), (15, 1));
    assert!(loader.notes()[0].contains("1 of 16 captions have fewer than 3 images"), "{:?}", loader.notes());
    assert!(rows(&mut loader, &tolerant, 0, 0).iter().all(|&(caption, _, _)| caption < 15));
}

#[test]
fn nothing_left_to_fill_a_batch_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    write_shard(&folder.path().join("00000.tar"), 0..4, 3, &|_, _, png| png.truncate(40));
    let config = LoaderConfig { captions_per_batch: 2, max_bad: 100, ..config(folder.path()) };
    let strict = LoaderConfig { max_bad: 1, ..config.clone() };
    let error = Loader::new(&strict).unwrap().batch(0, 0).unwrap_err().to_string();
    assert!(error.contains("2 bad sample(s), --max-bad allows 1"), "{error}");
    let mut loader = Loader::new(&config).unwrap();
    let error = loader.batch(0, 0).unwrap_err();
    assert!(
        error.exit_code() == 3 && error.to_string().contains("no caption with 3 readable images is left"),
        "{error}"
    );
}

/// One caption with too few images costs that caption, and is said.
#[test]
fn captions_with_too_few_images_are_left_out() {
    let folder = data();
    write_shard(&folder.path().join("00002.tar"), 20..22, 2, &|_, _, _| {});
    write_shard(&folder.path().join("00003.tar"), 22..23, 7, &|_, _, _| {});
    let three = config(folder.path());
    let loader = Loader::new(&three).unwrap();
    assert_eq!((loader.captions(), loader.bad()), (21, 0));
    let notes = loader.notes().join("\n");
    for part in [
        "2 of 23 captions have fewer than 3 images",
        "00002.tar: 00000020_000 has 2",
        "23 have 2 or more: --images-per-caption 2",
    ] {
        assert!(notes.contains(part), "{notes}");
    }
    assert!(notes.contains("21 captions are no multiple of --batch 6: 3 of them, other ones each time"), "{notes}");
    let ordered = LoaderConfig { shuffle: false, ..three.clone() };
    let notes = Loader::new(&ordered).unwrap().notes().join("\n");
    assert!(notes.contains("the last 3 are never taken") && notes.contains("only the first 3 images"), "{notes}");
    let six = LoaderConfig { min_images: Some(5), captions_per_batch: 3, ..three };
    assert_eq!(Loader::new(&six).unwrap().captions(), 21);
    let seven = LoaderConfig { min_images: Some(6), captions_per_batch: 1, ..six };
    assert_eq!(Loader::new(&seven).unwrap().captions(), 1);
}

/// Stand-ins are captions that the batch does not hold and, as long as there are some, that the epoch leaves over.
#[test]
fn stand_ins_are_not_in_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    // 10 captions in steps of 4: captions 8 and 9 are left over.
    let bad = [1, 2, 5, 9];
    write_shard(&folder.path().join("00000.tar"), 0..10, 3, &|caption, _, png| {
        if bad.contains(&caption) {
            png.truncate(40);
        }
    });
    let config = LoaderConfig { shuffle: false, captions_per_batch: 4, max_bad: 12, ..config(folder.path()) };
    let captions =
        |loader: &mut Loader, step| rows(loader, &config, 0, step)[..4].iter().map(|row| row.0).collect::<Vec<_>>();
    let mut loader = Loader::new(&config).unwrap();
    assert_eq!(captions(&mut loader, 0), [0, 8, 4, 3], "8 is left over, 9 cannot be read, 4 is of the next step");
    assert_eq!(captions(&mut loader, 1), [4, 8, 6, 7]);
    assert_eq!(loader.bad_pictures().len(), 12);
    // By (epoch, step) alone, and in every order of an epoch without a caption twice in a batch.
    assert_eq!(captions(&mut Loader::new(&config).unwrap(), 1), [4, 8, 6, 7]);
    let shuffled = LoaderConfig { shuffle: true, ..config.clone() };
    let mut loader = Loader::new(&shuffled).unwrap();
    for epoch in 0..30 {
        for step in 0..2 {
            let rows = rows(&mut loader, &shuffled, epoch, step);
            let drawn: BTreeSet<u64> = rows[..4].iter().map(|row| row.0).collect();
            assert!(drawn.len() == 4 && bad.iter().all(|caption| !drawn.contains(caption)), "{drawn:?}");
        }
    }
}

/// What was counted before an interruption stays counted, and is not counted again.
#[test]
fn bad_counts_go_on_after_a_resume() {
    let folder = spoiled();
    let config = LoaderConfig { shuffle: false, captions_per_batch: 2, max_bad: 3, ..config(folder.path()) };
    let mut first = Loader::new(&config).unwrap();
    rows(&mut first, &config, 0, 1);
    assert_eq!(first.bad_pictures(), [11]);
    let mut resumed = Loader::new(&config).unwrap();
    resumed.restore_bad(&first.bad_pictures()).unwrap();
    rows(&mut resumed, &config, 1, 1);
    assert_eq!(resumed.bad(), 1);
    assert!(resumed.batch(0, 2).unwrap_err().to_string().contains("4 bad sample(s), --max-bad allows 3"));
    let strict = LoaderConfig { max_bad: 0, ..config };
    assert_eq!(Loader::new(&strict).unwrap().restore_bad(&[11]).unwrap_err().exit_code(), 3);
}

/// A damage that is allowed for is named by the error that it leads to.
#[test]
fn allowed_damage_is_named_when_too_little_is_left() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("00000.tar"), vec![0x41; 5000]).unwrap();
    let error = Loader::new(&LoaderConfig { max_bad: 9, ..config(folder.path()) }).unwrap_err().to_string();
    assert!(error.contains("0 usable caption(s)") && error.contains("00000.tar at byte 0"), "{error}");
}

/// The caption of every place comes as tokens, with the place of its end.
#[test]
fn batches_hold_the_texts_of_their_captions() {
    let folder = data();
    let config = config(folder.path());
    let mut loader = Loader::new(&config).unwrap();
    let captions: Vec<u64> = rows(&mut loader, &config, 1, 1).iter().take(6).map(|row| row.0).collect();
    let texts = loader.batch(1, 1).unwrap().texts;
    assert_eq!(texts.len(), 6);
    for (caption, found) in captions.into_iter().zip(texts) {
        let want = tokenizer().encode(&text(caption)).unwrap();
        assert_eq!((found.ids, found.end), (want.ids, want.end));
    }
    let mut silent = Loader::new(&LoaderConfig { tokenizer: None, ..config }).unwrap();
    assert!(silent.batch(1, 1).unwrap().texts.is_empty());
}

/// A sample that lists more texts is read by any of them, in equal parts: one of a single word stands for the caption.
#[test]
fn any_of_several_captions_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut shard = ShardWriter::create(folder.path().join("00000.tar")).unwrap();
    let json = r#"{"captions": ["a red shoe", "shoe", "a shoe that is red", "caption 0", 7]}"#;
    for key in ["a", "b", "c"] {
        let png = encode_png(&Rgb8::filled(SIDE, SIDE, [9, 9, 9])).unwrap();
        shard.add(key, &[("png", &png), ("txt", b"caption 0"), ("json", json.as_bytes())]).unwrap();
    }
    shard.finish().unwrap();
    let few = LoaderConfig { captions_per_batch: 1, any_caption: true, ..config(folder.path()) };
    let drawn = |config: &LoaderConfig| -> Vec<Vec<u32>> {
        let mut loader = Loader::new(config).unwrap();
        (0..400).map(|epoch| loader.batch(epoch, 0).unwrap().texts[0].ids.clone()).collect()
    };
    let texts = drawn(&few);
    assert!(texts == drawn(&few));
    let count = |text: &str| {
        let ids = tokenizer().encode(text).unwrap().ids;
        texts.iter().filter(|other| **other == ids).count() as f64 / 400.0
    };
    // The caption, and the single word that it stands for.
    for (text, share) in [("caption 0", 0.5), ("a red shoe", 0.25), ("a shoe that is red", 0.25), ("shoe", 0.0)] {
        assert!((count(text) - share).abs() < 0.07, "{text}: {}", count(text));
    }
    let none = data();
    let error = Loader::new(&LoaderConfig { any_caption: true, ..config(none.path()) }).unwrap_err().to_string();
    assert!(error.starts_with("--any-caption: no sample of the shards lists"), "{error}");
    let plain = drawn(&LoaderConfig { any_caption: false, ..few });
    assert!(plain.iter().all(|ids| *ids == tokenizer().encode("caption 0").unwrap().ids));
}

/// Two sets by weights: whole batches, each in its own passes, the same caption twice in a run with other images, and a
/// run that begins in the middle.
#[test]
fn sets_are_mixed_by_their_weights() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["a.tar", "b.tar"].map(|name| folder.path().join(name));
    write_shard(&first, 0..20, 3, &|_, _, _| {});
    write_shard(&second, 100..115, 3, &|_, _, _| {});
    let config = LoaderConfig { data: vec![first, second], weights: vec![1.0, 2.0], ..config(folder.path()) };
    let mut loader = Loader::new(&config).unwrap();
    assert_eq!((loader.captions(), loader.steps_per_epoch()), (35, 5));
    let mut seen = [BTreeMap::new(), BTreeMap::new()];
    for step in 0..10 {
        let rows = rows(&mut loader, &config, step / 5, step % 5);
        let captions: Vec<u64> = rows.iter().take(6).map(|row| row.0).collect();
        assert_eq!(captions.iter().filter(|&&caption| caption < 100).count(), 2);
        for caption in captions {
            *seen[usize::from(caption >= 100)].entry(caption).or_insert(0) += 1;
        }
        let mut again = Loader::new(&config).unwrap();
        assert_eq!(rows, self::rows(&mut again, &config, step / 5, step % 5));
    }
    assert_eq!(loader.drawn(2, 0), [20, 40]);
    // One pass over the first set, two and more over the second.
    assert!(seen[0].len() == 20 && seen[0].values().all(|&count| count == 1));
    assert!(seen[1].len() == 15 && seen[1].values().all(|&count| (2..=3).contains(&count)));
}

/// Labels by text, by caption, and by class, which a sample without one has not.
#[test]
fn labels_are_of_what_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut shard = ShardWriter::create(folder.path().join("00000.tar")).unwrap();
    for caption in 0..14 {
        let png = encode_png(&Rgb8::filled(SIDE, SIDE, color(caption, 0))).unwrap();
        let (text, json, class) = (text(caption), format!("{{\"caption_id\":{caption}}}"), (caption % 3).to_string());
        let mut members = vec![("png", &png[..]), ("txt", text.as_bytes()), ("json", json.as_bytes())];
        if caption < 13 {
            members.push(("cls", class.as_bytes()));
        }
        shard.add(&image_key(caption, 0), &members).unwrap();
    }
    shard.finish().unwrap();
    let config =
        LoaderConfig { captions_per_batch: 13, images_per_caption: 1, shuffle: false, ..config(folder.path()) };
    for (positives, label) in
        [(Positives::Text, |c: u64| c % 7), (Positives::Caption, |c| c), (Positives::Class, |c| c % 3)]
            as [(Positives, fn(u64) -> u64); 3]
    {
        let config = LoaderConfig { positives, ..config.clone() };
        let mut loader = Loader::new(&config).unwrap();
        for (caption, _, found) in rows(&mut loader, &config, 0, 0) {
            assert_eq!(u64::from(found), label(caption), "{positives:?} of {caption}");
        }
    }
    let config = LoaderConfig { captions_per_batch: 14, positives: Positives::Class, ..config };
    let error = Loader::new(&config).unwrap().batch(0, 0).unwrap_err().to_string();
    assert!(error.contains("00000013_000: no .cls") && error.contains("--positives text"), "{error}");
}

/// Small crops come behind the others: of the same pictures, smaller, each drawn by itself.
#[test]
fn small_crops_come_behind_the_others() {
    let folder = data();
    let config = LoaderConfig {
        images_per_caption: 1,
        crops: 2,
        local: Some(LocalCrops { crops: 3, size: 4, scale: [0.05, 0.4] }),
        augmentation: Policy::Byol(Turn::First),
        crop_scale: [0.5, 1.0],
        ..config(folder.path())
    };
    let mut loader = Loader::new(&config).unwrap();
    let section = |rows, side, start| Section { rows, side, start };
    let (large, small) = (section(0..12, SIDE, 0), section(12..30, 4, 12 * SIDE * SIDE * 3));
    assert_eq!(config.sections(), [large.clone(), small.clone()]);
    let (mut keys, mut blurred) = (BTreeSet::new(), 0);
    for step in 0..3 {
        let batch = loader.batch(0, step).unwrap();
        assert_eq!((batch.rows.len(), &batch.sections), (30, &config.sections()));
        for (i, row) in batch.rows.iter().enumerate() {
            assert!(Arc::ptr_eq(&row.image, &batch.rows[i % 6].image), "row {i}");
            assert_eq!(row.key[2] as usize, i / 6);
            assert!(keys.insert(row.key), "row {i} is drawn as another");
            let [left, top, right, bottom] = row.params.crop;
            let share = ((right - left) * (bottom - top)) as f64 / (row.image.width * row.image.height) as f64;
            // Sides are whole pixels.
            assert!(if i < 12 { share > 0.3 } else { share < 0.6 }, "row {i}: {share}");
            blurred += usize::from(i >= 12 && row.params.blur.is_some());
            assert!(i < 12 || !row.params.solarize);
        }
        let mut images = vec![f32::NAN; Section::values_of(&batch.sections)];
        batch.render(&mut images).unwrap();
        assert!(images.iter().all(|value| value.is_finite()));
        assert_eq!((large.values(), small.values()), (0..2304, 2304..2304 + 18 * 48));
    }
    assert!((10..44).contains(&blurred), "{blurred} of 54 small crops are blurred");
    // Odd sides: values begin where kernels read whole vectors.
    let odd = LoaderConfig { captions_per_batch: 1, image_size: 5, ..config };
    assert_eq!(odd.sections()[1].start, 160);
}
