//! Matrix instructions: `ldmatrix`, `stmatrix`, `movmatrix`, `mma.sync`, wgmma from shared memory and from registers.

use cuda_sim::check::Kind;
use cuda_sim::device::DeviceModel;
use cuda_sim::num::f32_to_bf16;

use super::*;

/// 1,024 words of shared memory come from the second pointer; then the body; then word `i` of `%r20`… goes out.
fn with_matrix(body: &str, results: usize) -> String {
    let stores: String = (0..results)
        .map(|i| {
            format!(
                "mad.lo.u32 %r91, %r0, {results}, {i};\nmul.wide.u32 %rd28, %r91, 4;\nadd.u64 %rd28, %rd28, %rd0;\n\
                 st.global.u32 [%rd28], %r{};\n",
                20 + i
            )
        })
        .collect();
    format!(
        "{MBARRIER}
         @%p15 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r90], 4096;
         @%p15 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%s], [%rd1], 4096, [%r90];
         {WAIT}
         {body}
         {stores}"
    )
}

/// Rows of 8 elements, 16 bytes each; element (r, c) of matrix m is 100·m + 10·r + c.
fn numbered() -> Vec<u16> {
    let mut image: Vec<u16> = (0..4 * 64).map(|i| (i / 64 * 100 + i / 8 % 8 * 10 + i % 8) as u16).collect();
    image.resize(2048, 0);
    image
}

fn element(m: usize, r: usize, c: usize) -> u32 {
    (m * 100 + r * 10 + c) as u32
}

#[test]
fn ldmatrix_plain_and_transposed() {
    for (count, registers) in [(1, "{%r20}"), (2, "{%r20, %r21}"), (4, "{%r20, %r21, %r22, %r23}")] {
        for trans in ["", ".trans"] {
            let mut program = kernel(&with_matrix(
                &format!(
                    "shl.b32 %r3, %r1, 4; add.u32 %r3, %r3, %s;
                     ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {registers}, [%r3];"
                ),
                count,
            ));
            let (out, from) = (program.blank(128 * count), program.upload(&numbered()));
            runs(&mut program, &shape(32), &args(&[out, from], &[]));
            let got: Vec<u32> = program.download(out, 32 * count);
            for lane in 0..32 {
                let (g, t) = (lane / 4, lane % 4);
                for m in 0..count {
                    let pair = match trans {
                        "" => [element(m, g, 2 * t), element(m, g, 2 * t + 1)],
                        _ => [element(m, 2 * t, g), element(m, 2 * t + 1, g)],
                    };
                    assert_eq!(
                        got[lane * count + m],
                        pair[0] | pair[1] << 16,
                        "x{count}{trans} lane {lane} matrix {m}"
                    );
                }
            }
        }
    }
}

#[test]
fn stmatrix_and_movmatrix() {
    // Transposed twice: by movmatrix in registers, by stmatrix on the way back; then read as words.
    let mut program = kernel(&with_matrix(
        "shl.b32 %r3, %r1, 4; add.u32 %r3, %r3, %s;
         ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r4}, [%r3];
         movmatrix.sync.aligned.m8n8.trans.b16 %r5, %r4;
         add.u32 %r6, %r3, 2048;
         stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%r6], {%r5};
         bar.warp.sync 0xffffffff;
         shl.b32 %r7, %r1, 2; add.u32 %r7, %r7, %s;
         ld.shared.u32 %r20, [%r7+2048];
         mov.b32 %r21, %r5;",
        2,
    ));
    let image = numbered();
    let (out, from) = (program.blank(256), program.upload(&image));
    runs(&mut program, &shape(32), &args(&[out, from], &[]));
    let got: Vec<u32> = program.download(out, 64);
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4);
        assert_eq!(got[2 * lane], u32::from(image[2 * lane]) | u32::from(image[2 * lane + 1]) << 16);
        assert_eq!(got[2 * lane + 1], element(0, 2 * t, g) | element(0, 2 * t + 1, g) << 16);
    }
}

#[test]
fn mma_of_16_bit_and_8_bit_and_f64() {
    // Lane l holds a = l in every element of A, 1 in every element of B: row g sums over the four lanes of its group.
    let bf16 = |x: u32| u32::from(f32_to_bf16(x as f32)) * 0x1_0001;
    let a: Vec<u32> = (0..32).map(bf16).collect();
    let mut program = kernel(
        "mul.wide.u32 %rd3, %r1, 4; add.u64 %rd4, %rd3, %rd1; ld.global.u32 %r3, [%rd4];
         mov.u32 %r4, 0x3f803f80; mov.f32 %f0, 0f40000000;
         mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1, %f2, %f3, %f4}, {%r3, %r3, %r3, %r3}, {%r4, %r4}, \
         {%f0, %f0, %f0, %f0};
         mov.u32 %r5, 0x02020202; mov.u32 %r6, 7; mul.lo.u32 %r7, %r1, 0x01010101;
         mma.sync.aligned.m16n8k16.row.col.s32.u8.s8.s32 {%r8, %r9, %r10, %r11}, {%r7, %r7}, {%r5}, \
         {%r6, %r6, %r6, %r6};
         mul.wide.u32 %rd5, %r1, 16; add.u64 %rd5, %rd5, %rd0;
         st.global.f32 [%rd5], %f1; st.global.f32 [%rd5+4], %f4; st.global.u32 [%rd5+8], %r8; st.global.u32 [%rd5+12], %r11;",
    );
    let (out, from) = (program.blank(512), program.upload(&a));
    runs(&mut program, &shape(32), &args(&[out, from], &[]));
    let got: Vec<u32> = program.download(out, 128);
    for lane in 0..32u32 {
        let group: u32 = (0..4).map(|t| lane / 4 * 4 + t).sum();
        let words = &got[4 * lane as usize..][..4];
        // Each lane of the group brings 4 of the 16 elements of k, for both halves of the rows.
        assert_eq!(f32::from_bits(words[0]), 2.0 + 4.0 * group as f32);
        assert_eq!(words[1], words[0]);
        assert_eq!([words[2], words[3]], [7 + 8 * group; 2]);
    }
}

/// 2^14 and 32 ones: Hopper's mma.sync of e4m3 adds them in f32, Ada's and Hopper's wgmma keep 13 bits behind the
/// leading one.
#[test]
fn sums_of_e4m3_are_those_of_the_card() {
    let mma = "mov.u32 %r3, 0x38383838; mov.f32 %f0, 0f46800000;
         mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%f1, %f2, %f3, %f4}, {%r3, %r3, %r3, %r3}, {%r3, %r3}, \
         {%f0, %f0, %f0, %f0};
         mul.wide.u32 %rd5, %r1, 4; add.u64 %rd5, %rd5, %rd0; st.global.f32 [%rd5], %f3;";
    for (device, want) in [(DeviceModel::h200(), 16384.0 + 32.0), (DeviceModel::rtx4090(), 16384.0)] {
        let mut program = kernel(mma);
        program.device = device;
        let out = program.blank(128);
        runs(&mut program, &shape(32), &args(&[out], &[]));
        assert_eq!(program.download::<f32>(out, 32), [want; 32]);
    }
    let start = (1..5).map(|i| format!("mov.f32 %f{i}, 0f46800000; ")).collect::<String>();
    let issue = ISSUE.replace("k16.f32.bf16.bf16", "k32.f32.e4m3.e4m3").replace(", 0, 1, 1, 0, 0;", ", 1, 1, 1;");
    let mut program =
        kernel(&with_matrix(&format!("{DESCRIPTORS} {start} {FENCE} {issue} {COMMIT} {WAIT_GROUP} {MOVES}"), 4));
    let (out, from) = (program.blank(2048), program.upload(&[0x38u8; 4096]));
    runs(&mut program, &shape(128), &args(&[out, from], &[]));
    assert_eq!(program.download::<f32>(out, 512), [16384.0; 512]);
}

/// A 64 × 16 and B 16 × 8 without swizzle: 8 rows of 16 bytes, 128 bytes to the other half of k, 256 to the next rows.
#[allow(clippy::type_complexity)] // two closures with nothing to name
fn operands(transposed_b: bool) -> (Vec<u16>, impl Fn(usize, usize) -> f32, impl Fn(usize, usize) -> f32) {
    let a = |m: usize, k: usize| ((m * 3 + k * 5) % 7) as f32 - 3.0;
    let b = |k: usize, n: usize| ((k * 2 + n * 3) % 5) as f32 - 2.0;
    let mut image = vec![0; 2048];
    for k in 0..16 {
        for m in 0..64 {
            image[m / 8 * 128 + k / 8 * 64 + m % 8 * 8 + k % 8] = f32_to_bf16(a(m, k));
        }
        for n in 0..8 {
            let at = if transposed_b { k / 8 * 64 + k % 8 * 8 + n } else { k / 8 * 64 + n * 8 + k % 8 };
            image[1024 + at] = f32_to_bf16(b(k, n));
        }
    }
    (image, a, b)
}

/// Descriptors of both in `%rd10` and `%rd11`.
const DESCRIPTORS: &str = "
shr.u32 %r3, %s, 4;
cvt.u64.u32 %rd10, %r3;
or.b64 %rd10, %rd10, 0x1000080000;
add.u64 %rd11, %rd10, 128;
";

const FENCE: &str = "wgmma.fence.sync.aligned;";
const ISSUE: &str =
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f1, %f2, %f3, %f4}, %rd10, %rd11, 0, 1, 1, 0, 0;";
const COMMIT: &str = "wgmma.commit_group.sync.aligned;";
const WAIT_GROUP: &str = "wgmma.wait_group.sync.aligned 0;";
const MOVES: &str = "mov.b32 %r20, %f1; mov.b32 %r21, %f2; mov.b32 %r22, %f3; mov.b32 %r23, %f4;";

/// Checks the four values of each of 128 threads.
fn check_d(got: &[u32], want: impl Fn(usize, usize) -> f32) {
    for (i, got) in got.iter().enumerate() {
        let (thread, v) = (i / 4, i % 4);
        let row = thread / 32 * 16 + thread % 32 / 4 + v / 2 * 8;
        let column = thread % 4 * 2 + v % 2;
        assert_eq!(f32::from_bits(*got), want(row, column), "thread {thread} value {v}");
    }
}

#[test]
fn wgmma_from_shared_memory() {
    for (transposed, signs) in [(false, "1, 1"), (true, "1, 1"), (true, "-1, 1")] {
        let issue = ISSUE.replace("1, 1, 0, 0", &format!("{signs}, 0, {}", u32::from(transposed)));
        let again = issue.replace("%rd11, 0,", "%rd11, 1,");
        let body = format!("{DESCRIPTORS} {FENCE} {issue} {again} {COMMIT} {WAIT_GROUP} {MOVES}");
        let mut program = kernel(&with_matrix(&body, 4));
        let (image, a, b) = operands(transposed);
        let (out, from) = (program.blank(2048), program.upload(&image));
        runs(&mut program, &shape(128), &args(&[out, from], &[]));
        let factor = if signs == "1, 1" { 2.0 } else { -2.0 };
        let dot = |m: usize, n: usize| factor * (0..16).map(|k| a(m, k) * b(k, n)).sum::<f32>();
        check_d(&program.download::<u32>(out, 512), dot);
    }
}

#[test]
fn wgmma_with_a_in_registers() {
    let (image, a, b) = operands(false);
    let fragments: Vec<u32> = (0..128 * 4)
        .map(|i| {
            let (thread, r) = (i / 4, i % 4);
            let row = thread / 32 * 16 + thread % 32 / 4 + r % 2 * 8;
            let k = thread % 4 * 2 + r / 2 * 8;
            u32::from(f32_to_bf16(a(row, k))) | u32::from(f32_to_bf16(a(row, k + 1))) << 16
        })
        .collect();
    let body = format!(
        "{DESCRIPTORS}
         mul.wide.u32 %rd12, %r0, 16; add.u64 %rd12, %rd12, %rd2;
         ld.global.v4.u32 {{%r10, %r11, %r12, %r13}}, [%rd12];
         {FENCE}
         wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {{%f1, %f2, %f3, %f4}}, {{%r10, %r11, %r12, %r13}}, %rd11, \
         0, 1, 1, 0;
         {COMMIT} {WAIT_GROUP} {MOVES}"
    );
    let dot = |m: usize, n: usize| (0..16).map(|k| a(m, k) * b(k, n)).sum::<f32>();
    let mut program = kernel(&with_matrix(&body, 4));
    let (out, from, a) = (program.blank(2048), program.upload(&image), program.upload(&fragments));
    runs(&mut program, &shape(128), &args(&[out, from, a], &[]));
    check_d(&program.download::<u32>(out, 512), dot);
    // The registers of A belong to it until the wait; reading them is allowed.
    let early = |with: &str| body.replace(COMMIT, &format!("{with} {COMMIT}"));
    let mut program = kernel(&with_matrix(&early("add.u32 %r30, %r10, 1;"), 4));
    let (out, from, a) = (program.blank(2048), program.upload(&image), program.upload(&fragments));
    runs(&mut program, &shape(128), &args(&[out, from, a], &[]));
    let mut program = kernel(&with_matrix(&early("mov.u32 %r10, 1;"), 4));
    let (out, from, a) = (program.blank(2048), program.upload(&image), program.upload(&fragments));
    finds(&mut program, &shape(128), &args(&[out, from, a], &[]), Kind::WgmmaRegisters);
}

#[test]
fn wgmma_mistakes() {
    let write = "setp.eq.u32 %p1, %r0, 0; @%p1 st.shared.u32 [%s+16], %r0; bar.sync 0;";
    let cases = [
        (format!("{DESCRIPTORS} {ISSUE} {COMMIT} {WAIT_GROUP} {MOVES}"), Kind::WgmmaFence),
        (
            format!("{DESCRIPTORS} {FENCE} mov.f32 %f2, 0f00000000; {ISSUE} {COMMIT} {WAIT_GROUP} {MOVES}"),
            Kind::WgmmaFence,
        ),
        (format!("{DESCRIPTORS} {FENCE} {ISSUE} {MOVES} {COMMIT} {WAIT_GROUP}"), Kind::WgmmaRegisters),
        (
            format!("{DESCRIPTORS} {FENCE} {ISSUE} {COMMIT} mov.f32 %f3, 0f00000000; {WAIT_GROUP} {MOVES}"),
            Kind::WgmmaRegisters,
        ),
        (format!("{DESCRIPTORS} {FENCE} {ISSUE} {COMMIT}"), Kind::AsyncNotWaited),
        // A generic store to A, with and without the proxy fence; the second orders nothing either.
        (format!("{write} {DESCRIPTORS} {FENCE} {ISSUE} {COMMIT} {WAIT_GROUP}"), Kind::ProxyFence),
        (
            format!(
                "{} {DESCRIPTORS} {FENCE} {ISSUE} {COMMIT} {WAIT_GROUP}",
                write.replace("bar.sync 0;", "fence.proxy.async;")
            ),
            Kind::SharedRace,
        ),
        // A store to A while it is read.
        (format!("{DESCRIPTORS} {FENCE} {ISSUE} {COMMIT} bar.sync 0; {write} {WAIT_GROUP}"), Kind::AsyncNotWaited),
        // Descriptors that name nothing: past shared memory, reserved bits, another for each lane.
        (format!("{DESCRIPTORS} add.u64 %rd10, %rd10, 512; {FENCE} {ISSUE} {COMMIT} {WAIT_GROUP}"), Kind::OutOfBounds),
        (
            format!("{DESCRIPTORS} add.u64 %rd11, %rd11, 160; {FENCE} {ISSUE} {COMMIT} {WAIT_GROUP}"),
            Kind::UninitializedShared,
        ),
        (
            format!("{DESCRIPTORS} or.b64 %rd10, %rd10, 0x8000; {FENCE} {ISSUE} {COMMIT} {WAIT_GROUP}"),
            Kind::InvalidOperand,
        ),
        (
            format!(
                "{DESCRIPTORS} cvt.u64.u32 %rd3, %r1; add.u64 %rd10, %rd10, %rd3; {FENCE} {ISSUE} {COMMIT} {WAIT_GROUP}"
            ),
            Kind::Divergence,
        ),
        (
            format!(
                "{DESCRIPTORS} cvt.u64.u32 %rd3, %r2; add.u64 %rd10, %rd10, %rd3; {FENCE} {ISSUE} {COMMIT} {WAIT_GROUP}"
            ),
            Kind::Divergence,
        ),
        // One warp stays away.
        (
            format!("{DESCRIPTORS} setp.eq.u32 %p1, %r2, 2; @%p1 ret; {FENCE} {ISSUE} {COMMIT} {WAIT_GROUP}"),
            Kind::Deadlock,
        ),
    ];
    for (body, kind) in cases {
        let mut program = kernel(&with_matrix(&body, 4));
        let (image, _, _) = operands(false);
        let (out, from) = (program.blank(2048), program.upload(&image));
        finds(&mut program, &shape(128), &args(&[out, from], &[]), kind);
    }
}
