//! Times accesses of warps to device memory: `cargo run --release -p cuda-sim --example memory`.

use std::hint::black_box;
use std::time::Instant;

use cuda_sim::memory::{AtomicOp, AtomicType, DeviceMemory, Tlb, Update};

const BYTES: usize = 1 << 16;
const ROUNDS: u64 = 10_000;

fn time(name: &str, mut access: impl FnMut(u64)) {
    let best = (0..200).map(|_| {
        let start = Instant::now();
        (0..ROUNDS).for_each(&mut access);
        start.elapsed().as_nanos() as f64 / ROUNDS as f64
    });
    println!("{name:32} {:6.1} ns per warp", best.fold(f64::INFINITY, f64::min));
}

fn lanes(base: u64, stride: u64) -> [u64; 32] {
    std::array::from_fn(|l| base + stride * l as u64)
}

fn main() {
    let memory = DeviceMemory::new(4 * BYTES);
    let base = || {
        let base = memory.alloc(BYTES, 256).expect("room");
        memory.fill(base, &[0], BYTES).expect("inside");
        base
    };
    let (a, b) = (base(), base());
    let mut tlb = Tlb::new(&memory);
    let (mut one, mut four, mut wide) = ([[0u32; 32]; 1], [[0u32; 32]; 4], [[0u64; 32]; 1]);
    let at = |i: u64, bytes: u64| i * 32 * bytes % (BYTES as u64 / 2);
    time("load 4 bytes, contiguous", |i| {
        tlb.load(black_box(&lanes(a + at(i, 4), 4)), !0, !0, black_box(&mut one)).expect("written");
    });
    time("store 4 bytes, contiguous", |i| {
        tlb.store(black_box(&lanes(a + at(i, 4), 4)), !0, black_box(&one)).expect("inside");
    });
    time("load and store, 2 allocations", |i| {
        tlb.load(black_box(&lanes(a + at(i, 4), 4)), !0, !0, black_box(&mut one)).expect("written");
        tlb.store(black_box(&lanes(b + at(i, 4), 4)), !0, black_box(&one)).expect("inside");
    });
    time("load 8 bytes, contiguous", |i| {
        tlb.load(black_box(&lanes(a + at(i, 8), 8)), !0, !0, black_box(&mut wide)).expect("written");
    });
    time("load 16 bytes, contiguous", |i| {
        tlb.load(black_box(&lanes(a + at(i, 16), 16)), !0, !0, black_box(&mut four)).expect("written");
    });
    time("store 16 bytes, contiguous", |i| {
        tlb.store(black_box(&lanes(a + at(i, 16), 16)), !0, black_box(&four)).expect("inside");
    });
    time("load 4 bytes, 16 lanes", |i| {
        tlb.load(black_box(&lanes(a + at(i, 4), 4)), 0xffff, !0, black_box(&mut one)).expect("written");
    });
    time("load 4 bytes, strided", |i| {
        tlb.load(black_box(&lanes(a + at(i, 4), 68)), !0, !0, black_box(&mut one)).expect("written");
    });
    time("store 4 bytes, strided", |i| {
        tlb.store(black_box(&lanes(a + at(i, 4), 68)), !0, black_box(&one)).expect("inside");
    });
    time("load 4 bytes, one address", |i| {
        tlb.load(black_box(&[a + at(i, 4); 32]), !0, !0, black_box(&mut one)).expect("written");
    });
    time("add f32, contiguous", |i| {
        let addresses = black_box(lanes(a + at(i, 4), 4));
        tlb.atomic(Update { op: AtomicOp::Add, ty: AtomicType::F32 }, &addresses, !0, &[[0; 32]], &[0; 32], &mut [])
            .expect("written");
    });
    let mut bytes = [0; 4096];
    time("read 4096 bytes", |i| tlb.read(a + at(i, 4), black_box(&mut bytes)).expect("written"));
    time("write 4096 bytes", |i| tlb.write(a + at(i, 4), black_box(&bytes)).expect("inside"));
}
