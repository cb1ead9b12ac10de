//! Writing one shard.

use std::path::Path;

use tar::{Builder, EntryType, Header};

use crate::bail;
use crate::error::{Error, Result};
use crate::store::AtomicFile;

/// File name of shard `index`: `00000.tar`.
pub fn shard_name(index: usize) -> String {
    format!("{index:05}.tar")
}

/// What samples of a caption are called that has no name of its own: `00000042`.
pub fn caption_name(caption_id: u64) -> String {
    format!("{caption_id:08}")
}

/// Sample key of an image of the caption called `name`: `name_003`. Keys of one caption sort side by side.
pub fn named_key(name: &str, image_index: usize) -> String {
    format!("{name}_{image_index:03}")
}

/// Sample key of an image of a caption without a name of its own: `00000042_003`.
pub fn image_key(caption_id: u64, image_index: usize) -> String {
    named_key(&caption_name(caption_id), image_index)
}

/// A tar being written under a temporary name. The same samples always give the same bytes: no times, owners or host
/// names.
pub struct ShardWriter {
    tar: Builder<AtomicFile>,
    samples: usize,
}

impl ShardWriter {
    /// Starts what will become `path`. Dropped without [`ShardWriter::finish`], nothing remains.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self { tar: Builder::new(AtomicFile::create(path)?), samples: 0 })
    }

    /// Appends one sample; `members` are (extension, bytes) in the order to be written. The key holds no dot: readers
    /// cut a member's name at its first one.
    pub fn add(&mut self, key: &str, members: &[(&str, &[u8])]) -> Result<()> {
        let name = self.tar.get_ref().path().to_path_buf();
        if key.is_empty() || key.contains(['.', '\0']) || key.starts_with('/') || members.is_empty() {
            bail!(
                Usage,
                "{}: sample key {key:?} cannot be written: expected a relative name without dots, with members",
                name.display()
            );
        }
        for (extension, bytes) in members {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Regular);
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            let member = format!("{key}.{extension}");
            self.tar.append_data(&mut header, &member, *bytes).map_err(Error::io("write", &name))?;
        }
        self.samples += 1;
        Ok(())
    }

    /// How many samples were added.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Ends the tar, makes it durable and gives it its name. Returns the number of samples.
    pub fn finish(self) -> Result<usize> {
        let name = self.tar.get_ref().path().to_path_buf();
        let output = self.tar.into_inner().map_err(Error::io("write", &name))?;
        output.commit()?;
        Ok(self.samples)
    }
}
