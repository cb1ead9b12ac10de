//! Sheets that other commands drew into a folder, as they are.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::page::text;
use crate::error::{Error, Result};

/// Their files, and what each shows.
const SHEETS: [(&str, &str); 4] = [
    ("attention.png", "where the encoder looks (inspect --attention)"),
    ("nearest.png", "pictures and their nearest neighbours (inspect --nearest)"),
    ("segmented.png", "pixels by their classes (eval segment)"),
    ("reconstructions.png", "what a masked autoencoder draws"),
];

/// First bytes of a PNG.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A figure of each sheet in `folder`.
///
/// # Errors
/// `Io` for one that cannot be read; `Data` for one that is no PNG.
pub fn sheets(folder: &Path) -> Result<String> {
    let mut html = String::new();
    for (file, what) in SHEETS {
        let path = folder.join(file);
        if !path.is_file() {
            continue;
        }
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        if !bytes.starts_with(PNG) {
            return Err(Error::Data(format!("{}: is no PNG; remove it, or draw it again", path.display())));
        }
        let what = text(what);
        html += &format!(
            "<figure class=\"sheet\"><figcaption>{what}</figcaption><div class=\"scroll\"><img alt=\"{what}\" \
             src=\"data:image/png;base64,{}\"></div></figure>\n",
            STANDARD.encode(bytes)
        );
    }
    Ok(html)
}
