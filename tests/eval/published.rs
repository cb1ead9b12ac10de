use std::fs;
use std::path::{Path, PathBuf};

use stablerep::error::Error;
use stablerep::eval::dataset::published::mat::{Array, MatFile};
use stablerep::eval::dataset::published::{LAYOUTS, Layout, Part, Published};
use tempfile::TempDir;

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/published").join(name)
}

fn open(name: &str, root: &Path) -> Result<Published, Error> {
    Layout::named(name).unwrap().open(root, 5)
}

/// A copy that can be spoilt.
fn copy(name: &str) -> TempDir {
    fn walk(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let (path, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).unwrap();
            if path.is_dir() { walk(&path, &to) } else { fs::write(to, fs::read(path).unwrap()).unwrap() }
        }
    }
    let folder = TempDir::new().unwrap();
    walk(&fixture(name), folder.path());
    folder
}

#[track_caller]
fn refused(result: Result<Published, Error>, code: u8, parts: &[&str]) {
    let error = result.unwrap_err();
    assert_eq!(error.exit_code(), code, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{error} does not say {part:?}");
    }
}

/// Of every image of a part: its class by name, and whether it is red.
fn shown(set: &Published, part: Part) -> Vec<(String, bool)> {
    let images = set.part(part);
    let of = |i: usize| {
        let image = images.image(i).unwrap();
        let [red, _, blue] = image.pixel(image.width / 2, image.height / 2);
        assert!(red.abs_diff(blue) > 50);
        (images.class_names()[images.labels()[i] as usize].clone(), red > blue)
    };
    (0..images.len()).map(of).collect()
}

/// Images of the parts, classes, and the class that is red.
#[test]
fn every_layout_is_read() {
    let sizes = [
        ("cifar10", [5, 0, 2], "3"),
        ("cifar100", [5, 0, 2], "12"),
        ("aircraft", [2, 2, 2], "F/A-18"),
        ("cars", [6, 0, 2], "3"),
        ("dtd", [2, 2, 2], "banded"),
        ("flowers", [2, 2, 3], "1"),
        ("pets", [6, 0, 2], "Abyssinian"),
        ("sun397", [6, 0, 2], "a/abbey"),
        ("caltech101", [60, 0, 2], "BACKGROUND_Google"),
        ("food101", [6, 0, 2], "apple_pie"),
    ];
    for (name, [train, val, test], red) in sizes {
        let set = open(name, &fixture(name)).unwrap();
        assert_eq!((set.train.len(), set.val.len(), set.test.len()), (train, val, test), "{name}");
        assert_eq!((set.images.classes(), set.images.len(), &set.things), (2, train + val + test, &None), "{name}");
        for part in [Part::Train, Part::Val, Part::Test] {
            assert!(shown(&set, part).iter().all(|(class, is_red)| (class == red) == *is_red), "{name}");
        }
    }
    assert_eq!(sizes.len() + 1, LAYOUTS.len());
    let flowers = open("flowers", &fixture("flowers")).unwrap();
    assert_eq!(shown(&flowers, Part::Train), [("102".into(), false), ("1".into(), true)]);
}

#[test]
fn things_that_are_hard_to_see_are_not_there() {
    let set = open("voc2007", &fixture("voc2007")).unwrap();
    assert_eq!(set.things, Some(vec!["dog".into(), "person".into()]));
    for part in [Part::Train, Part::Val, Part::Test] {
        let sets: Vec<String> = shown(&set, part).into_iter().map(|(set, _)| set).collect();
        assert_eq!(sets, ["10", "01", "11", "00"]);
    }
}

#[test]
fn seeds_draw_other_training_images_of_caltech() {
    let draw = |seed| Layout::named("caltech101").unwrap().open(&fixture("caltech101"), seed).unwrap().test;
    assert_eq!(draw(5), draw(5));
    assert!((0..20).any(|seed| draw(seed) != draw(5)));
    let folder = copy("caltech101");
    fs::remove_file(folder.path().join("accordion/image_0007.jpg")).unwrap();
    refused(open("caltech101", folder.path()), 3, &["\"accordion\" has 30 images", "more than 30"]);
}

#[test]
fn matlab_files_are_scipys() {
    let file = MatFile::open(&fixture("cars").join("cars_test_annos_withlabels.mat")).unwrap();
    let Array::Structures { names, elements } = file.array("annotations").unwrap() else { panic!() };
    assert_eq!(names, &["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname"]);
    let numbers = |fields: &[Array]| fields[..5].iter().map(|field| field.number().unwrap()).collect::<Vec<_>>();
    assert_eq!(
        elements.iter().map(|fields| numbers(fields)).collect::<Vec<_>>(),
        [[1.0, 2.0, 300.0, 200.0, 3.0], [1.0, 2.0, 300.0, 200.0, 14.0]]
    );
    assert_eq!(elements[1][5], Array::Text("00002.jpg".into()));
    let labels = MatFile::open(&fixture("flowers").join("imagelabels.mat")).unwrap();
    assert_eq!(labels.whole_numbers("labels").unwrap(), [1, 102, 1, 102, 1, 102, 102]);
    assert!(labels.array("label").unwrap_err().to_string().contains("[\"labels\"], expected an array called label"));
    // No prefix of it is a whole file, and none is read as one with all its labels.
    let path = fixture("cars").join("cars_test_annos_withlabels.mat");
    let (bytes, folder) = (fs::read(&path).unwrap(), TempDir::new().unwrap());
    let damaged = folder.path().join("a.mat");
    for length in (0..bytes.len()).step_by(7) {
        fs::write(&damaged, &bytes[..length]).unwrap();
        let read = MatFile::open(&damaged).and_then(|file| file.array("annotations").cloned());
        assert!(matches!(read, Err(Error::Data(_))), "{length}");
    }
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0xff;
        fs::write(&damaged, &bytes).unwrap();
        // Whatever it says, it is read or refused.
        let _ = MatFile::open(&damaged);
    }
}

#[test]
fn what_is_no_such_data_set_is_refused() {
    refused(open("dtd", &fixture("nowhere")), 2, &["--data dtd=", "no such folder", "expected dtd"]);
    refused(open("dtd", &fixture("pets")), 2, &["--data dtd=", "there is no labels/train1.txt in it"]);
    let spoilt = |name: &str, file: &str, text: &[u8], parts: &[&str]| {
        let folder = copy(name);
        fs::write(folder.path().join(file), text).unwrap();
        refused(open(name, folder.path()), 3, parts);
    };
    spoilt("dtd", "labels/val1.txt", b"banded.jpg\n", &["val1.txt: line 1", "banded/banded_0002.jpg"]);
    spoilt("food101", "meta/test.txt", b"\n", &["test.txt: lists no image"]);
    spoilt("pets", "annotations/test.txt", b"\xff\xff", &["test.txt: not UTF-8"]);
    spoilt("cifar10", "test_batch.bin", &[0; 3072], &["3072 bytes, expected a multiple of 3073"]);
    spoilt("flowers", "setid.mat", b"MATLAB 7.3", &["not a MATLAB file of version 5"]);
    spoilt("voc2007", "ImageSets/Main/dog_val.txt", b"000101 2\n", &["dog_val.txt: line 1", "1, 0 or -1"]);
    spoilt("voc2007", "ImageSets/Main/dog_val.txt", b"000101 1\n", &["000102 is not in the list of every thing"]);
    let unlabelled = fs::read(fixture("cars").join("devkit/cars_test_annos.mat")).unwrap();
    spoilt("cars", "cars_test_annos_withlabels.mat", &unlabelled, &["expected class and fname", "with labels"]);
    let folder = copy("cars");
    fs::remove_file(folder.path().join("cars_test_annos_withlabels.mat")).unwrap();
    refused(open("cars", folder.path()), 3, &["expected cars_test_annos_withlabels.mat or devkit/"]);
    // A label for fewer images than are named.
    let folder = copy("flowers");
    let setid = fs::read(folder.path().join("setid.mat")).unwrap();
    fs::write(folder.path().join("imagelabels.mat"), setid).unwrap();
    refused(open("flowers", folder.path()), 3, &["expected an array called labels"]);
}
