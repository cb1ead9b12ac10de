//! What the scores of a run are measured on (`scored.json`): a run that goes on keeps to it, so that all of its scores
//! are of one measure. How often they are taken is free, and so is taking none.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::bail;
use crate::error::{Error, Result};
use crate::store;

/// File name inside the folder of a run.
const SCORED: &str = "scored.json";

/// What flags name, by their names without dashes; photographs by what they hold, not by where they lie.
pub(super) type Scored = BTreeMap<String, String>;

/// What the scores of the run in `folder` were measured on so far.
///
/// # Errors
/// Data error for a record that cannot be read.
fn known(folder: &Path) -> Result<Scored> {
    let path = folder.join(SCORED);
    match store::read(&path, store::RECORD) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
            Error::Data(format!(
                "{}: not the record of scores that train writes ({e}); remove it to go on unchecked",
                path.display()
            ))
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Scored::new()),
        Err(e) => Err(Error::io("read", &path)(e)),
    }
}

/// Refuses `scored` where the run in `folder` was scored on something else, and records there what is new of it.
///
/// # Errors
/// Usage error with both values of each flag; data error for a record that cannot be read.
pub(super) fn keep(folder: &Path, scored: &Scored) -> Result<()> {
    let known = known(folder)?;
    let differ: Vec<String> = scored
        .iter()
        .filter_map(|(flag, now)| known.get(flag).filter(|was| *was != now).map(|was| (flag, was, now)))
        .map(|(flag, was, now)| format!("  --{flag}: was {was}, now {now}"))
        .collect();
    if !differ.is_empty() {
        bail!(
            Usage,
            "{} was scored on something else:\n{}\nscore it on the same, or not at all, or take another --output; only how \
             often may change",
            folder.display(),
            differ.join("\n")
        );
    }
    let all: Scored = known.clone().into_iter().chain(scored.clone()).collect();
    if all == known { Ok(()) } else { store::write_record(folder, SCORED, &all) }
}
