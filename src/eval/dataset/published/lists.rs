//! Data sets whose authors list the images of each part in text files, a line each.

use std::path::{Path, PathBuf};

use super::parts::{Listing, Part, Published};
use crate::bail;
use crate::error::{Error, Result};
use crate::store;

/// The lines of a list that hold something, with their numbers from 1.
///
/// # Errors
/// `Io` or `Data` naming the file.
pub fn lines(path: &Path) -> Result<Vec<(usize, String)>> {
    let bytes = store::read(path, store::RECORD).map_err(Error::io("read", path))?;
    let Ok(text) = String::from_utf8(bytes) else {
        bail!(Data, "{}: not UTF-8; expected the list as its authors published it", path.display());
    };
    let lines = text.lines().zip(1..).map(|(line, number)| (number, line.trim().to_owned()));
    Ok(lines.filter(|(_, line)| !line.is_empty()).collect())
}

/// Reads `lists` below `root`; `entry` makes an image's path below `root`, and its class, of a line.
fn read(
    root: &Path,
    lists: &[(&str, Part)],
    expected: &str,
    entry: impl Fn(&str) -> Option<(PathBuf, String)>,
) -> Result<Published> {
    let mut listing = Listing::default();
    for (list, part) in lists {
        let path = root.join(list);
        let lines = lines(&path)?;
        if lines.is_empty() {
            bail!(Data, "{}: lists no image; expected lines such as `{expected}`", path.display());
        }
        for (number, line) in lines {
            let Some((image, class)) = entry(&line) else {
                bail!(Data, "{}: line {number} is {line:?}, expected one such as `{expected}`", path.display());
            };
            listing.add(root.join(image), class, *part);
        }
    }
    Ok(listing.publish(root.display().to_string()))
}

/// FGVC-Aircraft (2013b) by its variants.
///
/// # Errors
/// `Io` or `Data` naming the file and line, here and below.
pub fn aircraft(root: &Path, _seed: u64) -> Result<Published> {
    let lists = [
        ("data/images_variant_train.txt", Part::Train),
        ("data/images_variant_val.txt", Part::Val),
        ("data/images_variant_test.txt", Part::Test),
    ];
    read(root, &lists, "1025794 707-320", |line| {
        let (image, variant) = line.split_once(' ')?;
        Some((format!("data/images/{image}.jpg").into(), variant.trim().to_owned()))
    })
}

/// Describable Textures, the first of its ten splits.
pub fn dtd(root: &Path, _seed: u64) -> Result<Published> {
    let lists = [("labels/train1.txt", Part::Train), ("labels/val1.txt", Part::Val), ("labels/test1.txt", Part::Test)];
    read(root, &lists, "banded/banded_0002.jpg", |line| {
        let (class, _) = line.split_once('/')?;
        Some((Path::new("images").join(line), class.to_owned()))
    })
}

/// Food-101.
pub fn food(root: &Path, _seed: u64) -> Result<Published> {
    let lists = [("meta/train.txt", Part::Train), ("meta/test.txt", Part::Test)];
    read(root, &lists, "apple_pie/1005649", |line| {
        let (class, _) = line.split_once('/')?;
        Some((format!("images/{line}.jpg").into(), class.to_owned()))
    })
}

/// Oxford-IIIT Pets; a file is called by its breed and a number.
pub fn pets(root: &Path, _seed: u64) -> Result<Published> {
    let lists = [("annotations/trainval.txt", Part::Train), ("annotations/test.txt", Part::Test)];
    read(root, &lists, "Abyssinian_100 1 1 1", |line| {
        let image = line.split_once(' ')?.0;
        let (breed, _) = image.rsplit_once('_')?;
        Some((format!("images/{image}.jpg").into(), breed.to_owned()))
    })
}

/// SUN397, the first of its ten partitions.
pub fn sun(root: &Path, _seed: u64) -> Result<Published> {
    let lists = [("Training_01.txt", Part::Train), ("Testing_01.txt", Part::Test)];
    read(root, &lists, "/a/abbey/sun_aaalbzqrimafwbiv.jpg", |line| {
        let image = line.strip_prefix('/')?;
        Some((image.into(), image.rsplit_once('/')?.0.to_owned()))
    })
}
