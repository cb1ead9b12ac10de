//! Functions of the device runtime: `printf` and failed assertions.

use super::access::{local_range, memory_fault};
use super::machine::{At, Fault, Flow, Machine};
use super::registers::{Lanes, lanes};
use crate::check::Kind;
use crate::ptx::LOCAL_WINDOW;
use crate::ptx::instruction::Intrinsic;

pub fn run(m: &mut Machine, at: &At, op: &Intrinsic) -> Result<Flow, Fault> {
    match *op {
        Intrinsic::AssertFail { message, file, line, function } => {
            let l = at.mask.trailing_zeros() as usize;
            let registers = &m.warps[at.warp].registers;
            let (message, file, function) =
                (registers.wide(message)[l], registers.wide(file)[l], registers.wide(function)[l]);
            let line = registers.row(line)[l];
            let [message, file, function] = [message, file, function].map(|a| text(m, at, l, a).unwrap_or_default());
            Err(Fault::lane(Kind::Assert, l, format!("{file}:{line}: {function}: assertion `{message}` failed")))
        }
        Intrinsic::Printf { format, arguments, d } => {
            let registers = &m.warps[at.warp].registers;
            let (formats, buffers) = (*registers.wide(format), *registers.wide(arguments));
            let mut counts: Lanes = [0; 32];
            for l in lanes(at.mask) {
                let format = text(m, at, l, formats[l])?;
                let (line, count) = formatted(m, at, l, &format, buffers[l])?;
                counts[l] = count;
                print!("{line}");
            }
            m.warps[at.warp].registers.store(d, &counts, at.mask);
            Ok(Flow::Next)
        }
    }
}

/// `n` bytes at a generic address.
fn bytes<const N: usize>(m: &mut Machine, at: &At, lane: usize, address: u64) -> Result<[u8; N], Fault> {
    let mut out = [0; N];
    if address >> 32 == LOCAL_WINDOW {
        let range = local_range(m, at, lane, address & 0xffff_ffff, N)?;
        out.copy_from_slice(&m.warps[at.warp].local[range]);
    } else {
        m.memory.read(address, &mut out).map_err(memory_fault)?;
    }
    Ok(out)
}

/// A string that ends in 0.
fn text(m: &mut Machine, at: &At, lane: usize, address: u64) -> Result<String, Fault> {
    let mut out = Vec::new();
    for i in 0..4096 {
        match bytes::<1>(m, at, lane, address + i)? {
            [0] => break,
            [byte] => out.push(byte),
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// `printf`: arguments lie in the buffer at their natural alignment; floats are doubles. Returns the line and how many
/// arguments it took.
fn formatted(m: &mut Machine, at: &At, lane: usize, format: &str, buffer: u64) -> Result<(String, u32), Fault> {
    let (mut out, mut offset, mut count) = (String::new(), 0u64, 0);
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = String::new();
        // Flags, width, precision and length up to the letter that converts.
        let is_length = |c: char| matches!(c, 'l' | 'h' | 'z' | 'j' | 't');
        while let Some(c) = rest.next_if(|c| *c != '%' && (!c.is_ascii_alphabetic() || is_length(*c))) {
            spec.push(c);
        }
        let Some(conversion) = rest.next() else { break };
        if conversion == '%' {
            out.push('%');
            continue;
        }
        let wide = spec.contains("ll") || spec.contains('l') || spec.contains(['z', 'j', 't']);
        let size =
            if wide || matches!(conversion, 'e' | 'f' | 'g' | 'a' | 'E' | 'F' | 'G' | 's' | 'p') { 8 } else { 4 };
        offset = offset.next_multiple_of(size);
        let value = if size == 8 {
            u64::from_le_bytes(bytes(m, at, lane, buffer + offset)?)
        } else {
            u64::from(u32::from_le_bytes(bytes(m, at, lane, buffer + offset)?))
        };
        offset += size;
        count += 1;
        let precision = spec.split_once('.').and_then(|(_, p)| p.trim_end_matches(char::is_alphabetic).parse().ok());
        let plain = match conversion {
            'd' | 'i' if size == 8 => (value as i64).to_string(),
            'd' | 'i' => (value as i32).to_string(),
            'u' => value.to_string(),
            'x' => format!("{value:x}"),
            'X' => format!("{value:X}"),
            'o' => format!("{value:o}"),
            'c' => char::from(value as u8).to_string(),
            'p' => format!("{value:#x}"),
            's' => text(m, at, lane, value)?,
            'e' | 'E' => format!("{:.*e}", precision.unwrap_or(6), f64::from_bits(value)),
            _ => format!("{:.*}", precision.unwrap_or(6), f64::from_bits(value)),
        };
        let flags = spec.split('.').next().unwrap_or("");
        let width = flags.trim_start_matches(['-', '+', '0', ' ', '#']).trim_end_matches(char::is_alphabetic);
        let width: usize = width.parse().unwrap_or(0);
        match (flags.starts_with('-'), flags.starts_with('0')) {
            (true, _) => out.push_str(&format!("{plain:<width$}")),
            (_, true) => out.push_str(&format!("{plain:0>width$}")),
            _ => out.push_str(&format!("{plain:>width$}")),
        }
    }
    Ok((out, count))
}
