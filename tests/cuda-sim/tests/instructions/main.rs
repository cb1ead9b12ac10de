//! Small PTX programs, one or more per instruction, with known answers.

#[path = "../common/mod.rs"]
mod common;

mod control;
mod convert;
mod float;
mod half;
mod integer;
mod memory;

use common::value_of;

/// Each line: a body that leaves its result in `%out`, and the result.
pub fn all(cases: &[(&str, u32)]) {
    let mut wrong = Vec::new();
    for (body, expected) in cases {
        let value = value_of(body);
        if value != *expected {
            wrong.push(format!("{body}\n    gives {value:#010x}, expected {expected:#010x}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// As [`all`], for results that are f32.
pub fn floats(cases: &[(&str, f32)]) {
    let cases: Vec<(String, u32)> =
        cases.iter().map(|(body, v)| (format!("{body} mov.b32 %out, %f0;"), v.to_bits())).collect();
    let cases: Vec<(&str, u32)> = cases.iter().map(|(body, v)| (body.as_str(), *v)).collect();
    all(&cases);
}

/// An immediate of an f32.
pub fn f(v: f32) -> String {
    format!("0f{:08X}", v.to_bits())
}

/// An immediate of an f64.
pub fn d(v: f64) -> String {
    format!("0d{:016X}", v.to_bits())
}
