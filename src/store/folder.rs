//! An output folder belongs to one configuration: rerunning the same one resumes, another one is refused with the difference.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::atomic::{create_dir, write_atomic};
use crate::error::{Error, Result};

/// Held while the shared files of a folder are written; dropping it lets the next process in.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// Waits until no other process writes the shared files of `folder`. A killed process holds nothing.
pub fn lock_folder(folder: &Path) -> Result<FolderLock> {
    let path = folder.join(".lock");
    let file = File::create(&path).map_err(Error::io("create", &path))?;
    file.lock().map_err(Error::io("lock", &path))?;
    Ok(FolderLock { _file: file })
}

/// Creates `folder` if needed and takes it for one process that writes there from beginning to end.
///
/// # Errors
/// Usage error if another process holds it.
pub fn occupy_folder(folder: &Path) -> Result<FolderLock> {
    create_dir(folder)?;
    let path = folder.join(".running");
    let file = File::create(&path).map_err(Error::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(Error::Usage(format!(
            "{}: another process is writing into this folder; wait for it to end, or choose another --output",
            folder.display()
        ))),
        Err(TryLockError::Error(e)) => Err(Error::io("lock", &path)(e)),
    }
}

/// Creates `folder` if needed and records `config` in it as `file_name`. If it already holds another configuration, fails and
/// lists every key that differs. Ranks of one run may call this at the same time.
pub fn claim_folder(folder: &Path, file_name: &str, config: &impl Serialize) -> Result<()> {
    create_dir(folder)?;
    let _lock = lock_folder(folder)?;
    let path = folder.join(file_name);
    let wanted = serde_json::to_value(config).map_err(|e| Error::Failed(format!("{}: {e}", path.display())))?;
    match fs::read(&path) {
        Ok(bytes) => {
            let found: Value = serde_json::from_slice(&bytes).map_err(|e| {
                Error::Data(format!(
                    "{}: not the JSON this program writes ({e}); choose another output folder",
                    path.display()
                ))
            })?;
            let mut differences = Vec::new();
            compare("", &found, &wanted, &mut differences);
            if differences.is_empty() {
                return Ok(());
            }
            Err(Error::Usage(format!(
                "{} was started with another configuration:\n{}\nuse the old settings to resume, or another output folder",
                folder.display(),
                differences.join("\n")
            )))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let text = serde_json::to_string_pretty(&wanted).map_err(|e| Error::Failed(e.to_string()))?;
            write_atomic(&path, (text + "\n").as_bytes())
        }
        Err(e) => Err(Error::io("read", &path)(e)),
    }
}

fn compare(key: &str, found: &Value, wanted: &Value, out: &mut Vec<String>) {
    match (found, wanted) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for name in keys {
                let path = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                let value = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or(Value::Null);
                compare(&path, &value(a), &value(b), out);
            }
        }
        (a, b) if a != b => out.push(format!("  {key}: was {a}, now {b}")),
        _ => {}
    }
}
