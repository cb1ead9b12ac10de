//! `--config FILE`: TOML whose keys are the long flags of the command. They become arguments before the arguments are
//! parsed, so that a file may set whatever a flag may, in the same words, and a flag that is given too wins.

mod elsewhere;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use toml::{Spanned, Value};

use self::elsewhere::{moved, voided};
use super::{numbers, paths};
use crate::bail;
use crate::error::{Error, Result};
use crate::say;
use crate::store;

/// The commands that take `--config`, as their words.
const COMMANDS: [&[&str]; 14] = [
    &["generate"],
    &["calibrate"],
    &["train"],
    &["probe"],
    &["eval", "diversity"],
    &["eval", "fid"],
    &["eval", "linear"],
    &["eval", "transfer"],
    &["eval", "few-shot"],
    &["eval", "zero-shot"],
    &["eval", "retrieval"],
    &["eval", "fairface"],
    &["eval", "aro"],
    &["bench", "train"],
];

/// The whole command line: what the arguments' types say (`root`), and `--config` where it is taken.
pub fn command(root: Command) -> Command {
    let config = || {
        Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("A TOML file whose keys are these long flags; a flag given here wins over the file")
            .help_heading(None::<&str>)
            .display_order(1)
    };
    let command = COMMANDS.iter().fold(root, |root, words| add(root, words, &config));
    numbers::take_negative(paths::refuse_tildes(command))
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

/// Where in a file the flags were given that nobody typed.
#[derive(Debug, Default)]
pub struct Origin {
    path: PathBuf,
    /// Line of each key.
    lines: BTreeMap<String, usize>,
}

impl Origin {
    /// The error, with the line of the file if it begins with a flag that stands there.
    pub fn explain(&self, error: Error) -> Error {
        let key = |text: &str| Some(text.strip_prefix("--")?.split([' ', ':']).next()?.to_owned());
        match error {
            Error::Usage(text) => match key(&text).and_then(|key| self.lines.get(&key)) {
                Some(line) => Error::Usage(format!("--config {}: line {line}: {text}", self.path.display())),
                None => Error::Usage(text),
            },
            other => other,
        }
    }
}

/// The arguments of the command line `root` with those of the file that `--config` names, if it is given, behind them,
/// and where those stand.
///
/// # Errors
/// Usage error naming file, line and key for what is no flag of the command, or no value of it; if the file cannot be
/// read.
pub fn expand(root: &Command, mut words: Vec<OsString>) -> Result<(Vec<OsString>, Origin)> {
    let nothing = Origin::default();
    // Whatever is wrong on the command line is found again, and reported, when all arguments are parsed.
    let Ok(matches) = root.clone().ignore_errors(true).try_get_matches_from(&words) else {
        return Ok((words, nothing));
    };
    let Some((command, given)) = asked(root, &matches) else { return Ok((words, nothing)) };
    let Ok(Some(path)) = given.try_get_one::<PathBuf>("config") else { return Ok((words, nothing)) };
    let globals = root.get_arguments().filter(|arg| arg.is_global_set()).cloned();
    let mut origin = Origin { path: path.clone(), lines: BTreeMap::new() };
    words.extend(arguments(&mut origin, &relaxed(command.clone().args(globals)), given)?);
    Ok((words, origin))
}

/// The command with nothing required, so that one argument can be tried by itself.
fn relaxed(command: Command) -> Command {
    let groups: Vec<_> = command.get_groups().map(|group| group.get_id().clone()).collect();
    let command = command.mut_args(|arg| arg.required(false));
    groups.into_iter().fold(command, |command, id| command.mut_group(id, |group| group.required(false)))
}

/// What the file of `origin` sets and the command line (`given`) does not.
fn arguments(origin: &mut Origin, command: &Command, given: &ArgMatches) -> Result<Vec<OsString>> {
    let path = &origin.path;
    let shown = path.display();
    if let Err(what) = paths::file(path, "a TOML file whose keys are the long flags") {
        bail!(Usage, "--config {shown}: {what}");
    }
    let bytes = store::read(path, store::RECORD).map_err(Error::io("read", path))?;
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
        if let Some(typed) = voided(command, given, &key) {
            say!("note: --config {shown}: line {line}: `{key}` does not go with {typed}; left out");
            continue;
        }
        if let Some(what) = value.as_str().filter(|_| key == "output").and_then(|output| moved(path, output)) {
            return Err(wrong(&what));
        }
        origin.lines.insert(key.clone(), line);
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

    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn root() -> Command {
        command(Cli::command())
    }

    fn expanded(toml: &str, line: &str) -> Result<Vec<String>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(toml.as_bytes()).unwrap();
        let path = file.path().display().to_string();
        let words: Vec<OsString> = line.replace("FILE", &path).split(' ').map(OsString::from).collect();
        let given = words.len();
        Ok(expand(&root(), words)?.0.into_iter().skip(given).map(|word| word.into_string().unwrap()).collect())
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
    fn keys_that_mean_nothing_beside_what_was_typed_are_left_out() {
        let toml = "batch = 4\ncrop-scale = [0.08, 1.0]\nimages-per-caption = 3\nmodel = \"custom\"\nwidth = 24\n";
        let train = |typed: &str| expanded(toml, &format!("stablerep train --config FILE {typed}")).unwrap();
        let all = ["--batch=4", "--crop-scale=0.08,1.0", "--images-per-caption=3", "--model=custom", "--width=24"];
        assert_eq!(train("--seed 1"), all);
        assert_eq!(train("--augmentation none"), [all[0], all[2], all[3], all[4]]);
        assert_eq!(train("--augmentation weak"), all);
        assert_eq!(train("--method simclr"), [all[0], all[1], all[3], all[4]]);
        assert_eq!(train("--method mae"), [all[0], all[1], all[3], all[4]]);
        assert_eq!(train("--model vit_tiny"), all[..3]);
        // To generate, the model is a folder and the width a picture's.
        assert_eq!(
            expanded("width = 24", "stablerep generate --config FILE --model vit_tiny").unwrap(),
            ["--width=24"]
        );
    }

    #[test]
    fn errors_about_what_nobody_typed_say_where_it_stands() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"\ntemperature = 0.0\n").unwrap();
        let words = ["stablerep", "train", "--config", &file.path().display().to_string()].map(OsString::from);
        let (_, origin) = expand(&root(), words.to_vec()).unwrap();
        let explained = |text: &str| origin.explain(Error::Usage(text.into())).to_string();
        assert!(explained("--temperature 0: expected more").contains("line 2: --temperature 0: expected more"));
        assert_eq!(explained("--temper 0"), "--temper 0");
        assert_eq!(explained("too long"), "too long");
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

    /// What is wrong with `--flag -0.5` of every flag of every command is its value, if anything.
    #[test]
    fn every_number_may_be_negative() {
        fn of(command: &Command, found: &mut Vec<String>) {
            for arg in command.get_arguments().filter(|arg| numbers::takes_number(arg)) {
                let Some(flag) = arg.get_long().map(|long| format!("--{long}")) else { continue };
                // Where a value is joined by `=` nothing else is one.
                let lone = relaxed(command.clone()).subcommand_required(false);
                let words = match arg.is_require_equals_set() {
                    true => vec!["it".to_owned(), format!("{flag}=-0.5")],
                    false => vec!["it".to_owned(), flag.clone(), "-0.5".to_owned()],
                };
                match lone.try_get_matches_from(words) {
                    Err(error) if error.kind() == ErrorKind::UnknownArgument => panic!("{flag}: {error}"),
                    Err(error) if error.kind() == ErrorKind::ValueValidation => {
                        assert!(error.to_string().contains(&flag), "{error}");
                    }
                    _ => {}
                }
                found.push(flag);
            }
            command.get_subcommands().for_each(|command| of(command, found));
        }
        let mut found = Vec::new();
        of(&command(Cli::command()), &mut found);
        for flag in [
            "--lr",
            "--drop-path",
            "--batch",
            "--chunk",
            "--guidance-scale",
            "--lrs",
            "--holdout",
            "--rows",
            "--memory",
        ] {
            assert!(found.iter().any(|known| known == flag), "{flag}: {found:?}");
        }
    }
}
