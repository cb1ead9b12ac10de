//! The memory plan of a run: every long-lived buffer is taken from it by name, so what is printed is what is allocated.

use std::fmt;

use super::bytes::human_bytes;
use super::memory::{self, Available};
use crate::error::{Error, Result};

/// A recording allocator. A dry one only records: a run is laid out twice by the same code, dry first ([`Plan::fit`]),
/// so that what does not fit is refused before any of it is allocated.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    rows: Vec<Row>,
    dry: bool,
}

#[derive(Clone, Debug)]
struct Row {
    group: &'static str,
    name: String,
    bytes: u64,
    /// Whether it is allocated already.
    held: bool,
}

impl Plan {
    /// Allocates what is taken from it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records only: its buffers are empty and must not be used.
    pub fn dry() -> Self {
        Self { rows: Vec::new(), dry: true }
    }

    /// A zeroed f32 buffer, recorded as `group` / `name`; an empty one from a dry plan.
    pub fn f32(&mut self, group: &'static str, name: impl Into<String>, len: usize) -> Vec<f32> {
        self.record(group, name, (len as u64).saturating_mul(4));
        vec![0.0; if self.dry { 0 } else { len }]
    }

    /// Counts memory that is allocated elsewhere (mapped weights, decoded images in flight).
    pub fn record(&mut self, group: &'static str, name: impl Into<String>, bytes: u64) {
        self.rows.push(Row { group, name: name.into(), bytes, held: false });
    }

    /// Counts memory that is allocated already: it is part of the plan, and what is available is free beside it.
    pub fn record_held(&mut self, group: &'static str, name: impl Into<String>, bytes: u64) {
        self.rows.push(Row { group, name: name.into(), bytes, held: true });
    }

    /// Adds what `other` holds.
    pub fn append(&mut self, other: Self) {
        self.rows.extend(other.rows);
    }

    /// Sum of all rows, bytes; the largest number where it is larger.
    pub fn total_bytes(&self) -> u64 {
        self.sum(|_| true)
    }

    fn sum(&self, counts: impl Fn(&Row) -> bool) -> u64 {
        self.rows.iter().filter(|row| counts(row)).fold(0, |sum, row| row.bytes.saturating_add(sum))
    }

    /// Calls `lay_out` twice: with a dry plan that goes on from this one and is checked, then with this one. Returns
    /// what the second call made, and the plan with all of it. Nothing that was recorded before, but for
    /// [`Plan::record_held`], may be allocated yet.
    ///
    /// # Errors
    /// Device error, with `fix` as what to change, when the plan exceeds the memory that is left; those of `lay_out`.
    pub fn fit<T>(mut self, fix: &str, mut lay_out: impl FnMut(&mut Self) -> Result<T>) -> Result<(T, Self)> {
        let mut dry = Self { dry: true, ..self.clone() };
        lay_out(&mut dry)?;
        dry.check(fix)?;
        let made = lay_out(&mut self)?;
        assert_eq!(dry.total_bytes(), self.total_bytes(), "the second layout differs from the first");
        Ok((made, self))
    }

    /// Whether what `lay_out` takes fits beside what this plan has.
    ///
    /// # Errors
    /// Those of `lay_out`.
    pub fn fits<T>(&self, lay_out: impl FnOnce(&mut Self) -> Result<T>) -> Result<bool> {
        let mut dry = Self { dry: true, ..self.clone() };
        lay_out(&mut dry)?;
        Ok(dry.check("").is_ok())
    }

    /// Fails with what to change when the plan exceeds the memory that this process can still have.
    ///
    /// # Errors
    /// Device error that says what limits it.
    pub fn check(&self, fix: &str) -> Result<()> {
        self.check_against(memory::available(), fix)
    }

    fn check_against(&self, available: Option<Available>, fix: &str) -> Result<()> {
        let needed = self.sum(|row| !row.held);
        match available {
            Some(Available { bytes, limit }) if needed > bytes => Err(Error::Device(format!(
                "out of memory before the first step: the plan needs {}, {} are available ({limit}); {fix}\n{self}",
                human_bytes(needed),
                human_bytes(bytes)
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
            let sum = rows().fold(0, |sum: u64, row| sum.saturating_add(row.bytes));
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

#[cfg(test)]
mod tests {
    use super::super::memory::Limit;
    use super::*;

    fn lay_out(plan: &mut Plan) -> Result<[Vec<f32>; 2]> {
        Ok([plan.f32("weights", "w", 1000), plan.f32("activations", "x", 24)])
    }

    #[test]
    fn a_dry_plan_records_the_same_and_allocates_nothing() {
        let (mut dry, mut real) = (Plan::dry(), Plan::new());
        let (nothing, all) = (lay_out(&mut dry).unwrap(), lay_out(&mut real).unwrap());
        assert_eq!(nothing.map(|buffer| buffer.capacity()), [0, 0]);
        assert_eq!(all.map(|buffer| buffer.len()), [1000, 24]);
        assert_eq!((dry.to_string(), dry.total_bytes()), (real.to_string(), 4096));
    }

    #[test]
    fn what_fits_is_laid_out_on_top_of_what_was_recorded() {
        let mut plan = Plan::new();
        plan.record("loader", "images", 904);
        let (buffers, plan) = plan.fit("lower --batch", lay_out).unwrap();
        assert_eq!((buffers[0].len(), plan.total_bytes()), (1000, 5000));
    }

    /// More than any machine has, in sizes whose bytes and whose sum go beyond 64 bits.
    #[test]
    fn what_does_not_fit_is_refused_before_it_is_allocated() {
        let mut calls = 0;
        let refused = Plan::new().fit("lower --batch", |plan| {
            calls += 1;
            Ok([plan.f32("a", "x", usize::MAX), plan.f32("a", "y", usize::MAX)])
        });
        let error = refused.unwrap_err();
        assert_eq!((calls, error.exit_code()), (1, 4));
        assert!(error.to_string().contains("needs 16.0 EiB"), "{error}");
        assert!(error.to_string().contains("lower --batch\nmemory plan"), "{error}");
    }

    #[test]
    fn a_refusal_names_the_limit() {
        let mut plan = Plan::dry();
        plan.record("weights", "w", 3 << 30);
        let left = |bytes| Some(Available { bytes, limit: Limit::Cgroup("/sys/fs/cgroup/job".into(), 2 << 30) });
        let error = plan.check_against(left(1 << 30), "take less").unwrap_err().to_string();
        let says = "needs 3.0 GiB, 1.0 GiB are available (a memory cgroup of 2.0 GiB, /sys/fs/cgroup/job); take less";
        assert!(error.contains(says), "{error}");
        assert!(plan.check_against(left(3 << 30), "").is_ok());
        assert!(plan.check_against(None, "").is_ok());
        plan.record_held("loader", "index", 1 << 40);
        assert!(plan.check_against(left(3 << 30), "").is_ok(), "what is allocated already asks for nothing");
        assert_eq!(plan.total_bytes(), (3 << 30) + (1 << 40));
    }
}
