//! Webdataset shards for classification: samples of an image (`key.jpg|jpeg|png`) and its class number (`key.cls`).

use std::fs;
use std::path::{Path, PathBuf};

use super::labelled::{Dataset, Images, numbered_classes};
use super::samples::Samples;
use crate::bail;
use crate::error::{Error, Result};
use crate::shards::Shards;

/// The first `.tar` file directly in `folder`, by name.
pub(in crate::eval) fn find_in_folder(folder: &Path) -> Result<Option<PathBuf>> {
    let mut shards = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.ends_with(b".tar") && !name.starts_with(b".") {
            shards.push(entry.path());
        }
    }
    Ok(shards.into_iter().min())
}

/// Opens one `.tar`, every `.tar` of a folder in the order of their names, or a pattern `{00000..00012}.tar`. Samples
/// come in file order; damaged or truncated places, samples without their image or their class, and classes that are no
/// small number are in [`Dataset::defects`].
///
/// # Errors
/// `Data` when no sample is left, with what is wrong with the first.
pub fn open(path: &Path) -> Result<Dataset> {
    let shards = Shards::open(&[path.to_path_buf()])?;
    let mut defects: Vec<String> =
        shards.damage().iter().map(|damage| format!("{damage}; fetch the shard again")).collect();
    let (mut pictures, mut numbers) = (Vec::new(), Vec::new());
    for sample in shards.iter() {
        match (sample.pictures(), sample.class()?) {
            (Ok(found), Some(Ok(number))) => {
                numbers.resize(numbers.len() + found.len(), number);
                pictures.extend(found.iter().map(|picture| picture.number()));
            }
            (Ok(_), Some(Err(what))) => defects.push(what),
            (Ok(_), None) => defects.push(format!("{}: has an image but no .cls beside it", sample.name())),
            (Err(Error::Data(message)), Some(_)) => defects.push(message),
            (Err(other), Some(_)) => return Err(other),
            (Err(_), None) => {}
        }
    }
    if pictures.is_empty() {
        match defects.first() {
            Some(first) => bail!(Data, "{first} (and no other sample of {} can be used)", path.display()),
            None => bail!(Data, "{}: no samples; expected pairs such as 000017.jpg and 000017.cls", path.display()),
        }
    }
    let (labels, class_names) = numbered_classes(&numbers);
    let notes = shards.notes().to_vec();
    let images = Images::Samples(Box::new(Samples { shards, pictures }));
    let mut set = Dataset::new(path.display().to_string(), labels, class_names, images);
    (set.defects, set.notes) = (defects, notes);
    Ok(set)
}
