//! Negative numbers on the command line.

use std::any::TypeId;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, Command};

/// Has every flag of `command` and its subcommands that takes neither a text nor a path take `-1` for its value rather
/// than for a flag that is not known, so that what checks the value can name the flag and what was expected. Of lists,
/// whatever begins with a dash: `-0.1,1` is no number.
pub fn take_negative(command: Command) -> Command {
    command
        .mut_args(|arg| match takes_number(&arg) {
            true if arg.get_value_delimiter().is_some() => arg.allow_hyphen_values(true),
            true => arg.allow_negative_numbers(true),
            false => arg,
        })
        .mut_subcommands(take_negative)
}

/// Whether its value is, or may be, a number, by what it is parsed as.
pub(super) fn takes_number(arg: &Arg) -> bool {
    let parsed = arg.get_value_parser().type_id();
    let words = [TypeId::of::<String>(), TypeId::of::<OsString>(), TypeId::of::<PathBuf>()];
    arg.get_action().takes_values() && !words.iter().any(|&word| parsed == word)
}
