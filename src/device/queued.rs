//! What was queued on a device, counted.

/// What was queued on a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// Kernels one by one.
    pub kernels: u64,
    /// Replays of recorded work, and the kernels in them.
    pub replays: u64,
    pub replayed: u64,
}

impl Queued {
    /// What was queued since.
    pub fn since(self, before: Self) -> Self {
        Self {
            kernels: self.kernels - before.kernels,
            replays: self.replays - before.replays,
            replayed: self.replayed - before.replayed,
        }
    }

    /// Every kernel, however it was queued.
    pub fn launches(self) -> u64 {
        self.kernels + self.replayed
    }
}
