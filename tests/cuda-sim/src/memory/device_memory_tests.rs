use super::*;

fn kind(result: Checked) -> Kind {
    result.expect_err("a finding").kind
}

#[test]
fn allocations_are_limited_aligned_and_apart() {
    let memory = DeviceMemory::new(10_000);
    let a = memory.alloc(1000, 1).expect("room");
    let b = memory.alloc(5000, 4096).expect("room");
    assert_eq!((a % 256, b % 4096), (0, 0));
    assert!(b >= a + 1000 + GUARD);
    assert_eq!(memory.used(), 6000);
    assert_eq!(memory.alloc(4001, 256), None);
    assert_eq!(memory.range(b + 4999), Some((b, 5000)));
    assert_eq!(memory.range(b + 5000), None);
    memory.free(a).expect("live");
    assert_eq!(memory.used(), 5000);
    assert!(memory.alloc(4001, 256).expect("room") > b, "addresses are not reused soon");
}

#[test]
fn bytes_survive_writes_fills_and_copies() {
    let memory = DeviceMemory::new(1 << 20);
    let a = memory.alloc(9000, 256).expect("room");
    let b = memory.alloc(9000, 256).expect("room");
    let bytes: Vec<u8> = (0..9000u32).map(|i| (i * i / 8) as u8).collect();
    memory.write(a, &bytes).expect("inside");
    let mut expect = vec![0; 9000];
    // All alignments of both ends, and more than one chunk.
    let mut back = vec![0; 9000];
    for (to, from, n) in [(0, 0, 9000), (1, 6, 8900), (7, 3, 17), (9, 8, 5), (4096, 1, 4097)] {
        memory.copy(b + to as u64, a + from as u64, n).expect("inside");
        expect[to..to + n].copy_from_slice(&bytes[from..from + n]);
        memory.read(b, &mut back).expect("written");
        assert_eq!(back, expect, "{to} {from} {n}");
    }
    memory.fill(b + 2, &[1, 2, 3, 4], 2000).expect("inside");
    expect[2..8002].copy_from_slice(&[1, 2, 3, 4].repeat(2000));
    memory.read(b, &mut back).expect("written");
    assert_eq!(back, expect);
}

#[test]
fn unwritten_bytes_are_found_also_after_a_copy() {
    let memory = DeviceMemory::new(1 << 20);
    let a = memory.alloc(300, 256).expect("room");
    let b = memory.alloc(300, 256).expect("room");
    memory.write(a, &[1; 100]).expect("inside");
    memory.write(a + 101, &[1; 199]).expect("inside");
    memory.fill(b, &[0], 300).expect("inside");
    memory.copy(b + 10, a + 60, 200).expect("copies carry unwritten bytes");
    let finding = memory.read(b, &mut [0; 300]).expect_err("byte 50 is unwritten");
    assert_eq!(finding.kind, Kind::UninitializedGlobal);
    assert!(finding.text.contains("byte 50 of the 300-byte"), "{}", finding.text);
    memory.read(b, &mut [0; 50]).expect("written");
    memory.read(b + 51, &mut [0; 249]).expect("written");
}

#[test]
fn bad_ranges_are_named() {
    let memory = DeviceMemory::new(1 << 20);
    let a = memory.alloc(100, 256).expect("room");
    let text = |addr, n| memory.write(addr, &vec![0; n]).expect_err("outside").text;
    assert!(text(a + 90, 11).contains("ends 1 bytes past the 100-byte"), "{}", text(a + 90, 11));
    assert!(text(a + 104, 1).contains("4 bytes past the end"), "{}", text(a + 104, 1));
    assert!(text(a - 8, 4).contains("8 bytes before"), "{}", text(a - 8, 4));
    assert!(text(8, 4).contains("null pointer"), "{}", text(8, 4));
    assert!(text(u64::MAX - 1, 4).contains("past the end"), "{}", text(u64::MAX - 1, 4));
    assert_eq!(kind(memory.copy(a + 8, a, 9)), Kind::InvalidOperand);
    assert_eq!(kind(memory.fill(a, &[0; 2], usize::MAX)), Kind::OutOfBounds);
    memory.copy(a + 9, a, 9).expect("disjoint");
    memory.protect(a);
    assert_eq!(kind(memory.write(a, &[0])), Kind::ReadOnly);
    assert_eq!(kind(memory.free(a + 1)), Kind::InvalidFree);
    memory.free(a).expect("live");
    assert_eq!(kind(memory.free(a)), Kind::InvalidFree);
    assert_eq!(kind(memory.write(a + 5, &[0])), Kind::UseAfterFree);
    assert_eq!(kind(memory.write(a + 100, &[0])), Kind::OutOfBounds);
}

/// With few addresses they come round again, between live allocations, and what lies there is new.
#[test]
fn addresses_go_round() {
    let start = ADDRESSES.start;
    let memory = DeviceMemory::with_addresses(1 << 20, start..start + 6 * GUARD);
    let kept = memory.alloc(512, 256).expect("room");
    let mut last = kept;
    let mut wraps = 0;
    for _ in 0..40 {
        let a = memory.alloc(512, 256).expect("room");
        wraps += usize::from(a < last);
        last = a;
        assert_eq!(kind(memory.read(a, &mut [0])), Kind::UninitializedGlobal);
        assert_ne!(a, kept);
        memory.write(a, &[1; 512]).expect("inside");
        memory.free(a).expect("live");
    }
    assert!(wraps >= 9, "{wraps}");
    let all: Vec<u64> = std::iter::from_fn(|| memory.alloc(512, 256)).collect();
    assert_eq!(all.len(), 4, "every other place was free, and none is given twice");
}
