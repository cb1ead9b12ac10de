//! Numbers that a `.cu` file gives to its launches by `EXPORT(NAME, …)`, read from its PTX.

use std::fmt::Write as _;

/// A module of constants, one or an array for each name; nothing for a file that exports none.
///
/// # Errors
/// What is not understood.
pub fn exports(stem: &str, ptx: &str) -> Result<String, String> {
    let mut constants = String::new();
    for line in ptx.lines() {
        let Some((declared, values)) = line.split_once(" exported_") else { continue };
        // `.visible .global .align 4 .b8 exported_NAME[8] = {1, 2};`; what is left out at the end is zero.
        let not_understood = || format!("export not understood: {line}");
        let (name, values) = values.split_once('[').ok_or_else(not_understood)?;
        let (length, values) = values.split_once(']').ok_or_else(not_understood)?;
        let values = values.trim_start_matches([' ', '=', '{']).trim_end_matches([';', '}']);
        let values = values.split(',').map(str::trim).filter(|value| !value.is_empty());
        let mut values: Vec<u32> = values.map(str::parse).collect::<Result<_, _>>().map_err(|_| not_understood())?;
        values.resize(length.parse().map_err(|_| not_understood())?, 0);
        if declared.ends_with(".b8") {
            values = values.chunks(4).map(|bytes| bytes.iter().rev().fold(0, |all, byte| all << 8 | byte)).collect();
        }
        let _ = match values[..] {
            [value] => writeln!(constants, "    pub const {name}: usize = {value};"),
            _ => writeln!(constants, "    pub const {name}: [usize; {}] = {values:?};", values.len()),
        };
    }
    Ok(match constants.as_str() {
        "" => constants,
        _ => format!("\n/// What `kernels/{stem}.cu` exports.\npub mod {stem} {{\n{constants}}}\n"),
    })
}
