//! `--config FILE`: TOML whose keys are the long flags of the command. They become arguments before the arguments are
//! parsed, so that a file may set whatever a flag may, in the same words, and a flag that is given too wins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, value_parser};
use toml::{Spanned, Value};

use super::Cli;
use super::paths;
use crate::bail;
use crate::error::{Error, Result};

/// The commands that take `--config`, as their words.
const COMMANDS: [&[&str]; 5] = [&["generate"], &["calibrate"], &["train"], &["probe"], &["bench", "train"]];

/// The whole command line: what the arguments' types say, and `--config` where it is taken.
pub fn command() -> Command {
    let config = || {
        Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("A TOML file whose keys are these long flags; a flag given here wins over the file")
            .help_heading(None::<&str>)
            .display_order(1)
    };
    paths::refuse_tildes(COMMANDS.iter().fold(Cli::command(), |root, words| add(root, words, &config)))
}

fn add(command: Command, words: &[&str], arg: &dyn Fn() -> Arg) -> Command {
    match words {
        [] => command.arg(arg()),
        [word, rest @ ..] => command.mut_subcommand(word, |command| add(command, rest, arg)),
    }
}

/// The command that was asked for, and what was given to it.
pub fn asked<'a>(root: &'a Command, matches: &'a ArgMatches) -> Option<(&'a Command, &'a ArgMatches)> {
    let (mut command, mut given) = (root, matches);
    while let Some((name, below)) = given.subcommand() {
        (command, given) = (command.find_subcommand(name)?, below);
    }
    Some((command, given))
}

/// The arguments with those of the file that `--config` names, if it is given, behind them.
///
/// # Errors
/// Usage error naming file, line and key for what is no flag of the command, or no value of it; if the file cannot be
/// read.
pub fn expand(mut words: Vec<OsString>) -> Result<Vec<OsString>> {
    let root = command();
    // Whatever is wrong on the command line is found again, and reported, when all arguments are parsed.
    let Ok(matches) = root.clone().ignore_errors(true).try_get_matches_from(&words) else { return Ok(words) };
    let Some((command, given)) = asked(&root, &matches) else { return Ok(words) };
    let Ok(Some(path)) = given.try_get_one::<PathBuf>("config") else { return Ok(words) };
    let globals = root.get_arguments().filter(|arg| arg.is_global_set()).cloned();
    words.extend(arguments(path, &relaxed(command.clone().args(globals)), given)?);
    Ok(words)
}

/// The command with nothing required, so that one argument can be tried by itself.
fn relaxed(command: Command) -> Command {
    let groups: Vec<_> = command.get_groups().map(|group| group.get_id().clone()).collect();
    let command = command.mut_args(|arg| arg.required(false));
    groups.into_iter().fold(command, |command, id| command.mut_group(id, |group| group.required(false)))
}

/// What the file sets and the command line (`given`) does not.
fn arguments(path: &Path, command: &Command, given: &ArgMatches) -> Result<Vec<OsString>> {
    let shown = path.display();
    if let Err(what) = paths::there(path, "a TOML file whose keys are the long flags") {
        bail!(Usage, "--config {shown}: {what}");
    }
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let Ok(text) = String::from_utf8(bytes) else {
        bail!(Usage, "--config {shown}: not UTF-8; expected a TOML file whose keys are the long flags");
    };
    let table: BTreeMap<Spanned<String>, Value> =
        toml::from_str(&text).map_err(|e| Error::Usage(format!("--config {shown}: {}", e.to_string().trim_end())))?;
    let on_command_line = |arg: &Arg| {
        let id = arg.get_id().as_str();
        given.try_contains_id(id).unwrap_or(false) && given.value_source(id) == Some(ValueSource::CommandLine)
    };
    let mut all = Vec::new();
    let mut kept: Vec<(usize, &Arg)> = Vec::new();
    for (key, value) in table {
        let line = 1 + text[..key.span().start].matches('\n').count();
        let wrong = |what: &str| Error::Usage(format!("--config {shown}: line {line}: {what}"));
        let key = key.into_inner();
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(key.as_str()));
        if arg.is_some_and(|arg| arg.get_id() == "config") {
            return Err(wrong("`config`: a file cannot name another one"));
        }
        let words = words(&key, &value, arg).map_err(|what| wrong(&what))?;
        try_alone(command, &words).map_err(|what| wrong(&format!("`{key}`: {what}")))?;
        let replaced = arg.is_some_and(|arg| {
            command.get_arguments().filter(|other| on_command_line(other)).any(|other| exclude(command, arg, other))
        });
        if replaced || words.is_empty() {
            continue;
        }
        if let Some(arg) = arg {
            if let Some((before, other)) = kept.iter().find(|(_, other)| exclude(command, arg, other)) {
                let other = other.get_long().unwrap_or_default();
                return Err(wrong(&format!(
                    "`{key}` and `{other}` (line {before}) exclude each other; remove one of them"
                )));
            }
            kept.push((line, arg));
        }
        all.extend(words.into_iter().map(OsString::from));
    }
    Ok(all)
}

/// Whether only one of the two may be given: the same, or one that replaces the other.
fn exclude(command: &Command, a: &Arg, b: &Arg) -> bool {
    let conflicts = |a: &Arg, b: &Arg| command.get_arg_conflicts_with(a).iter().any(|arg| arg.get_id() == b.get_id());
    let one_of = || {
        command.get_groups().filter(|group| !(*group).clone().is_multiple()).any(|group| {
            let members: Vec<_> = group.get_args().collect();
            members.contains(&a.get_id()) && members.contains(&b.get_id())
        })
    };
    a.get_id() == b.get_id() || conflicts(a, b) || conflicts(b, a) || one_of()
}

/// The arguments that set the flag `key` to `value`.
fn words(key: &str, value: &Value, arg: Option<&Arg>) -> Result<Vec<String>, String> {
    let switch = arg.is_some_and(|arg| matches!(arg.get_action(), ArgAction::SetTrue));
    match value {
        Value::Boolean(on) if switch => Ok(if *on { vec![format!("--{key}")] } else { Vec::new() }),
        _ if switch => Err(format!("`{key}` is {value}, expected true or false")),
        Value::Array(values) => {
            let values = values.iter().map(|value| plain(key, value)).collect::<Result<Vec<_>, _>>()?;
            match arg.and_then(Arg::get_value_delimiter) {
                Some(delimiter) => Ok(vec![format!("--{key}={}", values.join(&delimiter.to_string()))]),
                None => Ok(values.iter().map(|value| format!("--{key}={value}")).collect()),
            }
        }
        value => Ok(vec![format!("--{key}={}", plain(key, value)?)]),
    }
}

/// One value as it would be typed.
fn plain(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok(value.to_string()),
        _ => Err(format!("`{key}` is {value}, expected a text, a number, true, false, or a list of them")),
    }
}

/// What is wrong with the arguments of one key, whatever else is missing.
fn try_alone(command: &Command, words: &[String]) -> Result<(), String> {
    let words = std::iter::once("stablerep").chain(words.iter().map(String::as_str));
    match command.clone().try_get_matches_from(words) {
        Err(error) if !matches!(error.kind(), ErrorKind::MissingRequiredArgument) => {
            let text = error.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            let end = ["\n\nUsage:", "\n\nFor more information"].iter().filter_map(|mark| text.find(mark)).min();
            Err(text[..end.unwrap_or(text.len())].trim_end().to_owned())
        }
        Ok(given) => paths::check(command, &given).map_err(|error| error.to_string()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn expanded(toml: &str, line: &str) -> Result<Vec<String>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(toml.as_bytes()).unwrap();
        let path = file.path().display().to_string();
        let words: Vec<OsString> = line.replace("FILE", &path).split(' ').map(OsString::from).collect();
        let given = words.len();
        Ok(expand(words)?.into_iter().skip(given).map(|word| word.into_string().unwrap()).collect())
    }

    #[test]
    fn keys_become_flags_of_every_kind() {
        let toml = "data = [\"src\", \"{b c}.tar\"]\nhead-dims = [64, 16]\nlr = 1e-3\ndownsample = false\nthreads = 1\npreset = \"demo-simclr\"\n";
        let want = ["--data=src", "--data={b c}.tar", "--downsample=false", "--head-dims=64,16", "--lr=0.001"];
        let got = expanded(toml, "stablerep train --config FILE").unwrap();
        assert_eq!(got, [&want[..], &["--preset=demo-simclr", "--threads=1"]].concat());
        let got =
            expanded("save-latents = true\nmodel = \"m\"\nguidance-scale = -1\n", "stablerep generate --config FILE");
        assert_eq!(got.unwrap(), ["--guidance-scale=-1", "--model=m", "--save-latents"]);
        assert!(expanded("no-linear = false", "stablerep probe --config FILE").unwrap().is_empty());
        assert_eq!(expanded("steps = 3", "stablerep bench train --config FILE").unwrap(), ["--steps=3"]);
    }

    #[test]
    fn flags_win_in_every_spelling_and_over_what_they_conflict_with() {
        let toml = "data = \"src\"\nepochs = 2\nblr = 1.0\nbatch = 4\n";
        let got =
            expanded(toml, "stablerep --threads 1 train --config FILE --data src tests --steps 5 --lr=2").unwrap();
        assert_eq!(got, ["--batch=4"]);
        assert!(expanded("images-per-caption = 4", "stablerep generate -m 2 --config FILE").unwrap().is_empty());
        assert_eq!(expanded("m = 1", "stablerep train --batch 4").unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let refuses = |toml: &str, needles: &[&str]| {
            let error = expanded(toml, "stablerep train --config FILE").unwrap_err();
            assert_eq!(error.exit_code(), 2);
            for needle in needles {
                assert!(error.to_string().contains(needle), "expected `{needle}` in {error}");
            }
        };
        refuses("batch = 4\n\nhead_dims = 5\n", &["line 3", "`head_dims`", "--head-dims"]);
        refuses("batch = \"four\"", &["line 1", "`batch`", "'four'"]);
        refuses("bn = \"none\"", &["`bn`", "per-slot"]);
        refuses("[model]\nwidth = 3", &["line 1", "`model`", "expected a text"]);
        refuses("downsample = 3", &["line 1", "`downsample`"]);
        refuses("config = \"b.toml\"", &["`config`", "another"]);
        refuses("batch = = 4", &["line 1"]);
        refuses("steps = 4\nbatch = 2\nepochs = 1.0", &["`epochs`", "line 3", "`steps`", "line 1", "exclude"]);
    }
}
