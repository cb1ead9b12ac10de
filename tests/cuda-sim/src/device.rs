//! The devices that can be reported: figures of the public data sheets and of `cuDeviceGetAttribute` on such cards.

use crate::matrix::Sums;

/// What the simulated card is and how much of everything it has.
#[derive(Debug, Clone)]
pub struct DeviceModel {
    /// Compute capability times ten: 80, 89 or 90.
    pub sm: u32,
    pub name: &'static str,
    /// Streaming multiprocessors.
    pub sms: u32,
    /// Shared memory of one block without opting in, bytes.
    pub shared_per_block: u32,
    /// Shared memory of one block after `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`, bytes.
    pub shared_per_block_optin: u32,
    pub shared_per_sm: u32,
    pub registers_per_sm: u32,
    pub max_threads_per_block: u32,
    pub max_threads_per_sm: u32,
    pub max_blocks_per_sm: u32,
    /// Blocks of a cluster: the portable limit, 1 where there are no clusters.
    pub max_cluster: u32,
    /// Device memory that the simulated card admits to, bytes.
    pub total_memory: usize,
    pub l2_bytes: u32,
    pub clock_khz: u32,
    pub memory_clock_khz: u32,
    pub memory_bus_bits: u32,
}

impl DeviceModel {
    /// NVIDIA H200 SXM.
    pub fn h200() -> Self {
        Self {
            sm: 90,
            name: "NVIDIA H200 (simulated)",
            sms: 132,
            shared_per_block: 48 << 10,
            shared_per_block_optin: 227 << 10,
            shared_per_sm: 228 << 10,
            registers_per_sm: 65536,
            max_threads_per_block: 1024,
            max_threads_per_sm: 2048,
            max_blocks_per_sm: 32,
            max_cluster: 8,
            total_memory: 141 << 30,
            l2_bytes: 50 << 20,
            clock_khz: 1_980_000,
            memory_clock_khz: 3_201_000,
            memory_bus_bits: 6144,
        }
    }

    /// NVIDIA A100 SXM4 80 GB.
    pub fn a100() -> Self {
        Self {
            sm: 80,
            name: "NVIDIA A100-SXM4-80GB (simulated)",
            sms: 108,
            shared_per_block: 48 << 10,
            shared_per_block_optin: 163 << 10,
            shared_per_sm: 164 << 10,
            registers_per_sm: 65536,
            max_threads_per_block: 1024,
            max_threads_per_sm: 2048,
            max_blocks_per_sm: 32,
            max_cluster: 1,
            total_memory: 80 << 30,
            l2_bytes: 40 << 20,
            clock_khz: 1_410_000,
            memory_clock_khz: 1_593_000,
            memory_bus_bits: 5120,
        }
    }

    /// NVIDIA GeForce RTX 4090.
    pub fn rtx4090() -> Self {
        Self {
            sm: 89,
            name: "NVIDIA GeForce RTX 4090 (simulated)",
            sms: 128,
            shared_per_block_optin: 99 << 10,
            shared_per_sm: 100 << 10,
            max_threads_per_sm: 1536,
            max_blocks_per_sm: 24,
            total_memory: 24 << 30,
            l2_bytes: 72 << 20,
            clock_khz: 2_520_000,
            memory_clock_khz: 10_501_000,
            memory_bus_bits: 384,
            ..Self::a100()
        }
    }

    /// NVIDIA T4: older than what kernels for 8.0 run on, to see how programs refuse it.
    pub fn t4() -> Self {
        Self {
            sm: 75,
            name: "Tesla T4 (simulated)",
            sms: 40,
            shared_per_block_optin: 64 << 10,
            shared_per_sm: 64 << 10,
            max_threads_per_sm: 1024,
            max_blocks_per_sm: 16,
            total_memory: 15 << 30,
            l2_bytes: 4 << 20,
            clock_khz: 1_590_000,
            memory_clock_khz: 5_001_000,
            memory_bus_bits: 256,
            ..Self::a100()
        }
    }

    /// How `mma.sync` adds products of 8-bit floats in f32. Hopper has no such instruction (ptxas widens the operands
    /// to f16, whose products add in f32); Ada has.
    pub fn fp8_mma(&self) -> Sums {
        if self.sm == 89 { Sums::Narrow } else { Sums::F32 }
    }

    /// NVIDIA H100 PCIe 80 GB: 114 multiprocessors, so 57 clusters of two, and 2.04 TB/s.
    pub fn h100_pcie() -> Self {
        Self {
            name: "NVIDIA H100 PCIe (simulated)",
            sms: 114,
            total_memory: 80 << 30,
            clock_khz: 1_755_000,
            memory_clock_khz: 1_593_000,
            memory_bus_bits: 5120,
            ..Self::h200()
        }
    }

    /// The device named by `CUDA_SIM_DEVICE` (`h200`, the default, `h100-pcie`, `a100`, `rtx4090` or `t4`).
    ///
    /// # Errors
    /// The unknown name, with those that are known.
    pub fn from_env() -> Result<Self, String> {
        match std::env::var("CUDA_SIM_DEVICE").as_deref() {
            Err(_) | Ok("" | "h200") => Ok(Self::h200()),
            Ok("h100-pcie") => Ok(Self::h100_pcie()),
            Ok("a100") => Ok(Self::a100()),
            Ok("rtx4090") => Ok(Self::rtx4090()),
            Ok("t4") => Ok(Self::t4()),
            Ok(other) => {
                Err(format!("CUDA_SIM_DEVICE={other}: known devices are h200, h100-pcie, a100, rtx4090 and t4"))
            }
        }
    }
}
