use super::*;
use crate::memory::DeviceMemory;

fn with(op: AtomicOp, ty: AtomicType) -> Update {
    Update { op, ty }
}

#[test]
fn operations_on_integers() {
    use AtomicOp::*;
    use AtomicType::*;
    let case = |op: AtomicOp, ty, old: u64, operand: u64| with(op, ty).apply(old, operand, 77, true);
    assert_eq!(case(Add, U32, 0xffff_ffff, 2), Some(1));
    assert_eq!(case(Add, U64, u64::MAX, 2), Some(1));
    assert_eq!(case(Inc, U32, 4, 5), Some(5));
    assert_eq!(case(Inc, U32, 5, 5), Some(0));
    assert_eq!(case(Dec, U32, 0, 5), Some(5));
    assert_eq!(case(Dec, U32, 6, 5), Some(5));
    assert_eq!(case(Dec, U32, 5, 5), Some(4));
    assert_eq!(case(Min, S32, 0xffff_ffff, 2), Some(0xffff_ffff));
    assert_eq!(case(Min, U32, 0xffff_ffff, 2), Some(2));
    assert_eq!(case(Max, S64, u64::MAX, 2), Some(2));
    assert_eq!(case(Max, U64, u64::MAX, 2), Some(u64::MAX));
    assert_eq!(case(Cas, U16, 3, 3), Some(77));
    assert_eq!(case(Cas, U32, 3, 4), Some(3));
    assert_eq!(case(Exch, F32, 3, 4), Some(4));
    assert_eq!(case(Xor, U32, 6, 3), Some(5));
    assert_eq!(case(Min, F32, 6, 3), None);
    assert_eq!(case(Inc, U64, 6, 3), None);
}

#[test]
fn operations_on_floats() {
    let f = |x: f32| u64::from(x.to_bits());
    let add = |x, y, flush| with(AtomicOp::Add, AtomicType::F32).apply(x, y, 0, flush);
    assert_eq!(add(f(1.5), f(2.25), true), Some(f(3.75)));
    assert_eq!(add(f(1e-40), f(1e-40), true), Some(0));
    assert_eq!(add(f(1e-40), f(1e-40), false), Some(f(1e-40) * 2));
    assert_eq!(add(f(f32::INFINITY), f(f32::NEG_INFINITY), true), Some(0x7fff_ffff));
    let pairs = |op: AtomicOp, ty, x, y| with(op, ty).apply(x, y, 0, true);
    assert_eq!(pairs(AtomicOp::Add, AtomicType::F16x2, 0x3c00_4000, 0x3c00_3c00), Some(0x4000_4200));
    assert_eq!(pairs(AtomicOp::Add, AtomicType::Bf16x2, 0x3f80_4000, 0x3f80_3f80), Some(0x4000_4040));
    assert_eq!(pairs(AtomicOp::Max, AtomicType::F16x2, 0x3c00_c000, 0x4000_bc00), Some(0x4000_bc00));
    assert_eq!(
        with(AtomicOp::Add, AtomicType::F64).apply(1.5f64.to_bits(), 2f64.to_bits(), 0, true),
        Some(3.5f64.to_bits())
    );
}

/// Lanes at one address go in order; vector forms update each element; `red` needs no place for old values.
#[test]
fn warps_update_in_order() {
    let memory = DeviceMemory::new(1 << 20);
    let a = memory.alloc(256, 256).expect("room");
    memory.fill(a, &[0], 128).expect("inside");
    let mut tlb = Tlb::new(&memory);
    let (ones, mut old) = ([1; 32], [[99; 32]]);
    tlb.atomic(with(AtomicOp::Add, AtomicType::U32), &[a; 32], 0xffff_0001, &[ones], &ones, &mut old).expect("written");
    assert_eq!((old[0][0], old[0][1], old[0][16], old[0][31]), (0, 99, 1, 16));
    let two = u64::from(2f32.to_bits());
    let pair = std::array::from_fn(|l| a + 64 + 8 * (l as u64 % 2));
    tlb.atomic(
        with(AtomicOp::Add, AtomicType::F32),
        &pair,
        !0,
        &[[two; 32], [u64::from(0.5f32.to_bits()); 32]],
        &ones,
        &mut [],
    )
    .expect("written");
    let mut bytes = [0; 16];
    memory.read(a + 64, &mut bytes).expect("written");
    assert_eq!(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect::<Vec<_>>(), [32., 8., 32., 8.]);

    tlb.reduce(with(AtomicOp::Add, AtomicType::U32), a, &[1, 0, 0, 0, 2, 0, 0, 0]).expect("written");
    memory.read(a, &mut bytes).expect("written");
    assert_eq!(bytes[..8], [18, 0, 0, 0, 2, 0, 0, 0]);

    let fault = |tlb: &mut Tlb, update, addresses: [u64; 32]| {
        let fault = tlb.atomic(update, &addresses, !0, &[ones], &ones, &mut []).expect_err("a fault");
        (fault.kind, fault.lane)
    };
    let run = std::array::from_fn(|l| a + 8 * l as u64);
    assert_eq!(fault(&mut tlb, with(AtomicOp::Add, AtomicType::U32), run), (Kind::UninitializedGlobal, 16));
    assert_eq!(fault(&mut tlb, with(AtomicOp::Add, AtomicType::U64), run.map(|x| x + 4)), (Kind::Misaligned, 0));
    assert_eq!(fault(&mut tlb, with(AtomicOp::Inc, AtomicType::U64), run), (Kind::Unsupported, 0));
    memory.protect(a);
    assert_eq!(fault(&mut tlb, with(AtomicOp::Add, AtomicType::U32), run), (Kind::ReadOnly, 0));
}

/// No update is lost between threads, in any width.
#[test]
fn threads_lose_no_update() {
    let memory = DeviceMemory::new(1 << 20);
    let a = memory.alloc(64, 256).expect("room");
    memory.fill(a, &[0], 64).expect("inside");
    let one = u64::from(1f32.to_bits());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut tlb = Tlb::new(&memory);
                for _ in 0..500 {
                    tlb.atomic(with(AtomicOp::Add, AtomicType::F32), &[a; 32], !0, &[[one; 32]], &[0; 32], &mut [])
                        .expect("f32");
                    tlb.atomic(
                        with(AtomicOp::Add, AtomicType::U64),
                        &[a + 8; 32],
                        !0,
                        &[[1 << 33; 32]],
                        &[0; 32],
                        &mut [],
                    )
                    .expect("u64");
                    tlb.atomic(with(AtomicOp::Xor, AtomicType::U32), &[a + 16; 32], 1, &[[1; 32]], &[0; 32], &mut [])
                        .expect("u32");
                }
            });
        }
    });
    let mut bytes = [0; 24];
    memory.read(a, &mut bytes).expect("written");
    assert_eq!(f32::from_le_bytes(bytes[..4].try_into().expect("4")), 64000.);
    assert_eq!(u64::from_le_bytes(bytes[8..16].try_into().expect("8")), 64000 << 33);
    assert_eq!(u32::from_le_bytes(bytes[16..20].try_into().expect("4")), 0);
}
