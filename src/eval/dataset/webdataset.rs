//! Webdataset shards for classification: samples of an image (`key.jpg|jpeg|png`) and its class number (`key.cls`).

use std::fs;
use std::path::Path;

use super::{Dataset, Images, numbered_classes};
use crate::bail;
use crate::error::{Error, Result};
use crate::image::Rgb8;
use crate::shards::Shards;

/// Class numbers at and above this are taken for damage, not for a data set.
const MAX_CLASSES: u32 = 1_000_000;

/// Mapped shards, and which of their samples are used.
#[derive(Debug)]
pub(super) struct Samples {
    shards: Shards,
    /// Numbers of the pictures.
    pictures: Vec<u32>,
}

impl Samples {
    /// Decodes image `index`.
    pub(super) fn image(&self, index: usize) -> Result<Rgb8> {
        let picture = self.shards.picture(self.pictures[index])?;
        crate::image::decode(&picture.read()?, &picture.name())
    }

    /// Shard and key of image `index`.
    pub(super) fn describe(&self, index: usize) -> String {
        self.shards.picture(self.pictures[index]).map(|picture| picture.name()).unwrap_or_default()
    }
}

/// Whether `folder` directly holds a `.tar` file.
pub(super) fn is_shard_folder(folder: &Path) -> Result<bool> {
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let name = entry.map_err(Error::io("list", folder))?.file_name();
        let name = name.as_encoded_bytes();
        if name.ends_with(b".tar") && !name.starts_with(b".") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Opens one `.tar`, every `.tar` of a folder in the order of their names, or a pattern `{00000..00012}.tar`. Samples come in file order.
///
/// # Errors
/// `Data` for a damaged or truncated tar, a sample without its image or its class, or a class that is no small number.
pub fn open(path: &Path) -> Result<Dataset> {
    let shards = Shards::open(&[path.to_path_buf()])?;
    if let Some(damage) = shards.damage().first() {
        bail!(Data, "{damage}; fetch the shard again");
    }
    let (mut pictures, mut labels) = (Vec::new(), Vec::new());
    for sample in shards.iter() {
        match (sample.pictures(), sample.read("cls")?) {
            (Ok(found), Some(text)) => {
                let class = class_number(&text, &sample.name())?;
                for picture in found {
                    pictures.push(picture.number());
                    labels.push(class);
                }
            }
            (Ok(_), None) => bail!(Data, "{}: has an image but no .cls beside it", sample.name()),
            (Err(e), Some(_)) => return Err(e),
            (Err(_), None) => {}
        }
    }
    if pictures.is_empty() {
        bail!(Data, "{}: no samples; expected pairs such as 000017.jpg and 000017.cls", path.display());
    }
    Ok(Dataset {
        name: path.display().to_string(),
        class_names: numbered_classes(&labels),
        labels,
        images: Images::Samples(Samples { shards, pictures }),
        notes: Vec::new(),
    })
}

fn class_number(text: &[u8], name: &str) -> Result<u32> {
    match std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok()) {
        Some(class) if class < MAX_CLASSES => Ok(class),
        _ => {
            let shown = String::from_utf8_lossy(&text[..text.len().min(64)]);
            bail!(Data, "{name}.cls holds {shown:?}; expected a class number from 0 to {}", MAX_CLASSES - 1)
        }
    }
}
