//! How many blocks fit a multiprocessor, from threads, shared memory and the estimate of registers.

use std::ffi::{c_int, c_uint};

use super::context::current;
use super::errors::{CUresult, Outcome, call, fail};
use super::ffi::{In, Out};
use super::function::{CUfunction, FUNCTIONS, Function};
use super::launch::{CUlaunchConfig, cluster_of};
use crate::device::DeviceModel;

/// Shared memory that the system takes of each block.
const RESERVED: u32 = 1024;
/// Granularity of shared memory.
const UNIT: u32 = 128;
/// Registers are allocated to warps in units of this.
const REGISTER_UNIT: u32 = 256;
/// Multiprocessors of a graphics processing cluster that clusters of blocks are placed in.
const SMS_OF_GPC: u32 = 16;

/// `CUoccupancyB2DSize`.
type SharedOfBlock = Option<unsafe extern "C" fn(c_int) -> usize>;

fn shared(function: &Function, dynamic: usize) -> u32 {
    (function.kernel().static_shared + dynamic) as u32
}

/// Blocks of `threads` threads that are resident on one multiprocessor.
fn blocks_per_sm(function: &Function, model: &DeviceModel, threads: u32, dynamic: usize) -> u32 {
    if threads == 0 || threads > function.max_threads(model) {
        return 0;
    }
    let warps = threads.div_ceil(32);
    let by_warps = model.max_threads_per_sm / 32 / warps;
    let registers = (function.registers * 32).next_multiple_of(REGISTER_UNIT) * warps;
    let by_registers = model.registers_per_sm / registers;
    let shared = shared(function, dynamic);
    if shared > model.shared_per_block_optin {
        return 0;
    }
    let by_shared = model.shared_per_sm / (shared + RESERVED).next_multiple_of(UNIT);
    by_warps.min(by_registers).min(by_shared).min(model.max_blocks_per_sm)
}

fn threads(block: c_int) -> Outcome<u32> {
    match u32::try_from(block) {
        Ok(threads) if threads > 0 => Ok(threads),
        _ => fail(CUresult::INVALID_VALUE, format!("blocks of {block} threads")),
    }
}

fn active_blocks(blocks: Out<c_int>, function: CUfunction, block: c_int, dynamic: usize) -> Outcome {
    let function = FUNCTIONS.get(function)?;
    blocks.put(blocks_per_sm(&function, &current()?.device.model, threads(block)?, dynamic) as c_int)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    blocks: Out<c_int>,
    function: CUfunction,
    block: c_int,
    dynamic: usize,
) -> CUresult {
    call("cuOccupancyMaxActiveBlocksPerMultiprocessor", || active_blocks(blocks, function, block, dynamic))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    blocks: Out<c_int>,
    function: CUfunction,
    block: c_int,
    dynamic: usize,
    _flags: c_uint,
) -> CUresult {
    call("cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", || active_blocks(blocks, function, block, dynamic))
}

fn potential_block(
    min_grid: Out<c_int>,
    block: Out<c_int>,
    function: CUfunction,
    dynamic_of: SharedOfBlock,
    dynamic: usize,
    limit: c_int,
) -> Outcome {
    let function = FUNCTIONS.get(function)?;
    let context = current()?;
    let model = &context.device.model;
    let most = function.max_threads(model);
    let most = u32::try_from(limit).ok().filter(|&limit| limit > 0).map_or(most, |limit| most.min(limit));
    let mut best = (0, 0, 0);
    for threads in (1..=most.div_ceil(32)).rev().map(|warps| (warps * 32).min(most)) {
        let dynamic = match dynamic_of {
            // SAFETY: the program gave this function to be asked for block sizes.
            Some(of) => unsafe { of(threads as c_int) },
            None => dynamic,
        };
        let blocks = blocks_per_sm(&function, model, threads, dynamic);
        if blocks * threads > best.0 {
            best = (blocks * threads, blocks, threads);
        }
    }
    min_grid.put((best.1 * model.sms) as c_int)?;
    block.put(best.2 as c_int)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxPotentialBlockSize(
    min_grid: Out<c_int>,
    block: Out<c_int>,
    function: CUfunction,
    dynamic_of: SharedOfBlock,
    dynamic: usize,
    limit: c_int,
) -> CUresult {
    call("cuOccupancyMaxPotentialBlockSize", || potential_block(min_grid, block, function, dynamic_of, dynamic, limit))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxPotentialBlockSizeWithFlags(
    min_grid: Out<c_int>,
    block: Out<c_int>,
    function: CUfunction,
    dynamic_of: SharedOfBlock,
    dynamic: usize,
    limit: c_int,
    _flags: c_uint,
) -> CUresult {
    call("cuOccupancyMaxPotentialBlockSizeWithFlags", || {
        potential_block(min_grid, block, function, dynamic_of, dynamic, limit)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyAvailableDynamicSMemPerBlock(
    bytes: Out<usize>,
    function: CUfunction,
    blocks: c_int,
    block: c_int,
) -> CUresult {
    call("cuOccupancyAvailableDynamicSMemPerBlock", || {
        let function = FUNCTIONS.get(function)?;
        let context = current()?;
        let model = &context.device.model;
        let blocks = threads(blocks)?;
        if blocks > blocks_per_sm(&function, model, threads(block)?, 0) {
            return fail(CUresult::INVALID_VALUE, format!("{blocks} blocks do not fit a multiprocessor"));
        }
        let each = (model.shared_per_sm / blocks / UNIT * UNIT).saturating_sub(RESERVED);
        let each = each.min(model.shared_per_block_optin);
        bytes.put(each.saturating_sub(shared(&function, 0)) as usize)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxActiveClusters(
    clusters: Out<c_int>,
    function: CUfunction,
    config: In<CUlaunchConfig>,
) -> CUresult {
    call("cuOccupancyMaxActiveClusters", || {
        let function = FUNCTIONS.get(function)?;
        let context = current()?;
        let model = &context.device.model;
        let config = config.get()?;
        let cluster = cluster_of(config)?.iter().product::<u32>().max(1);
        let per_sm = blocks_per_sm(&function, model, config.block.iter().product(), config.dynamic_shared as usize);
        // A cluster stays within one graphics processing cluster.
        let gpcs = model.sms / SMS_OF_GPC;
        clusters.put((gpcs * (SMS_OF_GPC * per_sm / cluster)) as c_int)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxPotentialClusterSize(
    size: Out<c_int>,
    function: CUfunction,
    config: In<CUlaunchConfig>,
) -> CUresult {
    call("cuOccupancyMaxPotentialClusterSize", || {
        let function = FUNCTIONS.get(function)?;
        let context = current()?;
        let model = &context.device.model;
        let config = config.get()?;
        let portable = if function.settings().non_portable_cluster { 2 * model.max_cluster } else { model.max_cluster };
        let per_sm = blocks_per_sm(&function, model, config.block.iter().product(), config.dynamic_shared as usize);
        size.put(portable.min(SMS_OF_GPC * per_sm) as c_int)
    })
}
