//! Kernels as the program holds them: attributes, parameters, names. `CUkernel` and `CUfunction` are one here.

use std::ffi::{CString, c_char, c_int, c_uint};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::context::{CUdevice, current};
use super::errors::{CUresult, Outcome, call, fail};
use super::ffi::Out;
use super::handles::{Handle, Table};
use super::module::{CUlibrary, CUmodule, Module, c_name};
use super::state::device;
use crate::device::DeviceModel;
use crate::ptx;

pub type CUfunction = Handle<Function>;
pub type CUkernel = Handle<Function>;

pub(super) static FUNCTIONS: Table<Function> = Table::new("kernel");

pub struct Function {
    pub module: Weak<Module>,
    code: Arc<ptx::Module>,
    index: usize,
    name: CString,
    /// Registers of one thread: an estimate, for no register is allocated before `ptxas`.
    pub registers: u32,
    settings: Mutex<Settings>,
}

/// What `cuFuncSetAttribute` changes.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub max_dynamic_shared: u32,
    carveout: c_int,
    pub required_cluster: [u32; 3],
    pub non_portable_cluster: bool,
    cluster_scheduling: c_int,
}

mod attribute {
    pub const MAX_THREADS_PER_BLOCK: i32 = 0;
    pub const SHARED_SIZE_BYTES: i32 = 1;
    pub const CONST_SIZE_BYTES: i32 = 2;
    pub const LOCAL_SIZE_BYTES: i32 = 3;
    pub const NUM_REGS: i32 = 4;
    pub const PTX_VERSION: i32 = 5;
    pub const BINARY_VERSION: i32 = 6;
    pub const CACHE_MODE_CA: i32 = 7;
    pub const MAX_DYNAMIC_SHARED_SIZE_BYTES: i32 = 8;
    pub const PREFERRED_SHARED_MEMORY_CARVEOUT: i32 = 9;
    pub const CLUSTER_SIZE_MUST_BE_SET: i32 = 10;
    pub const REQUIRED_CLUSTER_WIDTH: i32 = 11;
    pub const REQUIRED_CLUSTER_HEIGHT: i32 = 12;
    pub const REQUIRED_CLUSTER_DEPTH: i32 = 13;
    pub const NON_PORTABLE_CLUSTER_SIZE_ALLOWED: i32 = 14;
    pub const CLUSTER_SCHEDULING_POLICY_PREFERENCE: i32 = 15;
}

impl Function {
    pub fn new(module: &Arc<Module>, index: usize, model: &DeviceModel) -> Self {
        let kernel = &module.code.kernels[index];
        let spare = model.shared_per_block.saturating_sub(kernel.static_shared as u32);
        Self {
            module: Arc::downgrade(module),
            code: module.code.clone(),
            index,
            name: c_name(&kernel.name),
            registers: registers(kernel, model),
            settings: Mutex::new(Settings {
                max_dynamic_shared: spare,
                carveout: -1,
                required_cluster: kernel.cluster.unwrap_or([0; 3]),
                non_portable_cluster: false,
                cluster_scheduling: 0,
            }),
        }
    }

    pub fn kernel(&self) -> &ptx::Kernel {
        &self.code.kernels[self.index]
    }

    pub fn settings(&self) -> Settings {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Most threads of a block.
    pub fn max_threads(&self, model: &DeviceModel) -> u32 {
        let kernel = self.kernel();
        let bound = kernel.required_threads.or(kernel.max_threads).map(|[x, y, z]| x * y * z);
        bound.unwrap_or(model.max_threads_per_block).min(model.max_threads_per_block)
    }

    fn get(&self, wanted: c_int, model: &DeviceModel) -> Outcome<c_int> {
        let kernel = self.kernel();
        let settings = self.settings();
        let (major, minor) = self.code.version;
        let value = match wanted {
            attribute::MAX_THREADS_PER_BLOCK => self.max_threads(model) as usize,
            attribute::SHARED_SIZE_BYTES => kernel.static_shared,
            attribute::CONST_SIZE_BYTES | attribute::CACHE_MODE_CA => 0,
            attribute::LOCAL_SIZE_BYTES => kernel.local_bytes,
            attribute::NUM_REGS => self.registers as usize,
            attribute::PTX_VERSION => (major * 10 + minor) as usize,
            attribute::BINARY_VERSION => model.sm as usize,
            attribute::MAX_DYNAMIC_SHARED_SIZE_BYTES => settings.max_dynamic_shared as usize,
            attribute::PREFERRED_SHARED_MEMORY_CARVEOUT => return Ok(settings.carveout),
            attribute::CLUSTER_SIZE_MUST_BE_SET => usize::from(kernel.cluster.is_some()),
            attribute::REQUIRED_CLUSTER_WIDTH => settings.required_cluster[0] as usize,
            attribute::REQUIRED_CLUSTER_HEIGHT => settings.required_cluster[1] as usize,
            attribute::REQUIRED_CLUSTER_DEPTH => settings.required_cluster[2] as usize,
            attribute::NON_PORTABLE_CLUSTER_SIZE_ALLOWED => usize::from(settings.non_portable_cluster),
            attribute::CLUSTER_SCHEDULING_POLICY_PREFERENCE => return Ok(settings.cluster_scheduling),
            _ => return fail(CUresult::INVALID_VALUE, format!("function attribute {wanted}")),
        };
        c_int::try_from(value).or(Err(CUresult::INVALID_VALUE.into()))
    }

    fn set(&self, wanted: c_int, value: c_int, model: &DeviceModel) -> Outcome {
        let kernel = self.kernel();
        let name = &kernel.name;
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        match wanted {
            attribute::MAX_DYNAMIC_SHARED_SIZE_BYTES => {
                let most = model.shared_per_block_optin as i64 - kernel.static_shared as i64;
                if value < 0 || i64::from(value) > most {
                    let text = format!("{name}: {value} bytes of dynamic shared memory, {most} are possible");
                    return fail(CUresult::INVALID_VALUE, text);
                }
                settings.max_dynamic_shared = value as u32;
            }
            attribute::PREFERRED_SHARED_MEMORY_CARVEOUT => {
                if !(-1..=100).contains(&value) {
                    return fail(CUresult::INVALID_VALUE, format!("{name}: carveout of {value} per cent"));
                }
                settings.carveout = value;
            }
            attribute::REQUIRED_CLUSTER_WIDTH
            | attribute::REQUIRED_CLUSTER_HEIGHT
            | attribute::REQUIRED_CLUSTER_DEPTH => {
                if kernel.cluster.is_some() || model.max_cluster == 1 || value < 0 {
                    let text = format!("{name}: the cluster is fixed in the code, or the device has none");
                    return fail(CUresult::NOT_PERMITTED, text);
                }
                settings.required_cluster[(wanted - attribute::REQUIRED_CLUSTER_WIDTH) as usize] = value as u32;
            }
            attribute::NON_PORTABLE_CLUSTER_SIZE_ALLOWED => settings.non_portable_cluster = value != 0,
            attribute::CLUSTER_SCHEDULING_POLICY_PREFERENCE => settings.cluster_scheduling = value,
            _ => return fail(CUresult::INVALID_VALUE, format!("{name}: function attribute {wanted} cannot be set")),
        }
        Ok(())
    }
}

/// As many registers as a block of the largest size leaves for a thread, at most the 255 that there are names for; 64,
/// which suits any block, where the kernel does not say how large its blocks get.
fn registers(kernel: &ptx::Kernel, model: &DeviceModel) -> u32 {
    let Some([x, y, z]) = kernel.required_threads.or(kernel.max_threads) else { return 64 };
    let threads = (x * y * z).next_multiple_of(32) * kernel.min_blocks_per_sm.unwrap_or(1);
    (model.registers_per_sm / threads.max(1) / 8 * 8).clamp(16, 255)
}

// --- The C functions ------------------------------------------------------------------------------------------------

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetAttribute(value: Out<c_int>, wanted: c_int, function: CUfunction) -> CUresult {
    call("cuFuncGetAttribute", || value.put(FUNCTIONS.get(function)?.get(wanted, &current()?.device.model)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetAttribute(function: CUfunction, wanted: c_int, value: c_int) -> CUresult {
    call("cuFuncSetAttribute", || FUNCTIONS.get(function)?.set(wanted, value, &current()?.device.model))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetAttribute(value: Out<c_int>, wanted: c_int, kernel: CUkernel, dev: CUdevice) -> CUresult {
    call("cuKernelGetAttribute", || value.put(FUNCTIONS.get(kernel)?.get(wanted, &device(dev)?.model)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelSetAttribute(wanted: c_int, value: c_int, kernel: CUkernel, dev: CUdevice) -> CUresult {
    call("cuKernelSetAttribute", || FUNCTIONS.get(kernel)?.set(wanted, value, &device(dev)?.model))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetCacheConfig(function: CUfunction, _config: c_int) -> CUresult {
    call("cuFuncSetCacheConfig", || FUNCTIONS.get(function).map(drop))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelSetCacheConfig(kernel: CUkernel, _config: c_int, _dev: CUdevice) -> CUresult {
    call("cuKernelSetCacheConfig", || FUNCTIONS.get(kernel).map(drop))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetFunction(function: Out<CUfunction>, kernel: CUkernel) -> CUresult {
    call("cuKernelGetFunction", || FUNCTIONS.get(kernel).and_then(|_| function.put(kernel)))
}

fn library(module: Out<CUmodule>, function: CUfunction) -> Outcome {
    let function = FUNCTIONS.get(function)?;
    let owner = function.module.upgrade().ok_or(CUresult::INVALID_HANDLE)?;
    module.put(owner.handle)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetModule(module: Out<CUmodule>, function: CUfunction) -> CUresult {
    call("cuFuncGetModule", || library(module, function))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetLibrary(owner: Out<CUlibrary>, kernel: CUkernel) -> CUresult {
    call("cuKernelGetLibrary", || library(owner, kernel))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetName(name: Out<*const c_char>, function: CUfunction) -> CUresult {
    call("cuFuncGetName", || name.put(FUNCTIONS.get(function)?.name.as_ptr()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetName(name: Out<*const c_char>, kernel: CUkernel) -> CUresult {
    call("cuKernelGetName", || name.put(FUNCTIONS.get(kernel)?.name.as_ptr()))
}

fn param(function: CUfunction, index: usize, offset: Out<usize>, bytes: Out<usize>) -> Outcome {
    let function = FUNCTIONS.get(function)?;
    // Past the last parameter the API answers INVALID_VALUE: programs count that way.
    let param = function.kernel().params.get(index).ok_or(CUresult::INVALID_VALUE)?;
    offset.put(param.offset)?;
    bytes.put_if_wanted(param.size);
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetParamInfo(
    function: CUfunction,
    index: usize,
    offset: Out<usize>,
    bytes: Out<usize>,
) -> CUresult {
    call("cuFuncGetParamInfo", || param(function, index, offset, bytes))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetParamInfo(
    kernel: CUkernel,
    index: usize,
    offset: Out<usize>,
    bytes: Out<usize>,
) -> CUresult {
    call("cuKernelGetParamInfo", || param(kernel, index, offset, bytes))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncIsLoaded(state: Out<c_uint>, function: CUfunction) -> CUresult {
    const LOADED: c_uint = 1;
    call("cuFuncIsLoaded", || FUNCTIONS.get(function).and_then(|_| state.put(LOADED)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncLoad(function: CUfunction) -> CUresult {
    call("cuFuncLoad", || FUNCTIONS.get(function).map(drop))
}
