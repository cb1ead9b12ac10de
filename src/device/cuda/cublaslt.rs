//! cuBLASLt, loaded where it is installed: the product to beat. Nothing but the benchmark uses it.

use std::ffi::c_void;
use std::ptr::null_mut;

use cudarc::cublaslt::sys;

use super::gpu::Gpu;
use super::half::{DType, Half};
use super::memory::{Owned, View};
use crate::bail;
use crate::error::Result;

/// Algorithms of the library's heuristic that are tried; the fastest counts.
const CANDIDATES: usize = 8;
/// `CUBLAS_OP_T` of cuBLAS's own header, which the bindings of cuBLASLt leave out.
const TRANSPOSED: i32 = 1;
/// Scratch memory offered to the library, what its own users give it on Hopper.
const WORKSPACE: usize = 32 << 20;

/// The opened library.
pub struct Library {
    gpu: Gpu,
    handle: sys::cublasLtHandle_t,
    workspace: Owned<u8>,
}

/// The ways the library proposes to compute `y [m, n] = x [m, k]·w [n, k]ᵀ`.
pub struct Proposals<'a> {
    library: &'a Library,
    problem: Problem,
    algorithms: Vec<sys::cublasLtMatmulAlgo_t>,
    sizes: [usize; 3],
}

fn check(status: sys::cublasStatus_t, doing: &str) -> Result<()> {
    if status != sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS {
        bail!(Failed, "cuBLASLt cannot {doing}: {status:?}");
    }
    Ok(())
}

impl Library {
    /// `None` where it is not installed.
    pub fn open(gpu: &Gpu) -> Result<Option<Self>> {
        // SAFETY: only tries to open the library.
        if !unsafe { sys::is_culib_present() } {
            return Ok(None);
        }
        let workspace = gpu.alloc(WORKSPACE)?;
        let mut handle = null_mut();
        // SAFETY: writes one handle; a context is current after the allocation.
        check(unsafe { sys::cublasLtCreate(&mut handle) }, "start")?;
        Ok(Some(Self { gpu: gpu.clone(), handle, workspace }))
    }

    /// What the heuristic proposes for values of `dtype` and f32 sums, the likeliest first; none where the library
    /// cannot compute the product.
    pub fn proposals(&self, (m, n, k): (usize, usize, usize), dtype: DType) -> Result<Proposals<'_>> {
        let dtype = match dtype {
            DType::F16 => sys::cudaDataType_t::CUDA_R_16F,
            DType::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
        };
        let problem = Problem::new(m, n, k, dtype)?;
        let algorithms = problem.algorithms(self.handle)?;
        Ok(Proposals { library: self, problem, algorithms, sizes: [m * n, m * k, n * k] })
    }
}

impl Proposals<'_> {
    pub fn len(&self) -> usize {
        self.algorithms.len()
    }

    pub fn is_empty(&self) -> bool {
        self.algorithms.is_empty()
    }

    /// Queues the product by proposal number `i`.
    ///
    /// # Panics
    /// If lengths do not fit or there is no such proposal.
    pub fn queue<T: Half>(&self, i: usize, y: View<T>, x: View<T>, w: View<T>) -> Result<()> {
        assert_eq!([y.len(), x.len(), w.len()], self.sizes, "cuBLASLt");
        let Self { library, problem, algorithms, .. } = self;
        let address = |view: View<T>| view.address() as *mut c_void;
        let (one, zero) = (1.0f32, 0.0f32);
        // SAFETY: descriptors of this problem, buffers of its sizes, a workspace of the size that the algorithm was
        // chosen for.
        let status = unsafe {
            sys::cublasLtMatmul(
                library.handle,
                problem.operation,
                (&raw const one).cast(),
                address(w),
                problem.w,
                address(x),
                problem.x,
                (&raw const zero).cast(),
                address(y),
                problem.y,
                address(y),
                problem.y,
                &algorithms[i],
                library.workspace.view().address() as *mut c_void,
                WORKSPACE,
                library.gpu.stream().cast(),
            )
        };
        check(status, "multiply")
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let _ = self.gpu.synchronize();
        // SAFETY: made in `open`; nothing queued uses it any more.
        let _ = unsafe { sys::cublasLtDestroy(self.handle) };
    }
}

/// Descriptors of a product. The library thinks in columns: row-major y = x·wᵀ is its yᵀ = (wᵀ)ᵀ·xᵀ.
struct Problem {
    operation: sys::cublasLtMatmulDesc_t,
    w: sys::cublasLtMatrixLayout_t,
    x: sys::cublasLtMatrixLayout_t,
    y: sys::cublasLtMatrixLayout_t,
    preference: sys::cublasLtMatmulPreference_t,
}

impl Problem {
    fn new(m: usize, n: usize, k: usize, dtype: sys::cudaDataType_t) -> Result<Self> {
        let mut this =
            Self { operation: null_mut(), w: null_mut(), x: null_mut(), y: null_mut(), preference: null_mut() };
        let (accumulator, scale) = (sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cudaDataType_t::CUDA_R_32F);
        // SAFETY: each call writes one handle, destroyed in `drop`.
        check(unsafe { sys::cublasLtMatmulDescCreate(&mut this.operation, accumulator, scale) }, "describe a product")?;
        let transposed: i32 = TRANSPOSED;
        let attribute = sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA;
        // SAFETY: reads one value of the size given.
        let set = unsafe {
            let size = size_of_val(&transposed);
            sys::cublasLtMatmulDescSetAttribute(this.operation, attribute, (&raw const transposed).cast(), size)
        };
        check(set, "transpose")?;
        for (layout, rows, columns) in [(&mut this.w, k, n), (&mut this.x, k, m), (&mut this.y, n, m)] {
            // SAFETY: writes one handle, destroyed in `drop`.
            let made =
                unsafe { sys::cublasLtMatrixLayoutCreate(layout, dtype, rows as u64, columns as u64, rows as i64) };
            check(made, "describe a matrix")?;
        }
        // SAFETY: writes one handle, destroyed in `drop`.
        check(unsafe { sys::cublasLtMatmulPreferenceCreate(&mut this.preference) }, "take preferences")?;
        let attribute = sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        // SAFETY: reads one size.
        let set = unsafe {
            let bytes = WORKSPACE as u64;
            sys::cublasLtMatmulPreferenceSetAttribute(this.preference, attribute, (&raw const bytes).cast(), 8)
        };
        check(set, "take a workspace")?;
        Ok(this)
    }

    /// What the heuristic proposes, the likeliest first; empty where the library cannot compute the product.
    fn algorithms(&self, handle: sys::cublasLtHandle_t) -> Result<Vec<sys::cublasLtMatmulAlgo_t>> {
        // SAFETY: plain old data for which all zeros is a value.
        let mut found: [sys::cublasLtMatmulHeuristicResult_t; CANDIDATES] = unsafe { std::mem::zeroed() };
        let mut count = 0;
        // SAFETY: descriptors of this problem; writes at most CANDIDATES results and their number.
        let status = unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                handle,
                self.operation,
                self.w,
                self.x,
                self.y,
                self.y,
                self.preference,
                CANDIDATES as i32,
                found.as_mut_ptr(),
                &mut count,
            )
        };
        if status == sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED {
            return Ok(Vec::new());
        }
        check(status, "choose an algorithm")?;
        Ok(found[..count.max(0) as usize].iter().map(|result| result.algo).collect())
    }
}

impl Drop for Problem {
    fn drop(&mut self) {
        // SAFETY: what `new` made; null is skipped.
        unsafe {
            if !self.preference.is_null() {
                let _ = sys::cublasLtMatmulPreferenceDestroy(self.preference);
            }
            for layout in [self.w, self.x, self.y] {
                if !layout.is_null() {
                    let _ = sys::cublasLtMatrixLayoutDestroy(layout);
                }
            }
            if !self.operation.is_null() {
                let _ = sys::cublasLtMatmulDescDestroy(self.operation);
            }
        }
    }
}
