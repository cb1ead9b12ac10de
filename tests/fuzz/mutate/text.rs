//! Lines, JSON and TOML.

use serde_json::{Number, Value, json};

use super::Dice;

const ODD_WORDS: [&str; 22] = [
    "",
    "0",
    "-1",
    "1e999",
    "-0",
    "NaN",
    "Infinity",
    "-Infinity",
    "null",
    "true",
    "18446744073709551616",
    "4294967295",
    "9223372036854775807",
    "1e-320",
    "\"",
    "\"\"",
    "\u{feff}",
    "\u{0}",
    "\\u0000",
    "é",
    "\u{1F600}",
    "[[[[[[[[",
];

/// Bytes of a line that is long enough.
const LONG: usize = 1 << 16;

/// A word becomes another, a line goes, comes twice, or is long.
pub fn lines(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let lines: Vec<Vec<u8>> = bytes.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    if lines.is_empty() {
        return;
    }
    let mut lines = lines;
    let at = dice.below(lines.len());
    match dice.below(6) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => {
            let other = dice.below(lines.len());
            lines.swap(at, other);
        }
        3 => {
            let times = 1 << dice.below(12);
            lines[at] = lines[at].repeat(times.min(1 + LONG / lines[at].len()));
        }
        _ => {
            let line = &mut lines[at];
            let start = dice.below(line.len() + 1);
            let length = line[start..].iter().take_while(|&&byte| is_word(byte)).count();
            line.splice(start..start + length, dice.pick(&ODD_WORDS).bytes());
        }
    }
    *bytes = lines.concat();
}

fn odd_value(dice: &mut Dice) -> Value {
    match dice.below(16) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(1),
        5 => json!(0.5),
        6 => json!(u64::MAX),
        7 => json!(2_000_000_000),
        8 => json!(1e300),
        9 => json!(""),
        10 => json!("x".repeat(1 << dice.below(17))),
        11 => json!([]),
        12 => json!({}),
        13 => json!([[], {}, null, -1]),
        14 => json!(vec![json!(1); 1 << dice.below(12)]),
        _ => (0..1 << dice.below(8)).fold(json!(1), |inner, _| json!([inner])),
    }
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(all) => all.iter().map(nodes).sum::<usize>(),
        Value::Object(all) => all.values().map(nodes).sum(),
        _ => 0,
    }
}

/// Calls `change` with the node of this number, its parent first.
fn at_node(value: &mut Value, number: &mut usize, change: &mut dyn FnMut(&mut Value)) {
    if *number == 0 {
        change(value);
    }
    *number = number.wrapping_sub(1);
    match value {
        Value::Array(all) => all.iter_mut().for_each(|value| at_node(value, number, change)),
        Value::Object(all) => all.values_mut().for_each(|value| at_node(value, number, change)),
        _ => {}
    }
}

/// A number near `number`, or at an edge of what numbers are kept in.
fn near(number: &Number, dice: &mut Dice) -> Value {
    let float = number.as_f64().unwrap_or_default();
    match (number.as_i64(), dice.below(10)) {
        (_, 0) => json!(-float),
        (_, 1) => json!(float / 2.0),
        (_, 2) => json!(1u64 << dice.below(64)),
        (_, 3) => json!((1u64 << (1 + dice.below(63))) - 1),
        (Some(whole), 4..=5) => json!(whole.wrapping_add(1)),
        (Some(whole), 6..=7) => json!(whole.wrapping_sub(1)),
        (Some(whole), _) => json!(whole.wrapping_mul(2)),
        (None, _) => json!(float * 1.0e3),
    }
}

fn change_node(value: &mut Value, dice: &mut Dice) {
    match (value, dice.below(5)) {
        (value @ Value::Number(_), 0..3) => {
            if let Value::Number(number) = value.clone() {
                *value = near(&number, dice);
            }
        }
        (Value::Object(all), 0..4) if !all.is_empty() => {
            let key = all.keys().nth(dice.below(all.len())).cloned().unwrap();
            let entry = all.remove(&key).unwrap();
            match dice.below(3) {
                0 => {}
                1 => drop(all.insert(dice.pick(&ODD_WORDS).to_string(), entry)),
                _ => drop(all.insert(format!("{key}{key}"), entry)),
            }
        }
        (Value::Array(all), 0..4) if !all.is_empty() => {
            let at = dice.below(all.len());
            match dice.below(3) {
                0 => drop(all.remove(at)),
                1 => all.insert(at, all[at].clone()),
                _ => {
                    let other = dice.below(all.len());
                    all.swap(at, other);
                }
            }
        }
        (Value::String(text), 0..2) if text.starts_with(['{', '[']) && !dice.one_in(4) => inside(text, dice),
        (Value::String(text), 0..3) => match dice.below(3) {
            0 => *text = dice.pick(&ODD_WORDS).to_string(),
            1 => *text += *dice.pick::<&str>(&ODD_WORDS),
            _ => drop(text.pop()),
        },
        (value, _) => *value = odd_value(dice),
    }
}

pub fn json_value(value: &mut Value, dice: &mut Dice) {
    let count = nodes(value);
    let (mut number, mut from) = (dice.below(count), dice.below(count));
    if dice.one_in(6) {
        // What stands elsewhere is right by itself.
        let mut other = Value::Null;
        at_node(value, &mut from, &mut |node| other = node.clone());
        at_node(value, &mut number, &mut |node| *node = other.clone());
    } else {
        at_node(value, &mut number, &mut |node| change_node(node, dice));
    }
}

pub fn json_file(bytes: &mut Vec<u8>, dice: &mut Dice) {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(mut value) => {
            json_value(&mut value, dice);
            *bytes = serde_json::to_vec(&value).unwrap();
        }
        // JSON as Python writes it, or changed already.
        Err(_) => lines(bytes, dice),
    }
}

/// JSON that stands in a text, as in the header of a checkpoint.
fn inside(text: &mut String, dice: &mut Dice) {
    let mut bytes = std::mem::take(text).into_bytes();
    json_file(&mut bytes, dice);
    *text = String::from_utf8_lossy(&bytes).into_owned();
}

/// A value becomes another one that TOML can hold, or the lines are changed.
pub fn toml_file(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let table = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<toml::Table>().ok());
    match table.and_then(|table| serde_json::to_value(table).ok()) {
        Some(mut value) if dice.one_in(2) => {
            json_value(&mut value, dice);
            match toml::to_string(&value) {
                Ok(text) => *bytes = text.into_bytes(),
                // It has no null, and no number beyond 63 bits.
                Err(_) => lines(bytes, dice),
            }
        }
        _ => lines(bytes, dice),
    }
}
