//! Which compiled form of a kernel file a device gets.

use std::ffi::{CString, c_void};
use std::io::Read;
use std::path::PathBuf;

use cudarc::driver::sys::{self, CUresult};
use flate2::read::ZlibDecoder;

use super::compiler::Compiler;
use super::driver::{check, describe, version};
use super::kernels::COMPILER;
use crate::bail;
use crate::error::{Error, Result};

/// The compiled forms of one `kernels/<stem>.cu`, by file suffix (`sm_80.cubin`, `sm_90a.ptx`, …), compressed by zlib.
#[derive(Debug)]
pub struct Images {
    pub stem: &'static str,
    pub files: &'static [(&'static str, &'static [u8])],
}

impl Images {
    /// Loads the machine code made for this capability, else PTX, which the driver compiles (a newer card than any
    /// built for, a build without machine code, or machine code that the driver refuses). `STABLEREP_KERNELS=folder`
    /// takes `<stem>.<target>.ptx` from there instead, or compiles `<stem>.cu` there (kernel development) by the NVRTC
    /// of `../.cuda` or `CUDA_HOME`.
    ///
    /// # Errors
    /// Device error if no form loads, with the driver's reason for each.
    pub(super) fn load(&self, capability: (i32, i32)) -> Result<sys::CUmodule> {
        let exact = match capability {
            (8, 0) => "sm_80.cubin",
            (8, 9) => "sm_89.cubin",
            (8, _) => "sm_86.cubin",
            (9, 0) => "sm_90a.cubin",
            _ => "",
        };
        // A file has PTX for all cards or for those from 8.9 on, and for Hopper its own; cards newer than that compile
        // the older forms.
        let forms = [
            ("sm_90a.ptx", capability == (9, 0)),
            ("sm_89.ptx", capability >= (8, 9)),
            ("sm_80.ptx", capability >= (8, 0)),
        ];
        let mut usable = forms.into_iter().filter(|(_, fits)| *fits);
        let Some((ptx, _)) = usable.find(|(ptx, _)| self.packed(ptx).is_some()) else {
            bail!(
                Device,
                "kernels/{}.cu has no code for compute capability {}.{}",
                self.stem,
                capability.0,
                capability.1
            );
        };
        if let Some(text) = self.replaced(ptx)? {
            return self.load_ptx(&text);
        }
        let packed = self.file(ptx)?.unwrap_or_default();
        let Some(image) = self.file(exact)? else { return self.load_ptx(&packed) };
        let mut module = std::ptr::null_mut();
        // SAFETY: a complete ELF image, which carries its own length.
        let loaded = unsafe { sys::cuModuleLoadData(&mut module, image.as_ptr().cast::<c_void>()) };
        if loaded == CUresult::CUDA_SUCCESS {
            return Ok(module);
        }
        // The driver may still compile what it does not load.
        self.load_ptx(&packed).map_err(|error| {
            Error::Device(format!(
                "{error}; its machine code ({}) was refused: {}",
                exact.trim_end_matches(".cubin"),
                describe(loaded)
            ))
        })
    }

    /// What the folder named by `STABLEREP_KERNELS` holds in place of `ptx`.
    fn replaced(&self, ptx: &str) -> Result<Option<Vec<u8>>> {
        let Some(folder) = std::env::var_os("STABLEREP_KERNELS").map(PathBuf::from) else { return Ok(None) };
        let shown = format!("STABLEREP_KERNELS={}", folder.display());
        let is_kernel = |path: PathBuf| path.extension().is_some_and(|found| found == "cu" || found == "ptx");
        if !std::fs::read_dir(&folder).is_ok_and(|files| files.flatten().any(|file| is_kernel(file.path()))) {
            bail!(Usage, "{shown}: expected a folder of .cu or .ptx files to take in place of those in this program");
        }
        let [compiled, source] =
            [format!("{}.{ptx}", self.stem), format!("{}.cu", self.stem)].map(|name| folder.join(name));
        if compiled.exists() {
            return std::fs::read(&compiled).map_err(Error::io("read", &compiled)).map(Some);
        }
        if !source.exists() {
            return Ok(None);
        }
        let target = ptx.trim_end_matches(".ptx").replace("sm_", "compute_");
        let compiled = match Compiler::find(&folder.join("../.cuda")) {
            Ok(Some(compiler)) => compiler.compile(&source, &target),
            Ok(None) => Err(format!(
                "no NVRTC 12 to compile {}.cu: looked in CUDA_HOME, CUDA_PATH, .cuda beside that folder and /usr/local/cuda",
                self.stem
            )),
            Err(text) => Err(text),
        };
        let compiled = compiled.map_err(|text| Error::Device(format!("{shown}: {text}")))?;
        Ok(Some(compiled.ptx.into_bytes()))
    }

    fn packed(&self, suffix: &str) -> Option<&'static [u8]> {
        self.files.iter().find(|(name, _)| *name == suffix).map(|(_, bytes)| *bytes)
    }

    fn file(&self, suffix: &str) -> Result<Option<Vec<u8>>> {
        let Some(packed) = self.packed(suffix) else { return Ok(None) };
        let mut bytes = Vec::new();
        match ZlibDecoder::new(packed).read_to_end(&mut bytes) {
            Ok(_) => Ok(Some(bytes)),
            Err(e) => {
                bail!(Failed, "kernels/{}.cu: {suffix} in this binary is damaged ({e}): build it again", self.stem)
            }
        }
    }

    fn load_ptx(&self, text: &[u8]) -> Result<sys::CUmodule> {
        let text = CString::new(text).map_err(|e| Error::Failed(format!("kernels/{}.cu: PTX: {e}", self.stem)))?;
        let mut module = std::ptr::null_mut();
        // SAFETY: NUL-terminated PTX that outlives the call.
        let loaded = unsafe { sys::cuModuleLoadData(&mut module, text.as_ptr().cast::<c_void>()) };
        let doing = format!("compile kernels/{}.cu for this GPU", self.stem);
        if loaded == CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION {
            let ((major, minor), (needed, least)) = (version()?, COMPILER);
            bail!(
                Device,
                "cannot {doing}: a card without machine code in this program needs a driver for CUDA {needed}.{least} or newer, which compiles its \
                 PTX; this one supports {major}.{minor}: install a newer driver, or use --device cpu"
            );
        }
        check(loaded, &doing)?;
        Ok(module)
    }
}
