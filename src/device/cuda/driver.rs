//! The driver library: whether it is there, new enough, and what its error codes mean.

use std::ffi::{CStr, c_int};
use std::sync::OnceLock;

use cudarc::driver::sys::{self, CUresult};

use super::kernels::COMPILER;
use crate::bail;
use crate::error::{Error, Result};

/// The first driver of a major version of CUDA, as NVIDIA numbers them. It loads machine code of every compiler of that
/// version; PTX only of those that are not newer than itself.
const fn first_driver(major: i32) -> &'static str {
    match major {
        ..=12 => "525",
        _ => "580",
    }
}

/// Loads and starts the driver once per process.
///
/// # Errors
/// Device error naming the fix if the library is missing, does not start, or is too old.
pub(super) fn start() -> Result<()> {
    static STARTED: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    STARTED.get_or_init(|| try_start().map_err(|e| e.to_string())).clone().map_err(Error::Device)
}

fn try_start() -> Result<()> {
    // SAFETY: only opens the library.
    if !unsafe { sys::is_culib_present() } {
        bail!(
            Device,
            "no NVIDIA driver: libcuda.so.1 was not found; install NVIDIA driver {} or newer, or use --device cpu",
            first_driver(COMPILER.0)
        );
    }
    // SAFETY: the library is present; 0 is the only flag value.
    let started = unsafe { sys::cuInit(0) };
    if started == CUresult::CUDA_ERROR_NO_DEVICE {
        return Err(no_device());
    }
    check(started, "start the NVIDIA driver")?;
    let ((major, minor), needed) = (version()?, COMPILER.0);
    if major < needed {
        bail!(
            Device,
            "the NVIDIA driver supports CUDA {major}.{minor}, these kernels need {needed}.0; install driver {} or newer, on a \
             data-centre card NVIDIA's package cuda-compat-{needed}-{} (its folder in LD_LIBRARY_PATH), or use --device cpu",
            first_driver(needed),
            COMPILER.1
        );
    }
    Ok(())
}

/// The CUDA version that the driver supports, major and minor.
pub(super) fn version() -> Result<(i32, i32)> {
    let mut version: c_int = 0;
    // SAFETY: writes one int.
    check(unsafe { sys::cuDriverGetVersion(&mut version) }, "ask for the driver's version")?;
    Ok((version / 1000, version % 1000 / 10))
}

/// The error for a machine whose driver sees no GPU.
pub(super) fn no_device() -> Error {
    Error::Device(
        "the NVIDIA driver sees no GPU (nvidia-smi lists them; CUDA_VISIBLE_DEVICES may hide them); use --device cpu"
            .into(),
    )
}

/// Turns a driver result into an error that says what was being done.
pub(super) fn check(result: CUresult, doing: &str) -> Result<()> {
    if result == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    Err(Error::Device(format!("cannot {doing}: {}", describe(result))))
}

/// Name and text of a driver error.
pub(super) fn describe(result: CUresult) -> String {
    let text = |get: unsafe fn(CUresult, *mut *const std::ffi::c_char) -> CUresult| {
        let mut text = std::ptr::null();
        // SAFETY: `get` stores a pointer to a static string, or leaves null for an unknown code.
        let told = unsafe { get(result, &mut text) };
        if told != CUresult::CUDA_SUCCESS || text.is_null() {
            return None;
        }
        // SAFETY: a static NUL-terminated string of the driver.
        Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    };
    let name = text(sys::cuGetErrorName).unwrap_or_else(|| format!("error {}", result as u32));
    let hint = match result {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => "; another process may hold the memory (nvidia-smi)",
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
        | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
        | CUresult::CUDA_ERROR_LAUNCH_FAILED => {
            "; a kernel failed and the device is lost to this process: run `stablerep selftest --device cuda` and report it"
        }
        _ => "",
    };
    format!("{name} ({}){hint}", text(sys::cuGetErrorString).unwrap_or_default())
}
