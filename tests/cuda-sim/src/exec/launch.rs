//! One launch: what it needs, what it counts.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::machine::{Machine, Turn};
use crate::check::{Finding, Kind};
use crate::device::DeviceModel;
use crate::memory::DeviceMemory;
use crate::ptx::Kernel;

/// Blocks of a cluster that Hopper runs at most.
const MAX_CLUSTER: u32 = 16;

/// Everything a launch is made of. `params` is the packed block that [`Kernel::params`] describes.
pub struct Launch<'a> {
    pub kernel: &'a Kernel,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Blocks of a cluster; `[1, 1, 1]` without clusters. The kernel's own `.reqnctapercluster` wins over `[1, 1, 1]`.
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    pub params: &'a [u8],
    pub memory: &'a DeviceMemory,
    pub device: &'a DeviceModel,
    pub options: &'a Options,
}

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Order of warps and landing of copies.
    pub seed: u64,
    /// OS threads that blocks are spread over.
    pub threads: usize,
    /// Asynchronous copies land late and in random order; off, they land at once (to bisect a finding).
    pub late_copies: bool,
    /// A wgmma reads what lies behind the last whole span of an n-major, swizzled B in another order than the formula
    /// that [`crate::matrix::descriptor`] gives: no document says what hardware does there.
    pub whole_spans: bool,
    /// Warp instructions that one block may execute before the launch counts as hung.
    pub budget: u64,
    /// Count what [`Stats`] has beyond instructions.
    pub stats: bool,
}

impl Default for Options {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self { seed: 0, threads, late_copies: true, whole_spans: false, budget: 20_000_000_000, stats: false }
    }
}

/// What a launch did. The figures beyond instructions are counted only on request ([`Options::stats`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    pub blocks: u64,
    pub warp_instructions: u64,
    /// Instructions times active lanes.
    pub lane_instructions: u64,
    /// Bytes of global memory read and written by loads and stores.
    pub global_read_bytes: u64,
    pub global_write_bytes: u64,
    /// 32-byte sectors those accesses touch.
    pub global_sectors: u64,
    pub shared_read_bytes: u64,
    pub shared_write_bytes: u64,
    /// Shared-memory wavefronts beyond one per access.
    pub bank_conflicts: u64,
    /// Warp-wide `mma.sync`.
    pub mma: u64,
    /// Warpgroup-wide `wgmma.mma_async`.
    pub wgmma: u64,
    /// Bytes moved by bulk copies.
    pub bulk_bytes: u64,
}

/// Runs the kernel to its end.
///
/// # Errors
/// The first mistake found; the launch stops there.
pub fn launch(launch: &Launch) -> Result<Stats, Box<Finding>> {
    let cluster = validate(launch)?;
    let clusters: Vec<u32> = launch.grid.iter().zip(cluster).map(|(g, c)| g / c).collect();
    let total = clusters.iter().map(|n| u64::from(*n)).product::<u64>();
    let first = |i: u64| -> [u32; 3] {
        let (x, y) = (u64::from(clusters[0]), u64::from(clusters[1]));
        [(i % x) as u32 * cluster[0], (i / x % y) as u32 * cluster[1], (i / (x * y)) as u32 * cluster[2]]
    };
    let shared = Shared { next: AtomicU64::new(0), stop: AtomicBool::new(false), found: Mutex::new(None) };
    let threads = launch.options.threads.clamp(1, total.min(1024) as usize);
    let work = || worker(launch, &shared, cluster, total, &first);
    let mut stats = Stats::default();
    if threads == 1 {
        stats.add(&work());
    } else {
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            for handle in handles {
                match handle.join() {
                    Ok(part) => stats.add(&part),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
    }
    let found = shared.found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    match found {
        Some((_, finding)) => Err(finding),
        None => Ok(stats),
    }
}

/// What the workers of a launch share.
struct Shared {
    next: AtomicU64,
    stop: AtomicBool,
    /// The finding of the lowest cluster.
    found: Mutex<Option<(u64, Box<Finding>)>>,
}

/// Clusters that one worker keeps alive at once, when they wait for each other.
const ALIVE: usize = 256;

/// Runs clusters until none is left. A cluster that polls a flag is put back and another one started, as on a card
/// where both would be resident.
fn worker(
    launch: &Launch,
    shared: &Shared,
    cluster: [u32; 3],
    total: u64,
    first: &(dyn Fn(u64) -> [u32; 3] + Sync),
) -> Stats {
    let mut stats = Stats::default();
    let mut alive: VecDeque<(u64, Machine)> = VecDeque::new();
    let mut spare = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        let fresh = if alive.len() < ALIVE { shared.next.fetch_add(1, Ordering::Relaxed) } else { total };
        let (i, mut machine) = if fresh < total {
            // A seed other than 0 also changes the order of blocks.
            let i = (fresh + launch.options.seed.wrapping_mul(0x9e37_79b9)) % total;
            (i, Machine::new(launch, cluster, first(i), i, &mut spare))
        } else {
            match alive.pop_front() {
                Some(waiting) => waiting,
                None => break,
            }
        };
        match machine.turn() {
            Ok(Turn::Ended) => {
                stats.add(&machine.stats);
                spare.extend(machine.warps.into_iter().map(|warp| warp.registers));
            }
            Ok(Turn::Polling) => alive.push_back((i, machine)),
            Err(finding) => {
                shared.stop.store(true, Ordering::Relaxed);
                let mut found = shared.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if found.as_ref().is_none_or(|(other, _)| i < *other) {
                    *found = Some((i, finding));
                }
            }
        }
    }
    stats
}

/// Checks the launch against kernel and device; returns the cluster shape.
fn validate(launch: &Launch) -> Result<[u32; 3], Box<Finding>> {
    let Launch { kernel, grid, block, device, .. } = launch;
    let refuse = |text: String| {
        let mut finding = Finding::host(Kind::InvalidLaunch, text);
        finding.kernel = kernel.name.clone();
        finding.seed = launch.options.seed;
        Err(finding)
    };
    if launch.params.len() != kernel.param_bytes {
        let text =
            format!("the kernel takes {} bytes of parameters, {} given", kernel.param_bytes, launch.params.len());
        return refuse(text);
    }
    if grid.contains(&0) || block.contains(&0) || grid[1] > 65535 || grid[2] > 65535 || grid[0] > i32::MAX as u32 {
        return refuse(format!("grid {grid:?}, block {block:?}"));
    }
    let threads = block.iter().map(|b| u64::from(*b)).product::<u64>();
    if threads > u64::from(device.max_threads_per_block) || block[2] > 64 {
        return refuse(format!("block {block:?}: at most {} threads, 64 in z", device.max_threads_per_block));
    }
    if let Some(most) = kernel.max_threads
        && threads > most.iter().map(|b| u64::from(*b)).product::<u64>()
    {
        return refuse(format!("block {block:?} is larger than .maxntid {most:?}"));
    }
    if let Some(required) = kernel.required_threads
        && required != *block
    {
        return refuse(format!("block {block:?} is not .reqntid {required:?}"));
    }
    let shared = kernel.static_shared + launch.dynamic_shared as usize;
    if shared > device.shared_per_block_optin as usize {
        return refuse(format!("{shared} bytes of shared memory, the device has {}", device.shared_per_block_optin));
    }
    let mut cluster = launch.cluster;
    if let Some(own) = kernel.cluster {
        if cluster == [1, 1, 1] {
            cluster = own;
        } else if cluster != own {
            return refuse(format!("cluster {cluster:?} is not the kernel's {own:?}"));
        }
    }
    let blocks = cluster.iter().map(|c| u64::from(*c)).product::<u64>();
    // Whether more than the portable 8 are allowed is a setting of the function, which the driver checks.
    let possible = if device.max_cluster > 1 { MAX_CLUSTER } else { 1 };
    let most = kernel.max_cluster.map_or(possible, |rank| rank.min(possible));
    if blocks == 0 || blocks > u64::from(most) {
        return refuse(format!("cluster {cluster:?}: at most {most} blocks"));
    }
    if grid.iter().zip(cluster).any(|(g, c)| g % c != 0) {
        return refuse(format!("grid {grid:?} is no multiple of cluster {cluster:?}"));
    }
    Ok(cluster)
}

impl Stats {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Stats) {
        self.blocks += other.blocks;
        self.warp_instructions += other.warp_instructions;
        self.lane_instructions += other.lane_instructions;
        self.global_read_bytes += other.global_read_bytes;
        self.global_write_bytes += other.global_write_bytes;
        self.global_sectors += other.global_sectors;
        self.shared_read_bytes += other.shared_read_bytes;
        self.shared_write_bytes += other.shared_write_bytes;
        self.bank_conflicts += other.bank_conflicts;
        self.mma += other.mma;
        self.wgmma += other.wgmma;
        self.bulk_bytes += other.bulk_bytes;
    }
}
