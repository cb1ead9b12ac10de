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

use crate::error::{Error, Result};
use crate::eval::columns::Columns;
use crate::say;
use crate::store::write_atomic;
use page::{Page, Section, note};
pub use shards::Limits;

/// What a page tells of.
#[derive(Debug)]
pub struct Told {
    /// Shards, runs and evaluations, and paths where there are none.
    pub subjects: usize,
    /// What could not be read of them, or not wholly, a message each; the page has them too.
    pub bad: Vec<String>,
}

/// Writes the page of all that lies in `paths` to `output`: shards, runs and evaluations, in the order they are named.
/// The same contents give the same bytes. What cannot be read has a section that says so.
///
/// # Errors
/// `Data` when nothing is any of these; `Io` when the page cannot be written; `Interrupted` on a signal.
pub fn write(paths: &[PathBuf], output: &Path, limits: Limits) -> Result<Told> {
    let (subjects, mut bad) = find(paths)?;
    let count = subjects.len() + bad.len();
    let mut sections = Vec::with_capacity(count);
    for empty in &bad {
        say!("warning: {empty}; the page says so in its place");
        sections.push(Section::new("nothing to tell of".into(), "path", note(empty)));
    }
    let mut whole: Vec<&Subject> = Vec::with_capacity(subjects.len());
    for subject in &subjects {
        let Subject { path, kind } = subject;
        say!("{}: {}", path.display(), kind.name());
        let section = match kind {
            Kind::Shards => shards::section(path, limits).map(|(section, damage)| {
                if let Some(damage) = damage {
                    say!("warning: {damage}; the page says so in its place");
                    bad.push(damage);
                }
                section
            }),
            Kind::Run => run::section(path),
            Kind::Evaluation => evaluation::section(path),
        };
        sections.push(match section {
            Ok(section) => {
                whole.push(subject);
                section
            }
            Err(error @ (Error::Data(_) | Error::Io { .. })) => {
                say!("warning: {error}; the page says so in its place");
                let html = note(&format!("This could not be read: {error}"));
                bad.push(error.to_string());
                Section::new(find::name(path), kind.name(), html)
            }
            Err(other) => return Err(other),
        });
    }
    let runs: Vec<&Path> =
        whole.iter().filter(|subject| subject.kind == Kind::Run).map(|subject| subject.path.as_path()).collect();
    if runs.len() > 1 {
        sections.insert(0, run::together(&runs)?);
    }
    let scores = evaluation::summary(&whole)?;
    sections.splice(0..0, scores);
    let page = Page { title: "stablerep", sections };
    write_atomic(output, page.html().as_bytes())?;
    Ok(Told { subjects: count, bad })
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
