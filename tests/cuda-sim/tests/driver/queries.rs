//! What a program asks before it does anything.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};

use cuda_sim::driver::attributes::{cuDeviceGetAttribute, cuDeviceGetCount, cuDeviceGetName, cuDeviceTotalMem_v2};
use cuda_sim::driver::context::{cuCtxGetLimit, cuCtxSetLimit, cuDriverGetVersion};
use cuda_sim::driver::errors::{CUresult, cuGetErrorName, cuGetErrorString};
use cuda_sim::driver::ffi::{HostPtr, Out};
use cuda_sim::driver::proc_address::{cuGetProcAddress_v2, find};
use cuda_sim::driver::refused::cuArrayDestroy;

use crate::support::{Context, MEMORY, OK};

fn attribute(id: i32) -> i32 {
    let mut value = 0;
    assert_eq!(cuDeviceGetAttribute(Out::from(&mut value), id, 0), OK);
    value
}

#[test]
fn device() {
    let _context = Context::new();
    let (mut version, mut count, mut bytes) = (0, 0, 0);
    assert_eq!(cuDriverGetVersion(Out::from(&mut version)), OK);
    assert_eq!(cuDeviceGetCount(Out::from(&mut count)), OK);
    assert_eq!(cuDeviceTotalMem_v2(Out::from(&mut bytes), 0), OK);
    assert_eq!((version, count, bytes), (13_000, 1, MEMORY));
    assert_eq!(cuDeviceTotalMem_v2(Out::from(&mut bytes), 1), CUresult::INVALID_DEVICE);
    assert_eq!((attribute(75), attribute(76)), (9, 0));
    assert_eq!(attribute(16), 132);
    assert_eq!(attribute(97), 227 << 10);
    assert_eq!((attribute(115), attribute(120), attribute(127)), (1, 1, 1));
    // Every attribute of the 13.0 header has an answer; the first that it lacks has none.
    for id in 1..148 {
        attribute(id);
    }
    let mut value = 0;
    assert_eq!(cuDeviceGetAttribute(Out::from(&mut value), 148, 0), CUresult::INVALID_VALUE);
    let mut name = [0u8; 8];
    assert_eq!(cuDeviceGetName(name.as_mut_ptr().cast(), 8, 0), OK);
    assert_eq!(CStr::from_bytes_until_nul(&name).unwrap(), c"NVIDIA ");
}

#[test]
fn error_names() {
    let text = |get: extern "C" fn(CUresult, Out<*const i8>) -> CUresult, code| {
        let mut text = std::ptr::null();
        let found = get(CUresult(code), Out::from(&mut text));
        // SAFETY: static strings, or null.
        (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_str().unwrap()).ok_or(found)
    };
    assert_eq!(text(cuGetErrorName, 0), Ok("CUDA_SUCCESS"));
    assert_eq!(text(cuGetErrorName, 700), Ok("CUDA_ERROR_ILLEGAL_ADDRESS"));
    assert_eq!(text(cuGetErrorString, 2), Ok("out of memory"));
    assert_eq!(text(cuGetErrorString, 12345), Err(CUresult::INVALID_VALUE));
}

#[test]
fn limits() {
    let _context = Context::new();
    let mut value = 0;
    assert_eq!(cuCtxSetLimit(0, 4096), OK);
    assert_eq!(cuCtxGetLimit(Out::from(&mut value), 0), OK);
    assert_eq!(value, 4096);
    assert_eq!(cuCtxGetLimit(Out::from(&mut value), 77), CUresult::UNSUPPORTED_LIMIT);
}

/// Every function that the sources define can be looked up.
#[test]
fn all_functions_have_addresses() {
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/driver");
    let mut names = BTreeSet::new();
    for file in std::fs::read_dir(sources).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let defined = text.split("extern \"C\" fn ").skip(1).filter_map(|rest| rest.split('(').next());
        names.extend(defined.filter(|name| name.starts_with("cu")).map(str::to_owned));
    }
    assert!(names.len() > 200, "{}", names.len());
    let missing: Vec<_> = names.iter().filter(|name| find(name).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // A plain name is the newest version.
    assert_eq!(find("cuMemAlloc"), find("cuMemAlloc_v2"));
    assert_eq!(find("cuCtxCreate"), find("cuCtxCreate_v4"));
    assert!(find("cuMemcpyHtoDAsync").is_some() && find("cuNothing").is_none());
    let (mut address, mut status) = (HostPtr::NULL, 7);
    let name = CString::new("cuLaunchKernel").unwrap();
    let asked = (&*name).into();
    assert_eq!(cuGetProcAddress_v2(asked, Out::from(&mut address), 13_000, 0, Out::from(&mut status)), OK);
    assert_eq!((Some(address), status), (find("cuLaunchKernel"), 0));
    let asked = c"cuNothing".into();
    let answer = cuGetProcAddress_v2(asked, Out::from(&mut address), 13_000, 0, Out::from(&mut status));
    assert_eq!((answer, status), (CUresult::NOT_FOUND, 1));
}

#[test]
fn what_is_not_modelled_fails() {
    assert_eq!(cuArrayDestroy(), CUresult::NOT_SUPPORTED);
}
