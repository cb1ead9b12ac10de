//! Launches: limits, parameters, clusters, and errors that stick.

use cuda_sim::driver::context::{cuCtxCreate_v2, cuCtxDestroy_v2, cuCtxSynchronize};
use cuda_sim::driver::errors::CUresult;
use cuda_sim::driver::ffi::{HostPtr, In, Out};
use cuda_sim::driver::function::{CUfunction, cuFuncSetAttribute};
use cuda_sim::driver::handles::Handle;
use cuda_sim::driver::launch::{CUlaunchAttribute, CUlaunchConfig, cuLaunchKernel, cuLaunchKernelEx};
use cuda_sim::driver::memory::cuMemAlloc_v2;
use cuda_sim::driver::occupancy::cuOccupancyMaxActiveBlocksPerMultiprocessor;

use crate::support::{
    Arguments, Context, KERNELS, NULL_STREAM, OK, address, alloc, download, function, launch, load, report, stream,
    upload,
};

#[test]
fn shapes_that_do_not_fit() {
    let _context = Context::new();
    let module = load(KERNELS);
    let (add, big, pointer) = (function(module, c"add"), function(module, c"big"), alloc(4));
    let arguments = Arguments::new(&[pointer, 0, 0]);
    let shaped = |f: CUfunction, grid: [u32; 3], block: [u32; 3], shared: u32| {
        let [gx, gy, gz] = grid;
        let [bx, by, bz] = block;
        cuLaunchKernel(f, gx, gy, gz, bx, by, bz, shared, NULL_STREAM, arguments.pointer(), HostPtr::NULL)
    };
    let invalid = CUresult::INVALID_VALUE;
    assert_eq!(shaped(add, [1; 3], [32, 1, 1], 0), OK);
    assert_eq!(shaped(add, [0, 1, 1], [32, 1, 1], 0), invalid);
    assert_eq!(shaped(add, [1, 65536, 1], [32, 1, 1], 0), invalid);
    assert_eq!(shaped(add, [1; 3], [0, 1, 1], 0), invalid);
    assert_eq!(shaped(add, [1; 3], [1025, 1, 1], 0), invalid);
    assert_eq!(shaped(add, [1; 3], [1, 1, 65], 0), invalid);
    assert_eq!(shaped(add, [1; 3], [32, 32, 2], 0), invalid);
    assert_eq!(shaped(big, [1; 3], [129, 1, 1], 0), invalid);
    assert_eq!(shaped(big, [1; 3], [32, 1, 1], (48 << 10) + 1), invalid);
    assert_eq!(cuFuncSetAttribute(big, 8, 100 << 10), OK);
    assert_eq!(shaped(big, [1; 3], [32, 1, 1], 100 << 10), OK);
    assert_eq!(download(pointer, 1), [100 << 10]);
}

#[test]
fn parameters_by_block() {
    let _context = Context::new();
    let add = function(load(KERNELS), c"add");
    let pointer = upload(&[1, 2, 3]);
    let mut block = pointer.to_le_bytes().to_vec();
    block.extend(3u32.to_le_bytes());
    block.extend(5u32.to_le_bytes());
    let packed = |bytes: usize| {
        let extra = [1, address(&block).0, 2, HostPtr::from(std::ptr::from_ref(&bytes)).0, 0];
        cuLaunchKernel(add, 1, 1, 1, 3, 1, 1, 0, NULL_STREAM, HostPtr::NULL, address(&extra))
    };
    assert_eq!(packed(16), OK);
    assert_eq!(download(pointer, 3), [6, 7, 8]);
    assert_eq!(packed(12), CUresult::INVALID_VALUE); // one argument is missing
    assert_eq!(packed(24), CUresult::INVALID_VALUE);
    let none = cuLaunchKernel(add, 1, 1, 1, 3, 1, 1, 0, NULL_STREAM, HostPtr::NULL, HostPtr::NULL);
    assert_eq!(none, CUresult::INVALID_VALUE);
    assert_eq!(launch(add, 1, 3, 0, NULL_STREAM, &[pointer, 3, 1]), OK);
    assert_eq!(download(pointer, 3), [7, 8, 9]);
}

/// Arguments are read when the call is made: a launch far behind the host has the values of then.
#[test]
fn arguments_are_copied_at_the_call() {
    let _context = Context::new();
    let add = function(load(KERNELS), c"add");
    let (stream, pointer) = (stream(), upload(&[0]));
    {
        let values = Arguments::new(&[pointer, 1, 5]);
        assert_eq!(cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, stream, values.pointer(), HostPtr::NULL), OK);
    }
    assert_eq!(cuCtxSynchronize(), OK);
    assert_eq!(download(pointer, 1), [5]);
}

fn extended(f: CUfunction, grid: u32, attributes: &[CUlaunchAttribute], pointer: u64) -> CUresult {
    let config = CUlaunchConfig {
        grid: [grid, 1, 1],
        block: [1, 1, 1],
        dynamic_shared: 0,
        stream: NULL_STREAM,
        attributes: address(attributes),
        attribute_count: attributes.len() as u32,
    };
    let arguments = Arguments::new(&[pointer]);
    cuLaunchKernelEx(In::from(&config), f, arguments.pointer(), HostPtr::NULL)
}

fn attribute(id: i32, values: &[u32]) -> CUlaunchAttribute {
    let mut value = [0; 16];
    value[..values.len()].copy_from_slice(values);
    CUlaunchAttribute { id, pad: [0; 4], value }
}

#[test]
fn clusters() {
    let _context = Context::new();
    let pair = function(load(KERNELS), c"pair");
    let pointer = upload(&[0; 32]);
    let cluster = |n| [attribute(4, &[n, 1, 1]), attribute(6, &[1])];
    assert_eq!(extended(pair, 4, &cluster(2), pointer), OK);
    assert_eq!(download(pointer, 4), [2; 4]);
    assert_eq!(extended(pair, 5, &cluster(2), pointer), CUresult::INVALID_CLUSTER_SIZE);
    assert_eq!(extended(pair, 32, &cluster(16), pointer), CUresult::INVALID_CLUSTER_SIZE);
    assert_eq!(cuFuncSetAttribute(pair, 14, 1), OK);
    assert_eq!(extended(pair, 32, &cluster(16), pointer), OK);
    assert_eq!(download(pointer, 32), [16; 32]);
    assert_eq!(extended(pair, 4, &[attribute(2, &[1])], pointer), CUresult::NOT_SUPPORTED); // cooperative
    assert_eq!(extended(pair, 4, &[attribute(99, &[1])], pointer), CUresult::INVALID_VALUE);
}

#[test]
fn occupancy() {
    let _context = Context::new();
    let add = function(load(KERNELS), c"add");
    let blocks = |threads, shared| {
        let mut blocks = -1;
        let told = cuOccupancyMaxActiveBlocksPerMultiprocessor(Out::from(&mut blocks), add, threads, shared);
        assert_eq!(told, OK);
        blocks
    };
    assert_eq!(blocks(32, 0), 32);
    assert_eq!(blocks(1024, 0), 1); // 64 registers a thread
    assert_eq!(blocks(32, 100 << 10), 2);
    assert_eq!(blocks(32, 228 << 10), 0);
}

/// A finding comes out at the next wait, names its place in the report, and stays until the context is gone.
#[test]
fn findings_stick() {
    let context = Context::new();
    let beyond = function(load(KERNELS), c"beyond");
    let pointer = upload(&[1]);
    assert_eq!(launch(beyond, 1, 1, 0, NULL_STREAM, &[pointer]), OK);
    assert_eq!(cuCtxSynchronize(), CUresult::ILLEGAL_ADDRESS);
    let mut other = 0;
    assert_eq!(cuMemAlloc_v2(Out::from(&mut other), 4), CUresult::ILLEGAL_ADDRESS);
    assert_eq!(launch(beyond, 1, 1, 0, NULL_STREAM, &[pointer]), CUresult::ILLEGAL_ADDRESS);
    assert_eq!(cuCtxSynchronize(), CUresult::ILLEGAL_ADDRESS);
    let text = std::fs::read_to_string(report()).unwrap();
    let line = KERNELS.to_str().unwrap().lines().position(|line| line.contains("+4096")).unwrap() + 1;
    assert!(text.contains(&format!("at beyond, block (0,0,0), thread (0,0,0), PTX line {line}")), "{text}");
    // Another context is not concerned.
    let mut second = Handle::NULL;
    assert_eq!(cuCtxCreate_v2(Out::from(&mut second), 0, 0), OK);
    assert_eq!(cuMemAlloc_v2(Out::from(&mut other), 4), OK);
    assert_eq!(cuCtxDestroy_v2(second), OK);
    drop(context);
}
