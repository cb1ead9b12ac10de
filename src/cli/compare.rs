//! `stablerep compare`: what tells runs apart.

use std::path::PathBuf;

use crate::bail;
use crate::error::Result;
use crate::report::compare;

/// Say what tells training runs apart: settings that differ, and where each ended.
///
/// For their curves on one sheet: stablerep report RUN RUN….
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example: stablerep compare stablerep-run simclr-run")]
pub struct Args {
    /// Folders of runs, two or more
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Print the table in Markdown
    #[arg(long)]
    markdown: bool,
}

/// Prints the table.
pub fn run(args: Args) -> Result<()> {
    if args.runs.len() < 2 {
        bail!(Usage, "{}: give two runs or more to compare", args.runs[0].display());
    }
    crate::console::to_stdout(format_args!("{}", compare(&args.runs, args.markdown)?));
    Ok(())
}
