//! Names inside functions: blocks of `{ }` nest, labels included.

use std::collections::HashMap;

use crate::ptx::instruction::{Pred, Reg};
use crate::ptx::types::Type;

#[derive(Debug, Clone, Copy)]
pub enum Symbol {
    Register {
        first: Reg,
        ty: Type,
    },
    Predicate(Pred),
    /// Address in shared memory.
    Shared(usize),
    /// Offset in local memory; also `.param` variables of calls.
    Local(usize),
    /// Index of the kernel's parameter.
    KernelParam(usize),
}

#[derive(Default)]
struct Scope<'a> {
    parent: Option<usize>,
    names: HashMap<&'a str, Symbol>,
    /// Names that do not live in the text.
    owned: HashMap<String, Symbol>,
    /// `%r<20>`: prefix, count, first.
    ranges: Vec<(&'a str, usize, Symbol)>,
    labels: HashMap<&'a str, u32>,
}

/// All blocks of a kernel.
#[derive(Default)]
pub struct Scopes<'a> {
    list: Vec<Scope<'a>>,
}

impl<'a> Scopes<'a> {
    pub fn open(&mut self, parent: Option<usize>) -> usize {
        self.list.push(Scope { parent, ..Scope::default() });
        self.list.len() - 1
    }

    pub fn declare(&mut self, scope: usize, name: &'a str, symbol: Symbol) {
        self.list[scope].names.insert(name, symbol);
    }

    pub fn declare_owned(&mut self, scope: usize, name: &str, symbol: Symbol) {
        self.list[scope].owned.insert(name.to_string(), symbol);
    }

    pub fn declare_range(&mut self, scope: usize, prefix: &'a str, count: usize, symbol: Symbol) {
        self.list[scope].ranges.push((prefix, count, symbol));
    }

    pub fn label(&mut self, scope: usize, name: &'a str, at: u32) {
        self.list[scope].labels.insert(name, at);
    }

    fn up(&self, scope: usize) -> impl Iterator<Item = &Scope<'a>> {
        std::iter::successors(Some(&self.list[scope]), |s| s.parent.map(|p| &self.list[p]))
    }

    pub fn find_label(&self, scope: usize, name: &str) -> Option<u32> {
        self.up(scope).find_map(|s| s.labels.get(name).copied())
    }

    pub fn find(&self, scope: usize, name: &str) -> Option<Symbol> {
        self.up(scope).find_map(|s| {
            s.names.get(name).or_else(|| s.owned.get(name)).copied().or_else(|| {
                s.ranges.iter().rev().find_map(|&(prefix, count, symbol)| {
                    let digits = name.strip_prefix(prefix)?;
                    // `%r01` is not `%r1`.
                    if digits.len() > 1 && digits.starts_with('0') {
                        return None;
                    }
                    let index: usize = digits.parse().ok().filter(|i| *i < count)?;
                    Some(match symbol {
                        Symbol::Register { first, ty } => {
                            let rows = 1 + u32::from(ty.wide());
                            Symbol::Register { first: first + index as Reg * rows, ty }
                        }
                        Symbol::Predicate(first) => Symbol::Predicate(first + index as Pred),
                        other => other,
                    })
                })
            })
        })
    }
}
