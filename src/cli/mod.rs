//! Arguments → one call; messages and exit codes.

mod bench;
mod calibrate;
mod captions;
mod config;
mod demo;
mod doctor;
mod export;
mod generate;
mod inspect;
mod model;
mod paths;
mod probe;
mod selftest;
mod table;
mod train;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{FromArgMatches, Parser, Subcommand};

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
    Probe(Box<probe::Args>),
    Export(export::Args),
    Inspect(inspect::Args),
    Doctor(doctor::Args),
    Selftest(selftest::Args),
    Bench(bench::Args),
}

/// Parses the process arguments, runs the command, prints the error if there is one, and returns the exit code
/// (0 done, 1 failed, 2 usage, 3 bad data, 4 device, 5 diverged, 75 stopped by a signal with the state saved).
pub fn main() -> ExitCode {
    console::begin();
    device::begin();
    let (words, origin) = match config::expand(std::env::args_os().collect()) {
        Ok(expanded) => expanded,
        Err(error) => return ended(Err(error)),
    };
    match parse(words) {
        Ok(cli) => ended(cli.and_then(run).map_err(|error| origin.explain(error))),
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
fn parse(words: Vec<OsString>) -> Result<Result<Cli>, clap::Error> {
    let mut command = config::command();
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
        Command::Demo(args) => demo::run(&args),
        Command::Generate(args) => generate::run(*args),
        Command::Calibrate(args) => calibrate::run(*args),
        Command::Train(args) => train::run(*args),
        Command::Probe(args) => probe::run(*args),
        Command::Export(args) => export::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Selftest(args) => selftest::run(args),
        Command::Bench(args) => bench::run(args),
    }
}
