//! One caption per line.

use super::options::{Format, Read};
use super::reader::Reader;
use crate::bail;
use crate::error::Result;

/// Reads the lines of `bytes`, which hold no byte-order mark.
///
/// # Errors
/// Options that only tables have; more bad lines than tolerated.
pub(super) fn read(bytes: &[u8], out: &mut Reader) -> Result<Read> {
    let options = out.options;
    for (flag, given) in [
        ("--caption-column", options.column.is_some()),
        ("--key-column", options.key_column.is_some()),
        ("--header", options.header == Some(true)),
        ("--no-header", options.header == Some(false)),
    ] {
        if given {
            bail!(
                Usage,
                "{flag}: {} is read as txt, one caption per line without columns; give --caption-format tsv or csv if it is a table, \
                 or leave {flag} out",
                out.name
            );
        }
    }
    // A final line break ends the last line; it does not begin an empty one.
    let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let mut with_tab = 0;
    for (id, line) in lines.split(|&byte| byte == b'\n').enumerate() {
        if out.full() {
            break;
        }
        with_tab += usize::from(line.trim_ascii().contains(&b'\t'));
        out.take(id as u64, id as u64 + 1, line, None)?;
    }
    if with_tab > 0 && with_tab == out.list.len() {
        out.notes.push(format!(
            "{}: every line holds a tab and is drawn whole; if it is a table, give --caption-format tsv and --caption-column",
            out.name
        ));
    }
    Ok(Read { format: Format::Txt, column: None, header: false, key_column: None })
}
