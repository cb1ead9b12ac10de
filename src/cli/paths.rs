//! What holds for every flag that takes a path.

use std::any::TypeId;
use std::path::PathBuf;

use clap::Command;
use clap::builder::{PathBufValueParser, TypedValueParser};

/// Has every path of `command` and its subcommands refused that begins with `~`: a shell puts the home folder in its
/// place before a program sees it, but not behind `=`, in quotes or in a job file, and a folder named `~` is not what
/// was meant.
pub fn refuse_tildes(command: Command) -> Command {
    command
        .mut_args(|arg| match arg.get_value_parser().type_id() == TypeId::of::<PathBuf>() {
            true => arg.value_parser(PathBufValueParser::new().try_map(refuse_tilde)),
            false => arg,
        })
        .mut_subcommands(refuse_tildes)
}

fn refuse_tilde(path: PathBuf) -> Result<PathBuf, String> {
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
