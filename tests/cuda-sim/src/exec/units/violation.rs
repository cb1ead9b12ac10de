//! What goes wrong in a unit, and the shared memory units work on.

use std::ops::Range;

use crate::check::Kind;
use crate::check::order::Order;
use crate::check::shadow::{Clash, Shadow};
use crate::memory::Fault;

/// A mistake seen by a unit.
#[derive(Clone, Debug)]
pub struct Violation {
    pub kind: Kind,
    pub text: String,
    /// Index of the instruction that made the earlier of two clashing accesses (its low 20 bits).
    pub other_pc: Option<u32>,
    /// Index of the instruction at fault, where it is not the one now executing.
    pub pc: Option<u32>,
}

/// What a unit's operation returns.
pub type Checked<T = ()> = Result<T, Box<Violation>>;

impl Violation {
    pub fn new(kind: Kind, text: impl Into<String>) -> Box<Violation> {
        Box::new(Violation { kind, text: text.into(), other_pc: None, pc: None })
    }

    /// From the shadow's report; `access` names the later access.
    pub fn clash(clash: Clash, access: &str, order: &Order) -> Box<Violation> {
        let text = clash.describe(access, order);
        Box::new(Violation { kind: clash.kind(order), text, other_pc: clash.other.map(|o| o.pc), pc: None })
    }

    /// From device memory's report; `access` names what was attempted.
    pub fn memory(fault: Fault, access: &str) -> Box<Violation> {
        Violation::new(fault.kind, format!("{access}: {}", fault.text))
    }

    /// Blames an earlier instruction.
    pub fn at(mut self: Box<Self>, pc: u32) -> Box<Violation> {
        self.pc = Some(pc);
        self
    }
}

/// Shared memory of one block, and its shadow.
pub struct SharedMemory<'a> {
    /// From address 0.
    pub bytes: &'a mut [u8],
    pub shadow: &'a mut Shadow,
    /// The addresses that belong to the program.
    pub range: Range<u32>,
    /// Every warp of the block has ended.
    pub exited: bool,
}

impl SharedMemory<'_> {
    /// # Errors
    /// `at..at + bytes` is not inside.
    pub fn check(&self, at: u32, bytes: u32, access: &str) -> Checked {
        let Range { start, end } = self.range;
        match at.checked_add(bytes) {
            Some(stop) if at >= start && stop <= end => Ok(()),
            _ => Err(Violation::new(
                Kind::OutOfBounds,
                format!(
                    "{access} of {bytes} bytes at shared address {at:#x}, outside the block's {start:#x}..{end:#x}"
                ),
            )),
        }
    }

    /// # Errors
    /// The block has exited: its shared memory may be another's by now.
    pub fn alive(&self, access: &str) -> Checked {
        match self.exited {
            false => Ok(()),
            true => Err(Violation::new(Kind::Cluster, format!("{access} to a block that has exited"))),
        }
    }
}
