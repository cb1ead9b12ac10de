//! The IDX files of MNIST and its relatives: two zero bytes, element type (0x08: unsigned byte), number of dimensions,
//! the dimensions as big-endian u32, then the values. Gzipped files are recognised by their content, not their name.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::labelled::{Dataset, Images, Split, numbered_classes};
use crate::bail;
use crate::error::{Error, Result};

/// Opens the images at `path` with `labels`, or with the labels file beside it (see `labels_beside`).
///
/// # Errors
/// `Data` for a file that is no IDX file of the expected kind, is truncated or too long, or holds another number of
/// labels than images; `Io` when the system refuses.
pub fn open(path: &Path, labels: Option<&Path>) -> Result<Dataset> {
    let images = fs::read(path).map_err(Error::io("read", path))?;
    let name = path.display().to_string();
    let parsed = parse(&images, 3, &name)?;
    let labels = match labels {
        Some(labels) => labels.to_path_buf(),
        None => labels_beside(path)?,
    };
    let label_bytes = fs::read(&labels).map_err(Error::io("read", &labels))?;
    build(parsed, &label_bytes, &name, &labels.display().to_string())
}

/// The same from files already in memory (gzipped or not); `name` stands for them in messages.
pub fn from_bytes(images: &[u8], labels: &[u8], name: &str) -> Result<Dataset> {
    build(parse(images, 3, &format!("{name} (images)"))?, labels, name, &format!("{name} (labels)"))
}

/// Opens the images at `path` without labels, under one class.
///
/// # Errors
/// As [`open`].
pub(super) fn open_images(path: &Path) -> Result<Dataset> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let name = path.display().to_string();
    let Idx { sizes, values } = parse(&bytes, 3, &name)?;
    let [count, height, width] = sizes[..] else { bail!(Data, "{name}: expected three dimensions") };
    let images = Images::Planes { height, width, channels: 1, pixels: values };
    Ok(Dataset::new(name, vec![0; count], vec!["pictures".into()], images))
}

/// The labels file that belongs to an images file: `images-idx3` becomes `labels-idx1` in its name, with or without
/// `.gz`.
fn labels_beside(images: &Path) -> Result<PathBuf> {
    let name = images.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let wanted = name.replace("images-idx3", "labels-idx1").replace("images.idx3", "labels.idx1");
    if wanted == name {
        bail!(
            Usage,
            "{}: cannot tell which file holds its labels; name it with --train-labels or --test-labels",
            images.display()
        );
    }
    let stem = wanted.strip_suffix(".gz").unwrap_or(&wanted);
    for candidate in [wanted.as_str(), stem, &format!("{stem}.gz")] {
        let path = images.with_file_name(candidate);
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!(
        Data,
        "{}: no labels beside it: expected {}; name them with --train-labels or --test-labels",
        images.display(),
        images.with_file_name(wanted).display()
    )
}

/// The MNIST-named images file of `split` in `folder`, if there is one.
pub(super) fn find_in_folder(folder: &Path, split: Split) -> Option<PathBuf> {
    let stem = match split {
        Split::Train => "train-images-idx3-ubyte",
        Split::Test => "t10k-images-idx3-ubyte",
    };
    [stem.to_string(), format!("{stem}.gz")].iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// Dimensions and values of one file.
struct Idx {
    sizes: Vec<usize>,
    values: Vec<u8>,
}

fn build(images: Idx, labels: &[u8], name: &str, labels_name: &str) -> Result<Dataset> {
    let labels = parse(labels, 1, labels_name)?;
    let [count, height, width] = images.sizes[..] else {
        bail!(Data, "{name}: expected three dimensions");
    };
    if labels.sizes[0] != count {
        bail!(
            Data,
            "{name} holds {count} images but {labels_name} {} labels; they must belong together",
            labels.sizes[0]
        );
    }
    let numbers: Vec<u32> = labels.values.iter().map(|&label| u32::from(label)).collect();
    let (labels, class_names) = numbered_classes(&numbers);
    let images = Images::Planes { height, width, channels: 1, pixels: images.values };
    Ok(Dataset::new(name.to_string(), labels, class_names, images))
}

/// Checks magic, sizes and length. Memory grows with the bytes that are there, never with what the header claims.
fn parse(bytes: &[u8], dimensions: usize, name: &str) -> Result<Idx> {
    let mut reader: Box<dyn Read + '_> =
        if bytes.starts_with(&[0x1f, 0x8b]) { Box::new(MultiGzDecoder::new(bytes)) } else { Box::new(bytes) };
    let mut header = Vec::new();
    let wanted = 4 + 4 * dimensions;
    read_up_to(&mut reader, wanted, &mut header, name)?;
    let magic = [0, 0, 8, dimensions as u8];
    if header.len() < 4 || header[..4] != magic {
        let found: String = header.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let hint = match header.get(..4) {
            Some([0, 0, 8, 1]) => "; this is a labels file",
            Some([0, 0, 8, 3]) => "; this is an images file",
            _ => "",
        };
        let expected = match dimensions {
            1 => "00000801 (IDX labels: unsigned bytes, one dimension)",
            _ => "00000803 (IDX gray images: unsigned bytes; count, rows, columns)",
        };
        let found = if found.is_empty() { "is empty".to_owned() } else { format!("starts with {found}") };
        bail!(Data, "{name}: {found}, expected {expected}{hint}");
    }
    if header.len() < wanted {
        bail!(Data, "{name}: truncated: {} bytes of a header of {wanted}", header.len());
    }
    let sizes: Vec<usize> =
        header[4..].chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    let total = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let shape = sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    let Some(total) = total.filter(|&total| total > 0 && total < usize::MAX / 2) else {
        bail!(Data, "{name}: sizes {shape} in its header: expected at least one image and sizes that fit in memory");
    };
    let mut values = Vec::new();
    read_up_to(&mut reader, total + 1, &mut values, name)?;
    if values.len() < total {
        bail!(Data, "{name}: truncated: the header promises {shape} = {total} bytes, {} are there", values.len());
    }
    if values.len() > total {
        bail!(Data, "{name}: longer than its header says ({shape} = {total} bytes)");
    }
    Ok(Idx { sizes, values })
}

fn read_up_to(reader: &mut dyn Read, limit: usize, out: &mut Vec<u8>, name: &str) -> Result<()> {
    match reader.take(limit as u64).read_to_end(out) {
        Ok(_) => Ok(()),
        Err(e) => bail!(Data, "{name}: damaged gzip data after {} bytes: {e}; fetch the file again", out.len()),
    }
}
