//! An output folder belongs to one configuration: rerunning the same one resumes, another one is refused with the
//! difference.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::atomic::{create_dir, write_atomic};
use super::occupy::lock_folder;
use crate::bail;
use crate::config::{FlagNames, differences};
use crate::error::{Error, Result};

/// What folders hold that commands of this program write, by the file that tells: (what, the command's own record, the
/// file).
const KINDS: [(&str, &str, &str); 4] = [
    ("images of `stablerep generate`", "generate.json", "generate.json"),
    ("a run of `stablerep train`", "config.json", "metrics.jsonl"),
    ("a `stablerep demo`", "demo.json", "demo.json"),
    ("a diffusers model", "model_index.json", "model_index.json"),
];

/// Creates `folder` if needed and records `config` in it as `file_name`. If it already holds another configuration,
/// fails and lists every setting that differs by its flag ([`differences`]). Ranks of one run may call this at the same
/// time.
///
/// # Errors
/// Usage error for another configuration and for a folder of another command; data error for a record that cannot be
/// read.
pub fn claim_folder<T>(folder: &Path, file_name: &str, config: &T, flags: &FlagNames) -> Result<()>
where
    T: Serialize + DeserializeOwned,
{
    create_dir(folder)?;
    let _lock = lock_folder(folder)?;
    match read_record(folder, file_name)? {
        Some(found) => check_record(folder, &found, config, flags),
        None => write_record(folder, file_name, config),
    }
}

/// The configuration that `folder` was started with, if it was.
///
/// # Errors
/// Usage error for a folder of another command; data error for a record that is no JSON.
pub fn read_record(folder: &Path, file_name: &str) -> Result<Option<Value>> {
    let path = folder.join(file_name);
    let bytes = match super::read(&path, super::RECORD) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return match KINDS.iter().find(|(_, own, mark)| *own != file_name && folder.join(mark).exists()) {
                Some((what, ..)) => bail!(Usage, "{}: holds {what}; choose another --output", folder.display()),
                None => Ok(None),
            };
        }
        Err(e) => return Err(Error::io("read", &path)(e)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        Error::Data(format!("{}: not the JSON this program writes ({e}); choose another output folder", path.display()))
    })
}

/// Refuses a recorded configuration that is another one.
pub fn check_record<T>(folder: &Path, found: &Value, config: &T, flags: &FlagNames) -> Result<()>
where
    T: Serialize + DeserializeOwned,
{
    let differences = differences(found, config, flags)
        .map_err(|e| Error::Failed(format!("{}: a configuration that is no JSON: {e}", folder.display())))?;
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "{} was started with another configuration:\n{}\nuse the old settings to resume, or another output folder",
        folder.display(),
        differences.join("\n")
    )))
}

/// Records `config` in `folder` as `file_name`.
pub fn write_record(folder: &Path, file_name: &str, config: &impl Serialize) -> Result<()> {
    // Not by way of a `Value`, where an f32 of 2.1 is 2.0999999046325684.
    let text = serde_json::to_string_pretty(config).map_err(|e| Error::Failed(format!("{file_name}: {e}")))?;
    write_atomic(folder.join(file_name), (text + "\n").as_bytes())
}
