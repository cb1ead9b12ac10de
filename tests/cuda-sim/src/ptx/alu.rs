//! The table of lane-wise instructions: name, operand types, meaning.
//!
//! One line per instruction. The decoder reads names and types from it, the interpreter the arithmetic; `imm` is a
//! constant of the instruction (rounding mode, selector, table). Helper functions are those of `exec::helpers`.

/// Calls `$then!` with the whole table.
macro_rules! alu_table {
    ($then:path) => {
        $then! {
            MovB32(a: u32) -> u32 = a;
            MovB64(a: u64) -> u64 = a;

            AddB16(a: u16, b: u16) -> u16 = a.wrapping_add(b);
            AddB32(a: u32, b: u32) -> u32 = a.wrapping_add(b);
            AddB64(a: u64, b: u64) -> u64 = a.wrapping_add(b);
            AddSatS32(a: i32, b: i32) -> i32 = a.saturating_add(b);
            AddB16x2(a: u32, b: u32) -> u32 = pair16(a, b, u16::wrapping_add);
            SubB16(a: u16, b: u16) -> u16 = a.wrapping_sub(b);
            SubB32(a: u32, b: u32) -> u32 = a.wrapping_sub(b);
            SubB64(a: u64, b: u64) -> u64 = a.wrapping_sub(b);
            SubSatS32(a: i32, b: i32) -> i32 = a.saturating_sub(b);
            MulLoB16(a: u16, b: u16) -> u16 = a.wrapping_mul(b);
            MulLoB32(a: u32, b: u32) -> u32 = a.wrapping_mul(b);
            MulLoB64(a: u64, b: u64) -> u64 = a.wrapping_mul(b);
            MulHiU16(a: u16, b: u16) -> u16 = ((u32::from(a) * u32::from(b)) >> 16) as u16;
            MulHiS16(a: i16, b: i16) -> i16 = ((i32::from(a) * i32::from(b)) >> 16) as i16;
            MulHiU32(a: u32, b: u32) -> u32 = ((u64::from(a) * u64::from(b)) >> 32) as u32;
            MulHiS32(a: i32, b: i32) -> i32 = ((i64::from(a) * i64::from(b)) >> 32) as i32;
            MulHiU64(a: u64, b: u64) -> u64 = ((u128::from(a) * u128::from(b)) >> 64) as u64;
            MulHiS64(a: i64, b: i64) -> i64 = ((i128::from(a) * i128::from(b)) >> 64) as i64;
            MulWideU16(a: u16, b: u16) -> u32 = u32::from(a) * u32::from(b);
            MulWideS16(a: i16, b: i16) -> i32 = i32::from(a) * i32::from(b);
            MulWideU32(a: u32, b: u32) -> u64 = u64::from(a) * u64::from(b);
            MulWideS32(a: i32, b: i32) -> i64 = i64::from(a) * i64::from(b);
            MadLoB16(a: u16, b: u16, c: u16) -> u16 = a.wrapping_mul(b).wrapping_add(c);
            MadLoB32(a: u32, b: u32, c: u32) -> u32 = a.wrapping_mul(b).wrapping_add(c);
            MadLoB64(a: u64, b: u64, c: u64) -> u64 = a.wrapping_mul(b).wrapping_add(c);
            MadHiU16(a: u16, b: u16, c: u16) -> u16 = (((u32::from(a) * u32::from(b)) >> 16) as u16).wrapping_add(c);
            MadHiS16(a: i16, b: i16, c: i16) -> i16 = (((i32::from(a) * i32::from(b)) >> 16) as i16).wrapping_add(c);
            MadHiU32(a: u32, b: u32, c: u32) -> u32 = (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(c);
            MadHiS32(a: i32, b: i32, c: i32) -> i32 = (((i64::from(a) * i64::from(b)) >> 32) as i32).wrapping_add(c);
            MadHiSatS32(a: i32, b: i32, c: i32) -> i32 = (((i64::from(a) * i64::from(b)) >> 32) as i32).saturating_add(c);
            MadHiU64(a: u64, b: u64, c: u64) -> u64 = (((u128::from(a) * u128::from(b)) >> 64) as u64).wrapping_add(c);
            MadHiS64(a: i64, b: i64, c: i64) -> i64 = (((i128::from(a) * i128::from(b)) >> 64) as i64).wrapping_add(c);
            MadWideU16(a: u16, b: u16, c: u32) -> u32 = (u32::from(a) * u32::from(b)).wrapping_add(c);
            MadWideS16(a: i16, b: i16, c: i32) -> i32 = (i32::from(a) * i32::from(b)).wrapping_add(c);
            MadWideU32(a: u32, b: u32, c: u64) -> u64 = (u64::from(a) * u64::from(b)).wrapping_add(c);
            MadWideS32(a: i32, b: i32, c: i64) -> i64 = (i64::from(a) * i64::from(b)).wrapping_add(c);
            Mul24LoU32(a: u32, b: u32) -> u32 = (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff);
            Mul24HiU32(a: u32, b: u32) -> u32 = ((u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff)) >> 16) as u32;
            Mul24LoS32(a: i32, b: i32) -> i32 = (a << 8 >> 8).wrapping_mul(b << 8 >> 8);
            Mul24HiS32(a: i32, b: i32) -> i32 = ((i64::from(a << 8 >> 8) * i64::from(b << 8 >> 8)) >> 16) as i32;
            DivU16(a: u16, b: u16) -> u16 = a.checked_div(b).unwrap_or(u16::MAX);
            DivS16(a: i16, b: i16) -> i16 = if b == 0 { -1 } else { a.wrapping_div(b) };
            DivU32(a: u32, b: u32) -> u32 = a.checked_div(b).unwrap_or(u32::MAX);
            DivS32(a: i32, b: i32) -> i32 = if b == 0 { -1 } else { a.wrapping_div(b) };
            DivU64(a: u64, b: u64) -> u64 = a.checked_div(b).unwrap_or(u64::MAX);
            DivS64(a: i64, b: i64) -> i64 = if b == 0 { -1 } else { a.wrapping_div(b) };
            RemU16(a: u16, b: u16) -> u16 = a.checked_rem(b).unwrap_or(a);
            RemS16(a: i16, b: i16) -> i16 = if b == 0 { a } else { a.wrapping_rem(b) };
            RemU32(a: u32, b: u32) -> u32 = a.checked_rem(b).unwrap_or(a);
            RemS32(a: i32, b: i32) -> i32 = if b == 0 { a } else { a.wrapping_rem(b) };
            RemU64(a: u64, b: u64) -> u64 = a.checked_rem(b).unwrap_or(a);
            RemS64(a: i64, b: i64) -> i64 = if b == 0 { a } else { a.wrapping_rem(b) };
            SadU16(a: u16, b: u16, c: u16) -> u16 = a.abs_diff(b).wrapping_add(c);
            SadS16(a: i16, b: i16, c: u16) -> u16 = a.abs_diff(b).wrapping_add(c);
            SadU32(a: u32, b: u32, c: u32) -> u32 = a.abs_diff(b).wrapping_add(c);
            SadS32(a: i32, b: i32, c: u32) -> u32 = a.abs_diff(b).wrapping_add(c);
            SadU64(a: u64, b: u64, c: u64) -> u64 = a.abs_diff(b).wrapping_add(c);
            SadS64(a: i64, b: i64, c: u64) -> u64 = a.abs_diff(b).wrapping_add(c);
            AbsS16(a: i16) -> i16 = a.wrapping_abs();
            AbsS32(a: i32) -> i32 = a.wrapping_abs();
            AbsS64(a: i64) -> i64 = a.wrapping_abs();
            NegS16(a: i16) -> i16 = a.wrapping_neg();
            NegS32(a: i32) -> i32 = a.wrapping_neg();
            NegS64(a: i64) -> i64 = a.wrapping_neg();
            MinU16(a: u16, b: u16) -> u16 = a.min(b);
            MinS16(a: i16, b: i16) -> i16 = a.min(b);
            MinU32(a: u32, b: u32) -> u32 = a.min(b);
            MinS32(a: i32, b: i32) -> i32 = a.min(b);
            MinReluS32(a: i32, b: i32) -> i32 = a.min(b).max(0);
            MinU64(a: u64, b: u64) -> u64 = a.min(b);
            MinS64(a: i64, b: i64) -> i64 = a.min(b);
            MinU16x2(a: u32, b: u32) -> u32 = pair16(a, b, u16::min);
            MinS16x2(a: u32, b: u32) -> u32 = pair16(a, b, |x, y| (x as i16).min(y as i16) as u16);
            MaxU16(a: u16, b: u16) -> u16 = a.max(b);
            MaxS16(a: i16, b: i16) -> i16 = a.max(b);
            MaxU32(a: u32, b: u32) -> u32 = a.max(b);
            MaxS32(a: i32, b: i32) -> i32 = a.max(b);
            MaxReluS32(a: i32, b: i32) -> i32 = a.max(b).max(0);
            MaxU64(a: u64, b: u64) -> u64 = a.max(b);
            MaxS64(a: i64, b: i64) -> i64 = a.max(b);
            MaxU16x2(a: u32, b: u32) -> u32 = pair16(a, b, u16::max);
            MaxS16x2(a: u32, b: u32) -> u32 = pair16(a, b, |x, y| (x as i16).max(y as i16) as u16);

            AndB32(a: u32, b: u32) -> u32 = a & b;
            AndB64(a: u64, b: u64) -> u64 = a & b;
            OrB32(a: u32, b: u32) -> u32 = a | b;
            OrB64(a: u64, b: u64) -> u64 = a | b;
            XorB32(a: u32, b: u32) -> u32 = a ^ b;
            XorB64(a: u64, b: u64) -> u64 = a ^ b;
            NotB16(a: u16) -> u16 = !a;
            NotB32(a: u32) -> u32 = !a;
            NotB64(a: u64) -> u64 = !a;
            CnotB16(a: u16) -> u16 = u16::from(a == 0);
            CnotB32(a: u32) -> u32 = u32::from(a == 0);
            CnotB64(a: u64) -> u64 = u64::from(a == 0);
            ShlB16(a: u16, b: u32) -> u16 = if b > 15 { 0 } else { a << b };
            ShlB32(a: u32, b: u32) -> u32 = if b > 31 { 0 } else { a << b };
            ShlB64(a: u64, b: u32) -> u64 = if b > 63 { 0 } else { a << b };
            ShrU16(a: u16, b: u32) -> u16 = if b > 15 { 0 } else { a >> b };
            ShrU32(a: u32, b: u32) -> u32 = if b > 31 { 0 } else { a >> b };
            ShrU64(a: u64, b: u32) -> u64 = if b > 63 { 0 } else { a >> b };
            ShrS16(a: i16, b: u32) -> i16 = a >> b.min(15);
            ShrS32(a: i32, b: u32) -> i32 = a >> b.min(31);
            ShrS64(a: i64, b: u32) -> i64 = a >> b.min(63);
            ShfLWrap(a: u32, b: u32, c: u32) -> u32 = funnel_left(a, b, c & 31);
            ShfLClamp(a: u32, b: u32, c: u32) -> u32 = funnel_left(a, b, c.min(32));
            ShfRWrap(a: u32, b: u32, c: u32) -> u32 = funnel_right(a, b, c & 31);
            ShfRClamp(a: u32, b: u32, c: u32) -> u32 = funnel_right(a, b, c.min(32));
            Lop3(a: u32, b: u32, c: u32; imm) -> u32 = lop3(a, b, c, imm);
            Prmt(a: u32, b: u32, c: u32; imm) -> u32 = prmt(a, b, c, imm);
            PopcB32(a: u32) -> u32 = a.count_ones();
            PopcB64(a: u64) -> u32 = a.count_ones();
            ClzB32(a: u32) -> u32 = a.leading_zeros();
            ClzB64(a: u64) -> u32 = a.leading_zeros();
            BrevB32(a: u32) -> u32 = a.reverse_bits();
            BrevB64(a: u64) -> u64 = a.reverse_bits();
            BfindU32(a: u32; imm) -> u32 = bfind(u64::from(a), 31, imm);
            BfindS32(a: i32; imm) -> u32 = bfind(u64::from((a ^ (a >> 31)) as u32), 31, imm);
            BfindU64(a: u64; imm) -> u32 = bfind(a, 63, imm);
            BfindS64(a: i64; imm) -> u32 = bfind((a ^ (a >> 63)) as u64, 63, imm);
            BfeU32(a: u32, b: u32, c: u32) -> u32 = bfe(u64::from(a), b, c, 32, false) as u32;
            BfeS32(a: u32, b: u32, c: u32) -> u32 = bfe(u64::from(a), b, c, 32, true) as u32;
            BfeU64(a: u64, b: u32, c: u32) -> u64 = bfe(a, b, c, 64, false);
            BfeS64(a: u64, b: u32, c: u32) -> u64 = bfe(a, b, c, 64, true);
            // `bfi` has four operands: position and length come packed in one row.
            BfiB32(a: u32, b: u32, c: u32) -> u32 = bfi(u64::from(a), u64::from(b), c, 32) as u32;
            BfiB64(a: u64, b: u64, c: u32) -> u64 = bfi(a, b, c, 64);
            PackPosLen(a: u32, b: u32) -> u32 = (a & 0xff) | (b & 0xff) << 8;
            Fns(a: u32, b: u32, c: i32) -> u32 = fns(a, b, c);
            SzextU32(a: u32, b: u32; imm) -> u32 = szext(a, b, imm, false);
            SzextS32(a: u32, b: u32; imm) -> u32 = szext(a, b, imm, true);
            Bmsk(a: u32, b: u32; imm) -> u32 = bmsk(a, b, imm);
            Dp4a(a: u32, b: u32, c: u32; imm) -> u32 = dp4a(a, b, c, imm);
            Dp2a(a: u32, b: u32, c: u32; imm) -> u32 = dp2a(a, b, c, imm);

            AddF32(a: f32, b: f32) -> f32 = nan_f32(a + b);
            SubF32(a: f32, b: f32) -> f32 = nan_f32(a - b);
            MulF32(a: f32, b: f32) -> f32 = nan_f32(a * b);
            FmaF32(a: f32, b: f32, c: f32) -> f32 = nan_f32(a.mul_add(b, c));
            AddF32Ftz(a: f32, b: f32) -> f32 = flush(flush(a) + flush(b));
            SubF32Ftz(a: f32, b: f32) -> f32 = flush(flush(a) - flush(b));
            MulF32Ftz(a: f32, b: f32) -> f32 = flush(flush(a) * flush(b));
            FmaF32Ftz(a: f32, b: f32, c: f32) -> f32 = flush(flush(a).mul_add(flush(b), flush(c)));
            AddF32Round(a: f32, b: f32; imm) -> f32 = directed::single::add(a, b, Modes(imm).rounding());
            SubF32Round(a: f32, b: f32; imm) -> f32 = directed::single::sub(a, b, Modes(imm).rounding());
            MulF32Round(a: f32, b: f32; imm) -> f32 = directed::single::mul(a, b, Modes(imm).rounding());
            FmaF32Round(a: f32, b: f32, c: f32; imm) -> f32 = directed::single::fma(a, b, c, Modes(imm).rounding());
            MinF32(a: f32, b: f32) -> f32 = min_f32(a, b);
            MaxF32(a: f32, b: f32) -> f32 = max_f32(a, b);
            MinNanF32(a: f32, b: f32) -> f32 = nan_wins(a, b, min_f32(a, b));
            MaxNanF32(a: f32, b: f32) -> f32 = nan_wins(a, b, max_f32(a, b));
            XorSignMinF32(a: f32, b: f32) -> f32 = xor_sign(a, b, min_f32(a.abs(), b.abs()));
            XorSignMaxF32(a: f32, b: f32) -> f32 = xor_sign(a, b, max_f32(a.abs(), b.abs()));
            NegF32(a: u32) -> u32 = a ^ 0x8000_0000;
            AbsF32(a: u32) -> u32 = a & 0x7fff_ffff;
            FtzF32(a: f32) -> f32 = flush(a);
            SatF32(a: f32) -> f32 = saturate(a);
            DivF32(a: f32, b: f32) -> f32 = nan_f32(a / b);
            DivF32Round(a: f32, b: f32; imm) -> f32 = directed::single::div(a, b, Modes(imm).rounding());
            DivApproxF32(a: f32, b: f32; imm) -> f32 = approx::div(a, b, false, Modes(imm).ftz());
            DivFullF32(a: f32, b: f32; imm) -> f32 = approx::div(a, b, true, Modes(imm).ftz());
            RcpF32(a: f32; imm) -> f32 = directed::single::div(1.0, a, Modes(imm).rounding());
            SqrtF32(a: f32) -> f32 = nan_f32(a.sqrt());
            SqrtF32Round(a: f32; imm) -> f32 = directed::single::sqrt(a, Modes(imm).rounding());
            RcpApproxF32(a: f32; imm) -> f32 = approx::reciprocal(a, Modes(imm).ftz());
            SqrtApproxF32(a: f32; imm) -> f32 = approx::sqrt(a, Modes(imm).ftz());
            RsqrtApproxF32(a: f32; imm) -> f32 = approx::rsqrt(a, Modes(imm).ftz());
            Ex2F32(a: f32; imm) -> f32 = approx::ex2(a, Modes(imm).ftz());
            Lg2F32(a: f32; imm) -> f32 = approx::lg2(a, Modes(imm).ftz());
            SinF32(a: f32; imm) -> f32 = approx::sin(a, Modes(imm).ftz());
            CosF32(a: f32; imm) -> f32 = approx::cos(a, Modes(imm).ftz());
            TanhF32(a: f32) -> f32 = approx::tanh(a);
            CopysignF32(a: u32, b: u32) -> u32 = (a & 0x8000_0000) | (b & 0x7fff_ffff);
            TestpF32(a: f32; imm) -> u32 = testp(f64::from(a), a.is_subnormal(), a.is_normal(), imm);
            TestpF64(a: f64; imm) -> u32 = testp(a, a.is_subnormal(), a.is_normal(), imm);

            AddF64(a: f64, b: f64) -> f64 = a + b;
            SubF64(a: f64, b: f64) -> f64 = a - b;
            MulF64(a: f64, b: f64) -> f64 = a * b;
            FmaF64(a: f64, b: f64, c: f64) -> f64 = a.mul_add(b, c);
            AddF64Round(a: f64, b: f64; imm) -> f64 = directed::double::add(a, b, Modes(imm).rounding());
            SubF64Round(a: f64, b: f64; imm) -> f64 = directed::double::sub(a, b, Modes(imm).rounding());
            MulF64Round(a: f64, b: f64; imm) -> f64 = directed::double::mul(a, b, Modes(imm).rounding());
            FmaF64Round(a: f64, b: f64, c: f64; imm) -> f64 = directed::double::fma(a, b, c, Modes(imm).rounding());
            MinF64(a: f64, b: f64) -> f64 = min_f64(a, b);
            MaxF64(a: f64, b: f64) -> f64 = max_f64(a, b);
            NegF64(a: u64) -> u64 = a ^ (1 << 63);
            AbsF64(a: u64) -> u64 = a & !(1 << 63);
            DivF64(a: f64, b: f64) -> f64 = a / b;
            DivF64Round(a: f64, b: f64; imm) -> f64 = directed::double::div(a, b, Modes(imm).rounding());
            RcpF64(a: f64; imm) -> f64 = directed::double::div(1.0, a, Modes(imm).rounding());
            SqrtF64(a: f64) -> f64 = a.sqrt();
            SqrtF64Round(a: f64; imm) -> f64 = directed::double::sqrt(a, Modes(imm).rounding());
            RcpApproxF64(a: f64) -> f64 = approx::reciprocal_f64(a);
            RsqrtApproxF64(a: f64) -> f64 = approx::rsqrt_f64(a);
            CopysignF64(a: u64, b: u64) -> u64 = (a & (1 << 63)) | (b & !(1 << 63));

            // Halves: format, packing and modifiers come in `imm` (`Modes`).
            HalfAdd(a: u32, b: u32; imm) -> u32 = half2(a, b, imm, |h, x, y, m| h.add(x, y, m.half_modifiers()));
            HalfSub(a: u32, b: u32; imm) -> u32 = half2(a, b, imm, |h, x, y, m| h.sub(x, y, m.half_modifiers()));
            HalfMul(a: u32, b: u32; imm) -> u32 = half2(a, b, imm, |h, x, y, m| h.mul(x, y, m.half_modifiers()));
            HalfFma(a: u32, b: u32, c: u32; imm) -> u32 = half_fma(a, b, c, Modes(imm));
            HalfMin(a: u32, b: u32; imm) -> u32 = half2(a, b, imm, |h, x, y, m| h.min_max(x, y, false, m.nan(), m.ftz()));
            HalfMax(a: u32, b: u32; imm) -> u32 = half2(a, b, imm, |h, x, y, m| h.min_max(x, y, true, m.nan(), m.ftz()));
            HalfEx2(a: u32; imm) -> u32 = half2(a, 0, imm, |h, x, _, m| h.narrow(approx::ex2(h.widen(x), m.ftz())));
            HalfTanh(a: u32; imm) -> u32 = half2(a, 0, imm, |h, x, _, _| h.narrow(approx::tanh(h.widen(x))));
            HalfNeg(a: u32; imm) -> u32 = half2(a, 0, imm, |_, x, _, _| x ^ 0x8000);
            HalfAbs(a: u32; imm) -> u32 = half2(a, 0, imm, |_, x, _, _| x & 0x7fff);

            // Integer conversions that are more than a move.
            CvtU8(a: u32) -> u32 = a & 0xff;
            CvtU16(a: u32) -> u32 = a & 0xffff;
            CvtS8(a: u32) -> i32 = i32::from(a as u8 as i8);
            CvtS8ToB16(a: u32) -> u32 = u32::from(i16::from(a as u8 as i8) as u16);
            CvtS16(a: u32) -> i32 = i32::from(a as u16 as i16);
            CvtU32ToU64(a: u32) -> u64 = u64::from(a);
            CvtS32ToS64(a: i32) -> i64 = i64::from(a);
            CvtB64ToB32(a: u64) -> u32 = a as u32;
            CvtSatInt(a: i64; imm) -> i64 = saturate_int(i128::from(a), Modes(imm));
            CvtSatUint(a: u64; imm) -> i64 = saturate_int(i128::from(a), Modes(imm));

            CvtS32ToF32(a: i32) -> f32 = a as f32;
            CvtU32ToF32(a: u32) -> f32 = a as f32;
            CvtS64ToF32(a: i64; imm) -> u32 = integer::to_float(i128::from(a), Format::F32, Modes(imm).rounding()) as u32;
            CvtU64ToF32(a: u64; imm) -> u32 = integer::to_float(i128::from(a), Format::F32, Modes(imm).rounding()) as u32;
            CvtS64ToF64(a: i64; imm) -> u64 = integer::to_float(i128::from(a), Format::F64, Modes(imm).rounding());
            CvtU64ToF64(a: u64; imm) -> u64 = integer::to_float(i128::from(a), Format::F64, Modes(imm).rounding());
            CvtInt64ToHalf(a: u64; imm) -> u32 = int_to_half(a, Modes(imm));
            CvtF32ToS32(a: f32; imm) -> i32 = integer::to_integral(f64::from(a), Modes(imm).rounding()) as i32;
            CvtF32ToInt32(a: f32; imm) -> u32 = float_to_int(f64::from(a), Modes(imm)) as u32;
            CvtF32ToInt64(a: f32; imm) -> u64 = float_to_int(f64::from(a), Modes(imm));
            CvtF64ToInt32(a: f64; imm) -> u32 = float_to_int(a, Modes(imm)) as u32;
            CvtF64ToInt64(a: f64; imm) -> u64 = float_to_int(a, Modes(imm));
            CvtF32ToF64(a: f32; imm) -> f64 = f64::from(if Modes(imm).ftz() { flush(a) } else { a });
            CvtF64ToF32(a: f64; imm) -> f32 = directed::narrow(a, Modes(imm).rounding());
            RintF32(a: f32; imm) -> f32 = integer::to_integral(f64::from(a), Modes(imm).rounding()) as f32;
            RintF64(a: f64; imm) -> f64 = integer::to_integral(a, Modes(imm).rounding());
            CvtF16ToF32(a: u32) -> f32 = num::f16_to_f32(a as u16);
            CvtBf16ToF32(a: u32) -> f32 = num::bf16_to_f32(a as u16);
            CvtF32ToF16(a: f32) -> u32 = u32::from(num::f32_to_f16(a));
            CvtF32ToBf16(a: f32) -> u32 = u32::from(num::f32_to_bf16(a));
            CvtF32x2ToF16x2(a: f32, b: f32) -> u32 = u32::from(num::f32_to_f16(a)) << 16 | u32::from(num::f32_to_f16(b));
            CvtF32x2ToBf16x2(a: f32, b: f32) -> u32 = u32::from(num::f32_to_bf16(a)) << 16 | u32::from(num::f32_to_bf16(b));
            CvtF32ToSmall(a: f32; imm) -> u32 = Modes(imm).cast().f32(Modes(imm).format(), a);
            CvtF64ToSmall(a: f64; imm) -> u32 = Modes(imm).cast().f64(Modes(imm).format(), a) as u32;
            CvtF32x2ToSmall(a: f32, b: f32; imm) -> u32 = Modes(imm).cast().pair(Modes(imm).format(), a, b);
            CvtFp8x2ToF16x2(a: u32; imm) -> u32 = num::convert::fp8x2_to_f16x2(Modes(imm).format(), a as u16, Modes(imm).relu());
            CvtF16x2ToFp8x2(a: u32; imm) -> u32 = f16x2_to_fp8x2(a, Modes(imm));
        }
    };
}
pub(crate) use alu_table;

/// Width of a row operand.
pub trait LaneWidth {
    const WIDE: bool;
}
macro_rules! widths {
    ($($t:ty = $wide:expr),*) => { $(impl LaneWidth for $t { const WIDE: bool = $wide; })* };
}
widths!(u16 = false, i16 = false, u32 = false, i32 = false, f32 = false, u64 = true, i64 = true, f64 = true);

macro_rules! define {
    ($($name:ident($($arg:ident: $ty:ty),* $(; $imm:ident)?) -> $out:ty = $body:expr;)*) => {
        /// A lane-wise instruction.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Alu { $($name),* }

        impl Alu {
            /// Whether each source is 64 bits wide.
            pub fn sources(self) -> &'static [bool] {
                match self { $(Alu::$name => const { &[$(<$ty as LaneWidth>::WIDE),*] }),* }
            }
        }
    };
}
alu_table!(define);
