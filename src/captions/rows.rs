//! Rows of csv and tsv, read strictly.
//!
//! csv is RFC 4180: a field that begins with `"` ends with the next `"` that is not doubled, and holds commas, line
//! breaks and doubled quotes; any other field holds no quote. tsv has no quoting (Conceptual Captions and LAION's lists
//! hold quotes as plain characters). Rows end with LF or CR LF; a CR elsewhere is a character of its field. The `csv`
//! crate is no help here: it takes a quote anywhere and an unclosed one to the end of the file, ends rows at a lone CR
//! and leaves blank ones out.

use std::borrow::Cow;

use super::options::Format;

/// What separates the fields of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    pub delimiter: u8,
    /// Whether `"` quotes fields; a plain character otherwise.
    pub quotes: bool,
}

impl Dialect {
    pub fn of(format: Format) -> Self {
        match format {
            Format::Tsv => Self { delimiter: b'\t', quotes: false },
            Format::Csv | Format::Txt => Self { delimiter: b',', quotes: true },
        }
    }
}

/// A row that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line from 1 on which the field begins that is wrong.
    pub line: u64,
    pub why: &'static str,
}

/// A reader over the bytes of a file.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    bytes: &'a [u8],
    dialect: Dialect,
    at: usize,
    /// Line of `at`, from 1.
    line: u64,
}

impl<'a> Rows<'a> {
    /// From the first byte on.
    pub fn new(bytes: &'a [u8], dialect: Dialect) -> Self {
        Self { bytes, dialect, at: 0, line: 1 }
    }

    /// Reads the next row into `fields` and returns the line on which it begins, `None` at the end of the file. A blank
    /// line is a row of one empty field. After a fault the reader goes on with the line after the one that the fault
    /// names: an unclosed quote costs one row.
    pub fn next(&mut self, fields: &mut Vec<Cow<'a, [u8]>>) -> Option<Result<u64, Fault>> {
        fields.clear();
        if self.at == self.bytes.len() {
            return None;
        }
        let line = self.line;
        loop {
            let begin = self.at;
            let field = if self.dialect.quotes && self.bytes[begin..].starts_with(b"\"") {
                self.quoted()
            } else {
                self.plain()
            };
            match field {
                Ok(field) => fields.push(field),
                Err(why) => {
                    let fault = Fault { line: self.line, why };
                    self.at = begin
                        + self.bytes[begin..]
                            .iter()
                            .position(|&b| b == b'\n')
                            .map_or(self.bytes.len() - begin, |end| end + 1);
                    self.line += 1;
                    return Some(Err(fault));
                }
            }
            match self.bytes.get(self.at) {
                Some(&byte) if byte == self.dialect.delimiter => self.at += 1,
                Some(_) => {
                    self.at += 1;
                    self.line += 1;
                    return Some(Ok(line));
                }
                None => return Some(Ok(line)),
            }
        }
    }

    /// A field without quotes; leaves `at` on the delimiter, the LF or the end that follows it.
    fn plain(&mut self) -> Result<Cow<'a, [u8]>, &'static str> {
        let rest = &self.bytes[self.at..];
        let delimiter = self.dialect.delimiter;
        let end = rest.iter().position(|&b| b == delimiter || b == b'\n').unwrap_or(rest.len());
        let mut field = &rest[..end];
        if self.dialect.quotes && field.contains(&b'"') {
            return Err(
                "a quote inside a field that does not begin with one; quote the whole field and double the quotes in it",
            );
        }
        if rest.get(end) != Some(&delimiter) {
            field = field.strip_suffix(b"\r").unwrap_or(field);
        }
        self.at += end;
        Ok(Cow::Borrowed(field))
    }

    /// A field that begins with a quote; leaves `at` as [`Rows::plain`] does, and as it is on a fault.
    fn quoted(&mut self) -> Result<Cow<'a, [u8]>, &'static str> {
        let mut field = Cow::Borrowed(&[][..]);
        let mut from = self.at + 1;
        loop {
            let Some(length) = self.bytes[from..].iter().position(|&b| b == b'"') else {
                return Err("a quote that is never closed");
            };
            let quote = from + length;
            let piece = &self.bytes[from..quote];
            if field.is_empty() {
                field = Cow::Borrowed(piece);
            } else {
                field.to_mut().extend_from_slice(piece);
            }
            let after = &self.bytes[quote + 1..];
            match after {
                [b'"', ..] => {
                    field.to_mut().push(b'"');
                    from = quote + 2;
                    continue;
                }
                [b'\r'] | [b'\r', b'\n', ..] => self.end(quote + 2),
                [] | [b'\n', ..] => self.end(quote + 1),
                [byte, ..] if *byte == self.dialect.delimiter => self.end(quote + 1),
                _ => {
                    return Err(
                        "text after the closing quote of a field; double the quotes inside it, and close what was opened",
                    );
                }
            }
            return Ok(field);
        }
    }

    /// Goes on to `at`, counting the lines that a quoted field holds.
    fn end(&mut self, at: usize) {
        self.line += self.bytes[self.at..at].iter().filter(|&&b| b == b'\n').count() as u64;
        self.at = at;
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::rng::{Domain, Stream};

    const CSV: Dialect = Dialect { delimiter: b',', quotes: true };
    const TSV: Dialect = Dialect { delimiter: b'\t', quotes: false };

    /// Rows as text with the lines they begin on, or the line and complaint of a fault.
    fn all(text: &str, dialect: Dialect) -> Vec<Result<(u64, Vec<String>), Fault>> {
        let (mut rows, mut fields, mut out) = (Rows::new(text.as_bytes(), dialect), Vec::new(), Vec::new());
        while let Some(row) = rows.next(&mut fields) {
            let texts = || fields.iter().map(|field| String::from_utf8(field.to_vec()).unwrap()).collect();
            out.push(row.map(|line| (line, texts())));
        }
        out
    }

    fn good(text: &str, dialect: Dialect) -> Vec<Vec<String>> {
        let row = |row: Result<(u64, Vec<String>), Fault>| row.unwrap_or_else(|fault| panic!("{text:?}: {fault:?}")).1;
        all(text, dialect).into_iter().map(row).collect()
    }

    #[test]
    fn valid_csv_is_read_as_python_reads_it() {
        #[derive(Deserialize)]
        struct Case {
            text: String,
            rows: Vec<Vec<String>>,
        }
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/csv_rows.json"));
        let cases: Vec<Case> = serde_json::from_str(text).unwrap();
        assert!(cases.len() > 150);
        for Case { text, rows } in cases {
            assert_eq!(good(&text, CSV), rows, "{text:?}");
        }
    }

    /// A text of pieces that meet in every order.
    fn draw(stream: &mut Stream, pieces: &[&str], most: usize) -> String {
        (0..stream.below(most + 1)).map(|_| pieces[stream.below(pieces.len())]).collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        for case in 0..500 {
            let stream = &mut Stream::new(1, Domain::SelfTest, [case, 0, 0]);
            let end = if stream.below(2) == 0 { "\n" } else { "\r\n" };
            let rows: Vec<Vec<String>> = (0..1 + stream.below(5))
                .map(|_| {
                    let pieces = ["\"", ",", "\n", "\r", "\r\n", " ", "\t", "a", "bag", "é"];
                    (0..1 + stream.below(3)).map(|_| draw(stream, &pieces, 4)).collect()
                })
                .collect();
            let quoted = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
            let csv = |row: &Vec<String>| row.iter().map(quoted).collect::<Vec<_>>().join(",") + end;
            assert_eq!(good(&rows.iter().map(csv).collect::<String>(), CSV), rows);
            // tsv holds neither tabs nor line feeds, and a CR at a row's end belongs to the line end.
            let plain = |field: &String| field.replace(['\t', '\n', '\r'], "'");
            let plains: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(plain).collect()).collect();
            let tsv: String = plains.iter().map(|row| row.join("\t") + end).collect();
            assert_eq!(good(&tsv, TSV), plains);
        }
    }

    /// One opened quote in a table of one-line rows costs that row alone, whatever the others hold, and is named by its
    /// line.
    #[test]
    fn an_unclosed_quote_costs_one_row() {
        for case in 0..500 {
            let stream = &mut Stream::new(2, Domain::SelfTest, [case, 0, 0]);
            let lines: Vec<String> = (0..2 + stream.below(6))
                .map(|line| {
                    format!("{line},{}", ["a bag", "\"a, bag\"", "\"\"\"bag\"\"\"", "", "\"\""][stream.below(5)])
                })
                .collect();
            let (broken, mut text) = (stream.below(lines.len()), String::new());
            for (line, row) in lines.iter().enumerate() {
                text += if line == broken { "x,\"never closed" } else { row };
                text += "\n";
            }
            let rows = all(&text, CSV);
            assert_eq!(rows.len(), lines.len(), "{text}");
            for (line, row) in rows.into_iter().enumerate() {
                match row {
                    Ok((number, fields)) => {
                        assert_eq!((number, &fields[0]), (line as u64 + 1, &line.to_string()), "{text}");
                    }
                    Err(fault) => assert_eq!((line, fault.line), (broken, broken as u64 + 1), "{text}"),
                }
            }
        }
    }

    #[test]
    fn any_bytes_end_and_lines_only_grow() {
        for case in 0..3000 {
            let stream = &mut Stream::new(3, Domain::SelfTest, [case, 0, 0]);
            let text = draw(stream, &["\"", "\"\"", ",", "\t", "\n", "\r", "\r\n", " ", "a"], 24);
            for dialect in [CSV, TSV] {
                let mut last = 0;
                for row in all(&text, dialect) {
                    let line = row.map_or_else(|fault| fault.line, |(line, _)| line);
                    assert!(line > last && line <= text.matches('\n').count() as u64 + 1, "{text:?}");
                    last = line;
                }
            }
        }
    }

    #[test]
    fn faults_name_the_line_where_they_began() {
        for (text, lines, whys) in [
            ("a,b\n1,x \"y\" z\n2,w\n", vec![2], vec!["a quote inside"]),
            ("1, \"a\"\n", vec![1], vec!["a quote inside"]),
            ("1,\"a\" b\n2,c\n", vec![1], vec!["text after the closing quote"]),
            ("1,\"a\\\"b\"\n", vec![1], vec!["text after the closing quote"]),
            ("1,\"a\"\r2,b\n", vec![1], vec!["text after the closing quote"]),
            ("\"a\nb\",\"c\nd\" e\nf,g\n", vec![2, 3], vec!["text after", "a quote inside"]),
            ("0,a\n1,\"b\n2,c\n3,\"d\"\n", vec![2], vec!["text after"]),
            ("\"", vec![1], vec!["never closed"]),
        ] {
            let faults: Vec<Fault> = all(text, CSV).into_iter().filter_map(Result::err).collect();
            assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), lines, "{text:?}");
            assert!(faults.iter().zip(whys).all(|(fault, why)| fault.why.contains(why)), "{text:?}: {faults:?}");
        }
    }

    /// A CR is no row end, in either format.
    #[test]
    fn a_lone_cr_stays_in_its_field() {
        for (text, dialect) in [("a\rb\t1\r\nc\td\r", TSV), ("a\rb,1\r\nc,d\r", CSV)] {
            assert_eq!(good(text, dialect), [["a\rb", "1"], ["c", "d"]]);
        }
    }
}
