//! One folder per class, images anywhere below it: the layout of ImageNet and of torchvision's ImageFolder.
//!
//! As there, subfolders of a class are walked, links are followed, and a picture that is there under two names counts
//! twice. Unlike there, names that begin with a dot are passed over.

use std::fs;
use std::path::{Path, PathBuf};

use super::labelled::{Dataset, Images};
use crate::bail;
use crate::error::{Error, Result};

/// Names that the parts of a data set have. A folder of nothing but these holds data sets, not classes.
const SPLITS: [&str; 7] = ["train", "training", "val", "valid", "validation", "test", "testing"];

/// Opens `root`. Classes are its subfolders in the order of their names (bytes); images are `.jpg`, `.jpeg` and `.png`
/// files in the order of their paths. What is left out is counted in [`Dataset::notes`]: images beside the class
/// folders, hidden ones (by a dot before the name), and files of other names in class folders.
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
    let (mut paths, mut labels) = (Vec::new(), Vec::new());
    let mut left_out = LeftOut::beside(root)?;
    for (label, folder) in classes.iter().enumerate() {
        let before = paths.len();
        collect(folder, &mut paths, &mut left_out, &mut Vec::new())?;
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
    let mut set = Dataset::new(root.display().to_string(), labels, class_names, Images::Files(paths));
    set.notes = left_out.notes(root);
    Ok(set)
}

/// Opens all images in `root` and below it, in the order of their paths, under one class; what is left out is counted
/// in [`Dataset::notes`].
///
/// # Errors
/// `Data` when there is none, shards lie below it, or a link leads back up; `Io` when the system refuses.
pub(super) fn open_all(root: &Path) -> Result<Dataset> {
    let (mut paths, mut left_out) = (Vec::new(), LeftOut::default());
    collect(root, &mut paths, &mut left_out, &mut Vec::new())?;
    // A contact sheet beside shards is none of their pictures.
    if let Some(shard) = left_out.other.iter().find(|path| path.extension().is_some_and(|ending| ending == "tar")) {
        bail!(
            Data,
            "{}: holds shards further down ({}): name the folder that they lie in",
            root.display(),
            shard.display()
        );
    }
    if paths.is_empty() {
        bail!(
            Data,
            "{}: no pictures in it; expected .jpg or .png files, webdataset .tar shards, or an IDX file",
            root.display()
        );
    }
    let labels = vec![0; paths.len()];
    let mut set = Dataset::new(root.display().to_string(), labels, vec!["pictures".into()], Images::Files(paths));
    set.notes = left_out.notes(root);
    Ok(set)
}

/// Files that are no images of a class.
#[derive(Default)]
struct LeftOut {
    /// Images that lie in no class folder.
    beside: Vec<PathBuf>,
    /// Images and folders whose name begins with a dot.
    hidden: Vec<PathBuf>,
    /// Files in class folders that are named otherwise.
    other: Vec<PathBuf>,
}

impl LeftOut {
    /// What lies in `root` itself.
    fn beside(root: &Path) -> Result<Self> {
        let images = sorted_entries(root)?.into_iter().filter(|path| !path.is_dir() && has_image_name(path));
        let (hidden, beside) = images.partition(|path| is_hidden(path));
        Ok(Self { beside, hidden, other: Vec::new() })
    }

    /// A line for each kind that there is.
    fn notes(&self, root: &Path) -> Vec<String> {
        let kinds = [
            (&self.beside, "they lie beside the class folders, in none of them"),
            (&self.hidden, "they are hidden (their names begin with a dot; a folder counts once)"),
            (&self.other, "they are not named .jpg, .jpeg or .png"),
        ];
        let line = |(files, why): (&Vec<PathBuf>, &str)| {
            let (root, count, first) = (root.display(), files.len(), files.first()?.display());
            Some(format!("{root}: {count} files left out because {why} (the first: {first})"))
        };
        kinds.into_iter().filter_map(line).collect()
    }
}

/// The first class folder of `root`: a subfolder with an image somewhere below it.
pub(super) fn find_class(root: &Path) -> Result<Option<PathBuf>> {
    for folder in class_folders(root)? {
        let mut images = Vec::new();
        collect(&folder, &mut images, &mut LeftOut::default(), &mut Vec::new())?;
        if !images.is_empty() {
            return Ok(Some(folder));
        }
    }
    Ok(None)
}

fn class_folders(root: &Path) -> Result<Vec<PathBuf>> {
    Ok(sorted_entries(root)?.into_iter().filter(|path| !is_hidden(path) && path.is_dir()).collect())
}

fn name_of(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

pub(super) fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Finds the images in and below `folder`. `left` are the folders that links were followed out of on the way there.
fn collect(folder: &Path, images: &mut Vec<PathBuf>, left_out: &mut LeftOut, left: &mut Vec<PathBuf>) -> Result<()> {
    for path in sorted_entries(folder)? {
        if is_hidden(&path) {
            if path.is_dir() || has_image_name(&path) {
                left_out.hidden.push(path);
            }
        } else if path.is_dir() {
            let link = path.is_symlink();
            if link {
                left.push(folder.canonicalize().unwrap_or_default());
                if leads_back(&path, left) {
                    bail!(Data, "{}: a link to a folder that it lies in; remove it", path.display());
                }
            }
            collect(&path, images, left_out, left)?;
            if link {
                left.pop();
            }
        } else if has_image_name(&path) {
            images.push(path);
        } else {
            left_out.other.push(path);
        }
    }
    Ok(())
}

/// Whether `link` leads to one of the folders that were left by links, or to one above it.
fn leads_back(link: &Path, left: &[PathBuf]) -> bool {
    link.canonicalize().is_ok_and(|target| left.iter().any(|folder| folder.starts_with(&target)))
}

/// Whether the name ends in `.jpg`, `.jpeg` or `.png`, in any case.
pub(super) fn has_image_name(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| ["jpg", "jpeg", "png"].iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

pub(super) fn sorted_entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        paths.push(entry.map_err(Error::io("list", folder))?.path());
    }
    paths.sort();
    Ok(paths)
}
