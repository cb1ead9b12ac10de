//! Kernels for the tiles of Intel's AMX: 16 rows of 16 pairs times 16 rows of 16 columns of pairs by one instruction.
//!
//! Linux gives a process tiles when it asks for them. No tile holds anything outside of a kernel, so that threads are
//! switched as fast as others.

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, _xgetbv};
use std::sync::OnceLock;

use super::kernel::{Kernels, Tile, kernels};
use super::pair::Pair;
use super::x86::{EIGHT_PAIRS, has_avx512};

/// Rows of a tile, and the pairs or sums of one of its rows.
const SIDE: usize = 16;

/// Sums of four tiles, two beside two.
type Sums = [[f32; 2 * SIDE]; 2 * SIDE];

/// What `ldtilecfg` reads: rows of each tile, and bytes of a row.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    /// For `upper` and `lower` rows, and this many pairs of the reduction at once: sums are in tiles 0 to 3, the rows'
    /// operands in 4 and 5, those of the columns in 6 and 7.
    const fn new(upper: usize, lower: usize, pairs: usize) -> Self {
        let (upper, lower, all, some) = (upper as u8, lower as u8, 4 * SIDE as u16, 4 * pairs as u16);
        let mut config = Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        [config.rows[0], config.rows[1], config.rows[2], config.rows[3]] = [upper, upper, lower, lower];
        [config.rows[4], config.rows[5], config.rows[6], config.rows[7]] = [upper, lower, pairs as u8, pairs as u8];
        [config.row_bytes[0], config.row_bytes[1], config.row_bytes[4]] = [all, all, some];
        if lower > 0 {
            [config.row_bytes[2], config.row_bytes[3], config.row_bytes[5]] = [all, all, some];
        }
        [config.row_bytes[6], config.row_bytes[7]] = [all, all];
        config
    }
}

/// Some steps of a reduction: what is multiplied, and the bytes from row to row.
#[derive(Clone, Copy)]
struct Steps {
    a: *const Pair,
    a_row: usize,
    b: *const Pair,
    b_row: usize,
    count: usize,
}

/// Loads the sums by the lines `$load`, does `$step` for every step, and stores them by `$store`.
macro_rules! multiply {
    ($config:expr, $sums:expr, $steps:expr, [$($load:literal)*], [$($step:literal)*], [$($store:literal)*]) => {
        asm!(
            "ldtilecfg [{config}]",
            $($load,)*
            "2:",
            $($step,)*
            "add {a}, 64",
            "add {lower}, 64",
            "add {b}, {b_step}",
            "dec {count}",
            "jnz 2b",
            $($store,)*
            "tilerelease",
            config = in(reg) $config,
            sums = in(reg) $sums,
            sums_row = in(reg) size_of::<[f32; 2 * SIDE]>(),
            a = inout(reg) $steps.a => _,
            lower = inout(reg) $steps.a.wrapping_byte_add(SIDE * $steps.a_row) => _,
            a_row = in(reg) $steps.a_row,
            b = inout(reg) $steps.b => _,
            b_row = in(reg) $steps.b_row,
            b_step = in(reg) SIDE * $steps.b_row,
            count = inout(reg) $steps.count => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// Adds the products of some steps, at least one, to the sums of `upper` or more rows and one or two vectors.
///
/// # Safety
/// As of a kernel.
unsafe fn add(config: &Config, sums: &mut Sums, steps: Steps, (lower, wide): (bool, bool)) {
    let (config, sums): (*const Config, *mut Sums) = (config, sums);
    // SAFETY: the caller's promise for the operands; the sums are 32 rows of 128 bytes, of which four tiles take 16 of
    // 64 each. Nothing but these and the tiles is written, and no tile holds anything afterwards.
    unsafe {
        match (lower, wide) {
            (false, false) => multiply!(
                config, sums, steps,
                ["tileloadd tmm0, [{sums} + {sums_row}*1]"],
                [
                    "tileloadd tmm4, [{a} + {a_row}*1]"
                    "tileloadd tmm6, [{b} + {b_row}*1]"
                    "tdpbf16ps tmm0, tmm4, tmm6"
                ],
                ["tilestored [{sums} + {sums_row}*1], tmm0"]
            ),
            (false, true) => multiply!(
                config, sums, steps,
                ["tileloadd tmm0, [{sums} + {sums_row}*1]" "tileloadd tmm1, [{sums} + {sums_row}*1 + 64]"],
                [
                    "tileloadd tmm4, [{a} + {a_row}*1]"
                    "tileloadd tmm6, [{b} + {b_row}*1]"
                    "tdpbf16ps tmm0, tmm4, tmm6"
                    "tileloadd tmm7, [{b} + {b_row}*1 + 64]"
                    "tdpbf16ps tmm1, tmm4, tmm7"
                ],
                ["tilestored [{sums} + {sums_row}*1], tmm0" "tilestored [{sums} + {sums_row}*1 + 64], tmm1"]
            ),
            (true, false) => multiply!(
                config, sums, steps,
                ["tileloadd tmm0, [{sums} + {sums_row}*1]" "tileloadd tmm2, [{sums} + {sums_row}*1 + 2048]"],
                [
                    "tileloadd tmm4, [{a} + {a_row}*1]"
                    "tileloadd tmm6, [{b} + {b_row}*1]"
                    "tdpbf16ps tmm0, tmm4, tmm6"
                    "tileloadd tmm5, [{lower} + {a_row}*1]"
                    "tdpbf16ps tmm2, tmm5, tmm6"
                ],
                ["tilestored [{sums} + {sums_row}*1], tmm0" "tilestored [{sums} + {sums_row}*1 + 2048], tmm2"]
            ),
            (true, true) => multiply!(
                config, sums, steps,
                [
                    "tileloadd tmm0, [{sums} + {sums_row}*1]"
                    "tileloadd tmm1, [{sums} + {sums_row}*1 + 64]"
                    "tileloadd tmm2, [{sums} + {sums_row}*1 + 2048]"
                    "tileloadd tmm3, [{sums} + {sums_row}*1 + 2112]"
                ],
                [
                    "tileloadd tmm4, [{a} + {a_row}*1]"
                    "tileloadd tmm6, [{b} + {b_row}*1]"
                    "tdpbf16ps tmm0, tmm4, tmm6"
                    "tileloadd tmm7, [{b} + {b_row}*1 + 64]"
                    "tdpbf16ps tmm1, tmm4, tmm7"
                    "tileloadd tmm5, [{lower} + {a_row}*1]"
                    "tdpbf16ps tmm2, tmm5, tmm6"
                    "tdpbf16ps tmm3, tmm5, tmm7"
                ],
                [
                    "tilestored [{sums} + {sums_row}*1], tmm0"
                    "tilestored [{sums} + {sums_row}*1 + 64], tmm1"
                    "tilestored [{sums} + {sums_row}*1 + 2048], tmm2"
                    "tilestored [{sums} + {sums_row}*1 + 2112], tmm3"
                ]
            ),
        }
    }
}

/// A [`super::kernel::Run`].
#[target_feature(enable = "avx512f,fma")]
unsafe fn amx<const ROWS: usize, const VECTORS: usize>(tile: Tile<Pair, f32>) {
    let Tile { y, y_stride, columns, a, a_row, a_column, b, b_row, k, from, alpha } = tile;
    debug_assert!(a_column == 1, "tiles: rows of adjacent pairs");
    let upper = if ROWS < SIDE { ROWS } else { SIDE };
    let (places, mut sums) = ((ROWS > SIDE, VECTORS > 1), [[0.0; 2 * SIDE]; 2 * SIDE]);
    let (whole, rest) = (k / SIDE, k % SIDE);
    let steps = Steps { a, a_row: 4 * a_row, b, b_row: 4 * b_row, count: whole };
    // SAFETY: the caller's promise for every address.
    unsafe {
        if whole > 0 {
            add(&Config::new(upper, ROWS - upper, SIDE), &mut sums, steps, places);
        }
        if rest > 0 {
            let (a, b) = (a.add(whole * SIDE), b.add(whole * SIDE * b_row));
            add(&Config::new(upper, ROWS - upper, rest), &mut sums, Steps { a, b, count: 1, ..steps }, places);
        }
        for (i, sums) in sums.iter().enumerate().take(ROWS) {
            for (column, &sum) in sums[..columns].iter().enumerate() {
                let before = from.map_or(0.0, |(from, apart)| *from.add(i * apart + column));
                *y.add(i * y_stride + column) = alpha.mul_add(sum, before);
            }
        }
    }
}

pub(super) const AMX_BF16: Kernels<Pair, f32> = Kernels {
    name: "AMX",
    lanes: SIDE,
    run: kernels!(amx: [1, 2] by [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32
    ]),
    adjacent: true,
    transpose: Some(EIGHT_PAIRS),
};

/// Whether this processor multiplies bf16 in tiles, and the system lets it.
pub(super) fn has_amx() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        /// Of leaf 7: tiles, and their products of bf16. Of leaf 1: `xgetbv`. Of it: what a tile holds, and its shape.
        const TILES_BF16: u32 = (1 << 24) | (1 << 22);
        const XGETBV: u32 = 1 << 27;
        const TILE_STATE: u64 = (1 << 17) | (1 << 18);
        if !has_avx512() || __cpuid_count(7, 0).edx & TILES_BF16 != TILES_BF16 || __cpuid_count(1, 0).ecx & XGETBV == 0
        {
            return false;
        }
        // Eight tiles of 16 rows of 64 bytes.
        let shape = __cpuid_count(0x1d, 1);
        // SAFETY: the processor has the instruction.
        let kept = unsafe { _xgetbv(0) };
        kept & TILE_STATE == TILE_STATE && shape.ebx == ((8 << 16) | 64) && shape.ecx == 16 && permitted()
    })
}

/// Asks Linux for tiles, for all threads of this process.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    /// `arch_prctl`, its `ARCH_REQ_XCOMP_PERM`, and what a tile holds by its number.
    const CALL: [usize; 3] = [158, 0x1023, 18];
    let refused: usize;
    // SAFETY: the call takes two numbers and touches no memory of ours.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") CALL[0] => refused, in("rdi") CALL[1], in("rsi") CALL[2],
            out("rcx") _, out("r11") _, options(nostack),
        );
    }
    refused == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}
