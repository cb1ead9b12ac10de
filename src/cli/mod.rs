//! Arguments → one call; messages and exit codes.

mod bench;
mod calibrate;
mod captions;
mod compare;
mod config;
mod demo;
mod doctor;
mod eval;
mod export;
mod generate;
mod inspect;
mod model;
mod numbers;
mod pairs;
mod paths;
mod report;
mod selftest;
mod table;
mod tokenizer;
mod train;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::console;
use crate::device;
use crate::error::Result;
use crate::say;
use crate::store;

/// Captions to trained vision encoders, in one binary.
#[derive(Debug, Parser)]
#[command(name = "stablerep", version = version(), max_term_width = 110)]
pub struct Cli {
    /// Threads to compute with [default: every core]
    #[arg(long, global = true, value_name = "N", display_order = 900)]
    threads: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

/// `0.1.0 (CUDA kernels: …)`: a build without kernels says so.
fn version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| format!("{} ({})", env!("CARGO_PKG_VERSION"), device::kernels()));
    &TEXT
}

/// The commands; each `Args` says what its own does.
#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Generate(Box<generate::Args>),
    Calibrate(Box<calibrate::Args>),
    Train(Box<train::Args>),
    Eval(eval::Args),
    Probe(Box<eval::linear::Args>),
    Export(export::Args),
    Inspect(Box<inspect::Args>),
    Report(report::Args),
    Compare(compare::Args),
    Doctor(doctor::Args),
    Selftest(selftest::Args),
    Bench(bench::Args),
}

/// Parses the process arguments, runs the command, prints the error if there is one, and returns the exit code
/// (0 done, 1 failed, 2 usage, 3 bad data, 4 device, 5 diverged, 75 stopped by a signal with the state saved).
pub fn main() -> ExitCode {
    console::begin();
    device::begin();
    match with(std::env::args_os().collect(), run) {
        Ok(result) => ended(result),
        Err(wrong) if wrong.use_stderr() => {
            // There is nowhere else to say it.
            let _ = wrong.print();
            ExitCode::from(2)
        }
        Err(help) => {
            console::wrote_to_stdout(help.print());
            ended(console::lost_answer())
        }
    }
}

/// Runs the command that `words` ask for in this process, which keeps its signals and threads.
///
/// # Errors
/// What the command ends with; outside of that, what is wrong with the words, or the help that they ask for.
pub fn call(words: Vec<OsString>) -> Result<Result<()>, clap::Error> {
    with(words, |cli| dispatch(cli.command))
}

/// Reads `words` and the file of their `--config` as [`call`] does, and does nothing else.
///
/// # Errors
/// As [`call`].
pub fn check(words: Vec<OsString>) -> Result<Result<()>, clap::Error> {
    with(words, |_| Ok(()))
}

/// Acts on what `words` and the file of their `--config` ask for.
fn with(words: Vec<OsString>, act: impl FnOnce(Cli) -> Result<()>) -> Result<Result<()>, clap::Error> {
    let root = config::command(Cli::command());
    let (words, origin) = match config::expand(&root, words) {
        Ok(expanded) => expanded,
        Err(error) => return Ok(Err(error)),
    };
    Ok(parse(root, words)?.and_then(act).map_err(|error| origin.explain(error)))
}

/// Says what went wrong, if anything did.
fn ended(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// The arguments, their paths looked at, or what to print in place of a command.
fn parse(mut command: clap::Command, words: Vec<OsString>) -> Result<Result<Cli>, clap::Error> {
    let matches = command.try_get_matches_from_mut(words)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let looked = config::asked(&command, &matches).map_or(Ok(()), |(asked, given)| paths::check(asked, given));
    Ok(looked.map(|()| cli))
}

fn run(cli: Cli) -> Result<()> {
    store::install_signal_handlers()?;
    device::set_threads(cli.threads)?;
    dispatch(cli.command)?;
    console::lost_answer()
}

/// Runs one command.
fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Demo(args) => {
            demo::run(&args, &|words| Cli::try_parse_from(words).map(|stage| dispatch(stage.command)))
        }
        Command::Generate(args) => generate::run(*args),
        Command::Calibrate(args) => calibrate::run(*args),
        Command::Train(args) => train::run(*args),
        Command::Eval(args) => eval::run(args),
        Command::Probe(args) => eval::linear::run(*args),
        Command::Export(args) => export::run(args),
        Command::Inspect(args) => inspect::run(*args),
        Command::Report(args) => report::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Selftest(args) => selftest::run(args),
        Command::Bench(args) => bench::run(args),
    }
}
