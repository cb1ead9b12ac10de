//! Modules and libraries: PTX text in, kernels and variables out. Machine code is refused, as by a newer card.

use std::ffi::{CStr, CString, c_char, c_int, c_uint};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::capture;
use super::context::{Context, current};
use super::errors::{CUresult, Error, Outcome, call, fail, not_modelled, say};
use super::ffi::{DevicePtr, HostPtr, In, Out, Text};
use super::function::{CUfunction, FUNCTIONS, Function};
use super::handles::{Handle, Table};
use super::jit::{CUjit_option, Log};
use super::memory;
use super::state::driver;
use crate::check::Finding;
use crate::ptx;

pub type CUmodule = Handle<Module>;
/// A library is a module by another name: it loads at once and has one device.
pub type CUlibrary = Handle<Module>;

pub(super) static MODULES: Table<Module> = Table::new("module or library");

pub struct Module {
    pub handle: CUmodule,
    pub context: Weak<Context>,
    pub code: Arc<ptx::Module>,
    /// Name, address and size of each variable.
    globals: Vec<(String, DevicePtr, usize)>,
    /// Handles of its kernels, in the order of the text.
    functions: Mutex<Vec<CUfunction>>,
}

impl Module {
    /// The kernels' handles.
    fn functions(&self) -> Vec<CUfunction> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn function(&self, name: &str) -> Outcome<CUfunction> {
        match self.code.kernels.iter().position(|kernel| kernel.name == name) {
            Some(i) => Ok(self.functions()[i]),
            None => {
                let known: Vec<&str> = self.code.kernels.iter().map(|kernel| kernel.name.as_str()).collect();
                fail(CUresult::NOT_FOUND, format!("no kernel {name:?}; there are {}", known.join(", ")))
            }
        }
    }

    fn global(&self, name: &str) -> Outcome<(DevicePtr, usize)> {
        let found = self.globals.iter().find(|(known, ..)| known == name);
        found.map_or_else(
            || fail(CUresult::NOT_FOUND, format!("no variable {name:?}")),
            |&(_, at, bytes)| Ok((at, bytes)),
        )
    }
}

/// First bytes of images that are not text: ELF, fat binary, its wrapper.
const BINARIES: [([u8; 4], &str); 3] = [
    ([0x7f, b'E', b'L', b'F'], "a cubin"),
    ([0x50, 0xed, 0x55, 0xba], "a fat binary"),
    ([0xb1, 0x43, 0x62, 0x46], "a fat binary wrapper"),
];

/// The text of an image.
fn text_of<'a>(image: HostPtr) -> Outcome<&'a str> {
    if image.is_null() {
        return fail(CUresult::INVALID_VALUE, "the image is null");
    }
    // SAFETY: an image is at least four bytes: a header, or text that starts with `.version` or a comment.
    let head = unsafe { image.bytes(4) };
    if let Some((_, what)) = BINARIES.iter().find(|(magic, _)| magic == head) {
        let text = format!("the image is {what}: the simulated device executes PTX only, as a newer card would");
        return fail(CUresult::NO_BINARY_FOR_GPU, text);
    }
    // SAFETY: what is no binary is NUL-terminated PTX, says the API.
    let text = unsafe { CStr::from_ptr(std::ptr::with_exposed_provenance::<c_char>(image.0)) };
    let text = text.to_str().or_else(|_| fail(CUresult::INVALID_IMAGE, "the image is neither a binary nor text"))?;
    if !text.contains(".version") {
        return fail(CUresult::INVALID_IMAGE, "the image has no .version: it is no PTX");
    }
    Ok(text)
}

/// Newest PTX ISA that the driver of a CUDA version accepts.
fn newest_ptx(cuda: i32) -> (u32, u32) {
    match (cuda / 1000, cuda % 1000 / 10) {
        (..=10, _) => (6, 5),
        (11, minor) => (7, minor.min(8) as u32),
        (12, minor @ ..=5) => (8, minor as u32),
        (12, 6) => (8, 5),
        (12, 7) => (8, 6),
        (12, 8) => (8, 7),
        (12, _) => (8, 8),
        (13, minor) => (9, minor as u32),
        _ => (9, 9),
    }
}

/// # Errors
/// What `ptxas` and the loader would refuse: the text goes to the JIT log too.
fn check_target(module: &ptx::Module, device: u32, cuda: i32) -> Outcome {
    let (major, minor) = module.version;
    let newest = newest_ptx(cuda);
    if module.version > newest {
        let text = format!("PTX ISA {major}.{minor}; a driver of CUDA {cuda} knows {}.{} at most", newest.0, newest.1);
        return fail(CUresult::UNSUPPORTED_PTX_VERSION, text);
    }
    let name = format!("sm_{}{}", module.target, if module.arch_specific { "a" } else { "" });
    if module.target > device {
        return fail(CUresult::INVALID_PTX, format!(".target {name} is newer than the device's sm_{device}"));
    }
    if module.arch_specific && module.target != device {
        return fail(CUresult::NO_BINARY_FOR_GPU, format!(".target {name} runs on sm_{} only", module.target));
    }
    Ok(())
}

fn load(image: HostPtr, log: &mut Log) -> Outcome<CUmodule> {
    let context = current()?;
    capture::refuse_unsafe(&context)?;
    let loaded = text_of(image).and_then(|text| build(&context, text));
    match &loaded {
        Ok(module) => log.info(&format!("cuda-sim: {} kernels", MODULES.get(*module)?.code.kernels.len())),
        Err(error) => log.error(&format!("cuda-sim: {}", error.text)),
    }
    loaded
}

fn build(context: &Arc<Context>, text: &str) -> Outcome<CUmodule> {
    let parsed = ptx::Module::parse(text);
    let mut code = parsed.or_else(|error| fail(CUresult::INVALID_PTX, error.to_string()))?;
    check_target(&code, context.device.model.sm, driver()?.settings.version)?;
    let mut globals = Vec::with_capacity(code.globals.len());
    for global in &code.globals {
        let address = memory::allocate(context, global.bytes.max(1), None, true)?;
        globals.push((global.name.clone(), address, global.bytes));
    }
    let addresses: Vec<DevicePtr> = globals.iter().map(|&(_, address, _)| address).collect();
    code.link(&addresses);
    let device = &context.device.memory;
    let broken = |finding: Box<Finding>| Error { code: CUresult::UNKNOWN, text: finding.text };
    for (global, &address) in code.globals.iter().zip(&addresses) {
        device.write(address, &global.init).map_err(broken)?;
        if global.constant {
            device.protect(address);
        }
    }
    let code = Arc::new(code);
    let handle = MODULES.insert_with(|handle| {
        let context = Arc::downgrade(context);
        Arc::new(Module { handle, context, code: code.clone(), globals, functions: Mutex::default() })
    });
    let module = MODULES.get(handle)?;
    let model = &context.device.model;
    let functions = (0..code.kernels.len()).map(|i| FUNCTIONS.insert(Arc::new(Function::new(&module, i, model))));
    *module.functions.lock().unwrap_or_else(PoisonError::into_inner) = functions.collect();
    Ok(handle)
}

fn unload(handle: CUmodule) -> Outcome {
    let module = MODULES.remove(handle)?;
    for function in module.functions() {
        let _ = FUNCTIONS.remove(function); // the table holds each exactly once
    }
    let Some(context) = module.context.upgrade() else { return Ok(()) };
    let waited = context.synchronize(); // launches that are queued still need its variables
    for &(_, address, _) in &module.globals {
        let _ = context.allocations.free(&context.device.memory, address); // live by construction
    }
    waited
}

/// Forgets the modules of a context that is destroyed; their variables go with its other memory.
pub fn forget(context: &Context) {
    let of = |module: &Weak<Context>| std::ptr::eq(module.as_ptr(), context);
    FUNCTIONS.remove_where(|function| function.module.upgrade().is_none_or(|module| of(&module.context)));
    MODULES.remove_where(|module| of(&module.context));
}

/// The NUL-terminated contents of a file.
fn read(path: Text) -> Outcome<Vec<u8>> {
    let path = Path::new(path.get()?);
    let bytes = std::fs::read(path);
    let bytes = bytes.or_else(|error| fail(CUresult::FILE_NOT_FOUND, format!("{}: {error}", path.display())))?;
    let mut bytes = bytes;
    bytes.extend([0; 4]); // an image is at least four bytes
    Ok(bytes)
}

// --- Modules --------------------------------------------------------------------------------------------------------

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoad(module: Out<CUmodule>, path: Text) -> CUresult {
    call("cuModuleLoad", || {
        let image = read(path)?;
        module.put(load(HostPtr::from(image.as_ptr()), &mut Log::default())?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadData(module: Out<CUmodule>, image: HostPtr) -> CUresult {
    call("cuModuleLoadData", || module.put(load(image, &mut Log::default())?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadFatBinary(module: Out<CUmodule>, image: HostPtr) -> CUresult {
    call("cuModuleLoadFatBinary", || module.put(load(image, &mut Log::default())?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadDataEx(
    module: Out<CUmodule>,
    image: HostPtr,
    count: c_uint,
    options: In<CUjit_option>,
    values: HostPtr,
) -> CUresult {
    call("cuModuleLoadDataEx", || {
        // SAFETY: the API asks for arrays of `count` options with values of their types.
        let mut log = unsafe { Log::new(count, options, values)? };
        module.put(load(image, &mut log)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleUnload(module: CUmodule) -> CUresult {
    call("cuModuleUnload", || unload(module))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetFunction(function: Out<CUfunction>, module: CUmodule, name: Text) -> CUresult {
    call("cuModuleGetFunction", || {
        current()?;
        function.put(MODULES.get(module)?.function(name.get()?)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetFunctionCount(count: Out<c_uint>, module: CUmodule) -> CUresult {
    call("cuModuleGetFunctionCount", || count.put(MODULES.get(module)?.code.kernels.len() as c_uint))
}

fn enumerate(functions: Out<CUfunction>, count: c_uint, module: CUmodule) -> Outcome {
    let known = MODULES.get(module)?.functions();
    // SAFETY: the API asks for an array of `count` handles.
    unsafe { functions.put_all(known.into_iter().take(count as usize)) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleEnumerateFunctions(functions: Out<CUfunction>, count: c_uint, module: CUmodule) -> CUresult {
    call("cuModuleEnumerateFunctions", || enumerate(functions, count, module))
}

fn global(address: Out<DevicePtr>, bytes: Out<usize>, module: CUmodule, name: Text) -> Outcome {
    let (at, size) = MODULES.get(module)?.global(name.get()?)?;
    address.put_if_wanted(at);
    bytes.put_if_wanted(size);
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetGlobal_v2(
    address: Out<DevicePtr>,
    bytes: Out<usize>,
    module: CUmodule,
    name: Text,
) -> CUresult {
    call("cuModuleGetGlobal", || global(address, bytes, module, name))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetLoadingMode(mode: Out<c_int>) -> CUresult {
    const EAGER: c_int = 1;
    call("cuModuleGetLoadingMode", || mode.put(EAGER))
}

// --- Libraries ------------------------------------------------------------------------------------------------------

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryLoadData(
    library: Out<CUlibrary>,
    image: HostPtr,
    options: In<CUjit_option>,
    values: HostPtr,
    count: c_uint,
    _library_options: In<c_int>,
    _library_values: HostPtr,
    library_count: c_uint,
) -> CUresult {
    call("cuLibraryLoadData", || {
        if library_count != 0 {
            say("cuLibraryLoadData: library options are ignored");
        }
        // SAFETY: the API asks for arrays of `count` options with values of their types.
        let mut log = unsafe { Log::new(count, options, values)? };
        library.put(load(image, &mut log)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryLoadFromFile(
    library: Out<CUlibrary>,
    path: Text,
    options: In<CUjit_option>,
    values: HostPtr,
    count: c_uint,
    _library_options: In<c_int>,
    _library_values: HostPtr,
    _library_count: c_uint,
) -> CUresult {
    call("cuLibraryLoadFromFile", || {
        let image = read(path)?;
        // SAFETY: the API asks for arrays of `count` options with values of their types.
        let mut log = unsafe { Log::new(count, options, values)? };
        library.put(load(HostPtr::from(image.as_ptr()), &mut log)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryUnload(library: CUlibrary) -> CUresult {
    call("cuLibraryUnload", || unload(library))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryGetKernel(kernel: Out<CUfunction>, library: CUlibrary, name: Text) -> CUresult {
    call("cuLibraryGetKernel", || kernel.put(MODULES.get(library)?.function(name.get()?)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryGetKernelCount(count: Out<c_uint>, library: CUlibrary) -> CUresult {
    call("cuLibraryGetKernelCount", || count.put(MODULES.get(library)?.code.kernels.len() as c_uint))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryEnumerateKernels(kernels: Out<CUfunction>, count: c_uint, library: CUlibrary) -> CUresult {
    call("cuLibraryEnumerateKernels", || enumerate(kernels, count, library))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryGetModule(module: Out<CUmodule>, library: CUlibrary) -> CUresult {
    call("cuLibraryGetModule", || module.put(MODULES.get(library)?.handle))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryGetGlobal(
    address: Out<DevicePtr>,
    bytes: Out<usize>,
    library: CUlibrary,
    name: Text,
) -> CUresult {
    call("cuLibraryGetGlobal", || global(address, bytes, library, name))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryGetManaged(_address: Out<DevicePtr>, _bytes: Out<usize>, _: CUlibrary, _: Text) -> CUresult {
    call("cuLibraryGetManaged", || not_modelled("managed memory"))
}

/// Kernel names outlive their module, as the API promises for the library's lifetime.
pub fn c_name(name: &str) -> CString {
    CString::new(name).unwrap_or_default() // PTX names have no NUL
}
