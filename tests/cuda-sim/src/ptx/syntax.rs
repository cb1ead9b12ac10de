//! Statements of a function body, before names have a meaning.

use super::ParseError;
use super::lexer::Token;

/// One operand as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand<'a> {
    /// Register, special register, label or variable, and what is added to it (`symbol+8`).
    Name(&'a str, i64),
    Int(u64),
    F32(u32),
    F64(u64),
    /// `!%p1`.
    Not(&'a str),
    /// `[base+offset]`, with the coordinates of `[map, {x, y}]`.
    Address {
        base: Box<Operand<'a>>,
        offset: i64,
        coordinates: Vec<Operand<'a>>,
    },
    Vector(Vec<Operand<'a>>),
    /// `%r1|%p1`.
    Pair(Box<Operand<'a>>, Box<Operand<'a>>),
    /// `(a, b)` of a call.
    List(Vec<Operand<'a>>),
    /// `_`.
    Sink,
}

/// One instruction as written.
#[derive(Debug, Clone)]
pub struct Statement<'a> {
    pub line: u32,
    /// `@%p1` or `@!%p1`: name, negated.
    pub guard: Option<(&'a str, bool)>,
    pub opcode: &'a str,
    pub operands: Vec<Operand<'a>>,
}

/// A position in the tokens of a module.
pub struct Cursor<'t, 'a> {
    tokens: &'t [(Token<'a>, u32)],
    pub at: usize,
}

impl<'t, 'a> Cursor<'t, 'a> {
    pub fn new(tokens: &'t [(Token<'a>, u32)]) -> Self {
        Self { tokens, at: 0 }
    }

    pub fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|t| t.0)
    }

    pub fn peek_at(&self, ahead: usize) -> Option<Token<'a>> {
        self.tokens.get(self.at + ahead).map(|t| t.0)
    }

    /// Line of the next token, or of the last one at the end.
    pub fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(0, |t| t.1)
    }

    pub fn fail<T>(&self, what: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError { line: self.line(), what: what.into() })
    }

    pub fn next(&mut self) -> Result<Token<'a>, ParseError> {
        let Some(token) = self.peek() else { return self.fail("unexpected end of text") };
        self.at += 1;
        Ok(token)
    }

    /// Takes the punctuation if it comes next.
    pub fn take(&mut self, punct: u8) -> bool {
        let found = self.peek() == Some(Token::Punct(punct));
        self.at += usize::from(found);
        found
    }

    pub fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(Token::Word(word));
        self.at += usize::from(found);
        found
    }

    pub fn expect(&mut self, punct: u8) -> Result<(), ParseError> {
        if self.take(punct) {
            return Ok(());
        }
        self.fail(format!("expected '{}', found {:?}", punct as char, self.peek()))
    }

    pub fn word(&mut self) -> Result<&'a str, ParseError> {
        match self.peek() {
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            other => self.fail(format!("expected a name, found {other:?}")),
        }
    }

    pub fn int(&mut self) -> Result<u64, ParseError> {
        let negative = self.take(b'-');
        match self.peek() {
            Some(Token::Int(value)) => {
                self.at += 1;
                Ok(if negative { value.wrapping_neg() } else { value })
            }
            other => self.fail(format!("expected an integer, found {other:?}")),
        }
    }

    /// `@%p opcode operands ;`
    pub fn statement(&mut self) -> Result<Statement<'a>, ParseError> {
        let line = self.line();
        let guard = if self.take(b'@') {
            let negated = self.take(b'!');
            Some((self.word()?, negated))
        } else {
            None
        };
        let opcode = self.word()?;
        let mut operands = Vec::new();
        if !self.take(b';') {
            loop {
                operands.push(self.operand()?);
                if self.take(b';') {
                    break;
                }
                self.expect(b',')?;
            }
        }
        Ok(Statement { line, guard, opcode, operands })
    }

    fn offset(&mut self) -> Result<i64, ParseError> {
        let mut sum = 0i64;
        loop {
            // A minus belongs to the number behind it.
            if !self.take(b'+') && self.peek() != Some(Token::Punct(b'-')) {
                return Ok(sum);
            }
            sum = sum.wrapping_add(self.int()? as i64);
        }
    }

    pub fn operand(&mut self) -> Result<Operand<'a>, ParseError> {
        let operand = match self.next()? {
            Token::Word("_") => Operand::Sink,
            Token::Word(name) => Operand::Name(name, self.offset()?),
            Token::Int(value) => Operand::Int(value),
            Token::F32(bits) => Operand::F32(bits),
            Token::F64(bits) => Operand::F64(bits),
            Token::Punct(b'-') => match self.next()? {
                Token::Int(value) => Operand::Int(value.wrapping_neg()),
                Token::F64(bits) => Operand::F64(bits ^ (1 << 63)),
                other => return self.fail(format!("unexpected {other:?} after '-'")),
            },
            Token::Punct(b'!') => Operand::Not(self.word()?),
            Token::Punct(b'[') => {
                let base = Box::new(self.operand()?);
                let (base, offset) = match *base {
                    Operand::Name(name, offset) => (Box::new(Operand::Name(name, 0)), offset),
                    Operand::Int(value) => (Box::new(Operand::Int(value)), self.offset()?),
                    other => return self.fail(format!("unexpected address {other:?}")),
                };
                let mut coordinates = Vec::new();
                if self.take(b',') {
                    match self.operand()? {
                        Operand::Vector(list) => coordinates = list,
                        single => coordinates.push(single),
                    }
                }
                self.expect(b']')?;
                Operand::Address { base, offset, coordinates }
            }
            Token::Punct(b'{') => Operand::Vector(self.list(b'}')?),
            Token::Punct(b'(') => Operand::List(self.list(b')')?),
            other => return self.fail(format!("unexpected {other:?} in operands")),
        };
        if self.take(b'|') {
            return Ok(Operand::Pair(Box::new(operand), Box::new(self.operand()?)));
        }
        Ok(operand)
    }

    fn list(&mut self, end: u8) -> Result<Vec<Operand<'a>>, ParseError> {
        let mut list = Vec::new();
        if self.take(end) {
            return Ok(list);
        }
        loop {
            list.push(self.operand()?);
            if self.take(end) {
                return Ok(list);
            }
            self.expect(b',')?;
        }
    }
}
