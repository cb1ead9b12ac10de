//! A mistaken access, before it has a kernel, block and thread.

use crate::check::{Finding, Kind};

/// How memory was accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    Atomic,
}

impl Access {
    pub(super) fn name(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Atomic => "atomic",
        }
    }
}

/// A mistaken access. The interpreter adds the place to make it a [`Finding`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    /// The lowest lane that made it; 0 for accesses to ranges.
    pub lane: u32,
    pub address: u64,
    pub text: String,
}

impl Fault {
    pub(super) fn new(kind: Kind, address: u64, text: String) -> Box<Self> {
        Box::new(Self { kind, lane: 0, address, text })
    }

    #[cold]
    pub(super) fn in_lane(mut self: Box<Self>, lane: usize) -> Box<Self> {
        self.lane = lane as u32;
        self
    }

    #[cold]
    pub(super) fn misaligned(address: u64, bytes: usize, access: Access) -> Box<Self> {
        let text = format!("{bytes}-byte {} at {address:#x}, not a multiple of {bytes}", access.name());
        Self::new(Kind::Misaligned, address, text)
    }
}

impl From<Box<Fault>> for Box<Finding> {
    fn from(fault: Box<Fault>) -> Self {
        Finding::host(fault.kind, fault.text)
    }
}
