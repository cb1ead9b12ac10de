//! A context of one's own, and shorter calls.

use std::ffi::CStr;
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use cuda_sim::driver::context::{CUcontext, cuCtxCreate_v2, cuCtxDestroy_v2, cuCtxSynchronize, cuInit};
use cuda_sim::driver::copy::{cuMemcpyDtoH_v2, cuMemcpyHtoD_v2};
use cuda_sim::driver::errors::CUresult;
use cuda_sim::driver::ffi::{DevicePtr, HostPtr, Out};
use cuda_sim::driver::function::CUfunction;
use cuda_sim::driver::handles::Handle;
use cuda_sim::driver::launch::cuLaunchKernel;
use cuda_sim::driver::memory::cuMemAlloc_v2;
use cuda_sim::driver::module::{CUmodule, cuModuleGetFunction, cuModuleLoadData};
use cuda_sim::driver::stream::{CUstream, cuStreamCreate};
use cuda_sim::driver::{Settings, start};

pub const OK: CUresult = CUresult::SUCCESS;
pub const NULL_STREAM: CUstream = Handle::NULL;

/// Device memory of all tests together.
pub const MEMORY: usize = 64 << 20;

/// Where findings go.
pub fn report() -> PathBuf {
    std::env::temp_dir().join(format!("cuda-sim-driver-tests-{}.txt", std::process::id()))
}

/// The context, current on this thread until it is dropped.
pub struct Context(pub CUcontext);

impl Context {
    pub fn new() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let settings = Settings {
                memory: MEMORY,
                lag: Duration::from_millis(30),
                report: Some(report()),
                ..Settings::default()
            };
            start(settings).unwrap();
        });
        assert_eq!(cuInit(0), OK);
        let mut context = Handle::NULL;
        assert_eq!(cuCtxCreate_v2(Out::from(&mut context), 0, 0), OK);
        Self(context)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        assert_eq!(cuCtxDestroy_v2(self.0), OK);
    }
}

pub fn alloc(bytes: usize) -> DevicePtr {
    let mut pointer = 0;
    assert_eq!(cuMemAlloc_v2(Out::from(&mut pointer), bytes), OK);
    pointer
}

pub fn address<T>(values: &[T]) -> HostPtr {
    HostPtr::from(values.as_ptr())
}

pub fn address_mut<T>(values: &mut [T]) -> HostPtr {
    HostPtr::from(values.as_mut_ptr())
}

pub fn upload(values: &[u32]) -> DevicePtr {
    let pointer = alloc(size_of_val(values));
    assert_eq!(cuMemcpyHtoD_v2(pointer, address(values), size_of_val(values)), OK);
    pointer
}

pub fn download(pointer: DevicePtr, count: usize) -> Vec<u32> {
    let mut values = vec![0u32; count];
    assert_eq!(cuMemcpyDtoH_v2(address_mut(&mut values), pointer, count * 4), OK);
    values
}

/// A stream that does not wait for the null stream.
pub fn stream() -> CUstream {
    create(1)
}

/// One that does.
pub fn blocking_stream() -> CUstream {
    create(0)
}

fn create(flags: u32) -> CUstream {
    let mut stream = Handle::NULL;
    assert_eq!(cuStreamCreate(Out::from(&mut stream), flags), OK);
    stream
}

pub fn load(image: &CStr) -> CUmodule {
    let mut module = Handle::NULL;
    assert_eq!(cuModuleLoadData(Out::from(&mut module), HostPtr::from(image.as_ptr())), OK);
    module
}

pub fn function(module: CUmodule, name: &CStr) -> CUfunction {
    let mut function = Handle::NULL;
    assert_eq!(cuModuleGetFunction(Out::from(&mut function), module, name.into()), OK);
    function
}

/// Kernel arguments as C wants them: pointers to each.
pub struct Arguments {
    values: Vec<u64>,
    pointers: Vec<HostPtr>,
}

impl Arguments {
    pub fn new(values: &[u64]) -> Self {
        let values = values.to_vec();
        let pointers = values.iter().map(|value| HostPtr::from(std::ptr::from_ref(value))).collect();
        Self { values, pointers }
    }

    pub fn pointer(&self) -> HostPtr {
        assert_eq!(self.values.len(), self.pointers.len());
        HostPtr::from(self.pointers.as_ptr())
    }
}

pub fn launch(
    function: CUfunction,
    grid: u32,
    block: u32,
    shared: u32,
    stream: CUstream,
    arguments: &[u64],
) -> CUresult {
    let arguments = Arguments::new(arguments);
    cuLaunchKernel(function, grid, 1, 1, block, 1, 1, shared, stream, arguments.pointer(), HostPtr::NULL)
}

pub fn synchronize() -> CUresult {
    cuCtxSynchronize()
}

/// `add(p, n, x)`: adds `x` to each of `n` words. The other kernels make mistakes or need something special.
pub const KERNELS: &CStr = cr#"
.version 9.0
.target sm_90
.address_size 64

.global .align 4 .u32 counter = 41;
.const .align 4 .u32 scale = 3;
.extern .shared .align 16 .b8 room[];

.visible .entry add(.param .u64 add_p, .param .u32 add_n, .param .u32 add_x)
{
	.reg .pred %p<2>;
	.reg .b32 %r<8>;
	.reg .b64 %rd<4>;
	ld.param.u64 %rd1, [add_p];
	ld.param.u32 %r1, [add_n];
	ld.param.u32 %r2, [add_x];
	cvta.to.global.u64 %rd1, %rd1;
	mov.u32 %r3, %ctaid.x;
	mov.u32 %r4, %ntid.x;
	mov.u32 %r5, %tid.x;
	mad.lo.u32 %r6, %r3, %r4, %r5;
	setp.ge.u32 %p1, %r6, %r1;
	@%p1 bra DONE;
	mul.wide.u32 %rd2, %r6, 4;
	add.s64 %rd2, %rd1, %rd2;
	ld.global.u32 %r7, [%rd2];
	add.u32 %r7, %r7, %r2;
	st.global.u32 [%rd2], %r7;
DONE:
	ret;
}

.visible .entry count(.param .u64 count_p)
{
	.reg .b32 %r<4>;
	.reg .b64 %rd<2>;
	ld.param.u64 %rd1, [count_p];
	cvta.to.global.u64 %rd1, %rd1;
	atom.global.add.u32 %r1, [counter], 1;
	ld.const.u32 %r2, [scale];
	mul.lo.u32 %r1, %r1, %r2;
	st.global.u32 [%rd1], %r1;
	ret;
}

.visible .entry beyond(.param .u64 beyond_p)
{
	.reg .b32 %r<2>;
	.reg .b64 %rd<2>;
	ld.param.u64 %rd1, [beyond_p];
	cvta.to.global.u64 %rd1, %rd1;
	ld.global.u32 %r1, [%rd1+4096];
	st.global.u32 [%rd1], %r1;
	ret;
}

.visible .entry big(.param .u64 big_p) .maxntid 128, 1, 1
{
	.reg .b32 %r<4>;
	.reg .b64 %rd<2>;
	ld.param.u64 %rd1, [big_p];
	cvta.to.global.u64 %rd1, %rd1;
	mov.u32 %r1, %dynamic_smem_size;
	st.global.u32 [%rd1], %r1;
	ret;
}

.visible .entry pair(.param .u64 pair_p)
{
	.reg .b32 %r<4>;
	.reg .b64 %rd<4>;
	ld.param.u64 %rd1, [pair_p];
	cvta.to.global.u64 %rd1, %rd1;
	mov.u32 %r1, %ctaid.x;
	mov.u32 %r2, %cluster_nctarank;
	mul.wide.u32 %rd2, %r1, 4;
	add.s64 %rd2, %rd1, %rd2;
	st.global.u32 [%rd2], %r2;
	ret;
}
"#;
