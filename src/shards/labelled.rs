//! Labelled pictures, each by itself: what supervised training draws from.

use rayon::prelude::*;

use super::captions::CaptionGroups;
use super::sample::SampleRef;
use super::scan::stop_if_asked;
use super::{MAP, Shards};
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

/// What is beside a picture that is learned from.
#[derive(Clone, Copy)]
enum Beside {
    /// Its class, below this where it is given.
    Class(Option<usize>),
    /// Those of its pixels.
    Map,
}

impl Beside {
    fn extension(self) -> &'static str {
        match self {
            Self::Class(_) => "cls",
            Self::Map => MAP,
        }
    }

    /// What is told of a sample; 0 where it is read later.
    fn label(self, sample: &SampleRef<'_>) -> Result<Option<Result<u32, String>>> {
        match self {
            Self::Class(classes) => {
                let class = sample.class()?;
                match (&class, classes) {
                    (Some(Ok(class)), Some(classes)) if *class as usize >= classes => bail!(
                        Data,
                        "{}.cls holds class {class}, but --classes is {classes}: classes are counted from 0; give \
                         --classes {} or more, or none",
                        sample.name(),
                        class + 1
                    ),
                    _ => Ok(class),
                }
            }
            Self::Map => Ok(sample.members().any(|(extension, _)| extension == MAP).then_some(Ok(0))),
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Class(_) => {
                "supervised training reads its class number there (key.jpg and key.cls, as webdataset has it)"
            }
            Self::Map => {
                "segmentation reads the class numbers of its pixels there (key.jpg and key.seg.png), or from a folder \
                 with images/training and annotations/training as ADE20k has them"
            }
        }
    }
}

impl CaptionGroups {
    /// Every picture is a group of its own, whose label is the class number of its sample (`.cls`); captions are not
    /// read. Samples without a picture, or without a class, are bad.
    ///
    /// # Errors
    /// `Data` where no sample has a class, or one is not below `classes`; if a shard cannot be read; `Interrupted`
    /// after a signal.
    pub fn labelled(shards: &Shards, classes: Option<usize>) -> Result<Self> {
        Self::alone(shards, Beside::Class(classes))
    }

    /// Every picture with the class numbers of its pixels beside it ([`MAP`]) is a group of its own; captions are not
    /// read. Samples without either are bad.
    ///
    /// # Errors
    /// `Data` where no sample has them; if a shard cannot be read; `Interrupted` after a signal.
    pub fn mapped(shards: &Shards) -> Result<Self> {
        Self::alone(shards, Beside::Map)
    }

    fn alone(shards: &Shards, beside: Beside) -> Result<Self> {
        let of_file = |file| describe(shards, file, beside);
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
                "{name}: no .{} beside the image, nor beside any other: {}",
                beside.extension(),
                beside.expected()
            ),
            _ => Ok(all),
        }
    }
}

fn describe(shards: &Shards, file: usize, beside: Beside) -> Result<Described> {
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
        match beside.label(&sample)? {
            Some(Ok(class)) => all.pictures.extend(pictures.iter().map(|picture| (class, picture.number()))),
            Some(Err(what)) => all.bad.push(what),
            None => {
                all.unlabelled.get_or_insert_with(|| sample.name());
                all.bad.push(format!("{}: no .{} beside the image", sample.name(), beside.extension()));
            }
        }
    }
    Ok(all)
}
