//! What the build reads of kernels and generates for their launches.

#[path = "../build/exports.rs"]
mod exports;
#[path = "../build/launches.rs"]
mod launches;
#[path = "../build/signatures.rs"]
mod signatures;

use exports::exports;
use launches::launches;
use signatures::{Kind, Parameter, Signature, signatures};

const HEADER: &str = "
#pragma once
#define DEVICE __device__ __forceinline__
/* Not a kernel: __global__ void none(int x) */
#define SCALE(T, N) \\
    extern \"C\" __global__ void __launch_bounds__(32 * (N + 1)) scale_x##N##_##T(T *y, const float *OR_NULL x, int len) { \\
        scale<N>(y, x, len);  /* \"(\" */ \\
    }
";

const FILE: &str = "
#include \"header.cuh\"
#define TYPES(KERNEL, N) KERNEL(f16, N) KERNEL(bf16, N)
#define UNUSED(x) x
#define SCALES(N) TYPES(SCALE, N)
SCALES(8)
TYPES(SCALE, 1)
extern \"C\" __global__ void __launch_bounds__(256, 2)
    copy(const __grid_constant__ TensorMap from, unsigned char *to, uint64_t len) { call(\"__global__ )\"); }  // (
";

fn all(text: &str) -> Result<Vec<Signature>, String> {
    signatures([HEADER, text])
}

fn pointer(element: &'static str, or_null: bool) -> Kind {
    Kind::Pointer { element, or_null }
}

#[test]
fn macros_declare_kernels() {
    let found = all(FILE).unwrap();
    let names: Vec<&str> = found.iter().map(|kernel| kernel.name.as_str()).collect();
    assert_eq!(names, ["scale_x8_f16", "scale_x8_bf16", "scale_x1_f16", "scale_x1_bf16", "copy"]);
    let of = |kernel: &Signature| -> Vec<(String, Kind)> {
        kernel.parameters.iter().map(|Parameter { name, kind }| (name.clone(), kind.clone())).collect()
    };
    let scale = [("y", pointer("bf16", false)), ("x", pointer("f32", true)), ("len", Kind::Number("u32"))];
    assert_eq!(of(&found[1]), scale.map(|(name, kind)| (name.to_owned(), kind)));
    let copy = [("from", Kind::TensorMap), ("to", pointer("u8", false)), ("len", Kind::Number("u64"))];
    assert_eq!(of(&found[4]), copy.map(|(name, kind)| (name.to_owned(), kind)));
}

#[test]
fn what_is_not_understood_is_named() {
    let text = all("extern \"C\" __global__ void odd(Pair<int> *x) {}").unwrap_err();
    assert!(text.contains("odd") && text.contains("Pair < int > * x"), "{text}");
    assert!(all("SCALE(f16)").unwrap_err().contains("SCALE"));
}

/// Count and sizes of the compiled kernel's parameters.
#[test]
fn declarations_are_held_against_the_ptx() {
    let copy = &all(FILE).unwrap()[4];
    let check = |compiled: &[&str]| copy.check(&compiled.iter().map(|ty| (*ty).to_owned()).collect::<Vec<_>>());
    assert_eq!(check(&["b8[128]", "u64", "u64"]), Ok(()));
    let text = check(&["b8[128]", "u64"]).unwrap_err();
    assert!(text.contains("copy") && text.contains('3') && text.contains('2'), "{text}");
    let text = check(&["b8[128]", "u64", "u32"]).unwrap_err();
    assert!(text.contains("copy") && text.contains("len") && text.contains("u32"), "{text}");
}

#[test]
fn kernels_of_one_list_are_one_struct() {
    let rust = launches("scale", &all(FILE).unwrap()).unwrap();
    for part in [
        "pub struct Scale<T: Half> {\n    pub y: View<T>,\n    pub x: Option<View<f32>>,\n    pub len: u32,\n}",
        "pub fn launch(self, gpu: &Gpu, at: Launch, x: usize) -> Result<()>",
        "(8, \"bf16\",) => \"scale_x8_bf16\",",
        "pub struct Copy {\n    pub from: TensorMap,\n    pub to: View<u8>,\n    pub len: u64,\n}",
        "pub fn launch(self, gpu: &Gpu, at: Launch) -> Result<()>",
    ] {
        assert!(rust.contains(part), "{part}\nnot in\n{rust}");
    }
    let text = "extern \"C\" __global__ void product_nn_64(float *y) {}
                extern \"C\" __global__ void product_nt_bias(float *y) {}";
    let rust = launches("product", &all(text).unwrap()).unwrap();
    for part in
        ["pub enum ProductKernel {\n    Nn(usize),\n    NtBias,\n}", "(ProductKernel::Nn(64),) => \"product_nn_64\""]
    {
        assert!(rust.contains(part), "{part}\nnot in\n{rust}");
    }
}

/// Two kernels of one list whose pointers differ otherwise than their names say.
#[test]
fn types_are_those_of_the_names() {
    let text = "extern \"C\" __global__ void fill_f16(f16 *y) {}
                extern \"C\" __global__ void fill_bf16(float *y) {}";
    let text = launches("fill", &all(text).unwrap()).unwrap_err();
    assert!(text.contains("fill_bf16") && text.contains("y is a pointer to f32"), "{text}");
}

#[test]
fn exports_are_constants() {
    let ptx = ".visible .global .align 4 .b8 exported_THREADS[4] = {128, 1};
               .visible .global .align 4 .b8 exported_SHARED[12] = {4, 0, 0, 0, 0, 0, 1};
               .visible .global .align 4 .u32 exported_ROWS[2] = {64, 208};
               .visible .entry kernel()";
    let rust = exports("file", ptx).unwrap();
    for constant in ["THREADS: usize = 384;", "SHARED: [usize; 3] = [4, 65536, 0];", "ROWS: [usize; 2] = [64, 208];"] {
        assert!(rust.contains(&format!("pub const {constant}")), "{constant}\nnot in\n{rust}");
    }
    assert!(rust.contains("pub mod file"), "{rust}");
    assert_eq!(exports("file", ".visible .entry kernel()").unwrap(), "");
    assert!(exports("file", ".global .align 4 .f32 exported_RATE[1] = {0f3F800000};").unwrap_err().contains("RATE"));
}
