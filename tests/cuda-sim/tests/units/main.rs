//! Matrix instructions and asynchronous units: small PTX programs with known answers, and with planted mistakes.

#[path = "../common/mod.rs"]
mod common;

mod barriers;
mod clusters;
mod copies;
mod matrix;
mod mistakes;
mod tensors;

use common::{Arg, Program, Shape};
use cuda_sim::check::Finding;
use cuda_sim::tensor::{TensorMap, TiledArgs};

/// A kernel `k` with three pointers in `%rd0` to `%rd2` (global) and 8 KB of shared memory `s`, whose address is in
/// `%s`. `%r0` is the thread, `%r1` its lane, `%r2` its warp. Two tensor maps may follow: `map_a` and `map_b`.
pub fn kernel(body: &str) -> Program {
    Program::new(&format!(
        ".visible .entry k(.param .u64 p0, .param .u64 p1, .param .u64 p2, .param .align 64 .b8 map_a[128], \
         .param .align 64 .b8 map_b[128])\n{{\n.shared .align 1024 .b8 s[8192];\n.reg .b32 %r<96>, %s;\n\
         .reg .b64 %rd<32>;\n.reg .f32 %f<160>;\n.reg .b16 %h<8>;\n.reg .pred %p<16>;\n\
         ld.param.u64 %rd0, [p0];\nld.param.u64 %rd1, [p1];\nld.param.u64 %rd2, [p2];\n\
         mov.b64 %rd30, map_a;\ncvta.param.u64 %rd30, %rd30;\nmov.b64 %rd31, map_b;\n\
         cvta.param.u64 %rd31, %rd31;\n\
         mov.u32 %r0, %tid.x;\nand.b32 %r1, %r0, 31;\nshr.u32 %r2, %r0, 5;\nmov.u32 %s, s;\n{body}\nret;\n}}\n"
    ))
}

/// Its arguments: pointers, then maps.
pub fn args(pointers: &[u64], maps: &[TensorMap]) -> Vec<Arg> {
    let pointers = (0..3).map(|i| Arg::U64(pointers.get(i).copied().unwrap_or(0)));
    let maps = (0..2).map(|i| Arg::Map(maps.get(i).map_or([0; 128], TensorMap::to_bytes)));
    pointers.chain(maps).collect()
}

pub fn shape(threads: u32) -> Shape {
    Shape::new(1, threads)
}

/// A cluster of this many blocks, one of it.
pub fn cluster(blocks: u32, threads: u32) -> Shape {
    Shape { cluster: [blocks, 1, 1], ..Shape::new(blocks, threads) }
}

/// Runs over several seeds; each must find nothing.
pub fn runs(program: &mut Program, shape: &Shape, args: &[Arg]) {
    for seed in 0..6 {
        program.options.seed = seed;
        program.run("k", shape, args);
    }
}

/// Runs over several seeds; each must find this, and the first is returned.
pub fn finds(program: &mut Program, shape: &Shape, args: &[Arg], kind: cuda_sim::check::Kind) -> Box<Finding> {
    let found: Vec<_> = (0..6)
        .map(|seed| {
            program.options.seed = seed;
            let finding = program.finds("k", shape, args);
            common::expect(&finding, kind);
            finding
        })
        .collect();
    found.into_iter().next().expect("six of them")
}

/// A tiled map of f32 elements; strides are those of packed rows.
pub fn tiled(address: u64, dims: &[u64], extent: &[u32], swizzle: u32) -> TensorMap {
    let mut strides = vec![];
    let mut stride = 4;
    for dim in &dims[..dims.len() - 1] {
        stride *= dim;
        strides.push(stride);
    }
    let ones = vec![1; dims.len()];
    TensorMap::encode_tiled(&TiledArgs {
        data_type: 7,
        rank: dims.len() as u32,
        address,
        global_dim: dims,
        global_strides: &strides,
        box_dim: extent,
        element_strides: &ones,
        interleave: 0,
        swizzle,
        l2_promotion: 0,
        oob_fill: 0,
    })
    .unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// An mbarrier at `s + 8000` for one arrival, initialised and known to all.
pub const MBARRIER: &str = "
add.u32 %r90, %s, 8000;
setp.eq.u32 %p15, %r0, 0;
@%p15 mbarrier.init.shared::cta.b64 [%r90], 1;
@%p15 fence.mbarrier_init.release.cluster;
bar.sync 0;
";

/// All threads wait for its first phase.
pub const WAIT: &str = "
$wait:
mbarrier.try_wait.parity.shared::cta.b64 %p14, [%r90], 0;
@!%p14 bra $wait;
";

/// Thread `i` copies word `i` of `s` to word `i` of the first pointer.
pub const WORDS_OUT: &str = "
shl.b32 %r91, %r0, 2;
add.u32 %r92, %s, %r91;
ld.shared.u32 %r93, [%r92];
cvt.u64.u32 %rd28, %r91;
add.u64 %rd29, %rd0, %rd28;
st.global.u32 [%rd29], %r93;
";
