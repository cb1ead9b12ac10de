//! The folder of a run: who may write there, and whether what it holds is of the same run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::checkpoint;
use super::chunk::Activations;
use super::data::{DataRecord, Start};
use super::flags::{self, FLAGS};
use super::job::{CHECKPOINT, CONFIG, CONFIG_TOML, Config, DONE};
use super::loader::Loader;
use super::recipe::{Recipe, settled};
use super::scored::{self, Scored};
use crate::bail;
use crate::error::{Error, Result};
use crate::say;
use crate::shards::{locate, unfinished};
use crate::store::{self, Occupied};

/// A folder that belongs to a run of this process until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    /// What the run draws from.
    pub data: DataRecord,
    /// Updates that its checkpoint has done, if there is one.
    pub began: Option<u64>,
    _occupied: Occupied,
}

/// Takes the folder of `config` for a run of `steps` updates on the data of `loader`, which takes up what the
/// checkpoint had counted, and records there what the run belongs to and is `scored` on.
///
/// # Errors
/// Usage error for a folder of other settings, other data, other scores or another process; data error for a checkpoint
/// or a record that cannot be believed.
pub(super) fn claim(config: &Config, loader: &mut Loader, steps: u64, scored: &Scored) -> Result<Claim> {
    let (folder, recipe) = (&config.output, &config.recipe);
    let _occupied = store::occupy_folder(folder, 0, 1)?;
    let path = folder.join(CHECKPOINT);
    let start = match Start::of(recipe.init_from.as_deref()) {
        Ok(start) => Some(start),
        Err(why) if path.exists() => {
            say!("note: --init-from cannot be compared ({why}); going on from the checkpoint, which needs it no more");
            None
        }
        Err(why) => return Err(why),
    };
    let data = DataRecord::of(loader.shards(), start);
    let known = data.check(folder).map_err(|error| or_begin_anew(error, folder))?;
    let mut began = None;
    if path.exists() {
        let step = checkpoint::check(&path, recipe, steps, loader.steps_per_epoch());
        began = Some(step.map_err(|error| or_begin_anew(error, folder))?);
        loader.restore_bad(&checkpoint::bad_pictures(&path, &data, loader.shards().pictures())?)?;
    }
    record(config).map_err(|error| or_begin_anew(error, folder))?;
    scored::keep(folder, scored)?;
    if !known {
        data.record(folder)?;
        if began.is_some() {
            say!("note: {} had not recorded its data; now it belongs to what --data holds", folder.display());
        }
    }
    store::write_atomic(folder.join(CONFIG_TOML), flags::toml(config)?.as_bytes())?;
    Ok(Claim { data, began, _occupied })
}

/// What the run in the folder of `config` holds at once: nothing is known of a folder without one of as many images per
/// step.
///
/// # Errors
/// Data error for a record that cannot be read.
pub(super) fn recorded(config: &Config) -> Result<Activations> {
    let found = store::read_record(&config.output, CONFIG)?;
    let recipe: Option<Recipe> = found.and_then(|found| serde_json::from_value(found).ok());
    let same = recipe.filter(|recipe| recipe.images_per_step() == config.recipe.images_per_step());
    Ok(same.map_or_else(Activations::default, |recipe| Activations::of(&recipe)))
}

/// Writes the settings into a folder that has none, and compares them with those that it has.
fn record(config: &Config) -> Result<()> {
    let (folder, recipe) = (&config.output, &config.recipe);
    let _lock = store::lock_folder(folder)?;
    match store::read_record(folder, CONFIG)? {
        Some(found) => store::check_record(folder, &settled(found), recipe, FLAGS),
        None => store::write_record(folder, CONFIG, recipe),
    }
}

/// Whether the run in `folder` is at its end, given the updates that its checkpoint has done. A `done.json` beside
/// another state is not believed.
pub(super) fn finished(folder: &Path, began: Option<u64>, steps: u64) -> Result<bool> {
    let done = folder.join(DONE);
    match began {
        _ if !done.exists() => Ok(false),
        Some(step) if step == steps => Ok(true),
        Some(step) => {
            say!("note: {} is there, but {CHECKPOINT} has done {step} of {steps} steps; going on", done.display());
            fs::remove_file(&done).map_err(Error::io("remove", &done))?;
            Ok(false)
        }
        None => bail!(
            Data,
            "{}: says that the run is finished, but {CHECKPOINT} is not beside it; put it back, or remove {DONE} to train \
             from the start",
            done.display()
        ),
    }
}

/// A refusal of other settings also says how to go on from the weights of a folder that has some.
fn or_begin_anew(error: Error, folder: &Path) -> Error {
    let checkpoint = folder.join(CHECKPOINT);
    match error {
        Error::Usage(text) if checkpoint.exists() => Error::Usage(format!(
            "{text}; a new run from these weights (longer, or otherwise): --init-from {} with another --output",
            checkpoint.display()
        )),
        error => error,
    }
}

/// Refuses shards of folders that `generate` has not finished, or says that it has not.
pub(super) fn check_finished(data: &[PathBuf], allowed: bool) -> Result<()> {
    let mut folders = BTreeSet::new();
    for path in data {
        if path.is_dir() {
            folders.insert(path.clone());
        } else {
            // Shards that are named one by one lie in a folder all the same.
            folders.extend(locate(path)?.iter().filter_map(|file| file.parent()).map(here));
        }
    }
    for folder in folders {
        match unfinished(&folder) {
            Some(what) if allowed => say!("note: {}: {what}; training on what is there", folder.display()),
            Some(what) => bail!(
                Data,
                "{}: {what}; run the same generate command again to finish it, or train on what is there with \
                 --allow-partial",
                folder.display()
            ),
            None => {}
        }
    }
    Ok(())
}

/// `.` for the folder of a bare file name.
fn here(folder: &Path) -> PathBuf {
    if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() }
}
