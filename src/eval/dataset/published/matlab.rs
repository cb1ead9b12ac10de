//! Data sets whose labels are MATLAB files: Stanford Cars and Oxford Flowers.

use std::path::Path;

use super::mat::{Array, MatFile};
use super::parts::{Listing, Part, Published};
use crate::bail;
use crate::error::Result;

/// Where the labels of the test images of Stanford Cars may lie: their archive of the development kit has none, and the
/// file that has them is put beside it or into it.
const CARS_TEST: [&str; 2] = ["cars_test_annos_withlabels.mat", "devkit/cars_test_annos_withlabels.mat"];

/// Stanford Cars: structures with the name of a file and its class.
///
/// # Errors
/// `Io` or `Data` naming the file and the entry, here and below.
pub fn cars(root: &Path, _seed: u64) -> Result<Published> {
    let Some(test) = CARS_TEST.iter().map(|name| root.join(name)).find(|path| path.is_file()) else {
        bail!(Data, "{}: expected {} or {} in it", root.display(), CARS_TEST[0], CARS_TEST[1]);
    };
    let mut listing = Listing::default();
    let parts =
        [(root.join("devkit/cars_train_annos.mat"), "cars_train", Part::Train), (test, "cars_test", Part::Test)];
    for (path, folder, part) in parts {
        let file = MatFile::open(&path)?;
        let Array::Structures { names, elements } = file.array("annotations")? else {
            bail!(Data, "{}: annotations are no structures, expected one for each image", path.display());
        };
        let place = |field: &str| names.iter().position(|name| name == field);
        let (Some(class), Some(image)) = (place("class"), place("fname")) else {
            bail!(
                Data,
                "{}: the fields of annotations are {names:?}, expected class and fname among them; the file of the \
                 test images is the one with labels",
                path.display()
            );
        };
        for (number, fields) in elements.iter().enumerate() {
            match (fields[class].number(), &fields[image]) {
                (Some(class), Array::Text(image)) => {
                    listing.add(root.join(folder).join(image), class.to_string(), part);
                }
                _ => bail!(Data, "{}: annotation {}: expected a class and a file name", path.display(), number + 1),
            }
        }
    }
    Ok(listing.publish(root.display().to_string()))
}

/// Oxford Flowers-102: a label for every image, and the numbers of the images of each part, all from 1.
pub fn flowers(root: &Path, _seed: u64) -> Result<Published> {
    let (labels, parts) = (root.join("imagelabels.mat"), root.join("setid.mat"));
    let classes = MatFile::open(&labels)?.whole_numbers("labels")?;
    let sets = MatFile::open(&parts)?;
    let mut listing = Listing::default();
    for (name, part) in [("trnid", Part::Train), ("valid", Part::Val), ("tstid", Part::Test)] {
        for image in sets.whole_numbers(name)? {
            let Some(class) = (image as usize).checked_sub(1).and_then(|i| classes.get(i)) else {
                bail!(
                    Data,
                    "{}: {name} names image {image}, but {} has labels of images 1 to {}",
                    parts.display(),
                    labels.display(),
                    classes.len()
                );
            };
            listing.add(root.join(format!("jpg/image_{image:05}.jpg")), class.to_string(), part);
        }
    }
    Ok(listing.publish(root.display().to_string()))
}
