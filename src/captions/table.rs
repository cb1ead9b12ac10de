//! csv and tsv: one caption per data row, in the column asked for.
//!
//! With a column *name* (or none) the first row is the header; without a name the column is the first of `caption`, `text`, `prompt`,
//! `title` that the header has, or the only column there is. With a column *number* there is no header and every row is data.

use csv::{ByteRecord, ReaderBuilder};

use super::{Format, Read, Reader};
use crate::bail;
use crate::error::{Error, Result};

/// Header names tried when no column is given, as img2dataset, open_clip and the caption sets use them.
const USUAL_NAMES: [&str; 4] = ["caption", "text", "prompt", "title"];

pub(super) fn read(bytes: &[u8], delimiter: u8, out: &mut Reader) -> Result<Read> {
    let path = out.path.display().to_string();
    let column = out.options.column.clone();
    let number = column.as_ref().and_then(|name| name.parse::<usize>().ok());
    // tsv files (Conceptual Captions, LAION lists) hold quotes as plain characters.
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .quoting(delimiter == b',')
        .has_headers(number.is_none())
        .flexible(true)
        .from_reader(bytes);
    let index = match number {
        Some(number) => number,
        None => {
            let header = reader.byte_headers().map_err(|e| Error::Data(format!("{path}: header: {e}")))?;
            find_column(&path, header, column.as_deref())?
        }
    };
    let mut record = ByteRecord::new();
    let mut id = 0;
    loop {
        let line = reader.position().line();
        match reader.read_byte_record(&mut record) {
            Ok(false) => {
                let format = if delimiter == b',' { Format::Csv } else { Format::Tsv };
                return Ok(Read { format, column: Some(index), header: number.is_none(), key_column: None });
            }
            Ok(true) => {
                let line = record.position().map_or(line, csv::Position::line);
                match record.get(index) {
                    Some(field) => out.take(id, line, field)?,
                    None => {
                        out.reject(line, &format!("{} columns, the caption is column {index} from 0", record.len()))?
                    }
                }
            }
            Err(e) => out.reject(line, &e.to_string())?,
        }
        id += 1;
    }
}

fn find_column(path: &str, header: &ByteRecord, wanted: Option<&str>) -> Result<usize> {
    let names: Vec<String> = header
        .iter()
        .map(|name| String::from_utf8_lossy(name).trim_start_matches('\u{feff}').trim().to_owned())
        .collect();
    let position = |wanted: &str| names.iter().position(|name| name.eq_ignore_ascii_case(wanted));
    let found = match wanted {
        Some(name) => position(name),
        None => USUAL_NAMES.iter().find_map(|name| position(name)).or((names.len() == 1).then_some(0)),
    };
    let Some(index) = found else {
        bail!(
            Data,
            "{path}: no caption column {}in its header ({}); give --caption-column with a name, or a number from 0 for a file without header",
            wanted.map_or_else(String::new, |name| format!("`{name}` ")),
            names.join(", ")
        );
    };
    Ok(index)
}
