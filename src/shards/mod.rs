//! webdataset shards: tar files whose consecutive members with one base name are a sample.

mod captions;
mod index;
mod locate;
mod sizes;
mod tarball;
mod writer;

pub use captions::{CaptionGroup, CaptionGroups};
pub use index::{Damage, SampleRef, Shards};
pub use locate::locate;
pub use sizes::{SIZES_FILE, read_sizes, write_sizes};
pub use writer::{ShardWriter, caption_name, image_key, named_key, shard_name};
