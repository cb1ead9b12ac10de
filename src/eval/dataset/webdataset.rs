//! Webdataset shards for classification: in each tar, samples of an image (`key.jpg|jpeg|png`) and its class number (`key.cls`).

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::image_folder::has_image_name;
use super::{Dataset, Images, numbered_classes};
use crate::bail;
use crate::error::{Error, Result};
use crate::image::Rgb8;

/// Class numbers at and above this are taken for damage, not for a data set.
const MAX_CLASSES: u32 = 1_000_000;

/// Where each image lies.
#[derive(Debug)]
pub(super) struct Members {
    shards: Vec<PathBuf>,
    images: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    shard: u32,
    name: String,
    offset: u64,
    size: u64,
}

impl Members {
    /// Reads and decodes image `index`.
    pub(super) fn image(&self, index: usize) -> Result<Rgb8> {
        let member = &self.images[index];
        let shard = &self.shards[member.shard as usize];
        let bytes = read_at(shard, member.offset, member.size)?;
        crate::image::decode(&bytes, &self.describe(index))
    }

    /// Shard and member name of image `index`.
    pub(super) fn describe(&self, index: usize) -> String {
        let member = &self.images[index];
        format!("{}: {}", self.shards[member.shard as usize].display(), member.name)
    }
}

/// Whether `folder` directly holds a `.tar` file.
pub(super) fn is_shard_folder(folder: &Path) -> Result<bool> {
    Ok(!shards_in(folder)?.is_empty())
}

/// Opens one `.tar` or every `.tar` of a folder, in the order of their names. Samples come in file order.
///
/// # Errors
/// `Data` for a damaged or truncated tar, a sample without its image or its class, or a class that is no small number.
pub fn open(path: &Path) -> Result<Dataset> {
    let shards = if path.is_dir() { shards_in(path)? } else { vec![path.to_path_buf()] };
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for (number, shard) in shards.iter().enumerate() {
        index(shard, number as u32, &mut images, &mut labels)?;
    }
    if images.is_empty() {
        bail!(Data, "{}: no samples; expected pairs such as 000017.jpg and 000017.cls", path.display());
    }
    Ok(Dataset {
        name: path.display().to_string(),
        class_names: numbered_classes(&labels),
        labels,
        images: Images::Members(Members { shards, images }),
        notes: Vec::new(),
    })
}

/// A sample being collected: the members of one key follow each other.
#[derive(Default)]
struct Sample {
    key: String,
    image: Option<Member>,
    label: Option<u32>,
}

fn index(shard: &Path, number: u32, images: &mut Vec<Member>, labels: &mut Vec<u32>) -> Result<()> {
    let file = File::open(shard).map_err(Error::io("open", shard))?;
    let length = file.metadata().map_err(Error::io("read", shard))?.len();
    let mut archive = tar::Archive::new(file);
    let damaged = |e: std::io::Error| Error::Data(format!("{}: damaged tar: {e}", shard.display()));
    let mut sample = Sample::default();
    let mut finish = |sample: Sample| match sample {
        Sample { image: Some(image), label: Some(label), .. } => {
            images.push(image);
            labels.push(label);
            Ok(())
        }
        Sample { image: None, label: None, .. } => Ok(()),
        Sample { key, image, .. } => {
            let (found, missing) = if image.is_some() { ("an image", ".cls") } else { (".cls", ".jpg, .jpeg or .png") };
            Err(Error::Data(format!("{}: sample {key} has {found} but no {missing} beside it", shard.display())))
        }
    };
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (offset, size) = (entry.raw_file_position(), entry.size());
        if offset.checked_add(size).is_none_or(|end| end > length) {
            bail!(
                Data,
                "{}: truncated: member {name} ends at byte {} of a file of {length}; fetch the shard again",
                shard.display(),
                offset.saturating_add(size)
            );
        }
        let key = sample_key(&name);
        if key != sample.key {
            finish(std::mem::replace(&mut sample, Sample { key, ..Sample::default() }))?;
        }
        if has_image_name(Path::new(&name)) {
            sample.image = Some(Member { shard: number, name, offset, size });
        } else if name.ends_with(".cls") {
            let text = read_at(shard, offset, size.min(64))?;
            let label = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
            match label {
                Some(label) if label < MAX_CLASSES => sample.label = Some(label),
                _ => bail!(
                    Data,
                    "{}: member {name} holds {:?}; expected a class number from 0 to {}",
                    shard.display(),
                    String::from_utf8_lossy(&text),
                    MAX_CLASSES - 1
                ),
            }
        }
    }
    finish(sample)
}

/// Webdataset's key: the path up to the first dot of its file name.
fn sample_key(name: &str) -> String {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let end = name[start..].find('.').map_or(name.len(), |dot| start + dot);
    name[..end].to_string()
}

fn read_at(path: &Path, offset: u64, size: u64) -> Result<Vec<u8>> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    file.seek(SeekFrom::Start(offset)).map_err(Error::io("read", path))?;
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

fn shards_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut shards = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "tar") && path.is_file() && !hidden {
            shards.push(path);
        }
    }
    shards.sort();
    Ok(shards)
}
