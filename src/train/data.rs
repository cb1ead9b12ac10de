//! The data a run belongs to: what the shards and the weights it starts from hold, wherever they lie.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bail;
use crate::config::hex;
use crate::error::{Error, Result};
use crate::models::vit::VitFile;
use crate::shards::Shards;
use crate::store;

/// File name inside the folder of a run.
pub const DATA: &str = "data.json";

/// Shards of one kind of difference that are named; more are counted.
const NAMED: usize = 3;

/// One shard as `data.json` records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// Its name without the folder.
    name: String,
    samples: usize,
    sha256: String,
}

/// What a run starts from: `random weights`, or the SHA-256 of the files of `--init-from`, hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start(String);

impl Start {
    /// # Errors
    /// If `path` is given and holds no weights of a ViT, or cannot be read.
    pub fn of(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self("random weights".into())) };
        let mut hash = Sha256::new();
        for file in VitFile::open(path)?.tensors().files() {
            let mut reader = File::open(file).map_err(Error::io("open", file))?;
            io::copy(&mut reader, &mut hash).map_err(Error::io("read", file))?;
        }
        Ok(Self(hex(&hash.finalize())))
    }
}

/// What the shards of a run hold, in order, and what it starts from. Empty shards are not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRecord {
    shards: Vec<Entry>,
    /// Unknown in files of versions that did not record it.
    #[serde(default)]
    start: Option<Start>,
}

impl DataRecord {
    /// Describes opened shards by the hashes of their index ([`crate::shards::ShardFile::sha256`]).
    pub fn of(shards: &Shards, start: Option<Start>) -> Self {
        let entry = |file: crate::shards::ShardFile<'_>| Entry {
            name: file.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            samples: file.samples,
            sha256: hex(file.sha256),
        };
        Self { shards: shards.files().filter(|file| file.samples > 0).map(entry).collect(), start }
    }

    /// One hash over the hashes of all shards: it stands in checkpoints.
    pub fn sha256(&self) -> String {
        let mut all = Sha256::new();
        self.shards.iter().for_each(|shard| all.update(shard.sha256.as_bytes()));
        hex(&all.finalize())
    }

    /// Records the data in the folder of a run.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn record(&self, folder: &Path) -> Result<()> {
        store::write_atomic(folder.join(DATA), self.text()?.as_bytes())
    }

    /// Refuses other data than the run in `folder` began with. Returns whether the folder knows its data.
    ///
    /// # Errors
    /// Usage error with the shards that were added, removed or changed; data error for a record that cannot be read.
    pub fn check(&self, folder: &Path) -> Result<bool> {
        let path = folder.join(DATA);
        let bytes = match store::read(&path, store::RECORD) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        let was: Self = serde_json::from_slice(&bytes).map_err(|e| {
            Error::Data(format!(
                "{}: not the record of shards that train writes ({e}); remove it to go on unchecked",
                path.display()
            ))
        })?;
        if let (Some(Start(was)), Some(Start(now))) = (&was.start, &self.start)
            && was != now
        {
            bail!(
                Usage,
                "{} was started from other weights:\n  --init-from (hash of its files): was {was}, now {now}\nuse the \
                 old weights to resume, or another --output",
                folder.display()
            );
        }
        let differences = self.differences(&was);
        if !differences.is_empty() {
            bail!(
                Usage,
                "{} was started on other data than --data holds now:\n{}\nuse the old data to resume, or another \
                 --output",
                folder.display(),
                differences.join("\n")
            );
        }
        Ok(true)
    }

    /// A line per shard.
    fn text(&self) -> Result<String> {
        let lines: Vec<String> = self
            .shards
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<_, _>>()
            .map_err(|e| Error::Failed(format!("{DATA}: {e}")))?;
        let start = serde_json::to_string(&self.start).map_err(|e| Error::Failed(format!("{DATA}: {e}")))?;
        Ok(format!("{{\"start\": {start}, \"shards\": [\n{}\n]}}\n", lines.join(",\n")))
    }

    /// What is other than in `was`; the names of shards are none of it.
    fn differences(&self, was: &Self) -> Vec<String> {
        let hashes = |record: &Self| -> Vec<String> { record.shards.iter().map(|s| s.sha256.clone()).collect() };
        let (old, new) = (hashes(was), hashes(self));
        if old == new {
            return Vec::new();
        }
        let gone = without(&was.shards, &new);
        let come = without(&self.shards, &old);
        if gone.is_empty() && come.is_empty() {
            return vec!["  the same shards in another order".into()];
        }
        let names = |shards: &[&'_ Entry]| -> HashSet<String> { shards.iter().map(|s| s.name.clone()).collect() };
        let (before, now) = (names(&gone), names(&come));
        let (changed, added): (Vec<&Entry>, Vec<&Entry>) = come.iter().partition(|shard| before.contains(&shard.name));
        let removed: Vec<&Entry> = gone.iter().filter(|shard| !now.contains(&shard.name)).copied().collect();
        let mut lines = Vec::new();
        for (what, shards) in [("added", added), ("removed", removed), ("changed", changed)] {
            if !shards.is_empty() {
                let few: Vec<String> =
                    shards.iter().take(NAMED).map(|s| format!("{} ({} samples)", s.name, s.samples)).collect();
                let dots = if shards.len() > NAMED { ", …" } else { "" };
                lines.push(format!("  {} shard(s) {what}: {}{dots}", shards.len(), few.join(", ")));
            }
        }
        // A record may hold any numbers.
        let samples = |record: &Self| record.shards.iter().fold(0, |sum: usize, s| sum.saturating_add(s.samples));
        lines.push(format!(
            "  was {} samples in {} shard(s), now {} in {}",
            samples(was),
            was.shards.len(),
            samples(self),
            self.shards.len()
        ));
        lines
    }
}

/// The shards whose hashes are not among `hashes`; equal ones as often as they are more here.
fn without<'a>(shards: &'a [Entry], hashes: &[String]) -> Vec<&'a Entry> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    hashes.iter().for_each(|hash| *counts.entry(hash).or_default() += 1);
    shards
        .iter()
        .filter(|shard| match counts.get_mut(shard.sha256.as_str()) {
            Some(count @ 1..) => {
                *count -= 1;
                false
            }
            _ => true,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(shards: &[(&str, usize, &str)]) -> DataRecord {
        let entry = |&(name, samples, sha256): &(&str, usize, &str)| Entry {
            name: name.into(),
            samples,
            sha256: sha256.into(),
        };
        DataRecord { shards: shards.iter().map(entry).collect(), start: None }
    }

    #[test]
    fn names_are_no_difference_and_contents_and_order_are() {
        let was = record(&[("0.tar", 4, "aa"), ("1.tar", 6, "bb")]);
        assert!(record(&[("x.tar", 4, "aa"), ("y.tar", 6, "bb")]).differences(&was).is_empty());
        let other = record(&[("1.tar", 6, "bb"), ("0.tar", 4, "aa")]);
        assert_eq!(other.differences(&was), ["  the same shards in another order"]);
        assert_ne!(other.sha256(), was.sha256());
        let grown = record(&[("0.tar", 5, "cc"), ("2.tar", 1, "dd"), ("3.tar", 1, "ee")]);
        assert_eq!(
            grown.differences(&was),
            [
                "  2 shard(s) added: 2.tar (1 samples), 3.tar (1 samples)",
                "  1 shard(s) removed: 1.tar (6 samples)",
                "  1 shard(s) changed: 0.tar (5 samples)",
                "  was 10 samples in 2 shard(s), now 7 in 3",
            ]
        );
    }

    /// A damaged record may hold any numbers, and as many shards.
    #[test]
    fn damaged_records_are_compared_all_the_same() {
        let endless = record(&[("0.tar", usize::MAX, "aa"), ("1.tar", usize::MAX, "bb")]);
        let said = record(&[("0.tar", 4, "cc")]).differences(&endless).join("\n");
        assert!(said.contains(&format!("was {} samples in 2 shard(s), now 4 in 1", usize::MAX)), "{said}");
        let names: Vec<(String, String)> = (0..200_000).map(|i| (format!("{i}.tar"), format!("a{i}"))).collect();
        let all: Vec<(&str, usize, &str)> =
            names.iter().map(|(name, hash)| (name.as_str(), 1, hash.as_str())).collect();
        let others: Vec<(&str, usize, &str)> = names.iter().map(|(name, _)| (name.as_str(), 1, "b")).collect();
        let said = record(&others).differences(&record(&all)).join("\n");
        assert!(said.contains("200000 shard(s) changed: 0.tar"), "{said}");
    }
}
