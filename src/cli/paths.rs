//! What holds for every flag that takes a path.

use std::any::TypeId;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use crate::bail;
use crate::config::spelling::edit_distance;
use crate::error::Result;

/// Arguments, by their ids, that name what has to be there when the command begins, and what each expects. (`--model`
/// is not among them: it may name what is in the binary, and what a folder is that is no model takes more words.
/// `--init-from` is read by runs that begin, `--config` before all flags are known: [`there`] is asked then.)
const INPUTS: [(&str, &str); 16] = [
    ("attention", PICTURE),
    ("captions", "a caption file: .txt, .csv or .tsv"),
    ("checkpoint", ENCODER),
    ("encoder", ENCODER),
    ("fp8", "the file of ranges that `stablerep calibrate` writes for a model"),
    ("generated", PICTURES),
    ("inception", "Inception's weights as safetensors (dev/inception.py converts pytorch-fid's)"),
    ("initial_noise", "a .safetensors file with a tensor `noise`"),
    ("nearest", PICTURE),
    ("path", "shards (a folder of *.tar, a tar, or a pattern) or weights (.safetensors, or a folder of them)"),
    ("real", PICTURES),
    ("sets", "shards of pictures with captions: a folder of *.tar, a tar, a pattern, or a sweep of `generate`"),
    ("test", PHOTOGRAPHS),
    ("test_labels", "an IDX file of labels"),
    ("train", PHOTOGRAPHS),
    ("train_labels", "an IDX file of labels"),
];

/// What `--checkpoint` and `--init-from` expect.
pub const ENCODER: &str =
    "a training run or its checkpoint, a folder or file of timm or open_clip, or an official checkpoint as safetensors";
const SHARDS: &str = "a folder of *.tar shards, a tar, or a pattern such as dir/{00000..00012}.tar";
const PHOTOGRAPHS: &str = "labelled images: a folder of class folders, IDX files, or webdataset tars";

const PICTURE: &str = "a .jpg or .png file";
const PICTURES: &str = "pictures: a folder of .jpg or .png files, webdataset tars, or an IDX file";

/// Arguments that name what is written.
const OUTPUTS: [&str; 3] = ["json", "output", "sheet"];

/// Has every path of `command` and its subcommands refused that begins with `~`: a shell puts the home folder in its
/// place before a program sees it, but not behind `=`, in quotes or in a job file, and a folder named `~` is not what
/// was meant.
pub fn refuse_tildes(command: Command) -> Command {
    command
        .mut_args(|arg| match is_path(&arg) {
            true => arg.value_parser(PathBufValueParser::new().try_map(refuse_tilde)),
            false => arg,
        })
        .mut_subcommands(refuse_tildes)
}

/// `path`, if it does not begin with `~`.
pub(super) fn refuse_tilde(path: PathBuf) -> Result<PathBuf, String> {
    if !path.as_os_str().as_encoded_bytes().starts_with(b"~") {
        return Ok(path);
    }
    Err(match path.strip_prefix("~") {
        Ok(rest) => format!(
            "the shell left `~` as it is: write \"$HOME/{}\", or ./{} if that is its name",
            rest.display(),
            path.display()
        ),
        Err(_) => {
            format!("begins with `~`, which the shell left as it is: write the whole path, or ./{}", path.display())
        }
    })
}

/// Looks at every path that was given to `command`, the one that is run, before it does anything.
///
/// # Errors
/// Usage error naming the flag for an input that is not there, a file where a folder is written, and a folder where a
/// file is.
pub fn check(command: &Command, given: &ArgMatches) -> Result<()> {
    for arg in command.get_arguments().filter(|arg| is_path(arg)) {
        let id = arg.get_id().as_str();
        if given.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let flag = arg.get_long().map_or_else(String::new, |long| format!("--{long} "));
        for path in given.get_many::<PathBuf>(id).into_iter().flatten() {
            if let Err(what) = fits(arg, path) {
                bail!(Usage, "{flag}{}: {what}", path.display());
            }
        }
    }
    Ok(())
}

fn is_path(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<PathBuf>()
}

/// Whether `path` can be what `arg` takes.
fn fits(arg: &Arg, path: &Path) -> Result<(), String> {
    let id = arg.get_id().as_str();
    if id == "data" {
        return there(&split_weight(path.to_owned()).0, SHARDS);
    }
    if let Some((_, expected)) = INPUTS.iter().find(|(name, _)| *name == id) {
        return there(path, expected);
    }
    let takes = |kind: &str| arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == kind));
    match OUTPUTS.contains(&id) {
        true if takes("DIR") => folder_can_be_made(path),
        true if takes("PNG") => file_can_be_written(path, &PNG),
        true if takes("PAGE") => file_can_be_written(path, &PAGE),
        true if takes("IMAGE") => file_can_be_written(path, &IMAGE),
        true => file_can_be_written(path, &JSON),
        false => Ok(()),
    }
}

/// `PATH=0.7` is a path and its weight, unless there is something of that whole name.
pub fn split_weight(path: PathBuf) -> (PathBuf, Option<f64>) {
    let found = path.to_str().filter(|_| !path.exists()).and_then(|text| text.rsplit_once('='));
    match found.and_then(|(name, weight)| Some((PathBuf::from(name), weight.parse().ok()?))) {
        Some((name, weight)) => (name, Some(weight)),
        None => (path, None),
    }
}

/// Whether a folder is at `path`, or can be.
fn folder_can_be_made(path: &Path) -> Result<(), String> {
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
struct Kind {
    /// What its name may end in; the first is the usual one.
    extensions: &'static [&'static str],
    /// Whether there is one in these bytes, which another one may replace.
    holds: fn(&[u8]) -> bool,
}

const PNG: Kind = Kind { extensions: &["png"], holds: |bytes| bytes.starts_with(b"\x89PNG\r\n\x1a\n") };
/// As shards store them.
const IMAGE: Kind = Kind {
    extensions: &["png", "jpg", "jpeg"],
    holds: |bytes| (PNG.holds)(bytes) || bytes.starts_with(b"\xff\xd8\xff"),
};
/// What `report` writes.
const PAGE: Kind = Kind {
    extensions: &["html"],
    holds: |bytes| bytes.starts_with(b"<!doctype html>") && bytes.windows(9).any(|name| name == b"stablerep"),
};
/// Reports of `bench` and `inspect --nearest`, and ranges of `calibrate`; not what keeps a folder together, which is
/// JSON too.
const JSON: Kind = Kind {
    extensions: &["json"],
    holds: |bytes| {
        let value: Result<serde_json::Value, _> = serde_json::from_slice(bytes);
        value.is_ok_and(|value| ["simulated", "ranges", "nearest"].iter().any(|key| value.get(key).is_some()))
    },
};

/// Whether a file of this kind can be written at `path` without a loss: it is free, or holds an earlier one.
fn file_can_be_written(path: &Path, kind: &Kind) -> Result<(), String> {
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

/// Whether there is something at `path`, and if not, what was expected there and where to look. Standard input,
/// patterns and addresses are for their readers to judge.
pub fn there(path: &Path, expected: &str) -> Result<(), String> {
    let text = path.to_string_lossy();
    let judged_later = text == "-" || text.contains('{') || text.contains("://") || text.starts_with("pipe:");
    // A path that cannot be asked about fails again when it is opened, with the reason.
    if judged_later || path.try_exists().unwrap_or(true) {
        return Ok(());
    }
    if let Ok(target) = fs::read_link(path) {
        return Err(format!("is a link to {}, which does not exist; expected {expected}", target.display()));
    }
    Err(format!("does not exist; expected {expected}; {}", whereabouts(path)))
}

/// What there is near a path that is not there.
fn whereabouts(path: &Path) -> String {
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    if !folder.is_dir() {
        let last = folder.ancestors().find(|above| above.is_dir()).map(|above| above.display().to_string());
        return format!(
            "of its folders only {} is there",
            last.filter(|last| !last.is_empty()).unwrap_or_else(|| here().display().to_string())
        );
    }
    if let Some(similar) = similar(path, &folder) {
        return format!("did you mean {}?", path.with_file_name(similar).display());
    }
    // Without the dots and slashes that joining leaves.
    let shown: PathBuf = here().join(folder).components().collect();
    format!("there is no such name in {}", shown.display())
}

/// The name in `folder` that the last part of `path` was most likely to be.
fn similar(path: &Path, folder: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let most = (name.chars().count() / 3).clamp(1, 4);
    let names = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let near = names.map(|other| (edit_distance(&other.to_lowercase(), &name.to_lowercase()), other));
    near.filter(|(apart, _)| *apart <= most).min().map(|(_, other)| other)
}

/// A path as it can be pasted behind a shell's prompt.
pub fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

fn here() -> PathBuf {
    env::current_dir().unwrap_or_else(|_| PathBuf::from("."))
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

    #[test]
    fn words_for_a_shell() {
        let word = |text: &str| shell_word(Path::new(text));
        assert_eq!(word("runs/é-1"), "runs/é-1");
        assert_eq!(word("run 1"), "'run 1'");
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!(word("$HOME"), "'$HOME'");
    }

    #[test]
    fn what_is_not_there_is_looked_for_nearby() {
        let folder = tempfile::TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("run")).unwrap();
        fs::write(at("run/checkpoint.safetensors"), "").unwrap();
        std::os::unix::fs::symlink(at("gone"), at("link")).unwrap();
        let said = |name: &str| there(&at(name), "a file").unwrap_err();
        for name in ["run/checkpont.safetensors", "run/Checkpoint.safetensor"] {
            let said = said(name);
            assert!(said.contains("does not exist; expected a file; did you mean"), "{said}");
            assert!(said.contains("run/checkpoint.safetensors?"), "{said}");
        }
        assert!(said("run/other").contains("no such name in"), "{}", said("run/other"));
        assert!(
            said("walk/a/b").contains(&format!("only {} is there", folder.path().display())),
            "{}",
            said("walk/a/b")
        );
        assert!(said("link").contains("is a link to") && said("link").contains("gone"), "{}", said("link"));
        for name in ["run", "run/checkpoint.safetensors"] {
            assert_eq!(there(&at(name), "a file"), Ok(()), "{name}");
        }
        for name in ["-", "{00000..00012}.tar", "s3://bucket/a.tar", "pipe:cat a.tar"] {
            assert_eq!(there(Path::new(name), "a file"), Ok(()), "{name}");
        }
        assert!(there(Path::new("nowhere-at-all"), "a file").unwrap_err().contains("no such name in /"));
    }
}
