//! Whether a folder that `generate` writes is whole.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::shard_name;
use crate::config::json;
use crate::store;

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
    let settings =
        store::read(begun, store::RECORD).ok().and_then(|bytes| json::parse::<Value>(&bytes).ok()).unwrap_or_default();
    let number = |key: &str| settings[key].as_u64().filter(|&number| number > 0);
    let (Some(captions), Some(per_shard)) = (number("captions"), number("captions_per_shard")) else {
        return Some("`stablerep generate` has not finished it".into());
    };
    let all = captions.div_ceil(per_shard) as usize;
    // A record may ask for more shards than anybody can look for: what is there is counted instead.
    let numbers = fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|entry| number_of(&entry.path()));
    let there: HashSet<usize> = numbers.filter(|&number| number < all).collect();
    let missing = all - there.len();
    if missing == 0 {
        return Some(format!("all {all} shards are there, but `stablerep generate` has not ended it"));
    }
    let few: Vec<String> = (0..all).filter(|number| !there.contains(number)).take(NAMED).map(shard_name).collect();
    let (names, dots) = (few.join(", "), if missing > NAMED { ", …" } else { "" });
    Some(format!("`stablerep generate` has not finished it: {missing} of {all} shards are missing ({names}{dots})"))
}

/// Which shard of a folder the file at `path` is.
fn number_of(path: &Path) -> Option<usize> {
    let name = path.file_name()?.to_str()?;
    let number = name.strip_suffix(".tar")?.parse().ok()?;
    (shard_name(number) == name && path.is_file()).then_some(number)
}
