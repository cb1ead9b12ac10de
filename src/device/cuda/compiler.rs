//! NVRTC, NVIDIA's compiler of CUDA C++ as a library: `kernels/*.cu` to PTX and machine code, without nvcc and without
//! a compiler for the host. The build embeds what it makes (`build.rs` includes this file); `STABLEREP_KERNELS` has the
//! program compile kernels while they are worked on.

use std::ffi::{CStr, CString, c_char};
use std::path::{Path, PathBuf};
use std::{env, fs, ptr};

use cudarc::nvrtc::result::NvrtcError;
use cudarc::nvrtc::sys;

/// What the kernels use of the host's headers, which NVRTC comes without.
const STDINT: &CStr = c"#pragma once
using int8_t = signed char; using uint8_t = unsigned char;
using int16_t = short; using uint16_t = unsigned short;
using int32_t = int; using uint32_t = unsigned int;
using int64_t = long long; using uint64_t = unsigned long long;
using uintptr_t = unsigned long;
#define INT32_MAX 2147483647
#define INFINITY __int_as_float(0x7f800000)
";
const TYPE_TRAITS: &CStr = c"#pragma once
namespace std {
template <typename A, typename B> struct is_same { static constexpr bool value = false; };
template <typename A> struct is_same<A, A> { static constexpr bool value = true; };
template <typename A, typename B> inline constexpr bool is_same_v = is_same<A, B>::value;
template <bool FIRST, typename A, typename B> struct conditional { using type = A; };
template <typename A, typename B> struct conditional<false, A, B> { using type = B; };
template <bool FIRST, typename A, typename B> using conditional_t = typename conditional<FIRST, A, B>::type;
}  // namespace std
";

/// The opened library and the toolkit's headers.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// CUDA version, major and minor.
    pub version: (i32, i32),
    /// The file, which tells two releases of one version apart.
    pub nvrtc: PathBuf,
    headers: Vec<PathBuf>,
}

/// One `.cu` file compiled for one target.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub ptx: String,
    /// For a real target (`sm_…`).
    pub machine_code: Option<Vec<u8>>,
    /// What the assembler said, for a real target: the resources of each kernel.
    pub log: String,
}

impl Compiler {
    /// Looks for `libnvrtc.so.12` and the headers of its toolkit in `CUDA_HOME`, `CUDA_PATH`, `fetched` (which
    /// `dev/cuda-toolchain.sh` fills) and `/usr/local/cuda`; `None` if they are in none of them. CUDA 12, because its
    /// machine code loads on every driver from 525 on, that of 13 from 580 on.
    ///
    /// # Errors
    /// If the library is there but does not open.
    pub fn find(fetched: &Path) -> Result<Option<Self>, String> {
        let named = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(PathBuf::from);
        let folders = named.chain([fetched.to_path_buf(), "/usr/local/cuda".into()]);
        let mut toolkits = folders.flat_map(|folder| [Toolkit::fetched(&folder), Toolkit::installed(folder)]);
        toolkits.find(Toolkit::complete).map(Self::open).transpose()
    }

    fn open(toolkit: Toolkit) -> Result<Self, String> {
        let wrong = |what: &str| format!("{}: {what}; run dev/cuda-toolchain.sh", toolkit.nvrtc.display());
        // SAFETY: runs the library's initialisers, which do nothing but set it up. Its bindings look for it by name;
        // what is open already under that name is what they find.
        let library = unsafe { libloading::Library::new(&toolkit.nvrtc) }.map_err(|e| wrong(&e.to_string()))?;
        std::mem::forget(library);
        // SAFETY: only opens the library.
        if !unsafe { sys::is_culib_present() } {
            return Err(wrong("this is no NVRTC"));
        }
        let (mut major, mut minor) = (0, 0);
        // SAFETY: writes two ints.
        check(unsafe { sys::nvrtcVersion(&mut major, &mut minor) }).map_err(|e| wrong(&e))?;
        Ok(Self { version: (major, minor), nvrtc: toolkit.nvrtc, headers: toolkit.headers })
    }

    /// Compiles the file for a target: `compute_80` gives PTX, `sm_80` machine code as well. Headers in quotes are
    /// looked for in its folder.
    ///
    /// # Errors
    /// What the compiler complains of, warnings too; and machine code that spills, uses local memory, or waits between
    /// wgmmas (C75xx).
    pub fn compile(&self, file: &Path, target: &str) -> Result<Compiled, String> {
        let name = format!("kernels/{}", file.file_name().unwrap_or_default().to_string_lossy());
        let wrong = |what: &str| format!("{name} for {target}: {what}");
        let text = fs::read(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
        let text = CString::new(text).map_err(|_| wrong("a NUL in its text"))?;
        let folder = file.parent().unwrap_or(Path::new("."));
        let includes = [folder].into_iter().chain(self.headers.iter().map(PathBuf::as_path));
        let mut options = ["-std=c++17", "-lineinfo", "-default-device"].map(str::to_owned).to_vec();
        options.push(format!("--gpu-architecture={target}"));
        options.extend(includes.map(|folder| format!("--include-path={}", folder.display())));
        if target.starts_with("sm_") {
            options.push("--ptxas-options=-v".into());
        }
        // NVRTC looks for headers beside the file of this name first, were it below the working directory: the name is
        // of a file that is nowhere.
        let program = Program::new(&text, &format!("/{name}"))?;
        let (done, log) = program.compile(&options)?;
        if done.is_err() || log.contains("warning") {
            return Err(wrong(&log));
        }
        if log.contains("(C75") {
            return Err(wrong(&format!("its wgmmas are serialised\n{log}")));
        }
        if let Some(kernel) = resources(&log).into_iter().find(|kernel| kernel.spills > 0 || kernel.stack > 0) {
            let Resources { name, stack, spills, .. } = kernel;
            return Err(wrong(&format!("{name} uses {stack} bytes of stack, {spills} of spills\n{log}")));
        }
        Ok(Compiled { ptx: program.ptx()?, machine_code: program.machine_code()?, log })
    }
}

/// Where a toolkit keeps what is needed of it.
struct Toolkit {
    nvrtc: PathBuf,
    headers: Vec<PathBuf>,
}

impl Toolkit {
    fn installed(home: PathBuf) -> Self {
        Self { nvrtc: home.join("lib64/libnvrtc.so.12"), headers: vec![home.join("include")] }
    }

    /// The wheels of PyPI unpacked.
    fn fetched(folder: &Path) -> Self {
        let part = |name: &str| folder.join("nvidia").join(name);
        let headers = ["cuda_runtime", "cuda_cccl"].map(|name| part(name).join("include"));
        Self { nvrtc: part("cuda_nvrtc").join("lib/libnvrtc.so.12"), headers: headers.into() }
    }

    fn complete(&self) -> bool {
        self.nvrtc.is_file() && self.headers.iter().any(|folder| folder.join("cuda_fp16.h").is_file())
    }
}

fn check(result: sys::nvrtcResult) -> Result<(), String> {
    result.result().map_err(describe)
}

fn describe(NvrtcError(code): NvrtcError) -> String {
    // SAFETY: a static NUL-terminated string for every code.
    unsafe { CStr::from_ptr(sys::nvrtcGetErrorString(code)) }.to_string_lossy().into_owned()
}

/// A program of the library, destroyed when dropped.
struct Program(sys::nvrtcProgram);

impl Program {
    fn new(text: &CStr, name: &str) -> Result<Self, String> {
        let name = CString::new(name).map_err(|e| e.to_string())?;
        let (names, texts) = ([c"stdint.h".as_ptr(), c"type_traits".as_ptr()], [STDINT.as_ptr(), TYPE_TRAITS.as_ptr()]);
        let mut program = ptr::null_mut();
        // SAFETY: strings that outlive the call, which copies them; two headers with two names.
        check(unsafe {
            sys::nvrtcCreateProgram(&mut program, text.as_ptr(), name.as_ptr(), 2, texts.as_ptr(), names.as_ptr())
        })?;
        Ok(Self(program))
    }

    /// Whether it compiled, and the log.
    fn compile(&self, options: &[String]) -> Result<(Result<(), String>, String), String> {
        let options: Vec<CString> = options
            .iter()
            .map(|text| CString::new(text.as_str()).map_err(|e| e.to_string()))
            .collect::<Result<_, _>>()?;
        let pointers: Vec<*const c_char> = options.iter().map(|text| text.as_ptr()).collect();
        // SAFETY: a live program and as many strings as said.
        let done = check(unsafe { sys::nvrtcCompileProgram(self.0, pointers.len() as i32, pointers.as_ptr()) });
        let log = self.output(sys::nvrtcGetProgramLogSize, sys::nvrtcGetProgramLog)?;
        Ok((done, text(log)))
    }

    fn ptx(&self) -> Result<String, String> {
        self.output(sys::nvrtcGetPTXSize, sys::nvrtcGetPTX).map(text)
    }

    fn machine_code(&self) -> Result<Option<Vec<u8>>, String> {
        let code = self.output(sys::nvrtcGetCUBINSize, sys::nvrtcGetCUBIN)?;
        Ok((!code.is_empty()).then_some(code))
    }

    fn output(
        &self,
        size: unsafe fn(sys::nvrtcProgram, *mut usize) -> sys::nvrtcResult,
        get: unsafe fn(sys::nvrtcProgram, *mut c_char) -> sys::nvrtcResult,
    ) -> Result<Vec<u8>, String> {
        let mut bytes = 0;
        // SAFETY: a live program; writes one size.
        check(unsafe { size(self.0, &mut bytes) })?;
        let mut out = vec![0u8; bytes];
        if bytes > 0 {
            // SAFETY: a live program and room for what it said it writes.
            check(unsafe { get(self.0, out.as_mut_ptr().cast()) })?;
        }
        Ok(out)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made in `new`, used by nobody else.
        let _ = unsafe { sys::nvrtcDestroyProgram(&mut self.0) };
    }
}

/// Text up to the NUL that ends it.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
}

/// What a kernel takes of a multiprocessor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub name: String,
    /// Per thread.
    pub registers: u32,
    /// Bytes of local memory per thread.
    pub stack: u32,
    pub spills: u32,
    /// Bytes per block, without dynamic shared memory.
    pub shared: u32,
}

/// The kernels in the assembler's log.
pub fn resources(log: &str) -> Vec<Resources> {
    let before = |line: &str, unit: &str| -> u32 {
        let end = line.find(unit).unwrap_or(0);
        line[..end].rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    let mut all: Vec<Resources> = Vec::new();
    for line in log.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            let name = rest.split('\'').next().unwrap_or_default().to_owned();
            all.push(Resources { name, ..Resources::default() });
        } else if let Some(kernel) = all.last_mut() {
            kernel.registers = kernel.registers.max(before(line, " registers"));
            kernel.stack = kernel.stack.max(before(line, " bytes stack frame"));
            kernel.spills = kernel.spills.max(before(line, " bytes spill stores"));
            kernel.shared = kernel.shared.max(before(line, " bytes smem"));
        }
    }
    all
}
