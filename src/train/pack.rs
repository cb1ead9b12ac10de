//! A folder of ADE20k's layout becomes shards: what a run draws from, wherever the folder goes.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::job::Config;
use crate::bail;
use crate::error::{Error, Result};
use crate::eval::dataset::Split;
use crate::eval::dataset::scenes::{Scenes, is_layout};
use crate::say;
use crate::shards::{MAP, ShardWriter, shard_name};
use crate::store;

/// Samples of a shard.
const SAMPLES: usize = 1000;
/// What they were packed from, beside them.
const RECORD: &str = "packed.json";
/// Folder of the run in which they lie.
const FOLDER: &str = "shards";

/// Puts shards in the place of every folder of ADE20k's layout among the data of a segmentation run: its `training`
/// part, packed once into the folder of the run. What is packed already of the same files is taken as it is.
///
/// # Errors
/// `Data` for a picture without annotation; `Io` when the system refuses; `Interrupted` after a signal.
pub fn pack(config: &mut Config) -> Result<()> {
    if config.recipe.segment.is_none() {
        return Ok(());
    }
    for (number, path) in config.recipe.data.iter_mut().enumerate() {
        if is_layout(path) {
            let folder = config.output.join(format!("{FOLDER}-{number}"));
            pack_folder(path, &folder)?;
            *path = folder;
        }
    }
    Ok(())
}

/// Each shard appears whole; those that are there of the same files are kept, so that what was interrupted goes on.
fn pack_folder(from: &Path, to: &Path) -> Result<()> {
    let scenes = Scenes::open(from, Split::Train)?;
    if let Some(bad) = scenes.bad().first() {
        bail!(Data, "{bad}");
    }
    store::create_dir(to)?;
    let record = json!({ "files": scenes.stamp()? });
    if store::read_record(to, RECORD)?.is_some_and(|packed| packed != record) {
        say!("{}: is not what was packed into {}, which begins anew", from.display(), to.display());
        remove_shards(to)?;
    }
    store::write_record(to, RECORD, &record)?;
    let mut said = false;
    for (shard, start) in (0..scenes.len()).step_by(SAMPLES).enumerate() {
        let path = to.join(shard_name(shard));
        if path.exists() {
            continue;
        }
        if !std::mem::replace(&mut said, true) {
            say!("packing {} pictures of {} into {}", scenes.len(), from.display(), to.display());
        }
        let mut writer = ShardWriter::create(path)?;
        for index in start..(start + SAMPLES).min(scenes.len()) {
            store::check_interrupt("what is packed stays; run the same command again to go on")?;
            let files = scenes.files(index)?;
            writer.add(&files.key, &[(files.extension, &files.picture), (MAP, &files.map)])?;
        }
        writer.finish()?;
    }
    Ok(())
}

/// Removes the shards in `folder`.
fn remove_shards(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("read folder", folder))? {
        let path = entry.map_err(Error::io("read folder", folder))?.path();
        if path.extension().is_some_and(|extension| extension == "tar") {
            store::remove_file(&path)?;
        }
    }
    Ok(())
}
