//! `inspect --attention`: where the class token of an encoder looks.

use std::path::{Path, PathBuf};

use super::encoder::Looked;
use crate::answer;
use crate::cli::table::Table;
use crate::error::{Error, Result};
use crate::eval::attention::{Attention, attention, spread};
use crate::eval::encoder::Encoder;
use crate::eval::transform::Transform;
use crate::image::sheet::{SheetRow, contact_sheet};
use crate::image::{Filter, Rgb8, decode, encode_png, heat, resize};
use crate::store::write_atomic;

/// Side that small pictures are enlarged to, as their maps are.
const SHOWN: usize = 128;

/// Draws the maps of `pictures` into `sheet`, and prints what each head looks at on average.
pub fn run(path: PathBuf, looked: &Looked, pictures: &[PathBuf], sheet: &Path) -> Result<()> {
    let encoder = Encoder::open(&looked.source(path))?;
    let (side, preparation) = (encoder.vit().config().image_size, &looked.preparation);
    let transform = Transform::new(side, preparation.fit, preparation.resize, encoder.preprocessing())?;
    let prepare = |path: &PathBuf| -> Result<Rgb8> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let name = path.display().to_string();
        transform.apply(&decode(&bytes, &name)?).map_err(|e| Error::Data(format!("{name}: {e}")))
    };
    let images: Vec<Rgb8> = pictures.iter().map(prepare).collect::<Result<_>>()?;
    let maps = attention(&encoder, &images)?;
    print_table(&maps);
    let rows = pictures.iter().zip(images.iter().zip(&maps)).map(|(path, (image, maps))| row(path, image, maps));
    let title = format!(
        "what the class token of {} looks at in the last block; each map from 0 to its largest value",
        encoder.source()
    );
    let drawn = contact_sheet(&title, &rows.collect::<Result<Vec<_>>>()?)?;
    write_atomic(sheet, &encode_png(&drawn)?)?;
    answer!("\nmaps of {} picture(s), {transform}: {}", pictures.len(), sheet.display());
    Ok(())
}

/// The picture as the encoder takes it, and its maps.
fn row(path: &Path, image: &Rgb8, maps: &Attention) -> Result<SheetRow> {
    let side = image.width.max(SHOWN);
    let shown = resize(image, side, side, Filter::Box)?;
    let mean = maps.mean();
    let named = [("mean".to_owned(), &mean), ("rollout".to_owned(), &maps.rollout)];
    let heads = maps.heads.iter().enumerate().map(|(head, map)| (format!("head {}", head + 1), map));
    let mut row = SheetRow::new(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), vec![shown]);
    row.notes.push("picture".into());
    for (name, map) in named.into_iter().chain(heads) {
        row.images.push(heat(map, maps.side, side));
        row.notes.push(name);
    }
    Ok(row)
}

/// Heads over all pictures.
fn print_table(all: &[Attention]) {
    let mut table = Table::new(&["map", ">on patches %", ">patches it is spread over"]);
    let patches = all.first().map_or(0, |maps| maps.side * maps.side);
    let mut line = |name: String, of: &dyn Fn(&Attention) -> Vec<f32>| {
        let (mut share, mut wide) = (0.0, 0.0);
        for maps in all {
            let (on_patches, over) = spread(&of(maps));
            share += 100.0 * on_patches / all.len() as f64;
            wide += over / all.len() as f64;
        }
        table.row([name, format!("{share:.1}"), format!("{wide:.1} of {patches}")]);
    };
    line("mean".into(), &Attention::mean);
    line("rollout".into(), &|maps| maps.rollout.clone());
    for head in 0..all.first().map_or(0, |maps| maps.heads.len()) {
        line(format!("head {}", head + 1), &|maps| maps.heads[head].clone());
    }
    table.print();
}
