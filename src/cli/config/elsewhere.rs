//! The file that a run writes of itself, given to another one: what of it means nothing there, and where it lies.

use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use crate::config::shell_word;

/// What only mae is told, and only dino.
const OF_MAE: &[&str] = &["mask-ratio", "decoder-width", "decoder-depth", "decoder-heads"];
const OF_DINO: &[&str] = &["local-crops", "local-size", "local-scale"];

/// Whether `key` means nothing beside a flag that was typed. (The file that a run writes holds all its settings.)
fn voids(command: &Command, flag: &str, value: &str, key: &str) -> bool {
    let lists: &[&[&str]] = match (command.get_name(), flag, value) {
        ("train", "augmentation", "none") => &[&["crop-scale", "crop-filter"], OF_DINO],
        ("train", "method", "simclr") => &[&["images-per-caption"], OF_MAE, OF_DINO],
        ("train", "method", "stablerep") => &[OF_MAE, OF_DINO],
        ("train", "method", "mae") => {
            &[&["images-per-caption", "head-dims", "bn", "temperature", "drop-path"], OF_DINO]
        }
        ("train", "optimizer", "lars") => &[&["beta2"]],
        ("train", "model", model) if model != "custom" => &[&["image-size", "patch-size", "width", "depth", "heads"]],
        _ => &[],
    };
    lists.iter().any(|keys| keys.contains(&key))
}

/// What was typed that makes the file's `key` mean nothing, as it was typed.
pub fn voided(command: &Command, given: &ArgMatches, key: &str) -> Option<String> {
    command.get_arguments().find_map(|arg| {
        let (flag, id) = (arg.get_long()?, arg.get_id().as_str());
        let typed = given.try_contains_id(id).ok()? && given.value_source(id) == Some(ValueSource::CommandLine);
        let value = given.try_get_raw(id).ok().flatten().filter(|_| typed)?.next()?.to_str()?;
        voids(command, flag, value, key).then(|| format!("--{flag} {value}"))
    })
}

/// What is wrong with the file of a run that lies elsewhere than it says: whoever moved a run and starts it again would
/// begin a new one at the old place.
pub fn moved(path: &Path, output: &str) -> Option<String> {
    let folder = path.parent().map(|folder| if folder == Path::new("") { Path::new(".") } else { folder })?;
    if !folder.join("metrics.jsonl").is_file() {
        return None;
    }
    let (here, there) = (folder.canonicalize().ok()?, Path::new(output).canonicalize().ok());
    (there.as_ref() != Some(&here)).then(|| {
        format!(
            "`output` is {output}, but the run that wrote this file lies in {0}: give --output {0} to go on with it, or \
             another --output for a new run",
            shell_word(folder)
        )
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_file_of_a_run_that_was_moved_is_no_new_run() {
        let folder = tempfile::TempDir::new().unwrap();
        let run = folder.path().join("moved");
        fs::create_dir(&run).unwrap();
        let (config, here) = (run.join("config.toml"), run.display().to_string());
        assert_eq!(moved(&config, "run"), None, "not a run's");
        fs::write(run.join("metrics.jsonl"), "").unwrap();
        assert!(moved(&config, "run").unwrap().contains(&format!("--output {here}")));
        assert_eq!(moved(&config, &here), None);
    }
}
