//! JSON as Python writes it.
//!
//! Python's `json` writes the bare words `NaN`, `Infinity` and `-Infinity`, which are no JSON, halves of surrogate
//! pairs for bytes that were no text, and Windows tools put a byte order mark in front. Whoever reads a file of
//! somebody else's reads it here: what no code asks for then disturbs nobody, and what is asked for has its place in
//! the file when it is wrong.

mod unique;

use std::borrow::Cow;
use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// The words. Between here and [`number`] an object stands for each, with the line it is on, so that it is neither a
/// text nor a number to a typed reader: `{"$number":"NaN 3"}`.
const WORDS: [(&str, f64); 3] = [("NaN", f64::NAN), ("Infinity", f64::INFINITY), ("-Infinity", f64::NEG_INFINITY)];

/// How these objects begin and end.
const STAND_IN: [&str; 2] = [r#"{"$number":""#, r#""}"#];

/// Why something cannot be read, with line and column as the file has them.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotRead(String);

/// Reads one JSON text, as Python writes it, into `T`. In a [`Value`], [`number`] finds the words again and [`shown`]
/// writes them; a typed field refuses them, whatever its type, and fields that `T` does not have may hold anything.
///
/// # Errors
/// What is wrong, or of another type than `T` needs, with line and column. Also a key that an object has twice: Python
/// takes the last, other readers the first, and whoever wrote it meant one of them.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, NotRead> {
    read(bytes, true)
}

/// As [`parse`], of one of many notes that nobody wrote by hand: of a key that comes twice the last counts, as in
/// Python.
pub fn parse_note<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, NotRead> {
    read(bytes, false)
}

fn read<T: DeserializeOwned>(bytes: &[u8], once: bool) -> Result<T, NotRead> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(NotRead("the text is UTF-16; save it as UTF-8".into()));
    }
    let bytes = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(bytes);
    let (text, moved) = as_json(bytes);
    let parsed = serde_json::from_slice(&text);
    let parsed = if once { parsed.and_then(|value| unique::check(&text).map(|()| value)) } else { parsed };
    parsed.map_err(|error| {
        let (line, column) = (error.line(), error.column());
        if line == 0 {
            return NotRead(error.to_string());
        }
        let said = error.to_string();
        let what = said.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&said);
        NotRead(format!("{what} at line {line} column {}", original(&moved, line, column)))
    })
}

/// `value` as a number, the words included.
pub fn number(value: &Value) -> Option<f64> {
    let word = || {
        let map = value.as_object().filter(|map| map.len() == 1)?;
        let (word, _) = map.get("$number")?.as_str()?.split_once(' ')?;
        WORDS.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
    };
    value.as_f64().or_else(word)
}

/// `value` as its file spells it, on one line.
pub fn shown(value: &Value) -> impl fmt::Display {
    spelled(value).0
}

/// The same for messages, with the line of the first of the words in it.
pub fn placed(value: &Value) -> impl fmt::Display {
    match spelled(value) {
        (text, Some(line)) => format!("{text} (line {line})"),
        (text, None) => text,
    }
}

/// `value` with the words in their places, and the line of the first.
fn spelled(value: &Value) -> (String, Option<String>) {
    let text = value.to_string();
    let [begin, end] = STAND_IN;
    // Within a text of the file the quotes would have a backslash before them.
    let mut parts = text.split(begin);
    let mut out = parts.next().unwrap_or_default().to_owned();
    let mut first = None;
    for part in parts {
        let found = part.split_once(end).and_then(|(inner, rest)| Some((inner.split_once(' ')?, rest)));
        match found {
            Some(((word, line), rest)) => {
                out += word;
                out += rest;
                first.get_or_insert_with(|| line.to_owned());
            }
            None => out = out + begin + part,
        }
    }
    (out, first)
}

/// `value` with the digits that tell it from other f32, not those of its f64: 2.1, not 2.0999999046325684.
pub fn shortest(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// A place on a line of the rewritten text from which on columns are `by` higher than in the file.
struct Moved {
    line: usize,
    from: usize,
    by: usize,
}

/// Column in the file of a column in the rewritten text.
fn original(moved: &[Moved], line: usize, column: usize) -> usize {
    moved.iter().rfind(|at| at.line == line && at.from <= column).map_or(column, |at| column - at.by)
}

/// The text with words and halves of surrogate pairs replaced, and where that moved something.
fn as_json(bytes: &[u8]) -> (Cow<'_, [u8]>, Vec<Moved>) {
    let (mut text, mut moved) = (Vec::new(), Vec::<Moved>::new());
    // Copied up to here; where the line begins in what is copied or will be.
    let (mut copied, mut line, mut line_start) = (0, 1, 0);
    let mut by = 0;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\n' => {
                (line, line_start, by) = (line + 1, at + 1, 0);
                at += 1;
            }
            b'"' => at = string_end(bytes, at, &mut copied, &mut text),
            b'N' | b'I' | b'-' if at == 0 || !is_word(bytes[at - 1]) => {
                let rest = &bytes[at..];
                let found = WORDS.iter().find(|(word, _)| {
                    rest.starts_with(word.as_bytes()) && !rest.get(word.len()).is_some_and(|&next| is_word(next))
                });
                let Some((word, _)) = found else {
                    at += 1;
                    continue;
                };
                let stand_in = format!("{}{word} {line}{}", STAND_IN[0], STAND_IN[1]);
                text.extend_from_slice(&bytes[copied..at]);
                text.extend_from_slice(stand_in.as_bytes());
                at += word.len();
                copied = at;
                by += stand_in.len() - word.len();
                moved.push(Moved { line, from: at - line_start + by, by });
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return (Cow::Borrowed(bytes), moved);
    }
    text.extend_from_slice(&bytes[copied..]);
    (Cow::Owned(text), moved)
}

/// The end of the string that begins at `start`. Halves of surrogate pairs become U+FFFD, which is as long.
fn string_end(bytes: &[u8], start: usize, copied: &mut usize, text: &mut Vec<u8>) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match (byte, surrogate(bytes, at)) {
            (b'"', _) => return at + 1,
            (b'\\', Some(first)) => {
                let pair = first < 0xdc00 && surrogate(bytes, at + 6).is_some_and(|second| second >= 0xdc00);
                if !pair {
                    text.extend_from_slice(&bytes[*copied..at]);
                    text.extend_from_slice(br"\ufffd");
                    *copied = at + 6;
                }
                at += if pair { 12 } else { 6 };
            }
            (b'\\', None) => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The half of a surrogate pair that is written at `at` as `\uD800` to `\uDFFF`.
fn surrogate(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(br"\u")?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok().filter(|unit| (0xd800..0xe000).contains(unit))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'+')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Named {
        name: String,
    }

    #[test]
    fn words_of_python_are_numbers() {
        let value: Value = parse(br#"{"a": [NaN, Infinity,-Infinity, 1.5], "b": "NaN"}"#).unwrap();
        let numbers: Vec<f64> = value["a"].as_array().unwrap().iter().map(|v| number(v).unwrap()).collect();
        assert!(numbers[0].is_nan() && numbers[1..] == [f64::INFINITY, f64::NEG_INFINITY, 1.5]);
        assert_eq!((value["b"].as_str(), number(&value["b"])), (Some("NaN"), None));
        assert_eq!(shown(&value).to_string(), r#"{"a":[NaN,Infinity,-Infinity,1.5],"b":"NaN"}"#);
        let value: Value = parse(b"{\n\"a\": [1,\n -Infinity, NaN], \"b\": \"{\\\"$number\\\":\\\"\"}").unwrap();
        assert_eq!(placed(&value["a"]).to_string(), "[1,-Infinity,NaN] (line 3)");
        assert_eq!(placed(&value["b"]).to_string(), r#""{\"$number\":\"""#);
    }

    #[test]
    fn what_nobody_asks_for_disturbs_nobody() {
        let bytes = b"\xef\xbb\xbf{\"score\": NaN, \"name\": \"a NaN, \\\"Infinity\\\\\", \"other\": \"\\ud83d \\udc00\\ud83d\\ude00\"}";
        assert_eq!(parse::<Named>(bytes).unwrap().name, r#"a NaN, "Infinity\"#);
        let value: Value = parse(bytes).unwrap();
        assert_eq!(value["other"], "\u{fffd} \u{fffd}\u{1f600}");
    }

    #[test]
    fn f32_are_written_short() {
        let values = [2.1, -0.5, 3.0, 1e-30, f32::MAX, 16_777_216.0, 0.1 + 0.2];
        for value in values {
            let text = shortest(value).to_string();
            assert_eq!(parse::<f32>(text.as_bytes()).unwrap(), value, "{text}");
        }
        assert_eq!(shortest(2.1).to_string(), "2.1");
        assert_eq!(shortest(f32::NAN).to_string(), "null");
    }

    #[test]
    fn keys_come_once() {
        for (text, key, place) in [
            ("{\"a\": 1,\n \"b\": {\"c\": 1, \"d\": [{}], \"c\": 1}}", "`c`", "line 2"),
            ("[{\"name\": \"x\", \"n\\u0061me\": \"x\"}]", "`name`", "line 1"),
        ] {
            let error = parse::<Value>(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(place) && error.contains("twice"), "{text}: {error}");
            assert!(parse_note::<Value>(text.as_bytes()).is_ok(), "{text}");
        }
        assert_eq!(parse_note::<Named>(b"{\"x\": 1, \"name\": \"y\", \"x\": 2}").unwrap().name, "y");
        assert!(parse::<Value>(b"{\"a\": {\"b\": NaN}, \"b\": {\"a\": NaN}}").is_ok());
    }

    #[test]
    fn errors_have_the_place_in_the_file() {
        for (text, place, what) in [
            ("{\"a\": NaN, \"b\": Infinity, \"name\": }", "line 1 column 35", "expected value"),
            ("{\"a\": -Infinity,\n \"b\": NaN, \"name\": 3}", "line 2 column 20", "expected a string"),
            ("{\n\"name\": NaN}", "line 2 column ", "expected a string"),
            ("{\"name\": NaNs}", "line 1 column 10", "expected value"),
            ("{\"name\": nan}", "line 1 column 11", "expected"),
            ("{\"name\": \"NaN", "line 1 column 13", "EOF"),
            ("\u{feff}{\"name\"; 1}", "line 1 column 8", "expected `:`"),
        ] {
            let error = parse::<Named>(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(place) && error.contains(what), "{text:?}: {error}");
        }
        let utf16: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(parse::<Value>(&utf16).unwrap_err().to_string().contains("UTF-16"));
    }
}
