//! csv and tsv: one caption per data row, in the column asked for.

use std::borrow::Cow;

use super::columns::FirstRow;
use super::options::{Format, Read};
use super::reader::Reader;
use super::rows::{Dialect, Rows};
use crate::bail;
use crate::error::Result;

/// Rows that must agree before a file is said to be separated by something else than its name says.
const SAMPLE_ROWS: usize = 64;

/// Reads the table in `bytes`, which hold no byte-order mark.
///
/// # Errors
/// A first row that cannot be read, or that the options do not fit; more bad rows than tolerated.
pub(super) fn read(bytes: &[u8], format: Format, out: &mut Reader) -> Result<Read> {
    let mut rows = Rows::new(bytes, Dialect::of(format));
    let mut fields = Vec::new();
    let mut blank = 0;
    // Blank rows above a header belong to nothing; in a file without one they have numbers like all others.
    let (first, line) = loop {
        match rows.next(&mut fields) {
            None => {
                out.skipped_empty = blank;
                return Ok(Read { format, column: None, header: false, key_column: None });
            }
            Some(Ok(_)) if is_blank(&fields) => blank += 1,
            Some(Ok(line)) => break (FirstRow::new(out.name.clone(), &fields), line),
            Some(Err(fault)) => bail!(Data, "{}:{}: {}", out.name, fault.line, fault.why),
        }
    };
    let width = fields.len();
    if out.options.format.is_none() {
        refuse_other_delimiter(bytes, format, width, out)?;
    }
    let second = rows.clone().next(&mut fields).and_then(Result::ok).map(|_| fields.as_slice());
    let columns = first.columns(out.options, second)?;
    if columns.header {
        out.skipped_empty = blank;
    } else {
        rows = Rows::new(bytes, Dialect::of(format));
    }
    let hint = if format == Format::Csv { "quote a field that holds a comma" } else { "a caption cannot hold a tab" };
    let mut id = 0;
    while !out.full() {
        match rows.next(&mut fields) {
            None => break,
            Some(Err(fault)) => out.reject(fault.line, fault.why)?,
            Some(Ok(_)) if is_blank(&fields) => out.skipped_empty += 1,
            Some(Ok(row)) if fields.len() != width => {
                let found = fields.len();
                out.reject(row, &format!("{found} fields, expected {width} as on line {line}; {hint}"))?;
            }
            Some(Ok(row)) => out.take(id, row, &fields[columns.caption], columns.key.map(|key| &*fields[key]))?,
        }
        id += 1;
    }
    out.notes.push(format!(
        "{}: {} {} a header, captions from column {} of {width} (from 0)",
        out.name,
        format.name(),
        if columns.header { "with" } else { "without" },
        columns.caption,
    ));
    Ok(Read { format, column: Some(columns.caption), header: columns.header, key_column: columns.key })
}

/// Whether no field holds any text.
fn is_blank(fields: &[Cow<[u8]>]) -> bool {
    fields.iter().all(|field| std::str::from_utf8(field).is_ok_and(|text| text.trim().is_empty()))
}

/// Refuses a file whose extension says one delimiter and whose rows are separated by another: then rows would be drawn
/// whole, or as far as their first comma.
fn refuse_other_delimiter(bytes: &[u8], format: Format, width: usize, out: &Reader) -> Result<()> {
    let own = Dialect::of(format).delimiter;
    for (delimiter, name, fix) in [
        (b'\t', "tabs", "give --caption-format tsv"),
        (b',', "commas", "give --caption-format csv"),
        (b';', "semicolons", "write it with commas or tabs"),
        (b'|', "vertical bars", "write it with tabs"),
    ] {
        // Text holds all of them but tabs.
        if delimiter != own && (width == 1 || delimiter == b'\t') && separated_by(bytes, delimiter) {
            bail!(
                Data,
                "{}: is named .{} and its rows are separated by {name}; {fix}, or --caption-format {} if the {name} are part of the text",
                out.name,
                format.name(),
                format.name()
            );
        }
    }
    Ok(())
}

/// Whether the first rows have one number of fields, more than one, by this delimiter; or their header names captions
/// so.
fn separated_by(bytes: &[u8], delimiter: u8) -> bool {
    let mut rows = Rows::new(bytes, Dialect { delimiter, quotes: delimiter != b'\t' });
    let mut fields = Vec::new();
    let mut width = None;
    let mut seen = 0;
    while let Some(row) = rows.next(&mut fields) {
        if row.is_err() {
            return false;
        }
        if is_blank(&fields) {
            continue;
        }
        if width.is_none() && fields.len() > 1 && FirstRow::new(String::new(), &fields).names_captions() {
            return true;
        }
        if fields.len() < 2 || *width.get_or_insert(fields.len()) != fields.len() {
            return false;
        }
        seen += 1;
        if seen == SAMPLE_ROWS {
            break;
        }
    }
    seen > 0
}
