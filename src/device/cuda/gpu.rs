//! One opened device and its stream.

use std::collections::HashMap;
use std::ffi::{CString, c_int, c_void};
use std::sync::{Arc, Mutex};

use cudarc::driver::sys::{self, CUdevice_attribute as Attribute, CUresult};

use super::driver::{check, no_device, start};
use super::images::Images;
use super::kernels;
use super::launch::Launch;
use crate::bail;
use crate::device::Queued;
use crate::error::{Error, Result};

/// Which family of kernels a device runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// Ampere, Ada and whatever is newer than Hopper: cp.async and mma.sync.
    Sm80,
    /// Hopper: TMA, mbarrier and wgmma as well.
    Sm90,
}

/// An opened device: context, one stream, loaded kernels. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Gpu(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    name: String,
    capability: (i32, i32),
    sms: u32,
    shared_per_block: u32,
    functions: Mutex<HashMap<&'static str, Function>>,
    modules: Mutex<HashMap<&'static str, sys::CUmodule>>,
    queued: Mutex<Queued>,
    learned: Mutex<HashMap<&'static str, bool>>,
}

/// A loaded kernel and the dynamic shared memory it has been allowed so far.
#[derive(Clone, Copy, Debug)]
struct Function {
    handle: sys::CUfunction,
    shared: u32,
    spread: bool,
}

// SAFETY: the handles are the driver's, which is thread-safe; every use binds the context to its thread first.
unsafe impl Send for Inner {}
// SAFETY: as above; the maps are behind locks.
unsafe impl Sync for Inner {}

/// Of `free` bytes of a card those that a plan may take, and the 512 MB (of a small card an eighth) that the driver is
/// left for loaded kernels and graphs.
pub fn room(free: u64) -> (u64, u64) {
    const DRIVER: u64 = 512 << 20;
    let driver = DRIVER.min(free / 8);
    (free - driver, driver)
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: made in `open` and used by nobody else any more. A lost device answers with errors, which change
        // nothing here.
        unsafe {
            let _ = sys::cuCtxSetCurrent(self.context);
            let _ = sys::cuStreamSynchronize(self.stream);
            let _ = sys::cuStreamDestroy_v2(self.stream);
            let _ = sys::cuDevicePrimaryCtxRelease_v2(self.device);
        }
    }
}

impl Gpu {
    /// Number of GPUs the driver sees.
    ///
    /// # Errors
    /// Device error if there is no usable driver.
    pub fn count() -> Result<usize> {
        start()?;
        let mut count = 0;
        // SAFETY: writes one int.
        check(unsafe { sys::cuDeviceGetCount(&mut count) }, "count the GPUs")?;
        Ok(count.max(0) as usize)
    }

    /// Opens GPU number `ordinal`.
    ///
    /// # Errors
    /// Device error if driver or GPU is missing or too old.
    pub fn open(ordinal: usize) -> Result<Self> {
        let count = Self::count()?;
        if count == 0 {
            return Err(no_device());
        }
        if ordinal >= count {
            bail!(Device, "--device cuda:{ordinal}: this machine has {count} GPU(s), numbered from 0");
        }
        let (mut device, mut context, mut stream) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: each call writes one value; the ordinal exists.
        check(unsafe { sys::cuDeviceGet(&mut device, ordinal as c_int) }, "open the GPU")?;
        let attribute = |attribute: Attribute| -> Result<i32> {
            let mut value = 0;
            // SAFETY: writes one int.
            check(unsafe { sys::cuDeviceGetAttribute(&mut value, attribute, device) }, "ask for a device attribute")?;
            Ok(value)
        };
        let capability = (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        let name = device_name(device)?;
        if capability.0 < 8 {
            bail!(
                Device,
                "--device cuda:{ordinal}: {name} has compute capability {}.{}; the kernels need 8.0 (Ampere) or newer",
                capability.0,
                capability.1
            );
        }
        let sms = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32;
        let shared_per_block = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as u32;
        // SAFETY: writes one handle; released in `drop`.
        check(unsafe { sys::cuDevicePrimaryCtxRetain(&mut context, device) }, "open a context on the GPU")?;
        // SAFETY: a context just made.
        check(unsafe { sys::cuCtxSetCurrent(context) }, "use the GPU's context")?;
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: writes one handle in the current context.
        check(unsafe { sys::cuStreamCreate(&mut stream, flags) }, "make a stream")?;
        let (functions, modules) = (Mutex::default(), Mutex::default());
        let gpu = Self(Arc::new(Inner {
            device,
            context,
            stream,
            name,
            capability,
            sms,
            shared_per_block,
            functions,
            modules,
            queued: Mutex::default(),
            learned: Mutex::default(),
        }));
        // What keeps this driver from loading any of the kernels is said now, and once.
        gpu.module(&kernels::EMBED)?;
        Ok(gpu)
    }

    /// The device's name as the driver gives it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Compute capability, e.g. (9, 0).
    pub fn capability(&self) -> (i32, i32) {
        self.0.capability
    }

    /// The family of kernels to run. `STABLEREP_ARCH=sm80` takes the portable ones everywhere.
    pub fn arch(&self) -> Arch {
        let portable = std::env::var("STABLEREP_ARCH").is_ok_and(|arch| arch == "sm80");
        if self.0.capability == (9, 0) && !portable { Arch::Sm90 } else { Arch::Sm80 }
    }

    /// Whether there are kernels over 8-bit numbers for it: Ada, Hopper and newer.
    pub fn has_e4m3(&self) -> bool {
        self.0.capability >= (8, 9)
    }

    /// # Errors
    /// Device error where [`Gpu::has_e4m3`] is false.
    pub fn needs_e4m3(&self) -> Result<()> {
        let (major, minor) = self.0.capability;
        if !self.has_e4m3() {
            bail!(
                Device,
                "{} has compute capability {major}.{minor}: e4m3 needs 8.9 (Ada), 9.0 (Hopper) or newer; use f16 or bf16",
                self.name()
            );
        }
        Ok(())
    }

    /// Streaming multiprocessors.
    pub fn sms(&self) -> u32 {
        self.0.sms
    }

    /// Most shared memory a block can have, bytes.
    pub fn shared_per_block(&self) -> u32 {
        self.0.shared_per_block
    }

    /// Bytes of the L2 cache.
    pub fn l2_bytes(&self) -> Result<usize> {
        Ok(self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?.max(0) as usize)
    }

    /// The highest clock of the multiprocessors, per second.
    pub fn clock_hz(&self) -> Result<f64> {
        Ok(f64::from(self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?) * 1e3)
    }

    fn attribute(&self, attribute: Attribute) -> Result<i32> {
        let mut value = 0;
        // SAFETY: writes one int.
        check(
            unsafe { sys::cuDeviceGetAttribute(&mut value, attribute, self.0.device) },
            "ask for a device attribute",
        )?;
        Ok(value)
    }

    /// Free and total device memory, bytes.
    pub fn memory(&self) -> Result<(u64, u64)> {
        self.bind()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: writes two sizes.
        check(unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) }, "ask for free device memory")?;
        Ok((free as u64, total as u64))
    }

    /// Device memory that a plan may take, and what it leaves the driver ([`room`]).
    pub fn room(&self) -> Result<(u64, u64)> {
        Ok(room(self.memory()?.0))
    }

    /// Waits for everything queued.
    ///
    /// # Errors
    /// Device error if any of it failed.
    pub fn synchronize(&self) -> Result<()> {
        self.bind()?;
        // SAFETY: the stream lives as long as self.
        check(unsafe { sys::cuStreamSynchronize(self.0.stream) }, "finish the work on the GPU")
    }

    pub(super) fn stream(&self) -> sys::CUstream {
        self.0.stream
    }

    /// Makes the context current in this thread.
    pub(super) fn bind(&self) -> Result<()> {
        // SAFETY: the context lives as long as self.
        check(unsafe { sys::cuCtxSetCurrent(self.0.context) }, "use the GPU's context")
    }

    /// Queues one kernel. Called by the generated launches of [`super::kernels`], which match the arguments to its
    /// parameters.
    pub(super) fn launch(
        &self,
        images: &'static Images,
        name: &'static str,
        at: Launch,
        arguments: &mut [*mut c_void],
    ) -> Result<()> {
        self.bind()?;
        let function = self.function(images, name, at)?;
        self.tally(|queued| queued.kernels += 1);
        at.queue(function, self.0.stream, arguments).map_err(|result| {
            Error::Device(format!("cannot launch {name} as {at}: {}", super::driver::describe(result)))
        })
    }

    /// What `find_out` once said about this card, by name; it is asked the first time, which must not be while work is
    /// recorded.
    ///
    /// # Errors
    /// Those of `find_out`, which is asked again next time.
    pub fn learned(&self, what: &'static str, find_out: impl FnOnce() -> Result<bool>) -> Result<bool> {
        let mut learned = self.0.learned.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(&known) = learned.get(what) {
            return Ok(known);
        }
        let answer = find_out()?;
        learned.insert(what, answer);
        Ok(answer)
    }

    /// What was queued so far.
    pub fn queued(&self) -> Queued {
        *self.0.queued.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn tally(&self, change: impl FnOnce(&mut Queued)) {
        change(&mut self.0.queued.lock().unwrap_or_else(|e| e.into_inner()));
    }

    /// The kernel's handle, with enough dynamic shared memory allowed.
    fn function(&self, images: &'static Images, name: &'static str, at: Launch) -> Result<sys::CUfunction> {
        let mut functions = self.0.functions.lock().unwrap_or_else(|e| e.into_inner());
        let function = match functions.get_mut(name) {
            Some(function) => function,
            None => {
                let handle = self.load(images, name)?;
                // What a kernel may have unasked is 48 KB less its static part, which is not known here.
                functions.entry(name).or_insert(Function { handle, shared: 0, spread: false })
            }
        };
        let set = |attribute, value: u32, what: &str| {
            // SAFETY: a handle of this context.
            check(unsafe { sys::cuFuncSetAttribute(function.handle, attribute, value as c_int) }, what)
        };
        use sys::CUfunction_attribute as Of;
        if at.shared > function.shared {
            let what = format!("give {name} {} bytes of shared memory", at.shared);
            set(Of::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, at.shared, &what)?;
            function.shared = at.shared;
        }
        if at.blocks_per_cluster() > 8 && !function.spread {
            set(Of::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1, "allow clusters of more than 8 blocks")?;
            function.spread = true;
        }
        Ok(function.handle)
    }

    fn module(&self, images: &'static Images) -> Result<sys::CUmodule> {
        let mut modules = self.0.modules.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(&module) = modules.get(images.stem) {
            return Ok(module);
        }
        let module = images.load(self.0.capability)?;
        modules.insert(images.stem, module);
        Ok(module)
    }

    fn load(&self, images: &'static Images, name: &'static str) -> Result<sys::CUfunction> {
        let module = self.module(images)?;
        let symbol = CString::new(name).map_err(|e| Error::Failed(e.to_string()))?;
        let mut function = std::ptr::null_mut();
        // SAFETY: a loaded module and a C string; writes one handle.
        let found = unsafe { sys::cuModuleGetFunction(&mut function, module, symbol.as_ptr()) };
        check(found, &format!("find {name} in kernels/{}.cu", images.stem))?;
        Ok(function)
    }
}

fn device_name(device: sys::CUdevice) -> Result<String> {
    let mut name = [0u8; 128];
    // SAFETY: writes at most 128 bytes including the final NUL.
    let told: CUresult = unsafe { sys::cuDeviceGetName(name.as_mut_ptr().cast(), 128, device) };
    check(told, "ask for the GPU's name")?;
    let end = name.iter().position(|&c| c == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}
