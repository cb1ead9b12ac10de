//! Labelled photographs for probes, decoded when asked for: IDX files, folders of classes, webdataset shards with
//! `.cls`.

pub mod idx;
pub mod image_folder;
mod labelled;
pub mod published;
mod region;
mod samples;
pub mod scenes;
mod split;
mod unlabelled;
pub mod webdataset;

use std::path::{Path, PathBuf};

use crate::bail;
use crate::error::{Error, Result};
pub use labelled::{Dataset, Fingerprint, Split};
pub use region::Region;
pub use split::hold_out;

impl Dataset {
    /// Opens `path`, whatever it is:
    /// - an IDX file of images (`*-images-idx3-ubyte`, gzipped or not); its labels are in `labels`, or in the file
    ///   beside it with `labels-idx1` for `images-idx3` in its name;
    /// - a folder with the four MNIST-named IDX files: `split` picks `train-…` or `t10k-…`;
    /// - a `.tar` file, a folder of them or a pattern `{00000..00012}.tar`: webdataset shards with `.cls` members;
    /// - any other folder: one subfolder per class.
    ///
    /// # Errors
    /// `Data` naming the file, what was expected and the fix, also for a folder that holds two of these; `Io` when the
    /// system refuses.
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
        let (images, shard) = (idx::find_in_folder(path, split), webdataset::find_in_folder(path)?);
        let class = if images.is_some() || shard.is_some() { image_folder::find_class(path)? } else { None };
        let found: Vec<&PathBuf> = [&images, &shard, &class].into_iter().flatten().collect();
        if let [first, second, ..] = found[..] {
            bail!(
                Data,
                "{}: holds {} and {}: IDX files, shards and class folders are different data sets; \
                 name the file that is meant, or move the others elsewhere",
                path.display(),
                first.display(),
                second.display()
            );
        }
        if let Some(images) = images {
            return idx::open(&images, labels);
        }
        refuse_labels(path, labels)?;
        if shard.is_some() { webdataset::open(path) } else { image_folder::open(path) }
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
