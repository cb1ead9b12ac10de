//! webdataset shards: tar files whose consecutive members with one base name are a sample.

mod captions;
mod damage;
mod ending;
mod finished;
mod foreign;
mod index;
mod labelled;
mod locate;
mod open_files;
mod pictures;
mod recent;
mod record;
mod sample;
mod scan;
mod sizes;
mod tarball;
mod writer;

pub use captions::{CaptionGroup, CaptionGroups};
pub use damage::Damage;
pub use ending::{Ending, ending};
pub use finished::unfinished;
pub use foreign::{is_compressed_name, of_folder};
pub use index::{ShardFile, Shards};
pub use locate::locate;
pub use record::{Record, Remark};
pub use sample::{PictureRef, SampleRef};
pub use scan::first_key;
pub use sizes::{SIZES_FILE, read_sizes, write_sizes};
pub use writer::{ShardWriter, caption_name, image_key, named_key, shard_name};

/// Extension of the class numbers of a picture's pixels: a PNG beside it.
pub const MAP: &str = "seg.png";
