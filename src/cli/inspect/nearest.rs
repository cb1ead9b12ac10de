//! `inspect --nearest`: the training pictures that an encoder takes for most like a given one.

use std::path::{Path, PathBuf};

use crate::answer;
use crate::cli::table::Table;
use crate::config::shell_word;
use crate::error::{Error, Result};
use crate::eval::nearest::{DrawnSample, Found, NearestConfig, NearestReport, Neighbour, find};
use crate::image::sheet::{SheetRow, contact_sheet};
use crate::image::{Rgb8, decode, encode_png};
use crate::store::write_atomic;

/// Digits of a model's hash that are shown.
const HASH: usize = 12;

/// Where what was found goes beside the table.
#[derive(Clone, Copy, Debug)]
pub struct Outputs<'a> {
    pub sheet: Option<&'a Path>,
    pub json: Option<&'a Path>,
}

/// Prints a table of the neighbours and the commands that draw them again, for which `model` is the folder that they
/// were drawn with, where it is known.
pub fn run(config: &NearestConfig, model: Option<&Path>, to: Outputs<'_>) -> Result<()> {
    let found = find(config, |sample| command(sample, model))?;
    print(&found.report);
    if let Some(path) = to.json {
        found.report.write(path)?;
        answer!("\nreport: {}", path.display());
    }
    if let Some(path) = to.sheet {
        let rows = rows(config, &found)?;
        let title = "each picture, and those of the data whose features have the largest cosines to its own";
        write_atomic(path, &encode_png(&contact_sheet(title, &rows)?)?)?;
        answer!("\ncontact sheet: {}", path.display());
    }
    Ok(())
}

/// How `sample` is drawn again.
fn command(sample: &DrawnSample, model: Option<&Path>) -> String {
    let DrawnSample { shard, key, precision } = sample;
    let model = model.map_or_else(|| "MODEL".into(), shell_word);
    // Only a GPU draws in f16; in bf16 either does, which differ by rounding, and every machine has a CPU.
    let device = if precision == "f16" { " --device cuda" } else { "" };
    format!(
        "stablerep inspect {} --regenerate {} --model {model}{device}",
        shell_word(shard),
        shell_word(Path::new(key))
    )
}

fn print(report: &NearestReport) {
    let mut table = Table::new(&["picture", ">cosine", "found", "caption", ">seed", "model"]);
    let optional = |value: &Option<String>| value.clone().unwrap_or_default();
    for near in &report.nearest {
        table.row([
            near.picture.clone(),
            format!("{:.4}", near.cosine),
            near.found.clone(),
            optional(&near.caption),
            near.seed.map_or_else(String::new, |seed| seed.to_string()),
            near.model.as_deref().map_or_else(String::new, |hash| hash.chars().take(HASH).collect()),
        ]);
    }
    table.print();
    let again: Vec<&String> = report.nearest.iter().filter_map(|near| near.again.as_ref()).collect();
    if !again.is_empty() {
        answer!("\nto draw them again:");
        again.iter().for_each(|command| answer!("{command}"));
    }
}

/// A row of the sheet for every picture.
fn rows(config: &NearestConfig, found: &Found) -> Result<Vec<SheetRow>> {
    let mut rest = found.report.nearest.iter();
    let each = found.report.nearest.len() / config.pictures.len();
    let row = |path: &PathBuf| -> Result<SheetRow> {
        let name = path.display().to_string();
        let own = decode(&std::fs::read(path).map_err(Error::io("read", path))?, &name)?;
        let near: Vec<&Neighbour> = rest.by_ref().take(each).collect();
        let images = near.iter().map(|near| found.image(near)).collect::<Result<Vec<Rgb8>>>()?;
        let note = |near: &&Neighbour| format!("{:.3} {}", near.cosine, near.caption.as_deref().unwrap_or_default());
        Ok(SheetRow {
            label: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            images: [vec![own], images].concat(),
            notes: std::iter::once(String::new()).chain(near.iter().map(note)).collect(),
        })
    };
    config.pictures.iter().map(row).collect()
}
