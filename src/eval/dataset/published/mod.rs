//! The eleven data sets of transfer (Kornblith et al. 2019; Ericsson et al. 2021), each read as its authors publish it.

mod caltech;
mod cifar;
mod lists;
pub mod mat;
mod matlab;
mod parts;
mod voc;

use std::path::Path;

use crate::bail;
use crate::error::Result;
pub use parts::{Part, Published};

/// What is said of a data set: the share of its images that are right, the mean of the classes' shares, or the mean
/// over things of how well they are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    Top1,
    MeanPerClass,
    MeanAp,
}

/// How a data set is laid out, and read.
#[derive(Debug)]
pub struct Layout {
    pub name: &'static str,
    /// The folder that is given, for people.
    pub folder: &'static str,
    /// What it holds, all of which has to be there.
    holds: &'static [&'static str],
    pub metric: Metric,
    read: fn(&Path, u64) -> Result<Published>,
}

/// All of them, in the order of the paper's table.
pub static LAYOUTS: [Layout; 11] = [
    Layout {
        name: "cifar10",
        folder: "cifar-10-batches-bin, the binary version",
        holds: &["data_batch_1.bin", "data_batch_5.bin", "test_batch.bin"],
        metric: Metric::Top1,
        read: cifar::ten,
    },
    Layout {
        name: "cifar100",
        folder: "cifar-100-binary, the binary version",
        holds: &["train.bin", "test.bin"],
        metric: Metric::Top1,
        read: cifar::hundred,
    },
    Layout {
        name: "aircraft",
        folder: "fgvc-aircraft-2013b",
        holds: &["data/images", "data/images_variant_train.txt", "data/images_variant_test.txt"],
        metric: Metric::MeanPerClass,
        read: lists::aircraft,
    },
    Layout {
        name: "cars",
        folder: "a folder of cars_train, cars_test, devkit and cars_test_annos_withlabels.mat",
        holds: &["cars_train", "cars_test", "devkit/cars_train_annos.mat"],
        metric: Metric::Top1,
        read: matlab::cars,
    },
    Layout {
        name: "dtd",
        folder: "dtd",
        holds: &["images", "labels/train1.txt", "labels/val1.txt", "labels/test1.txt"],
        metric: Metric::Top1,
        read: lists::dtd,
    },
    Layout {
        name: "flowers",
        folder: "a folder of jpg, imagelabels.mat and setid.mat",
        holds: &["jpg", "imagelabels.mat", "setid.mat"],
        metric: Metric::MeanPerClass,
        read: matlab::flowers,
    },
    Layout {
        name: "pets",
        folder: "a folder of images and annotations",
        holds: &["images", "annotations/trainval.txt", "annotations/test.txt"],
        metric: Metric::MeanPerClass,
        read: lists::pets,
    },
    Layout {
        name: "sun397",
        folder: "SUN397, with Training_01.txt and Testing_01.txt of the partitions in it",
        holds: &["Training_01.txt", "Testing_01.txt"],
        metric: Metric::Top1,
        read: lists::sun,
    },
    Layout {
        name: "caltech101",
        folder: "101_ObjectCategories",
        holds: &[],
        metric: Metric::MeanPerClass,
        read: caltech::open,
    },
    Layout {
        name: "food101",
        folder: "food-101",
        holds: &["images", "meta/train.txt", "meta/test.txt"],
        metric: Metric::Top1,
        read: lists::food,
    },
    Layout {
        name: "voc2007",
        folder: "VOCdevkit/VOC2007, with the test images in it",
        holds: &["JPEGImages", "ImageSets/Main"],
        metric: Metric::MeanAp,
        read: voc::open,
    },
];

impl Layout {
    /// The layout of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        LAYOUTS.iter().find(|layout| layout.name == name)
    }

    /// Reads the data set in `root`; `seed` draws parts that its authors did not make.
    ///
    /// # Errors
    /// `Usage` when it is another folder, `Data` or `Io` naming the file.
    pub fn open(&self, root: &Path, seed: u64) -> Result<Published> {
        let (name, shown) = (self.name, root.display());
        if !root.is_dir() {
            bail!(Usage, "--data {name}={shown}: no such folder; expected {}", self.folder);
        }
        if let Some(missing) = self.holds.iter().find(|file| !root.join(file).exists()) {
            bail!(Usage, "--data {name}={shown}: there is no {missing} in it; expected {}", self.folder);
        }
        (self.read)(root, seed)
    }
}
