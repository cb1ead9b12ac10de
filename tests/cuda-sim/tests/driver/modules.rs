//! Loading code, and what is refused.

use cuda_sim::driver::copy::cuMemcpyDtoH_v2;
use cuda_sim::driver::errors::CUresult;
use cuda_sim::driver::ffi::{HostPtr, In, Out};
use cuda_sim::driver::function::{cuFuncGetAttribute, cuFuncGetParamInfo, cuFuncSetAttribute, cuKernelGetFunction};
use cuda_sim::driver::handles::Handle;
use cuda_sim::driver::module::{
    CUmodule, cuLibraryGetKernel, cuLibraryLoadData, cuLibraryUnload, cuModuleGetFunction, cuModuleGetGlobal_v2,
    cuModuleLoadData, cuModuleLoadDataEx, cuModuleUnload,
};

use crate::support::{Context, KERNELS, NULL_STREAM, OK, address_mut, alloc, download, function, launch, load, upload};

fn refused(image: &[u8]) -> CUresult {
    let mut module: CUmodule = Handle::NULL;
    cuModuleLoadData(Out::from(&mut module), HostPtr::from(image.as_ptr()))
}

#[test]
fn machine_code_and_other_things_are_refused() {
    let _context = Context::new();
    assert_eq!(refused(b"\x7fELF\x02\x01\x01\x33"), CUresult::NO_BINARY_FOR_GPU);
    assert_eq!(refused(&[0x50, 0xed, 0x55, 0xba, 1, 0, 16, 0]), CUresult::NO_BINARY_FOR_GPU);
    assert_eq!(refused(b"hello world\0"), CUresult::INVALID_IMAGE);
    assert_eq!(refused(b".version 9.0\n.target sm_100\n.address_size 64\n\0"), CUresult::INVALID_PTX);
    assert_eq!(refused(b".version 9.9\n.target sm_90\n.address_size 64\n\0"), CUresult::UNSUPPORTED_PTX_VERSION);
    let nonsense =
        b".version 9.0\n.target sm_90\n.address_size 64\n.visible .entry k()\n{\n\tfrobnicate.u32 %r1;\n}\n\0";
    assert_eq!(refused(nonsense), CUresult::INVALID_PTX);
}

#[test]
fn compiler_log() {
    let _context = Context::new();
    let image = b".version 9.0\n.target sm_90\n.address_size 64\n.visible .entry k()\n{\n\tfrobnicate.u32 %r1;\n}\n\0";
    let mut log = [0xffu8; 256];
    let options = [5i32, 6];
    let mut values = [address_mut(&mut log).0, 256];
    let mut module: CUmodule = Handle::NULL;
    let answer = cuModuleLoadDataEx(
        Out::from(&mut module),
        HostPtr::from(image.as_ptr()),
        2,
        In::from(&options[..]),
        address_mut(&mut values),
    );
    assert_eq!(answer, CUresult::INVALID_PTX);
    let text = std::str::from_utf8(&log[..(values[1] & 0xffff_ffff) - 1]).unwrap();
    assert!(text.contains("line 6"), "{text}");
}

#[test]
fn kernels_parameters_and_attributes() {
    let _context = Context::new();
    let module = load(KERNELS);
    let mut missing = Handle::NULL;
    assert_eq!(cuModuleGetFunction(Out::from(&mut missing), module, c"nothing".into()), CUresult::NOT_FOUND);
    let add = function(module, c"add");
    let (mut offset, mut bytes) = (0, 0);
    assert_eq!(cuFuncGetParamInfo(add, 2, Out::from(&mut offset), Out::from(&mut bytes)), OK);
    assert_eq!((offset, bytes), (12, 4));
    let past = cuFuncGetParamInfo(add, 3, Out::from(&mut offset), Out::from(&mut bytes));
    assert_eq!(past, CUresult::INVALID_VALUE);
    let attribute = |function, id| {
        let mut value = -1;
        assert_eq!(cuFuncGetAttribute(Out::from(&mut value), id, function), OK);
        value
    };
    let big = function(module, c"big");
    assert_eq!((attribute(add, 0), attribute(big, 0)), (1024, 128));
    assert_eq!((attribute(add, 5), attribute(add, 6)), (90, 90));
    assert_eq!(attribute(big, 8), 48 << 10);
    assert_eq!(cuFuncSetAttribute(big, 8, 227 << 10), OK);
    assert_eq!(attribute(big, 8), 227 << 10);
    assert_eq!(cuFuncSetAttribute(big, 8, (227 << 10) + 1), CUresult::INVALID_VALUE);
    assert_eq!(cuFuncSetAttribute(big, 9, 101), CUresult::INVALID_VALUE);
    assert_eq!(cuModuleUnload(module), OK);
    assert_eq!(launch(add, 1, 32, 0, NULL_STREAM, &[0, 0, 0]), CUresult::INVALID_HANDLE);
}

#[test]
fn variables_live_as_long_as_their_module() {
    let _context = Context::new();
    let (module, out) = (load(KERNELS), alloc(4));
    let count = function(module, c"count");
    let (mut counter, mut bytes) = (0, 0);
    let found = cuModuleGetGlobal_v2(Out::from(&mut counter), Out::from(&mut bytes), module, c"counter".into());
    assert_eq!((found, bytes), (OK, 4));
    assert_eq!(download(counter, 1), [41]);
    assert_eq!(launch(count, 3, 1, 0, NULL_STREAM, &[out]), OK);
    assert_eq!(download(counter, 1), [44]);
    assert!([41 * 3, 42 * 3, 43 * 3].contains(&download(out, 1)[0]));
    assert_eq!(cuModuleUnload(module), OK);
    let mut gone = [0u32];
    assert_eq!(cuMemcpyDtoH_v2(address_mut(&mut gone), counter, 4), CUresult::INVALID_VALUE);
}

#[test]
fn libraries() {
    let _context = Context::new();
    let mut library = Handle::NULL;
    let image = HostPtr::from(KERNELS.as_ptr());
    let loaded =
        cuLibraryLoadData(Out::from(&mut library), image, In::null(), HostPtr::NULL, 0, In::null(), HostPtr::NULL, 0);
    assert_eq!(loaded, OK);
    let (mut kernel, mut function) = (Handle::NULL, Handle::NULL);
    assert_eq!(cuLibraryGetKernel(Out::from(&mut kernel), library, c"add".into()), OK);
    assert_eq!(cuKernelGetFunction(Out::from(&mut function), kernel), OK);
    let pointer = upload(&[1, 2]);
    assert_eq!(launch(function, 1, 2, 0, NULL_STREAM, &[pointer, 2, 10]), OK);
    assert_eq!(launch(kernel, 1, 2, 0, NULL_STREAM, &[pointer, 2, 10]), OK); // a kernel passes for its function
    assert_eq!(download(pointer, 2), [21, 22]);
    assert_eq!(cuLibraryUnload(library), OK);
}
