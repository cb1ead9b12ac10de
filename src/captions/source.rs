//! The bytes of a caption file, and what other kinds of file are told.

use std::io::{self, Read};
use std::path::Path;

use super::options::Format;
use crate::bail;
use crate::device;
use crate::error::{Error, Result};
use crate::store;

/// UTF-8 byte-order mark, which editors on Windows prepend.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// A zero byte this early is no slip in a text but another kind of file.
const HEAD: usize = 4096;

/// First bytes of files that people take for caption files: what they are and how to unpack them.
const KINDS: [(&[u8], &str, &str); 8] = [
    (b"\x1F\x8B", "gzip-compressed", "unpack it with `gunzip -k`"),
    (b"\x28\xB5\x2F\xFD", "zstd-compressed", "unpack it with `zstd -d`"),
    (b"\xFD7zXZ\0", "xz-compressed", "unpack it with `xz -dk`"),
    (b"BZh91AY&SY", "bzip2-compressed", "unpack it with `bunzip2 -k`"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "unpack it, or save the sheet as csv"),
    (
        b"PAR1\x15",
        "a parquet table",
        "write it as csv, in Python: `pandas.read_parquet(file).to_csv(\"captions.csv\", index=False)`",
    ),
    (b"\xFF\xFE", "UTF-16 text", "save it as UTF-8, or `iconv -f UTF-16 -t UTF-8`"),
    (b"\xFE\xFF", "UTF-16 text", "save it as UTF-8, or `iconv -f UTF-16 -t UTF-8`"),
];

/// What to call the file, and its bytes; `-` is standard input.
pub(super) fn read(path: &Path) -> Result<(String, Vec<u8>)> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map_err(Error::io("read captions", "standard input"))?;
        return Ok(("standard input".into(), bytes));
    }
    let name = path.display().to_string();
    if path.is_dir() {
        bail!(Data, "{name}: is a folder; expected a caption file (.txt, .csv or .tsv)");
    }
    // A caption of the list takes more than its bytes in the file.
    let most = device::available().map_or(u64::MAX, |free| free.bytes / 2);
    let bytes = store::read(path, most).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::Data(format!("{name}: no such caption file; expected .txt, .csv or .tsv")),
        _ => Error::io("read captions", path)(e),
    })?;
    Ok((name, bytes))
}

/// The format that the extension names.
pub(super) fn format_of(path: &Path) -> Result<Format> {
    match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("txt") => Ok(Format::Txt),
        Some("csv") => Ok(Format::Csv),
        Some("tsv") => Ok(Format::Tsv),
        _ => Err(Error::Usage(format!(
            "{}: the extension does not tell the caption format; expected .txt, .csv or .tsv, or give --caption-format",
            path.display()
        ))),
    }
}

/// The text in `bytes`, without byte-order mark; checked only for being text with lines.
pub(super) fn text<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a [u8]> {
    if let Some((_, kind, fix)) = KINDS.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        bail!(Data, "{name}: is {kind}; expected UTF-8 text: {fix}");
    }
    let text = bytes.strip_prefix(BOM).unwrap_or(bytes);
    if text.is_empty() {
        bail!(Data, "{name}: the caption file is empty; expected one caption per line or row");
    }
    if text[..text.len().min(HEAD)].contains(&0) {
        bail!(
            Data,
            "{name}: the caption file is binary (a zero byte); expected UTF-8 text (save UTF-16 as UTF-8, unpack archives)"
        );
    }
    if !text.contains(&b'\n') && text.trim_ascii_end().contains(&b'\r') {
        bail!(
            Data,
            "{name}: its lines end in CR alone, as old Macs write them; expected LF or CR LF: `tr '\\r' '\\n' <file >captions.txt` mends it"
        );
    }
    Ok(text)
}
