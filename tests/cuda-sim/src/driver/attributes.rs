//! What the program can ask about the device and about pointers.

use std::ffi::{c_char, c_int, c_uint};

use super::context::{CUdevice, Context, current_any};
use super::copy::{DEVICE_TYPE, HOST_TYPE};
use super::errors::{CUresult, Outcome, call, fail, not_modelled};
use super::ffi::{DevicePtr, HostPtr, Out, Text};
use super::handles::Handle;
use super::host;
use super::state::{device, driver};
use crate::device::DeviceModel;

/// Where the simulated card sits.
const PCI_BUS: c_int = 0x17;
const PCI_ID: &str = "0000:17:00.0";

/// The value of a `CUdevice_attribute`, as a card of this kind answers.
fn device_attribute(model: &DeviceModel, attribute: c_int) -> Outcome<c_int> {
    let hopper = model.sm >= 90;
    let value = match attribute {
        1 => model.max_threads_per_block,          // MAX_THREADS_PER_BLOCK
        2 | 3 => 1024,                             // MAX_BLOCK_DIM_X, _Y
        4 => 64,                                   // MAX_BLOCK_DIM_Z
        5 => i32::MAX as u32,                      // MAX_GRID_DIM_X
        6 | 7 => 65535,                            // MAX_GRID_DIM_Y, _Z
        8 => model.shared_per_block,               // MAX_SHARED_MEMORY_PER_BLOCK
        9 => 65536,                                // TOTAL_CONSTANT_MEMORY
        10 => 32,                                  // WARP_SIZE
        11 => i32::MAX as u32,                     // MAX_PITCH
        12 => model.registers_per_sm,              // MAX_REGISTERS_PER_BLOCK
        13 => model.clock_khz,                     // CLOCK_RATE
        14 | 30 => 512,                            // TEXTURE_ALIGNMENT, SURFACE_ALIGNMENT
        15 => 1,                                   // GPU_OVERLAP
        16 => model.sms,                           // MULTIPROCESSOR_COUNT
        17 | 18 => 0,                              // KERNEL_EXEC_TIMEOUT, INTEGRATED
        19 => 0, // CAN_MAP_HOST_MEMORY: kernels that read host memory are not modelled
        20 => 0, // COMPUTE_MODE: default
        21 | 22 | 52 | 55 | 67 | 73 | 77 => 32768, // widths of textures and surfaces
        23 => 65536, // MAXIMUM_TEXTURE2D_HEIGHT
        24..=26 => 16384, // MAXIMUM_TEXTURE3D_…
        27 | 28 => 32768, // MAXIMUM_TEXTURE2D_LAYERED_WIDTH, _HEIGHT
        29 | 43 | 62 | 65 => 2048, // layers
        31 => 1, // CONCURRENT_KERNELS
        32 => 1, // ECC_ENABLED
        33 => PCI_BUS as u32, // PCI_BUS_ID
        34 | 50 => 0, // PCI_DEVICE_ID, PCI_DOMAIN_ID
        35 => 0, // TCC_DRIVER
        36 => model.memory_clock_khz, // MEMORY_CLOCK_RATE
        37 => model.memory_bus_bits, // GLOBAL_MEMORY_BUS_WIDTH
        38 => model.l2_bytes, // L2_CACHE_SIZE
        39 => model.max_threads_per_sm, // MAX_THREADS_PER_MULTIPROCESSOR
        40 => 3, // ASYNC_ENGINE_COUNT
        41 => 1, // UNIFIED_ADDRESSING
        42 | 45 | 46 => 32768, // layered 1-D and gathered textures
        44 => 1, // CAN_TEX2D_GATHER
        47..=49 => 32768, // MAXIMUM_TEXTURE3D_…_ALTERNATE
        51 => 32, // TEXTURE_PITCH_ALIGNMENT
        53 | 66 => 32768, // MAXIMUM_TEXTURECUBEMAP_LAYERED_WIDTH, SURFACECUBEMAP_WIDTH
        54 | 68 => 2046, // cubemap layers
        56 => 131_072, // MAXIMUM_SURFACE2D_WIDTH
        57 => 65536, // MAXIMUM_SURFACE2D_HEIGHT
        58..=61 | 63 | 64 => 16384, // other surfaces
        69 => 1 << 28, // MAXIMUM_TEXTURE1D_LINEAR_WIDTH
        70 => 131_072, // MAXIMUM_TEXTURE2D_LINEAR_WIDTH
        71 => 65000, // MAXIMUM_TEXTURE2D_LINEAR_HEIGHT
        72 => 2_097_120, // MAXIMUM_TEXTURE2D_LINEAR_PITCH
        74 => 32768, // MAXIMUM_TEXTURE2D_MIPMAPPED_HEIGHT
        75 => model.sm / 10, // COMPUTE_CAPABILITY_MAJOR
        76 => model.sm % 10, // COMPUTE_CAPABILITY_MINOR
        78..=80 => 1, // STREAM_PRIORITIES, GLOBAL_L1_CACHE, LOCAL_L1_CACHE
        81 => model.shared_per_sm, // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
        82 => model.registers_per_sm, // MAX_REGISTERS_PER_MULTIPROCESSOR
        83 => 0, // MANAGED_MEMORY: not modelled
        84 | 85 => 0, // MULTI_GPU_BOARD, _GROUP_ID
        86 => 0, // HOST_NATIVE_ATOMIC_SUPPORTED
        87 => 2, // SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO
        88 | 89 | 100 | 101 => 0, // pageable and managed access
        90 => 1, // COMPUTE_PREEMPTION_SUPPORTED
        91 => 0, // CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM
        92..=94 | 122 | 123 => 0, // stream memory operations: not modelled
        95 | 96 => 0, // cooperative launches: not modelled
        97 => model.shared_per_block_optin, // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        98 => 0, // CAN_FLUSH_REMOTE_WRITES
        99 => 1, // HOST_REGISTER_SUPPORTED
        102..=105 => 0, // virtual memory management: not modelled
        106 => model.max_blocks_per_sm, // MAX_BLOCKS_PER_MULTIPROCESSOR
        107 => 0, // GENERIC_COMPRESSION_SUPPORTED
        108 => model.l2_bytes / 8 * 5, // MAX_PERSISTING_L2_CACHE_SIZE
        109 => 128 << 20, // MAX_ACCESS_POLICY_WINDOW_SIZE
        110 | 112 | 114 | 116..=119 | 121 => 0, // RDMA, sparse arrays, semaphores, exportable pools
        111 => 1024, // RESERVED_SHARED_MEMORY_PER_BLOCK
        113 => 1, // READ_ONLY_HOST_REGISTER_SUPPORTED
        115 => 1, // MEMORY_POOLS_SUPPORTED
        120 => (model.max_cluster > 1).into(), // CLUSTER_LAUNCH
        124 | 125 | 128 | 129 | 132 | 133 => 0, // DMA-BUF, IPC, fabric, function pointers, multicast, MPS
        126 => {
            if hopper {
                4
            } else {
                1
            }
        } // MEM_SYNC_DOMAIN_COUNT
        127 => hopper.into(), // TENSOR_MAP_ACCESS_SUPPORTED
        130 | 135..=147 => 0, // NUMA, graphics, decompression, …
        131 | 134 => return Ok(-1), // NUMA_ID, HOST_NUMA_ID: none
        _ => return fail(CUresult::INVALID_VALUE, format!("device attribute {attribute}")),
    };
    Ok(value as c_int)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetAttribute(value: Out<c_int>, attribute: c_int, dev: CUdevice) -> CUresult {
    call("cuDeviceGetAttribute", || value.put(device_attribute(&device(dev)?.model, attribute)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetCount(count: Out<c_int>) -> CUresult {
    call("cuDeviceGetCount", || count.put(driver()?.device.is_some().into()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGet(dev: Out<CUdevice>, ordinal: c_int) -> CUresult {
    call("cuDeviceGet", || device(ordinal).and_then(|_| dev.put(ordinal)))
}

/// Copies text with its NUL, cut to `room` bytes.
fn put_text(place: HostPtr, room: c_int, text: &str) -> Outcome {
    let room = usize::try_from(room).unwrap_or(0);
    if place.is_null() || room == 0 {
        return fail(CUresult::INVALID_VALUE, "no room for the text");
    }
    let kept = text.len().min(room - 1);
    // SAFETY: not null, and the API asks for `room` bytes.
    let buffer = unsafe { place.bytes_mut(kept + 1) };
    buffer[..kept].copy_from_slice(&text.as_bytes()[..kept]);
    buffer[kept] = 0;
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetName(name: *mut c_char, room: c_int, dev: CUdevice) -> CUresult {
    call("cuDeviceGetName", || put_text(HostPtr::from(name), room, device(dev)?.model.name))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetPCIBusId(id: *mut c_char, room: c_int, dev: CUdevice) -> CUresult {
    call("cuDeviceGetPCIBusId", || device(dev).and_then(|_| put_text(HostPtr::from(id), room, PCI_ID)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetByPCIBusId(dev: Out<CUdevice>, id: Text) -> CUresult {
    call("cuDeviceGetByPCIBusId", || {
        device(0)?;
        match id.get()? {
            PCI_ID | "17:00.0" | "17:00" => dev.put(0),
            other => fail(CUresult::INVALID_VALUE, format!("no device at {other}")),
        }
    })
}

/// `CUuuid`: the name in ASCII, so that it is the same in every process.
fn uuid(out: Out<[u8; 16]>, dev: CUdevice) -> Outcome {
    let mut bytes = *b"cuda-sim:sm_00:0";
    let sm = device(dev)?.model.sm;
    (bytes[12], bytes[13]) = (b'0' + (sm / 10) as u8, b'0' + (sm % 10) as u8);
    out.put(bytes)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetUuid(id: Out<[u8; 16]>, dev: CUdevice) -> CUresult {
    call("cuDeviceGetUuid", || uuid(id, dev))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetUuid_v2(id: Out<[u8; 16]>, dev: CUdevice) -> CUresult {
    call("cuDeviceGetUuid_v2", || uuid(id, dev))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceTotalMem_v2(bytes: Out<usize>, dev: CUdevice) -> CUresult {
    call("cuDeviceTotalMem", || bytes.put(device(dev)?.memory.total()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceComputeCapability(major: Out<c_int>, minor: Out<c_int>, dev: CUdevice) -> CUresult {
    call("cuDeviceComputeCapability", || {
        let sm = device(dev)?.model.sm as c_int;
        major.put(sm / 10)?;
        minor.put(sm % 10)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceCanAccessPeer(can: Out<c_int>, dev: CUdevice, peer: CUdevice) -> CUresult {
    call("cuDeviceCanAccessPeer", || {
        device(dev)?;
        device(peer)?;
        can.put(0)
    })
}

/// `CUdevprop`.
#[repr(C)]
pub struct CUdevprop {
    pub max_threads_per_block: c_int,
    pub max_threads_dim: [c_int; 3],
    pub max_grid_size: [c_int; 3],
    pub shared_per_block: c_int,
    pub total_constant: c_int,
    pub warp_size: c_int,
    pub max_pitch: c_int,
    pub registers_per_block: c_int,
    pub clock_khz: c_int,
    pub texture_alignment: c_int,
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetProperties(properties: Out<CUdevprop>, dev: CUdevice) -> CUresult {
    call("cuDeviceGetProperties", || {
        let model = &device(dev)?.model;
        let get = |attribute| device_attribute(model, attribute);
        properties.put(CUdevprop {
            max_threads_per_block: get(1)?,
            max_threads_dim: [get(2)?, get(3)?, get(4)?],
            max_grid_size: [get(5)?, get(6)?, get(7)?],
            shared_per_block: get(8)?,
            total_constant: get(9)?,
            warp_size: get(10)?,
            max_pitch: get(11)?,
            registers_per_block: get(12)?,
            clock_khz: get(13)?,
            texture_alignment: get(14)?,
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetTexture1DLinearMaxWidth(_: Out<usize>, _: c_int, _: c_uint, dev: CUdevice) -> CUresult {
    call("cuDeviceGetTexture1DLinearMaxWidth", || device(dev).and_then(|_| not_modelled("textures")))
}

/// Writes a `CUpointer_attribute` of `pointer`. Pointers that the driver does not know have none: an error, or zeros
/// where `lenient`.
///
/// # Safety
/// `data` is null or of the attribute's type.
pub unsafe fn pointer_attribute(
    context: &Context,
    data: HostPtr,
    attribute: c_int,
    pointer: DevicePtr,
    lenient: bool,
) -> Outcome {
    if data.is_null() {
        return fail(CUresult::INVALID_VALUE, "a pointer for a result is null");
    }
    let on_device = context.allocations.find(pointer);
    let on_host = host::find(HostPtr(pointer as usize));
    if on_device.is_none() && on_host.is_none() && !lenient {
        return fail(CUresult::INVALID_VALUE, format!("{pointer:#x} is no memory of this driver"));
    }
    let known = on_device.is_some() || on_host.is_some();
    // SAFETY: the caller vouches for the type of `data`, which these are by the API's table.
    unsafe {
        let word = std::ptr::with_exposed_provenance_mut::<u64>(data.0);
        let int = word.cast::<c_int>();
        let flag = word.cast::<bool>();
        match attribute {
            1 => word.write(if known { context.handle.raw() as u64 } else { 0 }), // CONTEXT
            2 => match (on_device, on_host) {
                // MEMORY_TYPE
                (Some(_), _) => int.write(DEVICE_TYPE),
                (None, Some(_)) => int.write(HOST_TYPE),
                (None, None) => int.write(0),
            },
            3 if on_host.is_some() => return not_modelled("host memory accessed by kernels"), // DEVICE_POINTER
            3 => word.write(if on_device.is_some() { pointer } else { 0 }),
            4 if on_device.is_some() => return fail(CUresult::INVALID_VALUE, "device memory has no host pointer"),
            4 => word.write(if known { pointer } else { 0 }), // HOST_POINTER
            6 | 8 | 10 | 15 | 21 => flag.write(false),        // SYNC_MEMOPS, IS_MANAGED, IPC, RDMA, decompression
            7 => word.write(on_device.map_or(0, |(start, _)| start)), // BUFFER_ID: unique, and so is the start
            9 => int.write(if known { 0 } else { -2 }),       // DEVICE_ORDINAL
            11 | 19 => word.write(match (on_device, on_host) {
                // RANGE_START_ADDR, MAPPING_BASE_ADDR
                (Some((start, _)), _) => start,
                (None, Some((start, _))) => start.0 as u64,
                (None, None) => 0,
            }),
            12 | 18 => word.write(match (on_device, on_host) {
                // RANGE_SIZE, MAPPING_SIZE
                (Some((_, allocation)), _) => allocation.bytes as u64,
                (None, Some((_, pinned))) => pinned.bytes as u64,
                (None, None) => 0,
            }),
            13 => flag.write(known),                                  // MAPPED
            14 => word.write(0),                                      // ALLOWED_HANDLE_TYPES
            16 => int.write(if on_device.is_some() { 3 } else { 0 }), // ACCESS_FLAGS: read and write
            17 => {
                // MEMPOOL_HANDLE
                let pool = on_device.and_then(|(_, allocation)| allocation.pool);
                word.write(pool.unwrap_or(Handle::NULL).raw() as u64);
            }
            _ => return fail(CUresult::INVALID_VALUE, format!("pointer attribute {attribute}")),
        }
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuPointerSetAttribute(_value: HostPtr, attribute: c_int, _pointer: DevicePtr) -> CUresult {
    const SYNC_MEMOPS: c_int = 6;
    call("cuPointerSetAttribute", || {
        current_any()?;
        match attribute {
            SYNC_MEMOPS => not_modelled("synchronous memory operations"),
            _ => fail(CUresult::INVALID_VALUE, format!("pointer attribute {attribute} cannot be set")),
        }
    })
}
