//! What the simulated driver counts of a kernel: it appends one JSON line per launch to the file that `CUDA_SIM_STATS` names.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// One launch as the simulated driver writes it; or the sum of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Counts {
    #[serde(skip)]
    pub launches: u64,
    pub blocks: u64,
    pub warp_instructions: u64,
    pub lane_instructions: u64,
    pub global_read_bytes: u64,
    pub global_write_bytes: u64,
    /// Sectors of 32 bytes that loads and stores touch.
    pub global_sectors: u64,
    pub shared_read_bytes: u64,
    pub shared_write_bytes: u64,
    /// Passes over shared memory beyond the least that the accessed bytes need.
    pub bank_conflicts: u64,
    pub mma: u64,
    pub wgmma: u64,
    /// Bytes moved by bulk copies.
    pub bulk_bytes: u64,
}

impl Counts {
    fn add(&mut self, launch: &Self) {
        self.launches += 1;
        self.blocks += launch.blocks;
        self.warp_instructions += launch.warp_instructions;
        self.lane_instructions += launch.lane_instructions;
        self.global_read_bytes += launch.global_read_bytes;
        self.global_write_bytes += launch.global_write_bytes;
        self.global_sectors += launch.global_sectors;
        self.shared_read_bytes += launch.shared_read_bytes;
        self.shared_write_bytes += launch.shared_write_bytes;
        self.bank_conflicts += launch.bank_conflicts;
        self.mma += launch.mma;
        self.wgmma += launch.wgmma;
        self.bulk_bytes += launch.bulk_bytes;
    }

    /// Every field less `other`'s, which counts a part of the same work.
    pub fn less(&self, other: &Self) -> Self {
        Self {
            launches: self.launches - other.launches,
            blocks: self.blocks - other.blocks,
            warp_instructions: self.warp_instructions - other.warp_instructions,
            lane_instructions: self.lane_instructions - other.lane_instructions,
            global_read_bytes: self.global_read_bytes - other.global_read_bytes,
            global_write_bytes: self.global_write_bytes - other.global_write_bytes,
            global_sectors: self.global_sectors - other.global_sectors,
            shared_read_bytes: self.shared_read_bytes - other.shared_read_bytes,
            shared_write_bytes: self.shared_write_bytes - other.shared_write_bytes,
            bank_conflicts: self.bank_conflicts - other.bank_conflicts,
            mma: self.mma - other.mma,
            wgmma: self.wgmma - other.wgmma,
            bulk_bytes: self.bulk_bytes - other.bulk_bytes,
        }
    }

    /// For a report.
    pub fn json(&self) -> Value {
        json!({
            "launches": self.launches,
            "blocks": self.blocks,
            "warp_instructions": self.warp_instructions,
            "lane_instructions": self.lane_instructions,
            "global_read_bytes": self.global_read_bytes,
            "global_write_bytes": self.global_write_bytes,
            "global_sectors": self.global_sectors,
            "shared_read_bytes": self.shared_read_bytes,
            "shared_write_bytes": self.shared_write_bytes,
            "bank_conflicts": self.bank_conflicts,
            "mma": self.mma,
            "wgmma": self.wgmma,
            "bulk_bytes": self.bulk_bytes,
        })
    }

    /// The sum over the lines of `text`.
    fn parse(text: &str) -> Result<Self> {
        let mut total = Self::default();
        for line in text.lines() {
            let launch = serde_json::from_str(line)
                .map_err(|e| Error::Failed(format!("a line of the simulated driver's counts: {e}: {line}")))?;
            total.add(&launch);
        }
        Ok(total)
    }
}

/// Counts from here on.
pub struct Counter {
    path: PathBuf,
    from: u64,
}

impl Counter {
    pub fn start(path: &Path) -> Result<Self> {
        let from = path.metadata().map_or(0, |file| file.len());
        Ok(Self { path: path.to_owned(), from })
    }

    /// Of all launches that ended since.
    pub fn finish(self) -> Result<Counts> {
        let failed = |e: std::io::Error| Error::Failed(format!("cannot read {}: {e}", self.path.display()));
        let mut text = String::new();
        let mut file = File::open(&self.path).map_err(failed)?;
        file.seek(SeekFrom::Start(self.from)).map_err(failed)?;
        file.read_to_string(&mut text).map_err(failed)?;
        Counts::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"kernel":"k","grid":[1, 1, 1],"block":[32, 1, 1],"cluster":[1, 1, 1],"static_shared":0,"dynamic_shared":0,"blocks":1,"warp_instructions":20,"lane_instructions":640,"global_read_bytes":128,"global_write_bytes":64,"global_sectors":6,"shared_read_bytes":0,"shared_write_bytes":0,"bank_conflicts":3,"mma":0,"wgmma":0,"bulk_bytes":0}"#;

    #[test]
    fn launches_add_up() {
        let counts = Counts::parse(&format!("{LINE}\n{LINE}\n")).expect("two lines");
        assert_eq!((counts.launches, counts.lane_instructions, counts.bank_conflicts), (2, 1280, 6));
        assert_eq!((counts.global_read_bytes, counts.global_write_bytes, counts.global_sectors), (256, 128, 12));
        assert!(Counts::parse("{\"kernel\":\"k\"").is_err());
    }
}
