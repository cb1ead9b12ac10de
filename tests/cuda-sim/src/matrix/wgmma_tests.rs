use super::*;
use crate::matrix::Swizzle;
use crate::num::{Cast, Format};

fn form(n: usize, a: Element, b: Element, d: Accumulator) -> Wgmma {
    let no = false;
    let form = Wgmma { n, a, b, d, negate_a: no, negate_b: no, transpose_a: no, transpose_b: no, saturate: no };
    form.check([64, n as u32, (32 / a.bytes()) as u32]).expect("a legal form")
}

fn encode(element: Element, x: f64) -> u32 {
    let cast = |format| Cast::NEAREST.f64(format, x) as u32;
    match element {
        Element::F16 => cast(Format::F16),
        Element::Bf16 => cast(Format::BF16),
        Element::Tf32 => cast(Format::TF32),
        Element::E4m3 => cast(Format::E4M3),
        Element::E5m2 => cast(Format::E5M2),
        Element::S8 => x as i8 as u8 as u32,
        Element::U8 => x as u8 as u32,
        Element::F64 => unreachable!(),
    }
}

/// Stores element (mn, step) of an operand where the canonical layout of its swizzle has it: the layouts as the
/// CUTE library states them, in elements: `Swizzle ∘ ((8,m),(T,2)):((span,B),(1,piece))` and the mn-major ones.
fn store(shared: &mut [u8], d: Descriptor, transpose: bool, element: Element, mn: usize, step: usize, x: f64) {
    let size = element.bytes();
    let (t, span) = (16 / size, d.swizzle.span() as usize);
    let (leading, stride) = (d.leading as usize, d.stride as usize);
    let offset = match (transpose, d.swizzle) {
        (false, Swizzle::None) => mn % 8 * 16 + mn / 8 * stride + step / t * leading + step % t * size,
        (false, _) => mn % 8 * span + mn / 8 * stride + step * size,
        (true, Swizzle::None) => mn % t * size + mn / t * stride + step % 8 * 16 + step / 8 * leading,
        (true, _) => {
            let per = span / size;
            mn % per * size + mn / per * leading + step % 8 * span + step / 8 * stride
        }
    };
    let at = d.swizzle.apply(d.start + offset as u32) as usize;
    shared[at..at + size].copy_from_slice(&encode(element, x).to_le_bytes()[..size]);
}

fn value(element: Element, i: usize) -> f64 {
    (i * 7 % 11) as f64 - if element == Element::U8 { 0.0 } else { 5.0 }
}

/// Runs a form against the definition, A from shared memory and from registers.
fn check(w: Wgmma, swizzle: Swizzle) {
    let (k, span) = (w.k(), swizzle.span());
    // Room for every layout: one block of 8 rows per stride; spans beyond the first at the leading offset.
    let place = |start: u32, mn: u32, transpose: bool| Descriptor {
        start,
        leading: if transpose && swizzle != Swizzle::None { 16 * span } else { mn * 16 },
        stride: if transpose && swizzle == Swizzle::None { 128 } else { 8 * span },
        base_offset: 0,
        swizzle,
    };
    let da = place(0, 64, w.transpose_a);
    let db = place(0x10000, w.n as u32, w.transpose_b);
    let mut shared = vec![0xffu8; 0x30000];
    let (a_at, b_at) = (|i: usize, s: usize| value(w.a, 3 * i + s), |s: usize, j: usize| value(w.b, 5 * j + s));
    for s in 0..k {
        (0..64).for_each(|i| store(&mut shared, da, w.transpose_a, w.a, i, s, a_at(i, s)));
        (0..w.n).for_each(|j| store(&mut shared, db, w.transpose_b, w.b, j, s, b_at(s, j)));
    }
    let sign = if w.negate_a != w.negate_b { -1.0 } else { 1.0 };
    let mut scratch = Scratch::default();
    for from_registers in [false, true] {
        if from_registers {
            let per = w.a.per_register();
            for warp in 0..4 {
                let registers: [Lanes; 4] = std::array::from_fn(|r| {
                    std::array::from_fn(|lane| {
                        (0..per).fold(0, |bits, i| {
                            let (row, column) = a_position(lane, r, i, per);
                            bits | encode(w.a, a_at(16 * warp + row, column)) << (32 / per * i)
                        })
                    })
                });
                w.take_a(warp, registers.each_ref(), &mut scratch);
            }
        } else {
            w.pieces_a(da, &mut scratch);
            w.load_a(&shared, &mut scratch).expect("inside shared memory");
        }
        w.pieces_b(db, false, &mut scratch);
        w.load_b(&shared, &mut scratch).expect("inside shared memory");
        for warp in 0..4 {
            let rows: Vec<u32> = (0..w.d_registers() as u32).rev().collect();
            let start = |v: usize, lane: usize| (v % 5 + lane % 3) as f64;
            let mut file = vec![[0u32; 32]; rows.len()];
            for lane in 0..32 {
                for v in 0..w.n / 2 {
                    let x = start(v, lane);
                    match w.d {
                        Accumulator::F32 => file[rows[v] as usize][lane] = (x as f32).to_bits(),
                        Accumulator::F16 => {
                            file[rows[v / 2] as usize][lane] |= (f32_to_f16(x as f32) as u32) << (16 * (v % 2));
                        }
                        _ => file[rows[v] as usize][lane] = x as u32,
                    }
                }
            }
            for keep in [true, false] {
                let mut file = file.clone();
                w.multiply(warp, keep, &mut scratch, &mut file, &rows);
                for lane in 0..32 {
                    for v in 0..w.n / 2 {
                        // Row and column as the ISA draws them.
                        let row = 16 * warp + lane / 4 + 8 * (v / 2 % 2);
                        let column = 8 * (v / 4) + lane % 4 * 2 + v % 2;
                        let dot: f64 = (0..k).map(|s| a_at(row, s) * b_at(s, column)).sum();
                        let want = sign * dot + if keep { start(v, lane) } else { 0.0 };
                        let got = match w.d {
                            Accumulator::F32 => f32::from_bits(file[rows[v] as usize][lane]) as f64,
                            Accumulator::F16 => {
                                f16_to_f32((file[rows[v / 2] as usize][lane] >> (16 * (v % 2))) as u16) as f64
                            }
                            _ => file[rows[v] as usize][lane] as i32 as f64,
                        };
                        assert_eq!(got, want, "{w:?} {swizzle:?} warp {warp} lane {lane} value {v}");
                    }
                }
            }
        }
    }
}

const SWIZZLES: [Swizzle; 4] = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];

#[test]
fn every_type_and_swizzle_k_major() {
    use {Accumulator as D, Element::*};
    let forms = [
        (Bf16, Bf16, D::F32),
        (F16, F16, D::F32),
        (F16, F16, D::F16),
        (Tf32, Tf32, D::F32),
        (E4m3, E5m2, D::F32),
        (E5m2, E4m3, D::F16),
        (S8, U8, D::S32),
        (U8, S8, D::S32),
    ];
    for (a, b, d) in forms {
        SWIZZLES.into_iter().for_each(|swizzle| check(form(48, a, b, d), swizzle));
    }
}

#[test]
fn every_transpose_and_sign() {
    for swizzle in SWIZZLES {
        for bits in 0..16 {
            let bit = |i: u32| bits >> i & 1 == 1;
            let plain = form(64, Element::Bf16, Element::Bf16, Accumulator::F32);
            let w = Wgmma { transpose_a: bit(0), transpose_b: bit(1), negate_a: bit(2), negate_b: bit(3), ..plain };
            check(w, swizzle);
        }
    }
}

#[test]
fn every_width() {
    for n in (8..=256).step_by(8) {
        check(form(n, Element::Bf16, Element::Bf16, Accumulator::F32), Swizzle::B128);
    }
}

#[test]
fn refusals_name_the_form() {
    let w = form(64, Element::Bf16, Element::Bf16, Accumulator::F32);
    assert!(w.check([64, 64, 32]).is_err_and(|t| t.contains("m64n64k32")));
    assert!(Wgmma { n: 12, ..w }.check([64, 12, 16]).is_err());
    assert!(Wgmma { d: Accumulator::F16, ..w }.check([64, 64, 16]).is_err());
    let tf32 = form(64, Element::Tf32, Element::Tf32, Accumulator::F32);
    assert!(Wgmma { transpose_b: true, ..tf32 }.check([64, 64, 8]).is_err());
    let integer = form(64, Element::S8, Element::S8, Accumulator::S32);
    assert!(Wgmma { negate_a: true, ..integer }.check([64, 64, 32]).is_err());
    assert!(Wgmma { n: 40, ..integer }.check([64, 40, 32]).is_err());
}

/// 40 columns are no whole span of 128 bytes, of 80 one is: what lies behind is read in reverse. Of narrower spans both
/// are whole.
#[test]
fn whole_spans_are_read_alike() {
    let pieces = |n, swizzle, whole_spans| {
        let plain = form(n, Element::Bf16, Element::Bf16, Accumulator::F32);
        let d = Descriptor { start: 0x400, leading: 0x1000, stride: 1024, base_offset: 0, swizzle };
        let mut scratch = Scratch::default();
        Wgmma { transpose_b: true, ..plain }.pieces_b(d, whole_spans, &mut scratch);
        scratch.pieces
    };
    for (n, swizzle, whole) in [
        (40, Swizzle::B128, 0),
        (80, Swizzle::B128, 8),
        (160, Swizzle::B128, 16),
        (128, Swizzle::B128, 16),
        (160, Swizzle::B64, 20),
        (80, Swizzle::B32, 10),
        (40, Swizzle::None, 5),
    ] {
        let (right, wrong) = (pieces(n, swizzle, false), pieces(n, swizzle, true));
        for (right, wrong) in right.chunks_exact(n / 8).zip(wrong.chunks_exact(n / 8)) {
            assert_eq!(right[..whole], wrong[..whole], "{n} {swizzle:?}");
            assert!(right[whole..].iter().eq(wrong[whole..].iter().rev()), "{n} {swizzle:?}");
        }
    }
}

#[test]
fn an_operand_past_shared_memory_is_named() {
    let w = form(16, Element::Bf16, Element::Bf16, Accumulator::F32);
    let d = Descriptor { start: 0x400, leading: 16, stride: 1024, base_offset: 0, swizzle: Swizzle::B128 };
    let mut scratch = Scratch::default();
    w.pieces_b(d, false, &mut scratch);
    assert!(w.load_b(&[0; 0xc00], &mut scratch).is_ok());
    assert_eq!(w.load_b(&[0; 0x800], &mut scratch), Err(0x800));
}
