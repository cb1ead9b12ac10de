//! Arguments → one call; messages and exit codes.

mod bench;
mod calibrate;
mod captions;
mod demo;
mod doctor;
mod export;
mod generate;
mod inspect;
mod paths;
mod probe;
mod selftest;
mod table;
mod train;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::console;
use crate::device;
use crate::error::Result;
use crate::say;
use crate::store;

/// Captions to trained vision encoders, in one binary.
#[derive(Debug, Parser)]
#[command(name = "stablerep", version, max_term_width = 110)]
pub struct Cli {
    /// Threads to compute with [default: every core]
    #[arg(long, global = true, value_name = "N", display_order = 900)]
    threads: Option<usize>,
    #[command(subcommand)]
    command: Command,
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
    match run(parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// The process arguments; wrong ones, `--help` and `--version` end the process here.
fn parse() -> Cli {
    let mut command = paths::refuse_tildes(Cli::command());
    let cli = Cli::from_arg_matches(&command.get_matches_mut());
    cli.unwrap_or_else(|error| error.format(&mut command).exit())
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
