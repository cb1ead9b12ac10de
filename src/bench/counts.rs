//! What the simulated driver counts of a kernel: it appends one JSON line per launch to the file that `CUDA_SIM_STATS`
//! names.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One launch as the simulated driver writes it; or the sum of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    #[serde(skip_deserializing)]
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
    fn fields(&mut self) -> [&mut u64; 13] {
        [
            &mut self.launches,
            &mut self.blocks,
            &mut self.warp_instructions,
            &mut self.lane_instructions,
            &mut self.global_read_bytes,
            &mut self.global_write_bytes,
            &mut self.global_sectors,
            &mut self.shared_read_bytes,
            &mut self.shared_write_bytes,
            &mut self.bank_conflicts,
            &mut self.mma,
            &mut self.wgmma,
            &mut self.bulk_bytes,
        ]
    }

    fn with(mut self, mut other: Self, join: fn(u64, u64) -> u64) -> Self {
        self.fields().into_iter().zip(other.fields()).for_each(|(mine, other)| *mine = join(*mine, *other));
        self
    }

    /// Every field less `other`'s, which counts a part of the same work.
    pub fn less(self, other: Self) -> Self {
        self.with(other, |all, part| all - part)
    }

    /// The sum over the lines of `text`.
    fn parse(text: &str) -> Result<Self> {
        let mut total = Self::default();
        for line in text.lines() {
            let launch: Self = serde_json::from_str(line)
                .map_err(|e| Error::Failed(format!("a line of the simulated driver's counts: {e}: {line}")))?;
            total = total.with(Self { launches: 1, ..launch }, |sum, more| sum + more);
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
