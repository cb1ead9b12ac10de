//! Tensors to a file.

use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::CHUNK;
use crate::bail;
use crate::error::{Error, Result};
use crate::store::AtomicFile;

/// A tensor to be written: name, shape, values.
pub type NamedTensor<'a> = (String, Vec<usize>, &'a [f32]);

/// Writes `tensors` as F32 and `metadata` as the header's free text, atomically (temporary name, fsync, rename).
///
/// # Errors
/// [`Error::Io`] if the file cannot be written, [`Error::Failed`] if a shape does not fit its values or a name comes
/// twice.
pub fn write_safetensors(
    path: impl AsRef<Path>,
    tensors: &[NamedTensor<'_>],
    metadata: &[(&str, String)],
) -> Result<()> {
    let path = path.as_ref();
    let mut header = Map::new();
    if !metadata.is_empty() {
        let texts: Map<String, Value> = metadata.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        header.insert("__metadata__".into(), Value::Object(texts));
    }
    let mut offset = 0;
    for (name, shape, data) in tensors {
        let len: usize = shape.iter().product();
        if len != data.len() {
            bail!(Failed, "{}: tensor `{name}`: {} values do not fill shape {shape:?}", path.display(), data.len());
        }
        let end = offset + 4 * len;
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [offset, end]});
        if header.insert(name.clone(), entry).is_some() {
            bail!(Failed, "{}: tensor `{name}` is given twice", path.display());
        }
        offset = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    // The data starts at a multiple of 8, as the format advises for mapped reading.
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut file = AtomicFile::create(path)?;
    let failed = || Error::io("write", path);
    file.write_all(&(text.len() as u64).to_le_bytes()).map_err(failed())?;
    file.write_all(&text).map_err(failed())?;
    for (_, _, data) in tensors {
        for chunk in data.chunks(CHUNK) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|v| v.to_le_bytes()).collect();
            file.write_all(&bytes).map_err(failed())?;
        }
    }
    file.commit()
}
