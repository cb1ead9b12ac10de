use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::{Compression, write::GzEncoder};
use stablerep::error::Error;
use stablerep::eval::dataset::{Dataset, Split, idx, image_folder, webdataset};
use stablerep::image::{Rgb8, encode_png};
use tempfile::TempDir;

fn idx_bytes(dimensions: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
    dimensions.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend(values);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn pixels(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 37 % 256) as u8).collect()
}

/// Three images of 2×4 pixels with labels 1, 0, 3.
fn small() -> (Vec<u8>, Vec<u8>) {
    (idx_bytes(&[3, 2, 4], &pixels(24)), idx_bytes(&[3], &[1, 0, 3]))
}

fn png(width: usize, height: usize, value: u8) -> Vec<u8> {
    encode_png(&Rgb8 { width, height, data: vec![value; width * height * 3] }).unwrap()
}

#[track_caller]
fn data_error<T: std::fmt::Debug>(result: Result<T, Error>, parts: &[&str]) {
    let error = result.unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{error:?} does not say {part:?}");
    }
}

#[test]
fn idx_gray_images_become_rgb() {
    let (images, labels) = small();
    for (images, labels) in [(images.clone(), labels.clone()), (gzip(&images), gzip(&labels)), (gzip(&images), labels)]
    {
        let set = idx::from_bytes(&images, &labels, "three").unwrap();
        // No image has class 2: it takes no place.
        assert_eq!(
            (set.len(), set.class_names(), set.labels()),
            (3, &["0", "1", "3"].map(String::from)[..], &[1, 0, 2][..])
        );
        let image = set.image(2).unwrap();
        assert_eq!((image.width, image.height), (4, 2));
        let gray = &pixels(24)[16..];
        assert_eq!(image.data, gray.iter().flat_map(|&v| [v; 3]).collect::<Vec<_>>());
    }
}

#[test]
fn idx_files_find_their_labels() {
    let (images, labels) = small();
    let folder = TempDir::new().unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    put("train-images-idx3-ubyte", &images);
    put("train-labels-idx1-ubyte.gz", &gzip(&labels));
    put("t10k-images-idx3-ubyte.gz", &gzip(&idx_bytes(&[1, 2, 4], &pixels(8))));
    put("t10k-labels-idx1-ubyte", &idx_bytes(&[1], &[2]));
    assert_eq!(Dataset::open(folder.path(), None, Split::Train).unwrap().len(), 3);
    assert_eq!(Dataset::open(folder.path(), None, Split::Test).unwrap().class_names(), ["2"]);
    let train = folder.path().join("train-images-idx3-ubyte");
    assert_eq!(Dataset::open(&train, None, Split::Test).unwrap().len(), 3);
    put("pictures", &images);
    put("classes", &labels);
    let (pictures, classes) = (folder.path().join("pictures"), folder.path().join("classes"));
    assert_eq!(Dataset::open(&pictures, Some(&classes), Split::Train).unwrap().len(), 3);
    let error = Dataset::open(&pictures, None, Split::Train).unwrap_err();
    assert!(matches!(&error, Error::Usage(text) if text.contains("--train-labels")), "{error}");
    fs::remove_file(folder.path().join("train-labels-idx1-ubyte.gz")).unwrap();
    data_error(Dataset::open(&train, None, Split::Train), &["no labels beside it", "train-labels-idx1-ubyte"]);
}

#[test]
fn damaged_idx_files_are_named() {
    let (images, labels) = small();
    let open = |images: &[u8], labels: &[u8]| idx::from_bytes(images, labels, "digits");
    let cut = |bytes: &[u8], keep: usize| bytes[..keep].to_vec();
    data_error(open(&cut(&images, 30), &labels), &["digits (images)", "truncated", "3×2×4 = 24 bytes, 14 are there"]);
    data_error(open(&cut(&images, 9), &labels), &["digits (images)", "truncated", "9 bytes of a header of 16"]);
    data_error(open(b"", &labels), &["digits (images)", "expected 00000803"]);
    data_error(open(&images, &cut(&labels, 10)), &["digits (labels)", "truncated"]);
    data_error(open(&labels, &images), &["digits (images)", "starts with 00000801", "labels file"]);
    data_error(open(&images, &images), &["digits (labels)", "starts with 00000803", "images file"]);
    data_error(open(b"\x89PNG\r\n\x1a\n", &labels), &["starts with 89504e47"]);
    data_error(open(&[images.clone(), vec![0]].concat(), &labels), &["longer than its header says"]);
    data_error(open(&images, &idx_bytes(&[2], &[0, 1])), &["3 images", "2 labels"]);
    data_error(open(&idx_bytes(&[0, 2, 4], &[]), &idx_bytes(&[0], &[])), &["at least one image"]);
    data_error(open(&idx_bytes(&[u32::MAX; 3], &[1]), &labels), &["digits (images)"]);
    let zipped = gzip(&images);
    data_error(open(&cut(&zipped, zipped.len() / 2), &labels), &["digits (images)", "gzip"]);
    let mut flipped = zipped.clone();
    flipped[14] ^= 0x55;
    data_error(open(&flipped, &labels), &["digits (images)"]);
}

#[test]
fn image_folders_are_sorted_and_nested() {
    let root = TempDir::new().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    put("zebra/b.png", &png(3, 2, 10));
    put("zebra/a/c.PNG", &png(1, 1, 20));
    put("ant/2.png", &png(1, 1, 30));
    put("ant/10.png", &png(1, 1, 40));
    put("ant/notes.txt", b"left out");
    put("ant/.hidden.png", b"not looked at");
    put("ant/.cache/2.png", b"not looked at");
    put("loose.png", &png(1, 1, 50));
    let set = Dataset::open(root.path(), None, Split::Train).unwrap();
    assert_eq!(set.class_names(), ["ant", "zebra"]);
    assert_eq!(set.labels(), [0, 0, 1, 1]);
    let first: Vec<u8> = (0..4).map(|i| set.image(i).unwrap().data[0]).collect();
    assert_eq!(first, [40, 30, 20, 10]);
    let expected = [
        (1, "beside the class folders", "loose.png"),
        (2, "hidden", "ant/.cache"),
        (1, "not named .jpg", "ant/notes.txt"),
    ];
    assert_eq!(set.notes().len(), expected.len(), "{:?}", set.notes());
    for (note, (count, why, first)) in set.notes().iter().zip(expected) {
        assert!(note.contains(&format!("{count} files left out because")) && note.contains(why), "{note}");
        assert!(note.contains(&format!("{first})")), "{note}");
    }
    // A link is one more name of a picture, as in torchvision.
    std::os::unix::fs::symlink(root.path().join("zebra/b.png"), root.path().join("zebra/c.png")).unwrap();
    assert_eq!(Dataset::open(root.path(), None, Split::Train).unwrap().labels(), [0, 0, 1, 1, 1]);
}

#[test]
fn bad_image_folders_are_named() {
    let root = TempDir::new().unwrap();
    data_error(image_folder::open(root.path()), &["no class folders", &root.path().display().to_string()]);
    fs::create_dir(root.path().join("cat")).unwrap();
    fs::write(root.path().join("cat/1.png"), png(1, 1, 0)).unwrap();
    fs::create_dir(root.path().join("dog")).unwrap();
    data_error(image_folder::open(root.path()), &["dog", "without images"]);
    fs::write(root.path().join("dog/broken.jpg"), b"\xff\xd8\xff broken").unwrap();
    let set = image_folder::open(root.path()).unwrap();
    data_error(set.image(1), &["dog/broken.jpg"]);
    let error = Dataset::open(&root.path().join("nowhere"), None, Split::Train).unwrap_err();
    assert!(error.exit_code() == 1 && error.to_string().contains("nowhere"), "{error}");
    let labels = root.path().join("labels");
    let error = Dataset::open(root.path(), Some(&labels), Split::Train).unwrap_err();
    assert!(error.exit_code() == 2, "{error}");
}

fn write_tar(path: &Path, members: &[(&str, &[u8])]) {
    let mut tar = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.finish().unwrap();
}

#[test]
fn webdataset_shards_in_order() {
    let root = TempDir::new().unwrap();
    write_tar(&root.path().join("b.tar"), &[("x/0002.cls", b" 2\n"), ("x/0002.png", &png(2, 1, 3))]);
    write_tar(
        &root.path().join("a.tar"),
        &[
            ("0000.png", &png(1, 1, 1)),
            ("0000.cls", b"0"),
            ("0000.json", b"{}"),
            ("0001.seg.txt", b"no sample of ours"),
            ("0003.jpg", &png(1, 1, 2)),
            ("0003.cls", b"5"),
        ],
    );
    let set = Dataset::open(root.path(), None, Split::Test).unwrap();
    assert_eq!((set.labels(), set.class_names()), (&[0, 2, 1][..], &["0", "2", "5"].map(String::from)[..]));
    let first: Vec<u8> = (0..3).map(|i| set.image(i).unwrap().data[0]).collect();
    assert_eq!(first, [1, 2, 3]);
    assert_eq!(webdataset::open(&root.path().join("b.tar")).unwrap().class_names(), ["2"]);
}

/// One sample is left, and what is wrong with the other is told.
#[track_caller]
fn defect(result: Result<Dataset, Error>, parts: &[&str]) {
    let set = result.unwrap();
    let [message] = set.defects() else { panic!("{:?}", set.defects()) };
    assert!(set.len() == 1 && parts.iter().all(|part| message.contains(part)), "{message:?} does not say {parts:?}");
}

/// A folder that holds two kinds of data sets is not guessed about.
#[test]
fn mixed_folders_are_refused() {
    let root = TempDir::new().unwrap();
    for name in ["cat/1.png", "dog/deep/1.png"] {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, png(1, 1, 0)).unwrap();
    }
    assert_eq!(Dataset::open(root.path(), None, Split::Train).unwrap().len(), 2);
    let shard = root.path().join("all.tar");
    write_tar(&shard, &[("0.png", &png(1, 1, 0)), ("0.cls", b"0")]);
    data_error(Dataset::open(root.path(), None, Split::Train), &["all.tar", "cat", "class folders"]);
    assert_eq!(Dataset::open(&shard, None, Split::Train).unwrap().len(), 1);
    fs::write(root.path().join("train-images-idx3-ubyte"), small().0).unwrap();
    data_error(Dataset::open(root.path(), None, Split::Train), &["train-images-idx3-ubyte", "all.tar"]);
    // Folders without a picture beside shards are nobody's classes.
    let shards = root.path().join("shards");
    fs::create_dir_all(shards.join("logs/deep")).unwrap();
    fs::copy(&shard, shards.join("0.tar")).unwrap();
    assert_eq!(Dataset::open(&shards, None, Split::Train).unwrap().len(), 1);
}

#[test]
fn a_folder_of_splits_is_no_folder_of_classes() {
    let root = TempDir::new().unwrap();
    for name in ["Train/cat/1.png", "Train/dog/1.png", "val/cat/1.png"] {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, png(1, 1, 0)).unwrap();
    }
    data_error(Dataset::open(root.path(), None, Split::Train), &["Train, val", "give one of them"]);
    // Classes may have such names as long as others have not, or the pictures lie directly in them.
    fs::create_dir_all(root.path().join("bus")).unwrap();
    fs::write(root.path().join("bus/1.png"), png(1, 1, 0)).unwrap();
    assert_eq!(Dataset::open(root.path(), None, Split::Train).unwrap().class_names(), ["Train", "bus", "val"]);
}

#[cfg(unix)]
#[test]
fn links_that_lead_up_are_refused() {
    let root = TempDir::new().unwrap();
    fs::create_dir_all(root.path().join("cat/more")).unwrap();
    fs::write(root.path().join("cat/1.png"), png(1, 1, 0)).unwrap();
    std::os::unix::fs::symlink("..", root.path().join("cat/more/again")).unwrap();
    data_error(Dataset::open(root.path(), None, Split::Train), &["again", "link"]);
    // Neither do folders that lead to each other, which would be walked 2^40 times before the system sees it.
    fs::remove_dir_all(root.path().join("cat/more")).unwrap();
    for (from, to) in [("cat", "dog"), ("dog", "cat")] {
        fs::create_dir_all(root.path().join(from)).unwrap();
        for name in ["a", "b"] {
            std::os::unix::fs::symlink(format!("../{to}"), root.path().join(from).join(name)).unwrap();
        }
    }
    data_error(Dataset::open(root.path(), None, Split::Train), &["cat/a/a", "link"]);
    // One that leads to another folder alone is followed.
    fs::remove_file(root.path().join("dog/a")).unwrap();
    fs::remove_file(root.path().join("dog/b")).unwrap();
    fs::write(root.path().join("dog/2.png"), png(1, 1, 0)).unwrap();
    assert_eq!(Dataset::open(root.path(), None, Split::Train).unwrap().len(), 1 + 2 + 1);
}

/// A share of every class: at least one of two, never all, none of one.
#[test]
fn a_share_of_every_class_is_held_out() {
    let labels: Vec<u8> = [0; 10].into_iter().chain([1; 2]).chain([2]).chain([3; 3]).collect();
    let set = idx::from_bytes(&idx_bytes(&[16, 1, 1], &pixels(16)), &idx_bytes(&[16], &labels), "x").unwrap();
    for (share, counts) in [(0.2, [2, 1, 0, 1]), (0.01, [1, 1, 0, 1]), (0.99, [9, 1, 0, 2])] {
        let (train, test) = set.divide(share, 7).unwrap();
        let mut all = [&train[..], &test].concat();
        all.sort_unstable();
        assert_eq!(all, (0..16).collect::<Vec<_>>());
        let held = set.part(&test, "held".into());
        let count = |class: u32| held.labels().iter().filter(|&&label| label == class).count();
        assert_eq!([0, 1, 2, 3].map(count), counts, "{share}");
        assert_eq!(set.divide(share, 7).unwrap(), (train, test));
    }
    assert_ne!(set.divide(0.5, 7).unwrap(), set.divide(0.5, 8).unwrap());
    let lonely = set.part(&[0, 10, 12], "lonely".into());
    assert_eq!(lonely.divide(0.2, 7).unwrap_err().exit_code(), 2);
}

#[test]
fn bad_webdatasets_are_named() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("s.tar");
    let image = png(40, 40, 9);
    write_tar(&path, &[("0.png", &image), ("1.png", &image), ("1.cls", b"1")]);
    defect(webdataset::open(&path), &["s.tar: 0: has an image but no .cls"]);
    write_tar(&path, &[("0.png", &image), ("0.cls", b"0"), ("1.cls", b"1")]);
    defect(webdataset::open(&path), &["s.tar: 1: no image (.jpg, .jpeg or .png)"]);
    for bad in ["cat", "-1", "1.5", "1000000", "4000000000", ""] {
        write_tar(&path, &[("0.png", &image), ("0.cls", bad.as_bytes())]);
        data_error(webdataset::open(&path), &["s.tar: 0.cls", "class number"]);
        write_tar(&path, &[("0.png", &image), ("0.cls", bad.as_bytes()), ("1.png", &image), ("1.cls", b"999999")]);
        defect(webdataset::open(&path), &["s.tar: 0.cls", "class number"]);
    }
    write_tar(&path, &[("readme.txt", b"nothing")]);
    data_error(webdataset::open(&path), &["s.tar", "no samples"]);
    fs::write(&path, b"this is not a tar file, but it is longer than nothing".repeat(20)).unwrap();
    data_error(webdataset::open(&path), &["s.tar", "fetch the shard again"]);
    write_tar(&path, &[("0.cls", b"0"), ("0.png", &image)]);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..1536 + 20]).unwrap();
    data_error(webdataset::open(&path), &["s.tar", "cut short", "0.png"]);
}

#[test]
fn classes_of_two_folders_are_matched_by_name() {
    let root = TempDir::new().unwrap();
    for name in
        ["train/ant/0.png", "train/bee/0.png", "train/cat/0.png", "test/cat/0.png", "test/bee/0.png", "odd/dog/0.png"]
    {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, png(1, 1, 0)).unwrap();
    }
    let train = image_folder::open(&root.path().join("train")).unwrap();
    let mut test = image_folder::open(&root.path().join("test")).unwrap();
    test.match_classes(&train).unwrap();
    assert_eq!((test.labels(), test.classes()), (&[1, 2][..], 3));
    let mut odd = image_folder::open(&root.path().join("odd")).unwrap();
    data_error(odd.match_classes(&train), &["\"dog\"", "training images"]);
    // Numbers: 2 is a gap in this test set and in no image; it need not exist in the training set.
    let images = |n: u32| idx_bytes(&[n, 1, 1], &vec![0; n as usize]);
    let train = idx::from_bytes(&images(4), &idx_bytes(&[4], &[0, 1, 2, 3]), "train").unwrap();
    let mut test = idx::from_bytes(&images(2), &idx_bytes(&[2], &[3, 0]), "test").unwrap();
    test.match_classes(&train).unwrap();
    assert_eq!(test.labels(), [3, 0]);
    let mut many = idx::from_bytes(&images(1), &idx_bytes(&[1], &[9]), "many").unwrap();
    data_error(many.match_classes(&train), &["many", "\"9\""]);
}
