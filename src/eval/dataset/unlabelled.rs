//! Pictures without classes: whatever a path holds, or the images of each caption.

use std::fs;
use std::path::Path;

use super::labelled::{Dataset, Images, Split};
use super::samples::Samples;
use super::{idx, image_folder, webdataset};
use crate::bail;
use crate::error::{Error, Result};
use crate::shards::{CaptionGroups, Shards};

/// What the generator flags a picture with whose values were no numbers.
const NOT_FINITE: &str = "not_finite";

impl Dataset {
    /// Opens all pictures of `path`, under one class:
    /// - an IDX file of images, without its labels, or a folder with one;
    /// - a `.tar` file, a folder of them or a pattern `{00000..00012}.tar`: the pictures of every sample (what else
    ///   lies in such a folder, as `generate`'s contact sheet does, is none of them);
    /// - any other folder: the `.jpg` and `.png` files in it and below it.
    ///
    /// # Errors
    /// `Data` naming the file, what was expected and the fix; `Io` when the system refuses.
    pub fn open_pictures(path: &Path) -> Result<Self> {
        if !path.exists() && path.to_string_lossy().contains('{') {
            return of_shards(path);
        }
        let kind = fs::metadata(path).map_err(Error::io("open", path))?;
        if kind.is_file() {
            return match path.extension().is_some_and(|extension| extension == "tar") {
                true => of_shards(path),
                false => idx::open_images(path),
            };
        }
        if webdataset::find_in_folder(path)?.is_some() {
            return of_shards(path);
        }
        let found = [Split::Train, Split::Test].map(|split| idx::find_in_folder(path, split));
        match found {
            [Some(one), Some(other)] => bail!(
                Data,
                "{}: holds {} and {}: name the file that is meant",
                path.display(),
                one.display(),
                other.display()
            ),
            [Some(images), None] | [None, Some(images)] => idx::open_images(&images),
            [None, None] => image_folder::open_all(path),
        }
    }

    /// Opens shards of pictures with captions: a class for every text, in the order texts first appear, called by it.
    /// What is left out, such as a picture that was drawn twice, is in [`Dataset::notes`].
    ///
    /// # Errors
    /// `Data` when no sample is left, with what is wrong with the first; `Io` when the system refuses.
    pub fn open_captions(path: &Path) -> Result<Self> {
        let shards = Shards::open(&[path.to_path_buf()])?;
        let groups = CaptionGroups::new(&shards)?;
        let mut defects: Vec<String> = damage(&shards);
        defects.extend(groups.bad.iter().map(|(_, message)| message.clone()));
        let (mut pictures, mut labels, mut texts) = (Vec::new(), Vec::new(), vec![String::new(); groups.texts]);
        for group in (0..groups.len()).map(|i| groups.get(i)) {
            let text = &mut texts[group.label as usize];
            if let (true, Some(&first)) = (text.is_empty(), group.pictures.first()) {
                *text = shards.picture(first)?.sample().record()?.caption.unwrap_or_default();
            }
            pictures.extend_from_slice(group.pictures);
            labels.resize(pictures.len(), group.label);
        }
        let notes = shards.notes().iter().chain(&groups.notes).chain(&groups.left_out).cloned().collect();
        build(path, shards, (pictures, labels), texts, defects, notes)
    }
}

fn damage(shards: &Shards) -> Vec<String> {
    shards.damage().iter().map(|damage| format!("{damage}; fetch the shard again")).collect()
}

/// Every picture of every sample, but for what the generator flagged as not finite.
fn of_shards(path: &Path) -> Result<Dataset> {
    let shards = Shards::open(&[path.to_path_buf()])?;
    let (mut defects, mut notes) = (damage(&shards), shards.notes().to_vec());
    let (mut pictures, mut left_out) = (Vec::new(), None);
    for sample in shards.iter() {
        match sample.pictures() {
            Ok(_) if sample.record()?.flags.iter().any(|flag| flag == NOT_FINITE) => {
                left_out.get_or_insert((0, sample.name())).0 += 1;
            }
            Ok(found) => pictures.extend(found.iter().map(|picture| picture.number())),
            Err(Error::Data(message)) => defects.push(message),
            Err(other) => return Err(other),
        }
    }
    if let Some((count, example)) = left_out {
        notes.push(format!("{count} sample(s) left out because of their flag {NOT_FINITE}, e.g. {example}"));
    }
    let labels = vec![0; pictures.len()];
    build(path, shards, (pictures, labels), vec!["pictures".into()], defects, notes)
}

fn build(
    path: &Path,
    shards: Shards,
    (pictures, labels): (Vec<u32>, Vec<u32>),
    class_names: Vec<String>,
    defects: Vec<String>,
    notes: Vec<String>,
) -> Result<Dataset> {
    if pictures.is_empty() {
        match defects.first() {
            Some(first) => bail!(Data, "{first} (and no other sample of {} can be used)", path.display()),
            None => bail!(Data, "{}: no samples; expected some such as 000017.jpg", path.display()),
        }
    }
    let images = Images::Samples(Box::new(Samples { shards, pictures }));
    let mut set = Dataset::new(path.display().to_string(), labels, class_names, images);
    (set.defects, set.notes) = (defects, notes);
    Ok(set)
}
