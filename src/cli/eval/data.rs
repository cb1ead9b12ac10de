//! `--data NAME=PATH`: a published data set and where it lies.

use std::path::PathBuf;

use crate::bail;
use crate::cli::paths;
use crate::error::Result;
use crate::eval::dataset::published::{LAYOUTS, Layout};
use crate::eval::transform::Fit;

/// One of them.
#[derive(Clone, Debug)]
pub struct Named {
    layout: &'static Layout,
    path: PathBuf,
}

/// How photographs of these data sets reach the encoder.
#[derive(Debug, clap::Args)]
pub struct Preparation {
    /// How a photograph becomes the encoder's square [default: crop]
    #[arg(long, value_enum)]
    pub fit: Option<Fit>,
    /// Short side before the centre crop, by the bicubic filter, pixels [default: the encoder's side]
    #[arg(long, value_name = "PIXELS")]
    pub resize: Option<usize>,
}

/// Reads one value of `--data`.
pub fn parse(text: &str) -> Result<Named, String> {
    let names = || LAYOUTS.iter().map(|layout| layout.name).collect::<Vec<_>>().join(", ");
    let Some((name, path)) = text.split_once('=') else {
        return Err(format!("expected NAME=PATH, where NAME is one of {}", names()));
    };
    let Some(layout) = Layout::named(name) else {
        return Err(format!("there is no data set called {name:?}; expected one of {}", names()));
    };
    Ok(Named { layout, path: paths::refuse_tilde(path.into())? })
}

/// All that were given, each once.
///
/// # Errors
/// `Usage` naming one that was given twice.
pub fn once(data: Vec<Named>) -> Result<Vec<(&'static Layout, PathBuf)>> {
    for (i, Named { layout, .. }) in data.iter().enumerate() {
        if data[..i].iter().any(|other| other.layout.name == layout.name) {
            bail!(Usage, "--data {}=…: given twice; a data set has one score", layout.name);
        }
    }
    Ok(data.into_iter().map(|Named { layout, path }| (layout, path)).collect())
}

/// The names and what folder each expects, for the help.
pub fn layouts() -> String {
    let line = |layout: &Layout| format!("  {:<12}{}\n", layout.name, layout.folder);
    let lines: String = LAYOUTS.iter().map(line).collect();
    format!("Data sets, and the folder of each as its authors' archives unpack to:\n{lines}")
}
