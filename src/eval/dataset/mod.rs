//! Labelled photographs for probes, decoded when asked for: IDX files, folders of classes, webdataset shards with `.cls`.

pub mod idx;
pub mod image_folder;
pub mod webdataset;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::bail;
use crate::error::{Error, Result};
use crate::image::Rgb8;

/// Which part of a data set a folder that holds several is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Train,
    Test,
}

/// Images with one class label each.
#[derive(Debug)]
pub struct Dataset {
    name: String,
    labels: Vec<u32>,
    class_names: Vec<String>,
    images: Images,
    notes: Vec<String>,
}

/// Where the images are.
#[derive(Debug)]
enum Images {
    /// Gray `[N, H, W]` in memory.
    Gray { height: usize, width: usize, pixels: Vec<u8> },
    /// One file per image.
    Files(Vec<PathBuf>),
    /// Samples of tar files.
    Samples(webdataset::Samples),
}

impl Dataset {
    /// Opens `path`, whatever it is:
    /// - an IDX file of images (`*-images-idx3-ubyte`, gzipped or not); its labels are in `labels`, or in the file beside it with
    ///   `labels-idx1` for `images-idx3` in its name;
    /// - a folder with the four MNIST-named IDX files: `split` picks `train-…` or `t10k-…`;
    /// - a `.tar` file, a folder of them or a pattern `{00000..00012}.tar`: webdataset shards with `.cls` members;
    /// - any other folder: one subfolder per class.
    ///
    /// # Errors
    /// `Data` naming the file, what was expected and the fix; `Io` when the system refuses.
    pub fn open(path: &Path, labels: Option<&Path>, split: Split) -> Result<Self> {
        if !path.exists() && path.to_string_lossy().contains('{') {
            refuse_labels(path, labels)?;
            return webdataset::open(path);
        }
        let kind = std::fs::metadata(path).map_err(Error::io("open", path))?;
        if kind.is_file() {
            if path.extension().is_some_and(|extension| extension == "tar") {
                refuse_labels(path, labels)?;
                return webdataset::open(path);
            }
            return idx::open(path, labels);
        }
        if let Some(images) = idx::find_in_folder(path, split) {
            return idx::open(&images, labels);
        }
        refuse_labels(path, labels)?;
        if webdataset::is_shard_folder(path)? { webdataset::open(path) } else { image_folder::open(path) }
    }

    /// Where it came from, as the user wrote it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The class of each image, below [`Dataset::classes`].
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// Names of the classes: folder names, or the numbers of `.cls` and IDX labels.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// What the user should know about how it was read: files left out, and why.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Image `index`, decoded.
    ///
    /// # Errors
    /// `Data` or `Io` naming the file, when it cannot be read or decoded.
    pub fn image(&self, index: usize) -> Result<Rgb8> {
        match &self.images {
            Images::Gray { height, width, pixels } => {
                let gray = &pixels[index * height * width..(index + 1) * height * width];
                let data = gray.iter().flat_map(|&v| [v, v, v]).collect();
                Ok(Rgb8 { width: *width, height: *height, data })
            }
            Images::Files(paths) => {
                let path = &paths[index];
                let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
                crate::image::decode(&bytes, &path.display().to_string())
            }
            Images::Samples(samples) => samples.image(index),
        }
    }

    /// Which image `index` is, for messages.
    pub fn describe(&self, index: usize) -> String {
        match &self.images {
            Images::Gray { .. } => format!("{}: image {index}", self.name),
            Images::Files(paths) => paths[index].display().to_string(),
            Images::Samples(samples) => samples.describe(index),
        }
    }

    /// Renumbers the labels of this set (the test images) so that equal class names have the numbers they have in `train`.
    ///
    /// # Errors
    /// `Data` when it holds a class that `train` does not.
    pub fn match_classes(&mut self, train: &Dataset) -> Result<()> {
        let names = train.class_names.iter().enumerate();
        let numbers: HashMap<&str, u32> = names.map(|(number, name)| (name.as_str(), number as u32)).collect();
        let mut used = vec![false; self.classes()];
        self.labels.iter().for_each(|&label| used[label as usize] = true);
        let mut renumbered = Vec::with_capacity(self.classes());
        for (name, used) in self.class_names.iter().zip(used) {
            match numbers.get(name.as_str()) {
                Some(&number) => renumbered.push(number),
                // A gap in the numbers of IDX or `.cls` labels: a class nobody has.
                None if !used => renumbered.push(0),
                None => bail!(
                    Data,
                    "{}: class {name:?} is not among the {} classes of the training images {}; give both sets the same classes",
                    self.name,
                    train.classes(),
                    train.name
                ),
            }
        }
        self.labels.iter_mut().for_each(|label| *label = renumbered[*label as usize]);
        self.class_names = train.class_names.clone();
        Ok(())
    }
}

fn refuse_labels(path: &Path, labels: Option<&Path>) -> Result<()> {
    match labels {
        Some(labels) => bail!(
            Usage,
            "{}: a separate labels file goes with IDX images only, and {} is none; leave it out",
            labels.display(),
            path.display()
        ),
        None => Ok(()),
    }
}

/// Class names of labels that are plain numbers: "0" up to the largest.
fn numbered_classes(labels: &[u32]) -> Vec<String> {
    let count = labels.iter().max().map_or(0, |&max| max as usize + 1);
    (0..count).map(|class| class.to_string()).collect()
}
