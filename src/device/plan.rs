//! The memory plan of a run: every long-lived buffer is taken from it by name, so what is printed is what is allocated.

use std::fmt;

use super::Device;
use crate::error::{Error, Result};

/// A recording allocator. Buffers come zeroed from the system and are not committed before they are written,
/// so [`Plan::check`] can refuse a plan that does not fit after all buffers are named and before the first step.
#[derive(Debug, Default)]
pub struct Plan {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    group: &'static str,
    name: String,
    bytes: u64,
}

impl Plan {
    pub fn new() -> Self {
        Self::default()
    }

    /// A zeroed f32 buffer, recorded as `group` / `name`.
    pub fn f32(&mut self, group: &'static str, name: impl Into<String>, len: usize) -> Vec<f32> {
        self.record(group, name, 4 * len as u64);
        vec![0.0; len]
    }

    /// Counts memory that is allocated elsewhere (mapped weights, decoded images in flight).
    pub fn record(&mut self, group: &'static str, name: impl Into<String>, bytes: u64) {
        self.rows.push(Row { group, name: name.into(), bytes });
    }

    /// Sum of all rows, bytes.
    pub fn total_bytes(&self) -> u64 {
        self.rows.iter().map(|row| row.bytes).sum()
    }

    /// Fails with what to change when the plan exceeds the memory `device` still has.
    pub fn check(&self, device: Device, fix: &str) -> Result<()> {
        match device.available_bytes() {
            Some(available) if self.total_bytes() > available => Err(Error::Device(format!(
                "out of memory before the first step: the plan needs {}, {} are available; {fix}\n{self}",
                human_bytes(self.total_bytes()),
                human_bytes(available)
            ))),
            _ => Ok(()),
        }
    }
}

/// One line per group with its sum, its number of buffers and its largest one.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups: Vec<&'static str> = Vec::new();
        for row in &self.rows {
            if !groups.contains(&row.group) {
                groups.push(row.group);
            }
        }
        writeln!(f, "memory plan")?;
        for group in groups {
            let rows = || self.rows.iter().filter(|row| row.group == group);
            let sum: u64 = rows().map(|row| row.bytes).sum();
            if let Some(largest) = rows().max_by_key(|row| row.bytes) {
                writeln!(
                    f,
                    "  {group:<18} {:>10}  {:>4} buffers, largest {} {}",
                    human_bytes(sum),
                    rows().count(),
                    largest.name,
                    human_bytes(largest.bytes)
                )?;
            }
        }
        write!(f, "  {:<18} {:>10}", "total", human_bytes(self.total_bytes()))
    }
}

/// `1234567` → `1.2 MiB`.
pub fn human_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}
