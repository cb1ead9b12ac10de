//! What the compiling room takes and refuses: what NVRTC says of sources made wrong.

use std::fs;
use std::path::Path;

use stablerep::device::cuda::compiler::{Compiled, Compiler, resources};
use tempfile::TempDir;

const SUM: &str = "#include <cuda_fp16.h>\n#include <stdint.h>\n
extern \"C\" __global__ void __launch_bounds__(64) sum(float *y, const __half *x) {
    __shared__ float all[64];
    all[threadIdx.x] = __half2float(x[threadIdx.x]);
    __syncthreads();
    y[threadIdx.x] = all[threadIdx.x ^ 1];
}\n";

/// Accumulators of a wgmma are read before it is waited for, so that the assembler waits behind each.
const SERIAL: &str = "
extern \"C\" __global__ void __launch_bounds__(128) serial(float *y, unsigned long long a, unsigned long long b) {
    float d[4] = {};
    for (int i = 0; i < 4; i++) {
        asm volatile(\"wgmma.fence.sync.aligned;\" ::: \"memory\");
        asm volatile(\"{\\n.reg .pred p;\\nsetp.ne.b32 p, %6, 0;\\n\"
                     \"wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, %4, %5, p, 1, 1, 0, 0;\\n}\"
                     : \"+f\"(d[0]), \"+f\"(d[1]), \"+f\"(d[2]), \"+f\"(d[3]) : \"l\"(a), \"l\"(b), \"r\"(i));
        asm volatile(\"wgmma.commit_group.sync.aligned;\" ::: \"memory\");
        d[0] *= 2.0f;
    }
    asm volatile(\"wgmma.wait_group.sync.aligned 0;\" ::: \"memory\");
    y[threadIdx.x] = d[0] + d[1] + d[2] + d[3];
}\n";

fn compile(text: &str, target: &str) -> Option<Result<Compiled, String>> {
    compile_beside(&[], text, target)
}

/// With headers by name and text in its folder.
fn compile_beside(headers: &[(&str, &str)], text: &str, target: &str) -> Option<Result<Compiled, String>> {
    let found = Compiler::find(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".cuda")).unwrap();
    let Some(compiler) = found else {
        eprintln!("left out: no NVRTC (dev/cuda-toolchain.sh fetches it)");
        return None;
    };
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("x.cu");
    fs::write(&file, text).unwrap();
    for (name, text) in headers {
        let header = folder.path().join(name);
        fs::create_dir_all(header.parent().unwrap()).unwrap();
        fs::write(header, text).unwrap();
    }
    Some(compiler.compile(&file, target))
}

#[test]
fn a_virtual_target_gives_ptx_and_a_real_one_machine_code() {
    let Some(virtual_) = compile(SUM, "compute_80") else { return };
    let virtual_ = virtual_.unwrap();
    assert!(virtual_.machine_code.is_none() && virtual_.ptx.contains(".target sm_80"));
    assert!(resources(&virtual_.log).is_empty());
    let real = compile(SUM, "sm_90a").unwrap().unwrap();
    assert!(real.machine_code.unwrap().starts_with(b"\x7fELF") && real.ptx.contains(".target sm_90a"));
    let kernels = resources(&real.log);
    assert_eq!(kernels.iter().map(|kernel| (&kernel.name[..], kernel.shared)).collect::<Vec<_>>(), [("sum", 256)]);
    assert!((1..=255).contains(&kernels[0].registers), "{kernels:?}");
}

/// The working directory, this package's, has a header of the same name, which is not meant.
#[test]
fn headers_are_those_of_the_files_folder() {
    let header = [("common/types.cuh", "#error from its own folder")];
    let Some(compiled) = compile_beside(&header, "#include \"common/types.cuh\"", "compute_80") else { return };
    let said = compiled.err().unwrap();
    assert!(said.contains("from its own folder"), "{said}");
}

#[test]
fn mistakes_warnings_spills_and_serialised_wgmmas_are_refused() {
    // An array whose places are known at run time only.
    let local = SUM.replace(
        "y[threadIdx.x] = ",
        "float far[64] = {}; for (int i = 0; i < 9; i++) far[int(y[i]) & 63] += y[i];\ny[threadIdx.x] = far[int(y[9]) & 63] + ",
    );
    for (text, target, reason) in [
        (&SUM.replace("float *y", "floot *y")[..], "compute_80", "floot"),
        (&SUM.replace("__syncthreads();", "__syncthreads(); int unused;"), "compute_80", "unused"),
        (&local, "sm_80", "bytes of stack"),
        (SERIAL, "sm_90a", "C75"),
    ] {
        let Some(result) = compile(text, target) else { return };
        let said = result.err().unwrap_or_else(|| panic!("{reason}: compiled for {target}"));
        assert!(said.contains(&format!("kernels/x.cu for {target}")) && said.contains(reason), "{reason}: {said}");
    }
}
