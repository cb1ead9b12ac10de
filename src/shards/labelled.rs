//! Labelled pictures, each by itself: what supervised training draws from.

use rayon::prelude::*;

use super::Shards;
use super::captions::CaptionGroups;
use super::scan::stop_if_asked;
use crate::bail;
use crate::error::{Error, Result};

/// Samples between two looks at whether a signal asked to stop.
const LOOK: usize = 4096;

/// The labelled pictures of one file: class, and number.
#[derive(Default)]
struct Described {
    pictures: Vec<(u32, u32)>,
    bad: Vec<String>,
    /// A picture without a class.
    unlabelled: Option<String>,
}

impl CaptionGroups {
    /// Every picture is a group of its own, whose label is the class number of its sample (`.cls`); captions are not
    /// read. Samples without a picture, or without a class, are bad.
    ///
    /// # Errors
    /// `Data` where no sample has a class, or one is not below `classes`; if a shard cannot be read; `Interrupted`
    /// after a signal.
    pub fn labelled(shards: &Shards, classes: Option<usize>) -> Result<Self> {
        let of_file = |file| describe(shards, file, classes);
        let files: Vec<Described> = (0..shards.files().len()).into_par_iter().map(of_file).collect::<Result<_>>()?;
        let mut all = Self::default();
        let mut unlabelled = None;
        for (number, file) in files.into_iter().enumerate() {
            all.bad.extend(file.bad.into_iter().map(|message| (number, message)));
            unlabelled = unlabelled.or(file.unlabelled);
            for (class, picture) in file.pictures {
                all.pictures.push(picture);
                all.groups.push((class, all.pictures.len() as u32));
            }
        }
        match unlabelled {
            Some(name) if all.is_empty() => bail!(
                Data,
                "{name}: no .cls beside the image, nor beside any other: supervised training reads its class number \
                 there (key.jpg and key.cls, as webdataset has it)"
            ),
            _ => Ok(all),
        }
    }
}

fn describe(shards: &Shards, file: usize, classes: Option<usize>) -> Result<Described> {
    let mut all = Described::default();
    for (place, sample) in shards.samples_of(file).enumerate() {
        if place.is_multiple_of(LOOK) {
            stop_if_asked()?;
        }
        let pictures = match sample.pictures() {
            Ok(pictures) => pictures,
            Err(Error::Data(message)) => {
                all.bad.push(message);
                continue;
            }
            Err(other) => return Err(other),
        };
        match sample.class()? {
            Some(Ok(class)) => {
                if let Some(classes) = classes.filter(|&classes| class as usize >= classes) {
                    bail!(
                        Data,
                        "{}.cls holds class {class}, but --classes is {classes}: classes are counted from 0; give \
                         --classes {} or more, or none",
                        sample.name(),
                        class + 1
                    );
                }
                all.pictures.extend(pictures.iter().map(|picture| (class, picture.number())));
            }
            Some(Err(what)) => all.bad.push(what),
            None => {
                all.unlabelled.get_or_insert_with(|| sample.name());
                all.bad.push(format!("{}: no .cls beside the image", sample.name()));
            }
        }
    }
    Ok(all)
}
