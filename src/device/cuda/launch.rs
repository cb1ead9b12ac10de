//! How a kernel is spread over the device.

use std::ffi::c_void;
use std::fmt;

use cudarc::driver::sys::{self, CUlaunchAttributeID as Id, CUresult};

/// Grid, block and cluster sizes of one launch, in blocks, threads and blocks; what a kernel's plan returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Blocks that share a cluster; [1, 1, 1] on devices without clusters.
    pub cluster: [u32; 3],
    /// Dynamic shared memory per block, bytes.
    pub shared: u32,
}

impl Launch {
    /// `grid` blocks of `block` threads along x.
    pub fn new(grid: usize, block: u32) -> Self {
        Self::grid([grid, 1, 1], block)
    }

    /// A grid of up to three axes.
    ///
    /// # Panics
    /// If the first axis is longer than 2³¹−1 blocks or another one than 65,535, which no device takes.
    pub fn grid(grid: [usize; 3], block: u32) -> Self {
        let [x, y, z] = grid;
        assert!(x < 1 << 31 && y <= 65_535 && z <= 65_535, "a grid of {grid:?} blocks");
        let grid = grid.map(|n| n as u32);
        Self { grid, block: [block, 1, 1], cluster: [1; 3], shared: 0 }
    }

    /// With dynamic shared memory.
    pub fn shared(self, bytes: usize) -> Self {
        Self { shared: bytes as u32, ..self }
    }

    /// With clusters of blocks.
    pub fn cluster(self, cluster: [u32; 3]) -> Self {
        Self { cluster, ..self }
    }

    pub(super) fn blocks_per_cluster(self) -> u32 {
        self.cluster.iter().product()
    }

    /// Hands the launch to the driver.
    pub(super) fn queue(
        self,
        function: sys::CUfunction,
        stream: sys::CUstream,
        arguments: &mut [*mut c_void],
    ) -> Result<(), CUresult> {
        // SAFETY: plain old data for which all zeros is a value.
        let mut cluster: sys::CUlaunchAttribute = unsafe { std::mem::zeroed() };
        let [x, y, z] = self.cluster;
        cluster.id = Id::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
        cluster.value.clusterDim = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x, y, z };
        let config = sys::CUlaunchConfig {
            gridDimX: self.grid[0],
            gridDimY: self.grid[1],
            gridDimZ: self.grid[2],
            blockDimX: self.block[0],
            blockDimY: self.block[1],
            blockDimZ: self.block[2],
            sharedMemBytes: self.shared,
            hStream: stream,
            attrs: &mut cluster,
            numAttrs: u32::from(self.blocks_per_cluster() > 1),
        };
        // SAFETY: the generated launch matched `arguments` to the kernel's parameters; the driver copies them before it
        // returns.
        let queued = unsafe { sys::cuLaunchKernelEx(&config, function, arguments.as_mut_ptr(), std::ptr::null_mut()) };
        if queued == CUresult::CUDA_SUCCESS { Ok(()) } else { Err(queued) }
    }
}

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { grid, block, cluster, shared, .. } = self;
        write!(f, "grid {grid:?} × block {block:?}, cluster {cluster:?}, {shared} bytes of shared memory")
    }
}

/// The address of an argument as the driver takes it.
pub(super) fn argument<T>(value: &T) -> *mut c_void {
    std::ptr::from_ref(value).cast_mut().cast()
}
