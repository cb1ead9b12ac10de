//! One caption per line.

use super::Reader;
use crate::error::Result;

/// UTF-8 byte-order mark, which editors on Windows prepend.
const BOM: &[u8] = b"\xEF\xBB\xBF";

pub(super) fn read(bytes: &[u8], out: &mut Reader) -> Result<()> {
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    // A final line break ends the last line; it does not begin an empty one.
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    for (id, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        out.take(id as u64, id as u64 + 1, line)?;
    }
    Ok(())
}
