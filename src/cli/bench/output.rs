//! Where the numbers of a benchmark go besides the answer.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::store;

/// Where the simulated driver appends its counts.
pub fn counts() -> Option<PathBuf> {
    std::env::var_os("CUDA_SIM_STATS").map(PathBuf::from)
}

/// Writes a report to the file asked for, if one was.
pub fn write_json(path: Option<&Path>, report: &Value) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(report).map_err(|e| Error::Failed(e.to_string()))?;
    store::write_atomic(path, (text + "\n").as_bytes())
}
