use super::*;
use crate::check::Kind;

fn lanes(f: impl FnMut(u64) -> u64) -> [u64; LANES] {
    let mut f = f;
    std::array::from_fn(|l| f(l as u64))
}

fn setup(bytes: usize) -> (DeviceMemory, u64, Vec<u8>) {
    let memory = DeviceMemory::new(1 << 24);
    let a = memory.alloc(bytes, 256).expect("room");
    let content: Vec<u8> = (0..bytes).map(|i| (i * 7 + (i >> 8)) as u8).collect();
    memory.write(a, &content).expect("inside");
    (memory, a, content)
}

/// Loads and stores of one shape by each pattern of addresses, against slices of bytes.
fn round_trip<T: Element + PartialEq + std::fmt::Debug + Into<u64>, const E: usize>(from_le: fn(&[u8]) -> T) {
    let (memory, a, content) = setup(8192);
    let b = memory.alloc(8192, 256).expect("room");
    let (mut tlb, bytes) = (Tlb::new(&memory), (size_of::<T>() * E) as u64);
    let patterns: [(&str, [u64; LANES]); 8] = [
        ("contiguous", lanes(|l| l * bytes)),
        ("off by one access", lanes(|l| (l + 1) * bytes)),
        ("strided", lanes(|l| l * bytes * 3)),
        ("reversed", lanes(|l| (31 - l) * bytes)),
        ("last differs", lanes(|l| if l == 31 { 4096 } else { l * bytes })),
        ("one address", lanes(|_| 2048)),
        ("ends agree", lanes(|l| if l % 31 == 0 { 512 } else { l * bytes })),
        ("permuted", lanes(|l| (l * 13 % 32) * bytes + 1024)),
    ];
    for (name, offsets) in patterns {
        for mask in [!0, 0x8000_0001, 0x00ff_ff00, 1, 0] {
            let mut out = [[T::default(); LANES]; E];
            tlb.load(&offsets.map(|o| a + o), mask, !0, &mut out).expect("written");
            memory.free(b).ok();
            let b = memory.alloc(8192, 256).expect("room");
            let to = offsets.map(|o| b + o);
            tlb.store(&to, mask, &out).expect("inside");
            for l in 0..LANES {
                for (e, row) in out.iter().enumerate() {
                    let at = offsets[l] as usize + e * size_of::<T>();
                    let slice = &content[at..at + size_of::<T>()];
                    let active = mask >> l & 1 == 1;
                    assert_eq!(row[l], if active { from_le(slice) } else { T::default() }, "{name} {mask:x} lane {l}");
                    let mut back = vec![0; size_of::<T>()];
                    let read = memory.read(b + at as u64, &mut back);
                    let stored = (0..LANES).any(|other| mask >> other & 1 == 1 && offsets[other] == offsets[l]);
                    let kind = read.as_ref().map_err(|f| f.kind).err();
                    assert_eq!(kind, (!stored).then_some(Kind::UninitializedGlobal), "{name} {mask:x} lane {l}");
                    assert!(!stored || back == slice);
                }
            }
            memory.free(b).expect("live");
        }
    }
}

#[test]
fn all_shapes_round_trip() {
    round_trip::<u8, 1>(|b| b[0]);
    round_trip::<u8, 4>(|b| b[0]);
    round_trip::<u16, 1>(|b| u16::from_le_bytes(b.try_into().expect("2")));
    round_trip::<u16, 2>(|b| u16::from_le_bytes(b.try_into().expect("2")));
    round_trip::<u32, 1>(|b| u32::from_le_bytes(b.try_into().expect("4")));
    round_trip::<u32, 2>(|b| u32::from_le_bytes(b.try_into().expect("4")));
    round_trip::<u32, 4>(|b| u32::from_le_bytes(b.try_into().expect("4")));
    round_trip::<u64, 1>(|b| u64::from_le_bytes(b.try_into().expect("8")));
    round_trip::<u64, 2>(|b| u64::from_le_bytes(b.try_into().expect("8")));
}

/// Each mistake names its kind and the lowest lane that made it, in full warps and in partial ones.
#[test]
fn faults_name_the_lane() {
    let (memory, a, _) = setup(1000);
    let hole = memory.alloc(256, 256).expect("room");
    memory.write(hole, &[0; 77]).expect("inside");
    memory.write(hole + 78, &[0; 178]).expect("inside");
    let constant = memory.alloc(128, 256).expect("room");
    memory.protect(constant);
    let freed = memory.alloc(128, 256).expect("room");
    let mut tlb = Tlb::new(&memory);
    tlb.store(&lanes(|l| freed + 4 * l), !0, &[[0u32; LANES]]).expect("live");
    memory.free(freed).expect("live");

    let mut out = [[0u32; LANES]];
    let mut load = |tlb: &mut Tlb, addresses, mask| tlb.load(&addresses, mask, !0, &mut out).expect_err("a fault");
    let place = |f: Box<Fault>| (f.kind, f.lane);
    let run = |base: u64| lanes(|l| base + 4 * l);
    assert_eq!(place(load(&mut tlb, run(a + 900), !0)), (Kind::OutOfBounds, 25));
    assert_eq!(place(load(&mut tlb, run(a + 900), 0xf000_0000)), (Kind::OutOfBounds, 28));
    assert_eq!(place(load(&mut tlb, run(a - 8), !0)), (Kind::OutOfBounds, 0));
    assert_eq!(place(load(&mut tlb, run(a + 2), !0)), (Kind::Misaligned, 0));
    assert_eq!(place(load(&mut tlb, lanes(|l| a + 4 * l + l / 9), !0)), (Kind::Misaligned, 9));
    assert_eq!(place(load(&mut tlb, run(hole), !0)), (Kind::UninitializedGlobal, 19));
    assert_eq!(place(load(&mut tlb, lanes(|_| hole + 76), 0x10)), (Kind::UninitializedGlobal, 4));
    assert_eq!(place(load(&mut tlb, run(freed), !0)), (Kind::UseAfterFree, 0));
    let store = |tlb: &mut Tlb, addresses, mask| tlb.store(&addresses, mask, &[[0u32; LANES]]).expect_err("a fault");
    assert_eq!(place(store(&mut tlb, run(constant), !0)), (Kind::ReadOnly, 0));
    assert_eq!(place(store(&mut tlb, lanes(|l| if l < 3 { a } else { constant }), !0)), (Kind::ReadOnly, 3));
    assert_eq!(place(store(&mut tlb, run(freed), 0x100)), (Kind::UseAfterFree, 8));
    assert_eq!(place(store(&mut tlb, run(a + 996), !0)), (Kind::OutOfBounds, 1));
    // Bytes that the kernel declares unused may be unwritten, the others not.
    tlb.load(&lanes(|l| hole + 4 * l), !0, 0b1101, &mut out).expect("byte 77 is not used");
    tlb.load(&lanes(|l| hole + 4 * l), !0, 0b0010, &mut out).expect_err("byte 77 is used");
}

/// More allocations in one warp than the buffer has ways.
#[test]
fn lanes_in_many_allocations() {
    let memory = DeviceMemory::new(1 << 20);
    let bases: Vec<u64> = (0..LANES).map(|_| memory.alloc(64, 256).expect("room")).collect();
    let mut tlb = Tlb::new(&memory);
    let addresses = lanes(|l| bases[l as usize] + 8 * (l % 8));
    let values = [std::array::from_fn(|l| l as u64 * 3)];
    let mut out = [[0u64; LANES]];
    for _ in 0..3 {
        tlb.store(&addresses, !0, &values).expect("inside");
        tlb.load(&addresses, !0, !0, &mut out).expect("written");
        assert_eq!(out, values);
    }
}

#[test]
fn ranges_carry_the_shadow() {
    let memory = DeviceMemory::new(1 << 20);
    let a = memory.alloc(500, 256).expect("room");
    let mut tlb = Tlb::new(&memory);
    tlb.write(a + 3, &[9; 130]).expect("inside");
    let (mut to, mut written) = ([1; 140], [!0; 3]);
    tlb.read_shadowed(a + 1, &mut to, &mut written).expect("inside");
    for (i, &byte) in to.iter().enumerate() {
        let inside = (2..132).contains(&i);
        assert_eq!(written[i / 64] >> (i % 64) & 1 == 1, inside, "{i}");
        assert!(!inside || byte == 9);
    }
    assert_eq!(written[2] >> 12, 0);
    tlb.read(a + 3, &mut to[..130]).expect("written");
    assert_eq!(tlb.read(a + 3, &mut to[..131]).expect_err("unwritten").kind, Kind::UninitializedGlobal);
    assert_eq!(tlb.read_shadowed(a + 400, &mut to, &mut written).expect_err("outside").kind, Kind::OutOfBounds);
}
