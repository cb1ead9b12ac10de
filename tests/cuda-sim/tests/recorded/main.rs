//! What cards computed, replayed: `*.txt` here were recorded by `dev/golden/card.py`, one probe of `probes.ptx` in
//! three lines: its name, the words it read, the words it wrote. `nvidia-h200-simulated.txt` is the simulator's own,
//! and must be met to the bit; a card's is met within what PTX promises, and how near it came is printed.

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::path::Path;

use common::{Arg, Program, Shape};

fn run(program: &Program, name: &str, words: &[u32], results: usize) -> Vec<u32> {
    let (grid, block) = match &name[..1] {
        "f" => (words.len() as u32 / 128, 128),
        "m" => (1, 32),
        _ => (1, 128),
    };
    let (from, to) = (program.upload(words), program.blank(4 * results));
    program.run(name, &Shape::new(grid, block), &[Arg::U64(to), Arg::U64(from)]);
    program.download(to, results)
}

/// Values of result words: one f32, or two bf16.
fn values(name: &str, words: &[u32]) -> Vec<f64> {
    let f32 = |word: u32| f64::from(f32::from_bits(word));
    if name.ends_with("bf16x2") {
        return words.iter().flat_map(|word| [f32(word << 16), f32(word & 0xffff_0000)]).collect();
    }
    words.iter().map(|&word| f32(word)).collect()
}

/// What a result may be off by, relative to itself and absolutely: PTX's bounds for functions; for sums of products, of
/// the largest result, what the narrowest known accumulator loses (22 bits; 13 for e4m3, each of 33 terms cut off
/// there: 1.21 · 2⁻¹² between that and sums in f32).
fn bound(name: &str, largest: f64) -> (f64, f64) {
    match name {
        "f_ex2" | "f_rcp" | "f_rsqrt" | "f_sqrt" => (2f64.powi(-22), 0.0),
        "f_lg2" => (2f64.powi(-22), 2f64.powi(-22)),
        "f_sin" | "f_cos" => (0.0, 2f64.powi(-20)),
        "f_tanh" => (2f64.powi(-10), 0.0),
        "f_ex2_bf16x2" => (2f64.powi(-7), 0.0),
        "f_tanh_bf16x2" => (2f64.powi(-7), 2f64.powi(-16)),
        _ if name.ends_with("e4m3") => (0.0, largest * 2f64.powi(-11)),
        _ => (0.0, largest * 2f64.powi(-20)),
    }
}

/// Probes of a recording that it does not meet, and the largest share of its bound of each probe that it does.
fn compare(program: &Program, text: &str, to_the_bit: bool) -> (usize, Vec<String>) {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut wrong = Vec::new();
    for probe in lines.chunks_exact(3) {
        let words = |line: &str| -> Vec<u32> {
            line.split(' ')
                .map(|word| u32::from_str_radix(word, 16).unwrap_or_else(|e| panic!("{word}: {e}")))
                .collect()
        };
        let (name, want) = (probe[0], words(probe[2]));
        let got = run(program, name, &words(probe[1]), want.len());
        if to_the_bit {
            if got != want {
                wrong.push(format!("{name}: other bits"));
            }
            continue;
        }
        let (got, want) = (values(name, &got), values(name, &want));
        let largest = want.iter().filter(|v| v.is_finite()).fold(0.0, |a: f64, v| a.max(v.abs()));
        let (relative, absolute) = bound(name, largest);
        let share = |(g, w): (&f64, &f64)| match g == w || g.is_nan() && w.is_nan() {
            true => 0.0,
            false => (g - w).abs() / (relative * w.abs() + absolute),
        };
        let worst =
            got.iter().zip(&want).map(share).fold(0.0, |a: f64, s| if s.is_nan() { f64::INFINITY } else { a.max(s) });
        println!("{name}: at most {worst:.3} of the bound");
        if worst > 1.0 {
            wrong.push(format!("{name}: {worst:.3} of the bound"));
        }
    }
    (lines.len() / 3, wrong)
}

#[test]
fn recordings_are_met() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let ptx = fs::read_to_string(folder.join("probes.ptx")).unwrap();
    let program = Program::whole(&ptx);
    let mut own = false;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "txt") {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let simulated = name.contains("simulated");
        own |= simulated;
        println!("{name}");
        let (probes, wrong) = compare(&program, &fs::read_to_string(&path).unwrap(), simulated);
        assert!(probes == program.module.kernels.len() && wrong.is_empty(), "{name}: {probes} probes, {wrong:?}");
    }
    assert!(own, "the simulator's own recording is missing");
}

/// A recording with another number in it is not met, neither to the bit nor within the bounds.
#[test]
fn other_numbers_are_noticed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let program = Program::whole(&fs::read_to_string(folder.join("probes.ptx")).unwrap());
    let text = fs::read_to_string(folder.join("nvidia-h200-simulated.txt")).unwrap();
    assert_eq!(compare(&program, &text, false).1, [""; 0]);
    let lines: Vec<&str> = text.lines().collect();
    for probe in 0..lines.len() / 3 {
        let line = lines[1 + 3 * probe + 2];
        // Three quarters into the results, where inputs are drawn: a bit that is a sixteenth of the value, or more.
        let mut words: Vec<String> = line.split(' ').map(Into::into).collect();
        let at = words.len() * 3 / 4;
        let value = u32::from_str_radix(&words[at], 16).unwrap();
        words[at] = format!("{:x}", value ^ 1 << 22);
        let changed = text.replacen(line, &words.join(" "), 1);
        for to_the_bit in [true, false] {
            assert_eq!(compare(&program, &changed, to_the_bit).1.len(), 1, "{} {to_the_bit}", lines[1 + 3 * probe]);
        }
    }
}
