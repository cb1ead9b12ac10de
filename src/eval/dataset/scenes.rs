//! Pictures with the class numbers of their pixels: folders as ADE20k's authors publish them
//! (`images/{training,validation}/*.jpg` and `annotations/{training,validation}/*.png`), or webdataset shards of
//! `key.jpg` and `key.seg.png`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::Split;
use super::image_folder::{has_image_name, is_hidden, sorted_entries};
use crate::bail;
use crate::config::hex;
use crate::error::{Error, Result};
use crate::image::{LabelMap, Rgb8, decode_scene};
use crate::shards::{CaptionGroups, MAP, Shards};
use crate::store;

/// The pictures of one part of a data set.
#[derive(Debug)]
pub struct Scenes {
    name: String,
    from: From,
    /// Samples that cannot be used, a message each.
    bad: Vec<String>,
}

#[derive(Debug)]
enum From {
    /// Picture and annotation.
    Files(Vec<[PathBuf; 2]>),
    Shards(Box<Shards>, Vec<u32>),
}

/// The files of one of them, as they are.
#[derive(Debug)]
pub struct SceneFiles {
    /// Without a dot, unique in its part.
    pub key: String,
    /// `jpg` or `png`.
    pub extension: &'static str,
    pub picture: Vec<u8>,
    pub map: Vec<u8>,
}

/// Whether a folder is laid out as ADE20k is.
pub fn is_layout(path: &Path) -> bool {
    ["images", "annotations"].iter().all(|folder| path.join(folder).is_dir())
}

impl Scenes {
    /// Opens one part of `path`: of a folder of ADE20k's layout, `training` or `validation`; of shards all.
    ///
    /// # Errors
    /// `Data` naming a folder that is missing, or two pictures of one annotation; `Io` when the system refuses.
    pub fn open(path: &Path, split: Split) -> Result<Self> {
        if is_layout(path) {
            return Self::of_folder(path, split);
        }
        if path.is_dir() && path.join("images").is_dir() {
            bail!(
                Data,
                "{}: holds images, but no folder annotations beside them, where ADE20k has the class numbers of their \
                 pixels",
                path.display()
            );
        }
        let shards = Shards::open(&[path.to_path_buf()])?;
        let mut bad: Vec<String> = shards.damage().iter().map(ToString::to_string).collect();
        let mut groups = CaptionGroups::mapped(&shards)?;
        bad.extend(std::mem::take(&mut groups.bad).into_iter().map(|(_, message)| message));
        let pictures = (0..groups.len()).flat_map(|i| groups.get(i).pictures.to_vec()).collect();
        Ok(Self { name: path.display().to_string(), from: From::Shards(Box::new(shards), pictures), bad })
    }

    fn of_folder(path: &Path, split: Split) -> Result<Self> {
        let part = match split {
            Split::Train => "training",
            Split::Test => "validation",
        };
        let [images, annotations] = ["images", "annotations"].map(|folder| path.join(folder).join(part));
        if let Some(folder) = [&images, &annotations].into_iter().find(|folder| !folder.is_dir()) {
            bail!(Data, "{}: no such folder; expected one, as ADE20k's archive unpacks to", folder.display());
        }
        let (mut files, mut bad) = (Vec::<[PathBuf; 2]>::new(), Vec::new());
        let mut first_of: HashMap<PathBuf, PathBuf> = HashMap::new();
        for image in sorted_entries(&images)?.into_iter().filter(|path| !is_hidden(path) && has_image_name(path)) {
            let annotation = annotations.join(image.file_name().unwrap_or_default()).with_extension("png");
            if let Some(first) = first_of.insert(annotation.clone(), image.clone()) {
                bail!(
                    Data,
                    "{} and {}: two pictures of one annotation, {}; remove the one that it is not of",
                    first.display(),
                    image.display(),
                    annotation.display()
                );
            }
            if annotation.is_file() {
                files.push([image, annotation]);
            } else {
                bad.push(format!(
                    "{}: has no annotation; expected the class numbers of its pixels in {}",
                    image.display(),
                    annotation.display()
                ));
            }
        }
        if first_of.is_empty() {
            bail!(Data, "{}: no pictures in it; expected .jpg or .png files", images.display());
        }
        Ok(Self { name: images.display().to_string(), from: From::Files(files), bad })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn len(&self) -> usize {
        match &self.from {
            From::Files(files) => files.len(),
            From::Shards(_, pictures) => pictures.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What of it cannot be used: pictures without annotation, and of shards what is damaged.
    pub fn bad(&self) -> &[String] {
        &self.bad
    }

    /// What the files of a folder are known by without being read: names, sizes and times of change, in hexadecimal
    /// digits of a hash. Shards have none.
    ///
    /// # Errors
    /// `Io` when the system refuses.
    pub fn stamp(&self) -> Result<String> {
        let From::Files(files) = &self.from else { return Ok(String::new()) };
        let mut hash = Sha256::new();
        for path in files.iter().flatten() {
            let info = path.metadata().map_err(Error::io("read", path))?;
            let changed = info.modified().map_err(Error::io("read", path))?;
            let since = changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
            hash.update([0]);
            hash.update(info.len().to_le_bytes());
            hash.update(since.to_le_bytes());
        }
        Ok(hex(&hash.finalize()))
    }

    /// The files of picture `index`.
    ///
    /// # Errors
    /// `Io` when the system refuses.
    pub fn files(&self, index: usize) -> Result<SceneFiles> {
        match &self.from {
            From::Files(files) => {
                let [image, annotation] = &files[index];
                let read = |path: &PathBuf| store::read(path, store::RECORD).map_err(Error::io("read", path));
                let png = image.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
                Ok(SceneFiles {
                    key: self.key(index).replace('.', "_"),
                    extension: if png { "png" } else { "jpg" },
                    picture: read(image)?,
                    map: read(annotation)?,
                })
            }
            From::Shards(shards, pictures) => {
                let picture = shards.picture(pictures[index])?;
                let Some(map) = picture.sample().read(MAP)? else {
                    bail!(Data, "{}: no .{MAP} beside the image", picture.name())
                };
                Ok(SceneFiles {
                    key: self.key(index),
                    extension: if picture.extension() == "png" { "png" } else { "jpg" },
                    picture: picture.read()?,
                    map,
                })
            }
        }
    }

    /// Picture `index` and the numbers of its pixels as the file has them.
    ///
    /// # Errors
    /// `Data` when one of them is damaged or they are of two sizes; `Io` when the system refuses.
    pub fn scene(&self, index: usize) -> Result<(Rgb8, LabelMap)> {
        let name = self.shown(index);
        let files = self.files(index)?;
        decode_scene(&files.picture, &files.map, &name)
    }

    /// What picture `index` is called among them.
    pub fn key(&self, index: usize) -> String {
        match &self.from {
            From::Files(files) => files[index][0].file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            From::Shards(shards, pictures) => {
                shards.picture(pictures[index]).map_or_else(|_| String::new(), |p| p.sample().key().to_owned())
            }
        }
    }

    /// What picture `index` is called in messages.
    pub fn shown(&self, index: usize) -> String {
        match &self.from {
            From::Files(files) => files[index][0].display().to_string(),
            From::Shards(shards, pictures) => {
                shards.picture(pictures[index]).map_or_else(|e| e.to_string(), |picture| picture.name())
            }
        }
    }
}
