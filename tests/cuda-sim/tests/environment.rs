//! What users set in the environment, each in a process of its own: this test binary again, running one of the tests
//! that are left out otherwise.

use std::ffi::CStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use cuda_sim::driver::attributes::{cuDeviceGetAttribute, cuDeviceGetCount, cuDeviceTotalMem_v2};
use cuda_sim::driver::context::{cuCtxCreate_v2, cuCtxSynchronize, cuDriverGetVersion, cuInit};
use cuda_sim::driver::errors::CUresult;
use cuda_sim::driver::ffi::{HostPtr, In, Out};
use cuda_sim::driver::fill::cuMemsetD8_v2;
use cuda_sim::driver::handles::Handle;
use cuda_sim::driver::launch::cuLaunchKernel;
use cuda_sim::driver::memory::cuMemAlloc_v2;
use cuda_sim::driver::module::{cuModuleGetFunction, cuModuleLoadData};
use cuda_sim::driver::tensor_map::cuTensorMapEncodeTiled;

const OK: CUresult = CUresult::SUCCESS;

/// Runs the ignored test `name` with these variables.
fn child(name: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--ignored", "--nocapture"]);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CUDA_SIM_")) {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied()).output().unwrap()
}

fn passes(name: &str, variables: &[(&str, &str)]) -> String {
    let output = child(name, variables);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{name}: {text}");
    text
}

fn file(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("cuda-sim-{name}-{}", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

fn load(image: &CStr) -> (CUresult, cuda_sim::driver::module::CUmodule) {
    let mut module = Handle::NULL;
    (cuModuleLoadData(Out::from(&mut module), HostPtr::from(image.as_ptr())), module)
}

fn context() {
    assert_eq!(cuInit(0), OK);
    let mut context = Handle::NULL;
    assert_eq!(cuCtxCreate_v2(Out::from(&mut context), 0, 0), OK);
}

#[test]
fn a_machine_without_a_card() {
    passes("without_a_card", &[("CUDA_SIM_DEVICE", "none")]);
}

#[test]
#[ignore = "run by another test"]
fn without_a_card() {
    let mut count = 7;
    assert_eq!(cuDeviceGetCount(Out::from(&mut count)), CUresult::NOT_INITIALIZED);
    assert_eq!(cuInit(0), CUresult::NO_DEVICE);
    assert_eq!(cuDeviceGetCount(Out::from(&mut count)), OK);
    assert_eq!(count, 0);
}

#[test]
fn an_unknown_card() {
    let text = passes("with_an_unknown_card", &[("CUDA_SIM_DEVICE", "h300")]);
    assert!(text.contains("known devices are h200"), "{text}");
}

#[test]
#[ignore = "run by another test"]
fn with_an_unknown_card() {
    assert_eq!(cuInit(0), CUresult::INVALID_VALUE);
}

#[test]
fn an_old_driver() {
    passes("with_an_old_driver", &[("CUDA_SIM_DRIVER_VERSION", "12040")]);
}

#[test]
#[ignore = "run by another test"]
fn with_an_old_driver() {
    let mut version = 0;
    assert_eq!(cuDriverGetVersion(Out::from(&mut version)), OK);
    assert_eq!(version, 12_040);
    context();
    let module = |version| format!(".version {version}\n.target sm_80\n.address_size 64\n\0");
    let image = module("9.0");
    assert_eq!(load(CStr::from_bytes_until_nul(image.as_bytes()).unwrap()).0, CUresult::UNSUPPORTED_PTX_VERSION);
    let image = module("8.4");
    assert_eq!(load(CStr::from_bytes_until_nul(image.as_bytes()).unwrap()).0, OK);
}

#[test]
fn an_ampere_card_of_little_memory() {
    passes("with_an_ampere_card", &[("CUDA_SIM_DEVICE", "a100"), ("CUDA_SIM_MEMORY", "1000000")]);
}

#[test]
fn an_ada_card() {
    passes("with_an_ada_card", &[("CUDA_SIM_DEVICE", "rtx4090")]);
}

#[test]
#[ignore = "run by another test"]
fn with_an_ada_card() {
    context();
    let attribute = |number| {
        let mut value = 0;
        assert_eq!(cuDeviceGetAttribute(Out::from(&mut value), number, 0), OK);
        value
    };
    assert_eq!([75, 76, 97, 39].map(attribute), [8, 9, 99 << 10, 1536]);
    assert_eq!(load(c".version 9.0\n.target sm_89\n.address_size 64\n").0, OK);
    assert_eq!(load(c".version 9.0\n.target sm_80\n.address_size 64\n").0, OK);
    assert_eq!(load(c".version 9.0\n.target sm_90\n.address_size 64\n").0, CUresult::INVALID_PTX);
}

#[test]
#[ignore = "run by another test"]
fn with_an_ampere_card() {
    context();
    let (mut major, mut bytes, mut pointer) = (0, 0, 0);
    assert_eq!(cuDeviceGetAttribute(Out::from(&mut major), 75, 0), OK);
    assert_eq!(cuDeviceTotalMem_v2(Out::from(&mut bytes), 0), OK);
    assert_eq!((major, bytes), (8, 1_000_000));
    assert_eq!(cuMemAlloc_v2(Out::from(&mut pointer), 1_000_001), CUresult::OUT_OF_MEMORY);
    assert_eq!(load(c".version 9.0\n.target sm_80\n.address_size 64\n").0, OK);
    assert_eq!(load(c".version 9.0\n.target sm_90\n.address_size 64\n").0, CUresult::INVALID_PTX);
    assert_eq!(load(c".version 9.0\n.target sm_90a\n.address_size 64\n").0, CUresult::INVALID_PTX);
    assert_eq!(encode_tensor_map(0), CUresult::NOT_SUPPORTED);
}

/// A tensor map written so many bytes behind a multiple of 128.
fn encode_tensor_map(offset: usize) -> CUresult {
    #[repr(align(128))]
    struct Place([u8; 256]);
    let mut place = Place([0; 256]);
    let (dims, strides, boxes, steps) = ([64u64, 64], [128u64], [64u32, 64], [1u32, 1]);
    cuTensorMapEncodeTiled(
        HostPtr::from(place.0[offset..].as_mut_ptr()),
        9,
        2,
        4096,
        In::from(&dims[..]),
        In::from(&strides[..]),
        In::from(&boxes[..]),
        In::from(&steps[..]),
        0,
        3,
        0,
        0,
    )
}

#[test]
fn a_hopper_card_of_fewer_multiprocessors() {
    passes("with_an_h100_pcie", &[("CUDA_SIM_DEVICE", "h100-pcie")]);
}

#[test]
#[ignore = "run by another test"]
fn with_an_h100_pcie() {
    context();
    let attribute = |number| {
        let mut value = 0;
        assert_eq!(cuDeviceGetAttribute(Out::from(&mut value), number, 0), OK);
        value
    };
    assert_eq!([75, 76, 16, 97, 38].map(attribute), [9, 0, 114, 227 << 10, 50 << 20]);
    assert_eq!(load(c".version 9.0\n.target sm_90a\n.address_size 64\n").0, OK);
    // The API asks for multiples of 64 bytes.
    assert_eq!([0, 64, 32, 16].map(encode_tensor_map), [OK, OK, CUresult::INVALID_VALUE, CUresult::INVALID_VALUE]);
}

/// Reads past the end of its argument; nobody waits for it.
const BEYOND: &CStr = c"
.version 9.0
.target sm_80
.address_size 64
.visible .entry beyond(.param .u64 beyond_p)
{
	.reg .b32 %r<2>;
	.reg .b64 %rd<2>;
	ld.param.u64 %rd1, [beyond_p];
	cvta.to.global.u64 %rd1, %rd1;
	mov.u32 %r1, 3;
	st.global.u32 [%rd1+16], %r1;
	ret;
}
";

/// A mistake in work that the program never waits for is reported as the process ends.
#[test]
fn findings_at_the_end_of_the_process() {
    let report = file("report");
    let variables =
        [("CUDA_SIM_REPORT", report.to_str().unwrap()), ("CUDA_SIM_LAG_US", "3000000"), ("CUDA_SIM_SEED", "77")];
    passes("ends_before_its_kernel", &variables);
    let text = fs::read_to_string(&report).unwrap();
    assert!(
        text.contains("out-of-bounds") && text.contains("at beyond") && text.contains("CUDA_SIM_SEED=77"),
        "{text}"
    );
    fs::remove_file(report).unwrap();
}

fn launch(module: &CStr, name: &CStr, pointer: u64) {
    let (loaded, module) = load(module);
    assert_eq!(loaded, OK);
    let mut function = Handle::NULL;
    assert_eq!(cuModuleGetFunction(Out::from(&mut function), module, name.into()), OK);
    let arguments = [HostPtr::from(std::ptr::from_ref(&pointer))];
    let each = HostPtr::from(arguments.as_ptr());
    assert_eq!(cuLaunchKernel(function, 2, 1, 1, 64, 1, 1, 0, Handle::NULL, each, HostPtr::NULL), OK);
}

#[test]
#[ignore = "run by another test"]
fn ends_before_its_kernel() {
    context();
    let mut pointer = 0;
    assert_eq!(cuMemAlloc_v2(Out::from(&mut pointer), 16), OK);
    launch(BEYOND, c"beyond", pointer);
}

#[test]
fn statistics_of_launches() {
    let stats = file("stats");
    passes("counts_its_work", &[("CUDA_SIM_STATS", stats.to_str().unwrap())]);
    let text = fs::read_to_string(&stats).unwrap();
    assert_eq!(text.lines().count(), 1);
    for part in [
        r#""kernel":"write""#,
        r#""grid":[2, 1, 1]"#,
        r#""block":[64, 1, 1]"#,
        r#""global_read_bytes":1024"#,
        r#""global_write_bytes":1024"#,
        r#""global_sectors":64"#,
        r#""shared_write_bytes":1024"#,
        r#""bank_conflicts":0"#,
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    fs::remove_file(stats).unwrap();
}

#[test]
#[ignore = "run by another test"]
fn counts_its_work() {
    const WRITE: &CStr = c"
.version 9.0
.target sm_80
.address_size 64
.visible .entry write(.param .u64 write_p)
{
	.reg .b32 %r<8>;
	.reg .b64 %rd<4>;
	.shared .align 8 .b8 copy[512];
	ld.param.u64 %rd1, [write_p];
	cvta.to.global.u64 %rd1, %rd1;
	mov.u32 %r1, %ctaid.x;
	mov.u32 %r2, %tid.x;
	mad.lo.u32 %r3, %r1, 64, %r2;
	mul.wide.u32 %rd2, %r3, 8;
	add.s64 %rd2, %rd1, %rd2;
	mov.u32 %r4, copy;
	mad.lo.u32 %r4, %r2, 8, %r4;
	cp.async.ca.shared.global [%r4], [%rd2], 8;
	cp.async.wait_all;
	st.global.v2.u32 [%rd2], {%r1, %r2};
	ret;
}
";
    context();
    let mut pointer = 0;
    assert_eq!(cuMemAlloc_v2(Out::from(&mut pointer), 1024), OK);
    assert_eq!(cuMemsetD8_v2(pointer, 0, 1024), OK);
    launch(WRITE, c"write", pointer);
    assert_eq!(cuCtxSynchronize(), OK);
}
