//! Caltech-101: a folder per class, divided by nobody.

use std::path::Path;

use super::parts::Published;
use crate::bail;
use crate::error::Result;
use crate::eval::dataset::image_folder;
use crate::rng::{Domain, Stream};

/// Training images of a class; its others are for the test.
const TRAIN: usize = 30;

/// All class folders, the clutter of `BACKGROUND_Google` too; `seed` draws thirty different images of each to train on.
///
/// # Errors
/// `Data` naming a class without an image left for the test, and as [`image_folder::open`].
pub fn open(root: &Path, seed: u64) -> Result<Published> {
    let images = image_folder::open(root)?;
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (class, name) in images.class_names().iter().enumerate() {
        let own: Vec<usize> = (0..images.len()).filter(|&i| images.labels()[i] as usize == class).collect();
        if own.len() <= TRAIN {
            bail!(
                Data,
                "{}: class {name:?} has {} images, expected more than {TRAIN}, which train, the others being for the \
                 test; give the folder 101_ObjectCategories as it was published",
                images.name(),
                own.len()
            );
        }
        let drawn = Stream::new(seed, Domain::Parts, [1, class as u32, 0]).choose(own.len(), own.len());
        train.extend(drawn[..TRAIN].iter().map(|&i| own[i]));
        test.extend(drawn[TRAIN..].iter().map(|&i| own[i]));
    }
    train.sort_unstable();
    test.sort_unstable();
    Ok(Published { images, train, val: Vec::new(), test, things: None })
}
