//! Time of a bf16 product of 1024 × 1024 × 1024 through tensor copies and wgmma, one core:
//! `cargo run --release -p cuda-sim --example gemm_speed`.

use std::time::Instant;

use cuda_sim::device::DeviceModel;
use cuda_sim::exec::{Launch, Options, launch};
use cuda_sim::memory::DeviceMemory;
use cuda_sim::ptx::Module;
use cuda_sim::tensor::{TensorMap, TiledArgs};

/// A square bf16 matrix in boxes of 64 columns.
fn map(address: u64, n: u64, box_rows: u32) -> [u8; 128] {
    let args = TiledArgs {
        data_type: 9,
        rank: 2,
        address,
        global_dim: &[n, n],
        global_strides: &[2 * n],
        box_dim: &[64, box_rows],
        element_strides: &[1, 1],
        interleave: 0,
        swizzle: 3,
        l2_promotion: 0,
        oob_fill: 0,
    };
    TensorMap::encode_tiled(&args).expect("a legal map").to_bytes()
}

fn main() {
    let n = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1024u64);
    let module = Module::parse(include_str!("../tests/fixtures/gemm_sm90.ptx")).expect("the fixture");
    let memory = DeviceMemory::new(1 << 30);
    let bytes = (2 * n * n) as usize;
    let [a, b, d] = [0; 3].map(|_| memory.alloc(bytes, 256).expect("memory"));
    for operand in [a, b] {
        memory.write(operand, &0x3f80u16.to_le_bytes().repeat(bytes / 2)).expect("a fresh allocation");
    }
    let kernel = &module.kernels[0];
    let mut params = vec![0; kernel.param_bytes];
    for (param, map) in kernel.params.iter().zip([map(a, n, 128), map(b, n, 128), map(d, n, 64)]) {
        params[param.offset..][..128].copy_from_slice(&map);
    }
    params[kernel.params[3].offset..][..4].copy_from_slice(&(n as u32).to_le_bytes());
    let options = Options { threads: 1, ..Options::default() };
    let start = Instant::now();
    let stats = launch(&Launch {
        kernel,
        grid: [n as u32 / 128, n as u32 / 128, 1],
        block: [384, 1, 1],
        cluster: [1; 3],
        dynamic_shared: 4 * 32768 + 64,
        params: &params,
        memory: &memory,
        device: &DeviceModel::h200(),
        options: &options,
    })
    .unwrap_or_else(|finding| panic!("{finding}"));
    let seconds = start.elapsed().as_secs_f64();
    let flops = 2.0 * (n as f64).powi(3);
    println!(
        "{n}³: {seconds:.3} s, {:.1} GFLOP/s, {} wgmma, {} MB copied",
        flops / seconds / 1e9,
        stats.wgmma,
        stats.bulk_bytes >> 20
    );
}
