//! One mistake of a kernel, a launch or a copy.

use std::fmt;

/// The kind of mistake. Each is reported by its [`Kind::name`] and stops the launch with [`Kind::cuda_error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Access outside every allocation, or past the end of shared or local memory or of the parameters.
    OutOfBounds,
    Misaligned,
    UseAfterFree,
    /// Write to constant memory or to kernel parameters.
    ReadOnly,
    /// Free of an address that is not the start of a live allocation.
    InvalidFree,
    UninitializedGlobal,
    UninitializedShared,
    UninitializedLocal,
    /// Two accesses to shared memory, at least one a write, with nothing that orders them.
    SharedRace,
    /// The result of an asynchronous copy is read, or its source or destination overwritten, before its wait.
    AsyncNotWaited,
    /// `wgmma.mma_async` registers touched before `wgmma.wait_group`.
    WgmmaRegisters,
    /// Registers of a `wgmma.mma_async` written without a `wgmma.fence` before it.
    WgmmaFence,
    /// Shared memory crosses between generic and asynchronous proxy without `fence.proxy.async`.
    ProxyFence,
    /// Lanes of a warp disagree at an instruction that needs them together.
    Divergence,
    /// Warps disagree about a barrier's thread count, or arrive more often than it expects.
    BarrierMismatch,
    /// Use of an mbarrier that is not initialised, overwritten, or arrived at too often.
    Mbarrier,
    /// Bytes announced to an mbarrier differ from bytes that arrive.
    TransactionCount,
    /// A cluster instruction addresses a block that has exited or does not exist.
    Cluster,
    Deadlock,
    /// The launch exceeded its instruction budget.
    Timeout,
    /// The kernel executed `trap`.
    Trap,
    /// A device-side `assert` failed.
    Assert,
    /// An operand has a value that the instruction does not allow.
    InvalidOperand,
    /// The launch does not fit the kernel or the device: block, cluster, shared memory, parameters.
    InvalidLaunch,
    /// The instruction or a form of it is not modelled.
    Unsupported,
}

impl Kind {
    /// The name printed in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::OutOfBounds => "out-of-bounds access",
            Kind::Misaligned => "misaligned access",
            Kind::UseAfterFree => "use after free",
            Kind::ReadOnly => "write to read-only memory",
            Kind::InvalidFree => "invalid free",
            Kind::UninitializedGlobal => "read of unwritten global memory",
            Kind::UninitializedShared => "read of unwritten shared memory",
            Kind::UninitializedLocal => "read of unwritten local memory",
            Kind::SharedRace => "shared-memory race",
            Kind::AsyncNotWaited => "asynchronous operation not waited for",
            Kind::WgmmaRegisters => "wgmma registers used before wait",
            Kind::WgmmaFence => "missing wgmma.fence",
            Kind::ProxyFence => "missing proxy fence",
            Kind::Divergence => "divergent warp instruction",
            Kind::BarrierMismatch => "mismatched barrier",
            Kind::Mbarrier => "mbarrier misuse",
            Kind::TransactionCount => "transaction count misuse",
            Kind::Cluster => "cluster misuse",
            Kind::Deadlock => "deadlock",
            Kind::Timeout => "launch timeout",
            Kind::Trap => "trap",
            Kind::Assert => "device assertion",
            Kind::InvalidOperand => "invalid operand",
            Kind::InvalidLaunch => "invalid launch",
            Kind::Unsupported => "not modelled",
        }
    }

    /// The `CUresult` that a real driver would return, or the nearest.
    pub fn cuda_error(self) -> i32 {
        match self {
            Kind::OutOfBounds | Kind::UseAfterFree | Kind::ReadOnly => 700, // ILLEGAL_ADDRESS
            Kind::Misaligned => 716,                                        // MISALIGNED_ADDRESS
            Kind::InvalidFree | Kind::InvalidLaunch => 1,                   // INVALID_VALUE
            Kind::Timeout => 702,                                           // LAUNCH_TIMEOUT
            Kind::Assert => 710,                                            // ASSERT
            Kind::InvalidOperand => 715,                                    // ILLEGAL_INSTRUCTION
            Kind::Unsupported => 801,                                       // NOT_SUPPORTED
            _ => 719,                                                       // LAUNCH_FAILED
        }
    }
}

/// A mistake, with where it happened. `Display` prints the report.
#[derive(Debug, Clone)]
pub struct Finding {
    pub kind: Kind,
    /// Kernel, or the driver call for host-side findings.
    pub kernel: String,
    pub block: [u32; 3],
    pub thread: Option<[u32; 3]>,
    /// Line of the PTX text, 0 where there is none.
    pub ptx_line: u32,
    /// File and line of the source, where the module was compiled with `-lineinfo`.
    pub source: Option<(String, u32)>,
    pub text: String,
    /// Replays the launch.
    pub seed: u64,
}

impl Finding {
    /// A finding without a place, for host-side operations; the caller fills `kernel` with the call's name.
    pub fn host(kind: Kind, text: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            kind,
            kernel: String::new(),
            block: [0; 3],
            thread: None,
            ptx_line: 0,
            source: None,
            text: text.into(),
            seed: 0,
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cuda-sim: {}: {}", self.kind.name(), self.text)?;
        if !self.kernel.is_empty() {
            write!(f, "  at {}", self.kernel)?;
        }
        if self.ptx_line > 0 {
            let [x, y, z] = self.block;
            write!(f, ", block ({x},{y},{z})")?;
            if let Some([x, y, z]) = self.thread {
                write!(f, ", thread ({x},{y},{z})")?;
            }
            write!(f, ", PTX line {}", self.ptx_line)?;
        }
        if let Some((file, line)) = &self.source {
            write!(f, ", {file}:{line}")?;
        }
        write!(f, "\n  replay with CUDA_SIM_SEED={}", self.seed)
    }
}

impl std::error::Error for Finding {}
