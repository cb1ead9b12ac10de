//! One folder per class, images anywhere below it: the layout of ImageNet and of torchvision's ImageFolder.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Dataset, Images};
use crate::bail;
use crate::error::{Error, Result};

/// Names that the parts of a data set have. A folder of nothing but these holds data sets, not classes.
const SPLITS: [&str; 7] = ["train", "training", "val", "valid", "validation", "test", "testing"];

/// Opens `root`. Classes are its subfolders in the order of their names (bytes); images are `.jpg`, `.jpeg` and `.png` files in the
/// order of their paths. Names that begin with a dot are not looked at; other files are counted in [`Dataset::notes`].
///
/// # Errors
/// `Data` when there is no class folder, one holds no image, a link leads back up, or the folders are the splits of a
/// data set rather than classes; `Io` when the system refuses.
pub fn open(root: &Path) -> Result<Dataset> {
    let classes = class_folders(root)?;
    if classes.is_empty() {
        bail!(
            Data,
            "{}: no class folders in it; expected one folder of .jpg or .png images per class, or IDX files, or webdataset .tar shards",
            root.display()
        );
    }
    let (mut paths, mut labels, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for (label, folder) in classes.iter().enumerate() {
        let before = paths.len();
        collect(folder, &mut paths, &mut left_out)?;
        if paths.len() == before {
            bail!(
                Data,
                "{}: a class folder without images; put .jpg, .jpeg or .png files in it or remove it",
                folder.display()
            );
        }
        labels.resize(paths.len(), label as u32);
    }
    let class_names: Vec<String> = classes.iter().map(|folder| name_of(folder)).collect();
    let nested = paths.iter().zip(&labels).all(|(path, &label)| path.parent() != Some(&classes[label as usize]));
    if nested && class_names.iter().all(|name| SPLITS.iter().any(|split| name.eq_ignore_ascii_case(split))) {
        bail!(
            Data,
            "{}: its folders ({}) look like the parts of a data set, not like classes; give one of them, such as {}",
            root.display(),
            class_names.join(", "),
            classes[0].display()
        );
    }
    let mut notes = Vec::new();
    if let Some(first) = left_out.first() {
        notes.push(format!(
            "{}: {} files left out because they are not named .jpg, .jpeg or .png (the first: {})",
            root.display(),
            left_out.len(),
            first.display()
        ));
    }
    let set = Dataset::new(root.display().to_string(), labels, class_names, Images::Files(paths));
    Ok(Dataset { notes, ..set })
}

/// The first class folder of `root`: a subfolder with an image somewhere below it.
pub(super) fn find_class(root: &Path) -> Result<Option<PathBuf>> {
    for folder in class_folders(root)? {
        let mut images = Vec::new();
        collect(&folder, &mut images, &mut Vec::new())?;
        if !images.is_empty() {
            return Ok(Some(folder));
        }
    }
    Ok(None)
}

fn class_folders(root: &Path) -> Result<Vec<PathBuf>> {
    Ok(sorted_entries(root)?.into_iter().filter(|path| path.is_dir()).collect())
}

fn name_of(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn collect(folder: &Path, images: &mut Vec<PathBuf>, left_out: &mut Vec<PathBuf>) -> Result<()> {
    for path in sorted_entries(folder)? {
        if path.is_dir() {
            if path.is_symlink() && leads_up(&path, folder) {
                bail!(Data, "{}: a link to a folder that it lies in; remove it", path.display());
            }
            collect(&path, images, left_out)?;
        } else if has_image_name(&path) {
            images.push(path);
        } else {
            left_out.push(path);
        }
    }
    Ok(())
}

/// Whether `link` in `folder` is `folder` itself or one above it.
fn leads_up(link: &Path, folder: &Path) -> bool {
    matches!((link.canonicalize(), folder.canonicalize()), (Ok(target), Ok(folder)) if folder.starts_with(&target))
}

/// Whether the name ends in `.jpg`, `.jpeg` or `.png`, in any case.
fn has_image_name(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| ["jpg", "jpeg", "png"].iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

fn sorted_entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
