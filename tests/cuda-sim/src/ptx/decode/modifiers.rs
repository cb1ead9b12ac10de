//! The dotted suffixes of an opcode, each of which must be asked for.

use crate::num::Rounding;
use crate::ptx::types::Type;

/// Suffixes in order, and which of them the decoder has understood.
pub struct Modifiers<'a> {
    words: Vec<&'a str>,
    used: u64,
}

impl<'a> Modifiers<'a> {
    /// Splits `ld.global.v4.f32` into `ld` and its suffixes.
    pub fn split(opcode: &'a str) -> (&'a str, Self) {
        let mut words = opcode.split('.');
        let root = words.next().unwrap_or("");
        (root, Self { words: words.collect(), used: 0 })
    }

    /// Whether the suffix is there.
    pub fn flag(&mut self, word: &str) -> bool {
        for (i, w) in self.words.iter().enumerate() {
            if *w == word && self.used >> i & 1 == 0 {
                self.used |= 1 << i;
                return true;
            }
        }
        false
    }

    /// Passes over hints that change nothing here.
    pub fn ignore(&mut self, words: &[&str]) {
        for word in words {
            while self.flag(word) {}
        }
    }

    /// The one of these that is there.
    pub fn one_of<T: Copy>(&mut self, choices: &[(&str, T)]) -> Option<T> {
        choices.iter().find(|(word, _)| self.flag(word)).map(|(_, value)| *value)
    }

    /// The next type suffix.
    pub fn ty(&mut self) -> Option<Type> {
        for (i, w) in self.words.iter().enumerate() {
            if self.used >> i & 1 == 0
                && let Some(ty) = Type::parse(w)
            {
                self.used |= 1 << i;
                return Some(ty);
            }
        }
        None
    }

    /// The next suffix not yet understood.
    pub fn next(&mut self) -> Option<&'a str> {
        let i = (0..self.words.len()).find(|i| self.used >> i & 1 == 0)?;
        self.used |= 1 << i;
        Some(self.words[i])
    }

    /// The next suffix not yet understood, left where it is.
    pub fn peek(&self) -> Option<&'a str> {
        (0..self.words.len()).find(|i| self.used >> i & 1 == 0).map(|i| self.words[i])
    }

    /// `.rn` … of a result in floating point.
    pub fn rounding(&mut self) -> Option<Rounding> {
        self.one_of(&[
            ("rn", Rounding::Rn),
            ("rz", Rounding::Rz),
            ("rm", Rounding::Rm),
            ("rp", Rounding::Rp),
            ("rna", Rounding::Rna),
        ])
    }

    /// `.rni` … of an integral result.
    pub fn integer_rounding(&mut self) -> Option<Rounding> {
        self.one_of(&[("rni", Rounding::Rn), ("rzi", Rounding::Rz), ("rmi", Rounding::Rm), ("rpi", Rounding::Rp)])
    }

    /// What nobody asked for.
    pub fn rest(&self) -> Option<String> {
        let rest: Vec<_> =
            (0..self.words.len()).filter(|i| self.used >> i & 1 == 0).map(|i| format!(".{}", self.words[i])).collect();
        if rest.is_empty() { None } else { Some(rest.concat()) }
    }
}
