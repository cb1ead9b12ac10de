//! Whether a folder that `generate` writes is whole.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::shard_name;
use crate::config::json;

/// What a folder of `generate` holds from its beginning, and what it holds from its end.
const BEGUN: &str = "generate.json";
const ENDED: &str = "stats.json";

/// Shards that are missing are named up to this number.
const NAMED: usize = 3;

/// `None` for a folder that `generate` did not write or has finished; else what is there and what is missing.
pub fn unfinished(folder: &Path) -> Option<String> {
    let begun = folder.join(BEGUN);
    if !begun.is_file() || folder.join(ENDED).is_file() {
        return None;
    }
    let settings = fs::read(begun).ok().and_then(|bytes| json::parse::<Value>(&bytes).ok()).unwrap_or_default();
    let number = |key: &str| settings[key].as_u64().filter(|&number| number > 0);
    let (Some(captions), Some(per_shard)) = (number("captions"), number("captions_per_shard")) else {
        return Some("`stablerep generate` has not finished it".into());
    };
    let all = captions.div_ceil(per_shard) as usize;
    let missing: Vec<String> = (0..all).map(shard_name).filter(|name| !folder.join(name).is_file()).collect();
    if missing.is_empty() {
        return Some(format!("all {all} shards are there, but `stablerep generate` has not ended it"));
    }
    let dots = if missing.len() > NAMED { ", …" } else { "" };
    let names = missing[..missing.len().min(NAMED)].join(", ");
    Some(format!(
        "`stablerep generate` has not finished it: {} of {all} shards are missing ({names}{dots})",
        missing.len()
    ))
}
