//! CIFAR-10 and CIFAR-100 in their binary version: records of label bytes and 3·32·32 pixels, channel by channel.

use std::path::Path;

use super::parts::Published;
use crate::bail;
use crate::error::{Error, Result};
use crate::eval::dataset::labelled::{Dataset, Images, numbered_classes};
use crate::store;

const SIDE: usize = 32;
const PIXELS: usize = 3 * SIDE * SIDE;

/// Files of the training images of CIFAR-10.
const BATCHES: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];

/// CIFAR-10: one label byte.
///
/// # Errors
/// `Io` or `Data` naming the file that is missing or no whole number of records, here and below.
pub fn ten(root: &Path, _seed: u64) -> Result<Published> {
    read(root, &BATCHES, "test_batch.bin", 1)
}

/// CIFAR-100: a byte of the coarse label, which is not used, and one of the fine.
pub fn hundred(root: &Path, _seed: u64) -> Result<Published> {
    read(root, &["train.bin"], "test.bin", 2)
}

/// Records of `labels` bytes, the last of which is the class, and the pixels.
fn read(root: &Path, train: &[&str], test: &str, labels: usize) -> Result<Published> {
    let (mut numbers, mut pixels, mut first_of_test) = (Vec::new(), Vec::new(), 0);
    for file in train.iter().chain([&test]) {
        let path = root.join(file);
        first_of_test = numbers.len();
        let bytes = store::read(&path, store::RECORD).map_err(Error::io("read", &path))?;
        if bytes.is_empty() || !bytes.len().is_multiple_of(labels + PIXELS) {
            bail!(
                Data,
                "{}: {} bytes, expected a multiple of {} ({labels} of labels and {PIXELS} of pixels each image): the \
                 binary version's files; unpack its archive again",
                path.display(),
                bytes.len(),
                labels + PIXELS
            );
        }
        for record in bytes.chunks_exact(labels + PIXELS) {
            numbers.push(u32::from(record[labels - 1]));
            pixels.extend_from_slice(&record[labels..]);
        }
    }
    let count = numbers.len();
    let (labels, names) = numbered_classes(&numbers);
    let images = Images::Planes { height: SIDE, width: SIDE, channels: 3, pixels };
    Ok(Published {
        images: Dataset::new(root.display().to_string(), labels, names, images),
        train: (0..first_of_test).collect(),
        val: Vec::new(),
        test: (first_of_test..count).collect(),
        things: None,
    })
}
