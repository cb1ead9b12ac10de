//! PASCAL VOC 2007: an image may show several things, of each of which a list says whether it does.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::lists::lines;
use super::parts::{Listing, Part, Published};
use crate::bail;
use crate::error::{Error, Result};

/// Where the lists are.
const LISTS: &str = "ImageSets/Main";

/// Things are what there is a list `NAME_train.txt` of. A line is an image and 1, 0 or −1: it shows the thing, shows it
/// in a way that is hard to see, or does not; what is hard to see counts as not there.
///
/// # Errors
/// `Io` or `Data` naming the list and line.
pub fn open(root: &Path, _seed: u64) -> Result<Published> {
    let folder = root.join(LISTS);
    let mut things = Vec::new();
    for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
        let name = entry.map_err(Error::io("list", &folder))?.file_name().to_string_lossy().into_owned();
        things.extend(name.strip_suffix("_train.txt").map(str::to_owned));
    }
    things.sort();
    if things.is_empty() {
        bail!(Data, "{}: no list such as dog_train.txt; expected those of VOC 2007's classification", folder.display());
    }
    let mut listing = Listing::default();
    for (part, suffix) in [(Part::Train, "train"), (Part::Val, "val"), (Part::Test, "test")] {
        let mut shown: BTreeMap<String, String> = BTreeMap::new();
        for (thing, name) in things.iter().enumerate() {
            let path = folder.join(format!("{name}_{suffix}.txt"));
            for (number, line) in lines(&path)? {
                let words: Vec<&str> = line.split_whitespace().collect();
                let (image, sign) = match words[..] {
                    [image, "1"] => (image, '1'),
                    [image, "0" | "-1"] => (image, '0'),
                    _ => bail!(
                        Data,
                        "{}: line {number} is {line:?}, expected an image and 1, 0 or -1, such as `000012 -1`",
                        path.display()
                    ),
                };
                let signs = shown.entry(image.to_owned()).or_default();
                if signs.len() != thing {
                    bail!(
                        Data,
                        "{}: line {number}: image {image} is not in the list of every thing once; unpack the archive \
                         again",
                        path.display()
                    );
                }
                signs.push(sign);
            }
        }
        for (image, signs) in shown {
            if signs.len() != things.len() {
                bail!(
                    Data,
                    "{}: image {image} is in no list {}_{suffix}.txt; unpack the archive again",
                    folder.display(),
                    things[signs.len()]
                );
            }
            listing.add(root.join(format!("JPEGImages/{image}.jpg")), signs, part);
        }
    }
    Ok(Published { things: Some(things), ..listing.publish(root.display().to_string()) })
}
