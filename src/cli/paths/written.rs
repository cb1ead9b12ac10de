//! What may be written at a path without a loss.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// Whether a folder is at `path`, or can be.
pub fn folder_can_be_made(path: &Path) -> Result<(), String> {
    match path.ancestors().find(|above| above.symlink_metadata().is_ok()) {
        Some(above) if above.is_dir() => Ok(()),
        Some(above) if above == path && above.is_file() => {
            Err("is a file; expected a folder, or a name for one".into())
        }
        Some(above) if above.exists() => Err(format!("{} is no folder; choose another name", above.display())),
        Some(above) => Err(format!("{} is a link to nothing; remove it, or choose another name", above.display())),
        None => Ok(()),
    }
}

/// A kind of file that is written.
pub struct Kind {
    /// What its name may end in; the first is the usual one.
    extensions: &'static [&'static str],
    /// Whether there is one in these bytes, which another one may replace.
    holds: fn(&[u8]) -> bool,
}

pub const PNG: Kind = Kind { extensions: &["png"], holds: |bytes| bytes.starts_with(b"\x89PNG\r\n\x1a\n") };
/// As shards store them.
pub const IMAGE: Kind = Kind {
    extensions: &["png", "jpg", "jpeg"],
    holds: |bytes| (PNG.holds)(bytes) || bytes.starts_with(b"\xff\xd8\xff"),
};
/// What `report` writes.
pub const PAGE: Kind = Kind {
    extensions: &["html"],
    holds: |bytes| bytes.starts_with(b"<!doctype html>") && bytes.windows(9).any(|name| name == b"stablerep"),
};
/// Reports of `bench` and `inspect --nearest`, and ranges of `calibrate`; not what keeps a folder together, which is
/// JSON too.
pub const JSON: Kind = Kind {
    extensions: &["json"],
    holds: |bytes| {
        let value: Result<serde_json::Value, _> = serde_json::from_slice(bytes);
        value.is_ok_and(|value| ["simulated", "ranges", "nearest"].iter().any(|key| value.get(key).is_some()))
    },
};

/// Whether a file of this kind can be written at `path` without a loss: it is free, or holds an earlier one.
pub fn file_can_be_written(path: &Path, kind: &Kind) -> Result<(), String> {
    let known = |found: &OsStr| kind.extensions.iter().any(|extension| found.eq_ignore_ascii_case(extension));
    if path.extension().is_some_and(|found| !known(found)) {
        return Err(format!("is written as {0}; give a name that ends in .{0}", kind.extensions[0]));
    }
    match path.symlink_metadata() {
        Ok(info) if info.is_dir() => Err("is a folder; expected a name for a file".into()),
        // It would be replaced, not written into.
        Ok(info) if !info.is_file() => Err("is a link, a pipe or a device; expected a name for a file".into()),
        Ok(info) if info.len() > 0 && !fs::read(path).is_ok_and(|bytes| (kind.holds)(&bytes)) => {
            Err("is another file, which would be lost; choose a name that is free".into())
        }
        Ok(_) => Ok(()),
        Err(_) => match path.parent() {
            Some(folder) if folder != Path::new("") && !folder.is_dir() => {
                Err(format!("there is no folder {}; make it first", folder.display()))
            }
            _ => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_replaces_its_own_kind_alone() {
        let folder = tempfile::TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("old.png"), b"\x89PNG\r\n\x1a\nrest").unwrap();
        fs::write(at("report.json"), r#"{"simulated": false}"#).unwrap();
        fs::write(at("generate.json"), r#"{"seed": 0}"#).unwrap();
        fs::write(at("shard"), "something else").unwrap();
        fs::write(at("empty"), "").unwrap();
        std::os::unix::fs::symlink(at("old.png"), at("link.png")).unwrap();
        for (name, kind, wrong) in [
            ("new.png", &PNG, ""),
            ("old.png", &PNG, ""),
            ("empty", &PNG, ""),
            ("new", &PNG, ""),
            ("shard", &PNG, "would be lost"),
            ("sheet.jpg", &PNG, "ends in .png"),
            ("00000.tar", &PNG, "ends in .png"),
            ("link.png", &PNG, "is a link"),
            ("no/new.png", &PNG, "there is no folder"),
            ("report.json", &JSON, ""),
            ("generate.json", &JSON, "would be lost"),
        ] {
            let said = file_can_be_written(&at(name), kind).err().unwrap_or_default();
            assert!(if wrong.is_empty() { said.is_empty() } else { said.contains(wrong) }, "{name}: {said}");
        }
        assert!(file_can_be_written(Path::new("/dev/null"), &PNG).unwrap_err().contains("a device"));
        assert!(file_can_be_written(folder.path(), &PNG).is_err());
        for (name, wrong) in [("run", ""), ("a/b/c", ""), ("shard", "is a file"), ("shard/x", "shard is no folder")] {
            let said = folder_can_be_made(&at(name)).err().unwrap_or_default();
            assert!(if wrong.is_empty() { said.is_empty() } else { said.contains(wrong) }, "{name}: {said}");
        }
    }
}
