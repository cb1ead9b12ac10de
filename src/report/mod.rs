//! Shards, runs and evaluations as one page to look at: a self-contained HTML file, in which pictures and curves
//! travel.

mod chart;
mod evaluation;
mod find;
mod heat;
mod page;
mod published;
mod run;
mod shards;
mod sheets;
mod smooth;

use std::path::{Path, PathBuf};

pub use find::{Kind, Subject, find};

use crate::error::Result;
use crate::eval::columns::Columns;
use crate::say;
use crate::store::write_atomic;
use page::Page;
pub use shards::Limits;

/// Writes the page of all that lies in `paths` to `output`: shards, runs and evaluations, in the order they are named.
/// The same contents give the same bytes.
///
/// # Errors
/// `Data` naming the path that is none of these, or the file that cannot be read; `Io` when the page cannot be written.
pub fn write(paths: &[PathBuf], output: &Path, limits: Limits) -> Result<usize> {
    let subjects = find(paths)?;
    let mut sections = Vec::with_capacity(subjects.len());
    for Subject { path, kind } in &subjects {
        say!("{}: {}", path.display(), kind.name());
        sections.push(match kind {
            Kind::Shards => shards::section(path, limits)?,
            Kind::Run => run::section(path)?,
            Kind::Evaluation => evaluation::section(path)?,
        });
    }
    let runs: Vec<&Path> =
        subjects.iter().filter(|subject| subject.kind == Kind::Run).map(|subject| subject.path.as_path()).collect();
    if runs.len() > 1 {
        sections.insert(0, run::together(&runs)?);
    }
    let scores = evaluation::summary(&subjects)?;
    sections.splice(0..0, scores);
    let page = Page { title: "stablerep", sections };
    write_atomic(output, page.html().as_bytes())?;
    Ok(subjects.len())
}

/// What tells the training runs in `folders` apart, as a table in aligned columns or in Markdown.
///
/// # Errors
/// `Data` naming the file that cannot be read.
pub fn compare(folders: &[PathBuf], markdown: bool) -> Result<String> {
    let runs = folders.iter().map(|folder| run::Run::read(folder)).collect::<Result<Vec<_>>>()?;
    let (header, rows) = run::differences(&runs);
    let table = Columns { heading: Vec::new(), header, rows, footnotes: Vec::new() };
    Ok(if markdown { table.markdown() } else { table.text() })
}
