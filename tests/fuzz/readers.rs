//! What reads files, each with valid ones: those of other programs, and weights.

#[macro_use]
mod table;
mod models;
mod runs;

use std::fs;
use std::path::Path;

use stablerep::captions::{Captions, Options};
use stablerep::error::{Error, Result};
use stablerep::eval::dataset::{Dataset, Split, idx};
use stablerep::image;
use stablerep::shards::{CaptionGroups, Shards, read_sizes};
use stablerep::weights::SafeTensors;

use crate::valid::{self, IDX_IMAGES, IDX_LABELS, bytes, gzipped, labelled, picture, pictures, put};

fn alone(_: &Path) {}

fn read_captions(folder: &Path, name: &str) -> Result<()> {
    Captions::open(&folder.join(name), &Options::default()).map(|_| ())
}

fn read_tensors(folder: &Path) -> Result<()> {
    let file = SafeTensors::open(folder.join("x.safetensors"))?;
    for name in file.names() {
        let shape = file.shape(name).unwrap_or_default();
        // Values of another kind, or that are no numbers, are refused by name.
        for result in [file.f32(name, shape).map(drop), file.i64(name, shape).map(drop)] {
            match result {
                Err(Error::Data(text)) if !text.contains("x.safetensors") => return Err(Error::Data(text)),
                _ => {}
            }
        }
    }
    Ok(())
}

fn read_shard(folder: &Path) -> Result<()> {
    let shards = Shards::open(&[folder.join("x.tar")])?;
    let damage = shards.damage().first().map(|damage| Error::Data(damage.to_string()));
    for sample in shards.iter() {
        let _ = (sample.name(), sample.record().is_ok());
        for picture in sample.pictures().unwrap_or_default() {
            let picture = picture.read()?;
            let _ = image::dimensions(&picture, "x.tar");
        }
    }
    CaptionGroups::new(&shards)?;
    damage.map_or(Ok(()), Err)
}

/// All pictures of a data set, decoded.
fn read_dataset(path: &Path) -> Result<()> {
    let set = Dataset::open(path, None, Split::Test)?;
    for index in 0..set.len().min(8) {
        set.image(index)?;
        set.examine(index)?;
    }
    set.defects().first().map_or(Ok(()), |defect| Err(Error::Data(defect.clone())))
}

const IMAGES: &str = "t10k-images-idx3-ubyte.gz";
const LABELS: &str = "t10k-labels-idx1-ubyte.gz";

readers! {
    1 safetensors: "x.safetensors", Safetensors,
        |_| vec![bytes("micro_sd/a/text_encoder/model.safetensors"), bytes("head.safetensors")], alone, read_tensors;
    2 shards: "x.tar", Tar, |_| valid::shards(), alone, read_shard;
    3 sizes: "sizes.json", Json, |_| vec![bytes("train_run/stablerep/sizes.json")], alone,
        |folder| read_sizes(folder).map(|_| ());
    13 captions_txt: "x.txt", Text, |_| vec![b"a bag\r\n\na coat\nan \xc3\xa9clair\n".to_vec()], alone,
        |folder| read_captions(folder, "x.txt");
    14 captions_csv: "x.csv", Text,
        |_| vec![b"caption,url\n\"a \"\"bag\"\", blue\",u\na coat,v\n\"two\nlines\",w\n".to_vec()], alone,
        |folder| read_captions(folder, "x.csv");
    15 captions_tsv: "x.tsv", Text, |_| vec![b"caption\turl\na bag\tu\na coat\tv\n".to_vec()], alone,
        |folder| read_captions(folder, "x.tsv");
    16 idx_images: "x", Idx, |_| vec![IDX_IMAGES.clone()], alone,
        |folder| idx::from_bytes(&fs::read(folder.join("x")).unwrap(), &IDX_LABELS, "x").map(|_| ());
    17 idx_labels: "x", Idx, |_| vec![IDX_LABELS.clone()], alone,
        |folder| idx::from_bytes(&IDX_IMAGES, &fs::read(folder.join("x")).unwrap(), "x").map(|_| ());
    18 png: "x.png", Png, |_| pictures("png"), alone,
        |folder| image::decode(&fs::read(folder.join("x.png")).unwrap(), "x.png").map(|_| ());
    19 jpeg: "x.jpg", Jpeg, |_| pictures("jpg"), alone,
        |folder| image::decode(&fs::read(folder.join("x.jpg")).unwrap(), "x.jpg").map(|_| ());
    23 gzipped_images: "t10k-images-idx3-ubyte.gz", IdxGzip, |_| vec![gzipped(&IDX_IMAGES)],
        |folder| put(folder, &[(LABELS, gzipped(&IDX_LABELS))]), read_dataset;
    24 gzipped_labels: "t10k-labels-idx1-ubyte.gz", IdxGzip, |_| vec![gzipped(&IDX_LABELS)],
        |folder| put(folder, &[(IMAGES, gzipped(&IDX_IMAGES))]), read_dataset;
    25 labelled_shard: "x.tar", Tar, |_| vec![labelled()], alone, |folder| read_dataset(&folder.join("x.tar"));
    26 class_folders: "a/x.png", Png, |_| vec![picture(), bytes("image/gray2.png")],
        |folder| put(folder, &[("b/y.png", picture())]), read_dataset;
}
