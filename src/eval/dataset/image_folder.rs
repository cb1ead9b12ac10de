//! One folder per class, images anywhere below it: the layout of ImageNet and of torchvision's ImageFolder.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Dataset, Images};
use crate::bail;
use crate::error::{Error, Result};

/// Opens `root`. Classes are its subfolders in the order of their names (bytes); images are `.jpg`, `.jpeg` and `.png` files in the
/// order of their paths. Names that begin with a dot are not looked at; other files are counted in [`Dataset::notes`].
///
/// # Errors
/// `Data` when there is no class folder or one holds no image; `Io` when the system refuses.
pub fn open(root: &Path) -> Result<Dataset> {
    let mut classes: Vec<(String, PathBuf)> = Vec::new();
    for path in sorted_entries(root)? {
        if path.is_dir() {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            classes.push((name, path));
        }
    }
    if classes.is_empty() {
        bail!(
            Data,
            "{}: no class folders in it; expected one folder of .jpg or .png images per class, or IDX files, or webdataset .tar shards",
            root.display()
        );
    }
    let (mut paths, mut labels, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for (label, (_, folder)) in classes.iter().enumerate() {
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
    let notes = match left_out.first() {
        Some(first) => vec![format!(
            "{}: {} files left out because they are not named .jpg, .jpeg or .png (the first: {})",
            root.display(),
            left_out.len(),
            first.display()
        )],
        None => Vec::new(),
    };
    Ok(Dataset {
        name: root.display().to_string(),
        labels,
        class_names: classes.into_iter().map(|(name, _)| name).collect(),
        images: Images::Files(paths),
        notes,
    })
}

fn collect(folder: &Path, images: &mut Vec<PathBuf>, left_out: &mut Vec<PathBuf>) -> Result<()> {
    for path in sorted_entries(folder)? {
        if path.is_dir() {
            collect(&path, images, left_out)?;
        } else if has_image_name(&path) {
            images.push(path);
        } else {
            left_out.push(path);
        }
    }
    Ok(())
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
