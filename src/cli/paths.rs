//! What holds for every flag that takes a path.

mod written;

use std::any::TypeId;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use self::Form::{Either, File, Folder};
use self::written::{IMAGE, JSON, PAGE, PNG, file_can_be_written, folder_can_be_made};
use crate::bail;
use crate::config::spelling::edit_distance;
use crate::error::Result;

/// What an input may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    File,
    Folder,
    Either,
}

/// Arguments, by their ids, that name what has to be there when the command begins, and what each expects. (`--model`
/// is not among them: it may name what is in the binary, and what a folder is that is no model takes more words.
/// `--init-from` is read by runs that begin, `--config` before all flags are known: [`there`] and [`file()`] are asked
/// then.)
const INPUTS: [(&str, Form, &str); 26] = [
    ("attention", File, PICTURE),
    ("captions", File, "a caption file: .txt, .csv or .tsv"),
    ("checkpoint", Either, ENCODER),
    ("class_names", File, "a file with the names of the classes"),
    ("data", Either, SHARDS),
    ("encoder", Either, ENCODER),
    ("fp8", File, "the file of ranges that `stablerep calibrate` writes for a model"),
    ("generated", Either, PICTURES),
    ("images", Folder, "the folder that the list's files are named from"),
    ("inception", File, "Inception's weights as safetensors (dev/inception.py converts pytorch-fid's)"),
    ("initial_noise", File, "a .safetensors file with a tensor `noise`"),
    ("knn_test", Either, PHOTOGRAPHS),
    ("knn_train", Either, PHOTOGRAPHS),
    ("labels", File, LABELS),
    ("leave_out", File, "a file with the names of relations, a line each"),
    ("list", File, "the list of pictures, as its authors publish it"),
    ("nearest", File, PICTURE),
    ("path", Either, "shards (a folder of *.tar, a tar, or a pattern) or weights (.safetensors, or a folder of them)"),
    ("paths", Either, "shards, runs and evaluations, or folders of them"),
    ("real", Either, PICTURES),
    ("runs", Folder, "the folder of a training run"),
    ("sets", Either, "shards of pictures with captions: a folder of *.tar, a tar, a pattern, or a sweep of `generate`"),
    ("test", Either, PHOTOGRAPHS),
    ("test_labels", File, LABELS),
    ("train", Either, PHOTOGRAPHS),
    ("train_labels", File, LABELS),
];

/// What `--data` expects of commands that take something else than shards for it.
const DATA: [(&str, &str); 2] = [
    ("zero-shot", PHOTOGRAPHS),
    ("segment", "a folder with images/validation and annotations/validation, or shards of key.jpg and key.seg.png"),
];

/// What `--checkpoint` and `--init-from` expect.
pub const ENCODER: &str =
    "a training run or its checkpoint, a folder or file of timm or open_clip, or an official checkpoint as safetensors";
const SHARDS: &str = "a folder of *.tar shards, a tar, or a pattern such as dir/{00000..00012}.tar";
const PHOTOGRAPHS: &str = "labelled images: a folder of class folders, IDX files, or webdataset tars";
const LABELS: &str = "an IDX file of labels";
const PICTURE: &str = "a .jpg or .png file";
const PICTURES: &str = "pictures: a folder of .jpg or .png files, webdataset tars, or an IDX file";

/// Arguments that name what is written.
const OUTPUTS: [&str; 4] = ["features", "json", "output", "sheet"];

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
/// Usage error naming the flag for an input that is not there, a file where a folder is read or written, and a folder
/// where a file is.
pub fn check(command: &Command, given: &ArgMatches) -> Result<()> {
    for arg in command.get_arguments().filter(|arg| is_path(arg)) {
        let id = arg.get_id().as_str();
        if given.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let flag = arg.get_long().map_or_else(String::new, |long| format!("--{long} "));
        for path in given.get_many::<PathBuf>(id).into_iter().flatten() {
            if let Err(what) = fits(command.get_name(), arg, path) {
                bail!(Usage, "{flag}{}: {what}", path.display());
            }
        }
    }
    Ok(())
}

fn is_path(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<PathBuf>()
}

/// Whether `path` can be what `arg` of `command` takes.
fn fits(command: &str, arg: &Arg, path: &Path) -> Result<(), String> {
    let id = arg.get_id().as_str();
    if let Some((_, form, expected)) = INPUTS.iter().find(|(name, ..)| *name == id) {
        let other = DATA.iter().find(|(name, _)| *name == command && id == "data");
        let expected = other.map_or(*expected, |(_, expected)| *expected);
        return match (form, id) {
            (_, "data") => no_pipe(&split_weight(path.to_owned()).0, expected),
            (File, _) => file(path, expected),
            (Folder, _) if path.is_file() => Err(format!("is a file; expected {expected}")),
            (Folder | Either, _) => no_pipe(path, expected),
        };
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

/// Whether there is something at `path`, and if not, what was expected there and where to look. Standard input,
/// patterns and addresses are for their readers to judge.
pub fn there(path: &Path, expected: &str) -> Result<(), String> {
    let text = path.to_string_lossy();
    let judged_later = text == "-" || text.contains('{') || text.contains("://") || text.starts_with("pipe:");
    // A path that cannot be asked about fails again when it is opened, with the reason; not so what is below a file.
    let there = path.try_exists().unwrap_or_else(|error| error.kind() != ErrorKind::NotADirectory);
    if judged_later || there {
        return Ok(());
    }
    if let Ok(target) = fs::read_link(path) {
        return Err(format!("is a link to {}, which does not exist; expected {expected}", target.display()));
    }
    Err(format!("does not exist; expected {expected}; {}", whereabouts(path)))
}

/// The same of what is read in any order, so that it can be neither a pipe nor a device.
fn no_pipe(path: &Path, expected: &str) -> Result<(), String> {
    match path.metadata() {
        Ok(info) if !info.is_file() && !info.is_dir() => Err(format!("is a pipe or a device; expected {expected}")),
        _ => there(path, expected),
    }
}

/// The same of what has to be a file.
pub fn file(path: &Path, expected: &str) -> Result<(), String> {
    match path.is_dir() {
        true => Err(format!("is a folder; expected {expected}")),
        false => there(path, expected),
    }
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

fn here() -> PathBuf {
    env::current_dir().unwrap_or_else(|_| PathBuf::from("."))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    /// Those without a rule say for themselves what they refuse, or may name nothing at all.
    #[test]
    fn every_path_has_a_rule() {
        fn of(command: &Command, found: &mut Vec<String>) {
            found.extend(command.get_arguments().filter(|arg| is_path(arg)).map(|arg| arg.get_id().to_string()));
            command.get_subcommands().for_each(|command| of(command, found));
        }
        let mut found = Vec::new();
        of(&Cli::command(), &mut found);
        let ruled = |id: &str| INPUTS.iter().any(|(name, ..)| *name == id) || OUTPUTS.contains(&id);
        let without: Vec<&String> = found.iter().filter(|id| !ruled(id)).collect();
        assert!(without.iter().all(|id| ["init_from", "model"].contains(&id.as_str())), "{without:?}");
        for (name, ..) in INPUTS {
            assert!(found.iter().any(|id| id == name), "no command has {name}");
        }
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
