//! PTX text to tokens. Comments vanish; every token keeps its line.

use super::ParseError;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Token<'a> {
    /// Opcode with modifiers, directive, register, symbol: `ld.shared::cta.b32`, `.reg`, `%tid.x`, `$L__BB0_2`.
    Word(&'a str),
    Int(u64),
    /// `0f3F800000`.
    F32(u32),
    /// `0d3FF0000000000000` or a decimal literal.
    F64(u64),
    Text(&'a str),
    Punct(u8),
}

/// Tokens with the line each starts on.
pub fn tokens(text: &str) -> Result<Vec<(Token<'_>, u32)>, ParseError> {
    let mut lexer = Lexer { text, bytes: text.as_bytes(), at: 0, line: 1 };
    let mut out = Vec::with_capacity(text.len() / 5);
    while let Some(token) = lexer.next()? {
        out.push(token);
    }
    Ok(out)
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    line: u32,
}

fn starts_word(c: u8) -> bool {
    c.is_ascii_alphabetic() || matches!(c, b'_' | b'$' | b'%' | b'.')
}

impl<'a> Lexer<'a> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn fail<T>(&self, what: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError { line: self.line, what: what.into() })
    }

    fn skip_blank(&mut self) -> Result<(), ParseError> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (b'\n', _) => {
                    self.line += 1;
                    self.at += 1;
                }
                (b' ' | b'\t' | b'\r', _) => self.at += 1,
                (b'/', b'/') => {
                    while !matches!(self.peek(0), b'\n' | 0) {
                        self.at += 1;
                    }
                }
                (b'/', b'*') => {
                    self.at += 2;
                    while (self.peek(0), self.peek(1)) != (b'*', b'/') {
                        match self.peek(0) {
                            0 => return self.fail("comment without end"),
                            b'\n' => self.line += 1,
                            _ => {}
                        }
                        self.at += 1;
                    }
                    self.at += 2;
                }
                _ => return Ok(()),
            }
        }
    }

    fn next(&mut self) -> Result<Option<(Token<'a>, u32)>, ParseError> {
        self.skip_blank()?;
        let (line, start) = (self.line, self.at);
        let c = self.peek(0);
        let token = match c {
            0 => return Ok(None),
            b'"' => {
                self.at += 1;
                while self.peek(0) != b'"' {
                    if matches!(self.peek(0), 0 | b'\n') {
                        return self.fail("string without end");
                    }
                    self.at += if self.peek(0) == b'\\' { 2 } else { 1 };
                }
                self.at += 1;
                Token::Text(&self.text[start + 1..self.at - 1])
            }
            _ if c.is_ascii_digit() => self.number()?,
            _ if starts_word(c) => {
                self.at += 1;
                loop {
                    match self.peek(0) {
                        c if starts_word(c) || c.is_ascii_digit() => self.at += 1,
                        // `shared::cta` is one word, `label:` is not.
                        b':' if self.peek(1) == b':' => self.at += 2,
                        _ => break,
                    }
                }
                Token::Word(&self.text[start..self.at])
            }
            _ if c.is_ascii_punctuation() => {
                self.at += 1;
                Token::Punct(c)
            }
            _ => return self.fail(format!("unexpected byte {c:#04x}")),
        };
        Ok(Some((token, line)))
    }

    fn number(&mut self) -> Result<Token<'a>, ParseError> {
        let start = self.at;
        while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == b'.' {
            // The sign of an exponent belongs to a decimal literal only.
            let decimal = !self.text[start..].starts_with("0x") && !self.text[start..].starts_with("0d");
            self.at += 1;
            if decimal && matches!(self.bytes[self.at - 1], b'e' | b'E') && matches!(self.peek(0), b'+' | b'-') {
                self.at += 1;
            }
        }
        let word = &self.text[start..self.at];
        let digits = word.trim_end_matches('U');
        let value = match digits.get(..2) {
            Some("0x" | "0X") => u64::from_str_radix(&digits[2..], 16).ok().map(Token::Int),
            Some("0f" | "0F") => u32::from_str_radix(&digits[2..], 16).ok().map(Token::F32),
            Some("0d" | "0D") => u64::from_str_radix(&digits[2..], 16).ok().map(Token::F64),
            Some("0b" | "0B") => u64::from_str_radix(&digits[2..], 2).ok().map(Token::Int),
            _ if digits.contains('.') => digits.parse::<f64>().ok().map(|v| Token::F64(v.to_bits())),
            _ if digits.len() > 1 && digits.starts_with('0') => u64::from_str_radix(digits, 8).ok().map(Token::Int),
            _ => digits.parse().ok().map(Token::Int),
        };
        match value {
            Some(token) => Ok(token),
            None => self.fail(format!("not a number: {word}")),
        }
    }
}
