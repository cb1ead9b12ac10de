//! Allocation, copies and fills.

use cuda_sim::driver::copy::{
    CUDA_MEMCPY2D, cuMemcpy, cuMemcpy2D_v2, cuMemcpyDtoD_v2, cuMemcpyDtoH_v2, cuMemcpyHtoD_v2,
};
use cuda_sim::driver::errors::CUresult;
use cuda_sim::driver::ffi::{HostPtr, In, Out};
use cuda_sim::driver::fill::{cuMemsetD2D8_v2, cuMemsetD8_v2, cuMemsetD16_v2, cuMemsetD32_v2};
use cuda_sim::driver::handles::Handle;
use cuda_sim::driver::host::{cuMemFreeHost, cuMemHostAlloc, cuMemHostRegister_v2, cuMemHostUnregister};
use cuda_sim::driver::memory::{
    cuMemAlloc_v2, cuMemAllocAsync, cuMemFree_v2, cuMemFreeAsync, cuMemGetAddressRange_v2, cuMemGetInfo_v2,
    cuPointerGetAttribute,
};
use cuda_sim::driver::pool::{cuDeviceGetDefaultMemPool, cuMemPoolGetAttribute, cuMemPoolSetAttribute};

use crate::support::{Context, OK, address, address_mut, alloc, download, stream, synchronize, upload};

#[test]
fn round_trip_and_ranges() {
    let _context = Context::new();
    let values: Vec<u32> = (0..1000).collect();
    let pointer = upload(&values);
    assert_eq!(download(pointer, 1000), values);
    let (mut base, mut bytes) = (0, 0);
    assert_eq!(cuMemGetAddressRange_v2(Out::from(&mut base), Out::from(&mut bytes), pointer + 123), OK);
    assert_eq!((base, bytes), (pointer, 4000));
    let mut out = [0u32; 4];
    assert_eq!(cuMemcpyDtoH_v2(address_mut(&mut out), pointer + 3992, 16), CUresult::INVALID_VALUE);
    assert_eq!(cuMemcpyDtoH_v2(address_mut(&mut out), 64, 16), CUresult::INVALID_VALUE);
    assert_eq!(cuMemcpyDtoH_v2(HostPtr::NULL, pointer, 16), CUresult::INVALID_VALUE);
    assert_eq!(cuMemFree_v2(pointer), OK);
    assert_eq!(cuMemFree_v2(pointer), CUresult::INVALID_VALUE);
    assert_eq!(cuMemcpyHtoD_v2(pointer, address(&values), 16), CUresult::INVALID_VALUE);
    assert_eq!(cuMemFree_v2(0), OK);
    assert_eq!(synchronize(), OK); // none of that broke the context
}

#[test]
fn memory_runs_out() {
    let _context = Context::new();
    let (mut free, mut total, mut pointer) = (0, 0, 0);
    assert_eq!(cuMemGetInfo_v2(Out::from(&mut free), Out::from(&mut total)), OK);
    assert!(free <= total && total > 0);
    assert_eq!(cuMemAlloc_v2(Out::from(&mut pointer), total + 1), CUresult::OUT_OF_MEMORY);
    assert_eq!(cuMemAlloc_v2(Out::from(&mut pointer), 0), CUresult::INVALID_VALUE);
    assert_eq!(cuMemAlloc_v2(Out::from(&mut pointer), 256), OK);
}

#[test]
fn allocation_in_stream_order() {
    let _context = Context::new();
    let stream = stream();
    let mut pointer = 0;
    assert_eq!(cuMemAllocAsync(Out::from(&mut pointer), 4096, stream), OK);
    let mut pool = Handle::NULL;
    assert_eq!(cuDeviceGetDefaultMemPool(Out::from(&mut pool), 0), OK);
    let (mut used, threshold) = (0u64, u64::MAX);
    let place = HostPtr::from(std::ptr::from_mut(&mut used));
    assert_eq!(cuMemPoolGetAttribute(pool, 7, place), OK);
    assert!(used >= 4096);
    assert_eq!(cuMemPoolSetAttribute(pool, 4, HostPtr::from(std::ptr::from_ref(&threshold))), OK);
    let mut owner = 0u64;
    let place = HostPtr::from(std::ptr::from_mut(&mut owner));
    assert_eq!(cuPointerGetAttribute(place, 17, pointer), OK);
    assert_eq!(owner, pool.raw() as u64);
    assert_eq!(cuMemFreeAsync(pointer, stream), OK);
    assert_eq!(cuMemFreeAsync(pointer, stream), CUresult::INVALID_VALUE); // queued already
    assert_eq!(synchronize(), OK);
    assert_eq!(cuMemFreeAsync(pointer, stream), CUresult::INVALID_VALUE); // done
}

#[test]
fn fills() {
    let _context = Context::new();
    let pointer = alloc(64);
    assert_eq!(cuMemsetD8_v2(pointer, 0x11, 64), OK);
    assert_eq!(cuMemsetD16_v2(pointer + 2, 0x2233, 3), OK);
    assert_eq!(cuMemsetD32_v2(pointer + 8, 0x4455_6677, 2), OK);
    assert_eq!(cuMemsetD2D8_v2(pointer + 16, 16, 0x99, 4, 3), OK);
    let rows = [0x9999_9999, 0x1111_1111, 0x1111_1111, 0x1111_1111];
    let mut expected = vec![0x2233_1111, 0x2233_2233, 0x4455_6677, 0x4455_6677];
    (0..3).for_each(|_| expected.extend(rows));
    assert_eq!(download(pointer, 16), expected);
    assert_eq!(cuMemsetD32_v2(pointer + 2, 0, 1), CUresult::INVALID_VALUE); // misaligned
    assert_eq!(cuMemsetD8_v2(pointer, 0, 65), CUresult::INVALID_VALUE);
}

#[test]
fn copies_between_devices_and_by_address() {
    let _context = Context::new();
    let (a, b) = (upload(&[1, 2, 3, 4]), alloc(16));
    assert_eq!(cuMemcpyDtoD_v2(b + 4, a, 12), OK);
    assert_eq!(cuMemcpyDtoD_v2(b, a + 12, 4), OK);
    assert_eq!(download(b, 4), [4, 1, 2, 3]);
    let mut host = [0u32; 4];
    assert_eq!(cuMemcpy(address_mut(&mut host).0 as u64, b, 16), OK);
    assert_eq!(host, [4, 1, 2, 3]);
}

#[test]
fn rectangles() {
    let _context = Context::new();
    let source: Vec<u8> = (0..64).collect(); // rows of 16
    let pointer = alloc(64);
    assert_eq!(cuMemsetD8_v2(pointer, 0, 64), OK);
    let copy = CUDA_MEMCPY2D {
        src_x: 4,
        src_y: 1,
        src_type: 1,
        src_host: address(&source),
        src_device: 0,
        src_array: 0,
        src_pitch: 16,
        dst_x: 0,
        dst_y: 1,
        dst_type: 2,
        dst_host: HostPtr::NULL,
        dst_device: pointer,
        dst_array: 0,
        dst_pitch: 8,
        width: 8,
        height: 3,
    };
    assert_eq!(cuMemcpy2D_v2(In::from(&copy)), OK);
    let got: Vec<u8> = download(pointer, 16).into_iter().flat_map(u32::to_le_bytes).collect();
    assert_eq!(got[..8], [0; 8]);
    for row in 0..3 {
        assert_eq!(got[8 + 8 * row..][..8], source[20 + 16 * row..][..8]);
    }
    let outside = CUDA_MEMCPY2D { dst_y: 6, ..copy };
    assert_eq!(cuMemcpy2D_v2(In::from(&outside)), CUresult::INVALID_VALUE);
    let narrow = CUDA_MEMCPY2D { dst_pitch: 4, ..copy };
    assert_eq!(cuMemcpy2D_v2(In::from(&narrow)), CUresult::INVALID_VALUE);
}

#[test]
fn page_locked_memory() {
    let _context = Context::new();
    let mut pointer = HostPtr::NULL;
    assert_eq!(cuMemHostAlloc(Out::from(&mut pointer), 4096, 0), OK);
    let mut kind = 0i32;
    let place = HostPtr::from(std::ptr::from_mut(&mut kind));
    assert_eq!(cuPointerGetAttribute(place, 2, pointer.0 as u64 + 8), OK);
    assert_eq!(kind, 1);
    assert_eq!(cuMemFreeHost(pointer), OK);
    assert_eq!(cuMemFreeHost(pointer), CUresult::INVALID_VALUE);
    let mine = vec![0u8; 100];
    assert_eq!(cuMemHostRegister_v2(address(&mine), 100, 0), OK);
    assert_eq!(cuMemHostRegister_v2(address(&mine).offset(50), 10, 0), CUresult::HOST_MEMORY_ALREADY_REGISTERED);
    assert_eq!(cuMemHostUnregister(address(&mine)), OK);
    assert_eq!(cuMemHostUnregister(address(&mine)), CUresult::HOST_MEMORY_NOT_REGISTERED);
}

#[test]
fn reading_back_what_nobody_wrote_is_a_finding() {
    let _context = Context::new();
    let pointer = alloc(64);
    let mut out = [0u8; 64];
    assert_eq!(cuMemcpyDtoH_v2(address_mut(&mut out), pointer, 64), CUresult::LAUNCH_FAILED);
    assert_eq!(synchronize(), CUresult::LAUNCH_FAILED); // and it sticks
    let report = std::fs::read_to_string(crate::support::report()).unwrap();
    assert!(report.contains("cuMemcpyDtoH"), "{report}");
}
