//! Statements to instructions: names become register rows, immediates become constant rows, labels become indices.

mod arithmetic;
mod asynchronous;
mod control;
mod convert;
mod float;
mod logic;
mod matrix;
mod memory;
mod modifiers;
mod operand;
mod scope;
mod warp;

use std::collections::HashMap;

use super::allocate::allocate;
use super::alu::Alu;
use super::instruction::*;
use super::lexer::Token;
use super::module::{Code, Param, ParseError};
use super::parse::Context;
use super::syntax::{Cursor, Operand, Statement};
use super::types::Type;
use super::variable::variable;
use modifiers::Modifiers;
use scope::{Scopes, Symbol};

/// First shared address that programs get: like on the card, the first 1,024 bytes are the system's, so a null
/// pointer into shared memory is a mistake that shows.
pub const SHARED_START: usize = 1024;

pub use memory::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};

/// Why one statement is refused; the line is added where it is known.
type Refusal = String;

/// Decodes one kernel, with every device function it calls.
pub struct Decoder<'c, 't, 'a> {
    context: &'c Context<'t, 'a>,
    params: &'c [Param],
    code: Code,
    scopes: Scopes<'a>,
    constants: HashMap<(Constant, bool), Reg>,
    /// Offsets of the shared variables this kernel uses.
    shared: HashMap<&'a str, usize>,
    shared_end: usize,
    /// Instructions that use the address of dynamic shared memory, known only at the end.
    dynamic_align: usize,
    dynamic_rows: Vec<usize>,
    local_end: usize,
    /// For every row handed out, whether a 64-bit register starts there.
    wide_rows: Vec<bool>,
    next_predicate: usize,
    fixups: Vec<Fixup<'a>>,
    /// Functions being decoded, outermost first.
    calls: Vec<&'a str>,
    place: u32,
    line: u32,
    /// `.pragma "used_bytes_mask"` before a load.
    used_bytes: Option<u64>,
    branch_targets: HashMap<&'a str, Vec<&'a str>>,
}

/// A branch whose target was not yet known.
struct Fixup<'a> {
    instruction: usize,
    /// Which target of a switch.
    index: usize,
    scope: usize,
    label: &'a str,
    line: u32,
}

impl<'c, 't, 'a> Decoder<'c, 't, 'a> {
    pub fn new(context: &'c Context<'t, 'a>, params: &'c [Param]) -> Self {
        Self {
            context,
            params,
            code: Code::default(),
            scopes: Scopes::default(),
            constants: HashMap::new(),
            shared: HashMap::new(),
            shared_end: SHARED_START,
            dynamic_align: 16,
            dynamic_rows: Vec::new(),
            local_end: 0,
            wide_rows: vec![false; REG_FIRST as usize],
            next_predicate: PRED_FIRST as usize,
            fixups: Vec::new(),
            calls: Vec::new(),
            place: u32::MAX,
            line: 0,
            used_bytes: None,
            branch_targets: HashMap::new(),
        }
    }

    /// Code, static shared bytes, local bytes per thread.
    pub fn kernel(&mut self, name: &'a str, body: usize) -> Result<(Code, usize, usize), ParseError> {
        self.calls.push(name);
        let scope = self.scopes.open(None);
        for (i, param) in self.params.iter().enumerate() {
            self.scopes.declare_owned(scope, &param.name, Symbol::KernelParam(i));
        }
        self.body(body, scope, None)?;
        self.emit(PredSrc::TRUE, Op::Exit);
        self.resolve_labels()?;
        // Dynamic shared memory begins after the static variables, at its own alignment.
        let dynamic = self.shared_end.next_multiple_of(self.dynamic_align);
        for &i in &self.dynamic_rows {
            if let Constant::Bits(bits) = &mut self.code.constants[i].value {
                *bits = bits.wrapping_add(dynamic as u64);
            }
        }
        let static_shared = if self.dynamic_rows.is_empty() { self.shared_end } else { dynamic } - SHARED_START;
        self.code.predicates = self.next_predicate;
        allocate(&mut self.code, &self.wide_rows);
        Ok((std::mem::take(&mut self.code), static_shared, self.local_end.next_multiple_of(16)))
    }

    /// Decodes statements up to the closing brace. `end` is the label that `ret` of an inlined function jumps to.
    fn body(&mut self, start: usize, scope: usize, end: Option<&'a str>) -> Result<(), ParseError> {
        let mut cursor = Cursor::new(self.context.tokens);
        cursor.at = start;
        let mut stack = vec![scope];
        while let Some(&scope) = stack.last() {
            self.line = cursor.line();
            if cursor.take(b'{') {
                stack.push(self.scopes.open(Some(scope)));
            } else if cursor.take(b'}') {
                stack.pop();
            } else if cursor.take(b';') {
            } else if let (Some(Token::Word(label)), Some(Token::Punct(b':'))) = (cursor.peek(), cursor.peek_at(1)) {
                cursor.at += 2;
                if cursor.take_word(".branchtargets") {
                    let mut targets = vec![cursor.word()?];
                    while cursor.take(b',') {
                        targets.push(cursor.word()?);
                    }
                    cursor.expect(b';')?;
                    self.branch_targets.insert(label, targets);
                } else {
                    self.scopes.label(scope, label, self.code.instructions.len() as u32);
                }
            } else if let Some(Token::Word(word)) = cursor.peek()
                && word.starts_with('.')
            {
                cursor.next()?;
                self.directive(word, scope, &mut cursor)?;
            } else {
                let statement = cursor.statement()?;
                self.line = statement.line;
                self.statement(&statement, scope, end).map_err(|what| ParseError {
                    line: statement.line,
                    what: format!("{}: {what}", statement.opcode),
                })?;
            }
        }
        Ok(())
    }

    fn directive(&mut self, word: &'a str, scope: usize, cursor: &mut Cursor<'t, 'a>) -> Result<(), ParseError> {
        // `.reg.b32` without a blank is one word.
        let (word, glued) = match word.strip_prefix(".reg.") {
            Some(ty) => (".reg", Some(ty)),
            None => (word, None),
        };
        match word {
            ".reg" => {
                let suffix = match glued {
                    Some(ty) => ty,
                    None => cursor.word()?.trim_start_matches('.'),
                };
                let Some(ty) = Type::parse(suffix) else {
                    return cursor.fail(format!("register type {suffix}"));
                };
                loop {
                    let name = cursor.word()?;
                    let count = if cursor.take(b'<') {
                        let count = cursor.int()? as usize;
                        cursor.expect(b'>')?;
                        Some(count)
                    } else {
                        None
                    };
                    if ty == Type::B128 {
                        return cursor.fail("128-bit registers are not modelled");
                    }
                    let n = count.unwrap_or(1);
                    let symbol = if ty == Type::Pred {
                        let first = self.next_predicate;
                        self.next_predicate += n;
                        if self.next_predicate > usize::from(Pred::MAX) {
                            return cursor.fail("more predicates than are modelled");
                        }
                        Symbol::Predicate(first as Pred)
                    } else {
                        Symbol::Register { first: self.rows(n, ty.wide()), ty }
                    };
                    match count {
                        Some(count) => self.scopes.declare_range(scope, name, count, symbol),
                        None => self.scopes.declare(scope, name, symbol),
                    }
                    if cursor.take(b';') {
                        return Ok(());
                    }
                    cursor.expect(b',')?;
                }
            }
            ".shared" | ".local" | ".param" => {
                let v = variable(cursor)?;
                cursor.expect(b';')?;
                let symbol = if word == ".shared" {
                    let offset = self.shared_end.next_multiple_of(v.align);
                    self.shared_end = offset + v.bytes;
                    Symbol::Shared(offset)
                } else {
                    Symbol::Local(self.local(v.bytes, v.align))
                };
                self.scopes.declare(scope, v.name, symbol);
                Ok(())
            }
            ".loc" => {
                let (file, line) = (cursor.int()? as u32, cursor.int()? as u32);
                cursor.int()?;
                while cursor.take(b',') {
                    // `function_name label` and `inlined_at file line column`: the innermost place is reported.
                    match cursor.word()? {
                        "function_name" => {
                            cursor.word()?;
                            if cursor.take(b'+') {
                                cursor.int()?;
                            }
                        }
                        _ => {
                            for _ in 0..3 {
                                cursor.int()?;
                            }
                        }
                    }
                }
                // Line 0 is code that belongs to none: nearest is what came before it.
                if line != 0 {
                    self.place = self.code.places.len() as u32;
                    self.code.places.push((file, line));
                }
                Ok(())
            }
            ".pragma" => {
                while let token = cursor.next()?
                    && token != Token::Punct(b';')
                {
                    if let Token::Text(text) = token
                        && let Some(mask) = text.strip_prefix("used_bytes_mask ")
                    {
                        let digits = mask.trim().trim_start_matches("0x");
                        let radix = if digits.len() == mask.trim().len() { 10 } else { 16 };
                        self.used_bytes = u64::from_str_radix(digits, radix).ok();
                    }
                }
                Ok(())
            }
            other => cursor.fail(format!("directive {other} is not modelled in a function")),
        }
    }

    fn statement(&mut self, s: &Statement<'a>, scope: usize, end: Option<&'a str>) -> Result<(), Refusal> {
        let guard = match s.guard {
            Some((name, negated)) => PredSrc { negated, ..self.predicate(&Operand::Name(name, 0), scope)? },
            None => PredSrc::TRUE,
        };
        let (root, mut modifiers) = Modifiers::split(s.opcode);
        let mut st = Decode { s, scope, guard, m: &mut modifiers, end };
        let d = self;
        match root {
            "mov" => d.mov(&mut st),
            "add" | "sub" | "mul" | "mad" | "fma" | "div" | "min" | "max" | "abs" | "neg" => {
                d.arithmetic(root, &mut st)
            }
            "addc" | "subc" | "madc" => d.carry(root, &mut st),
            "mul24" | "mad24" | "sad" | "rem" | "popc" | "clz" | "bfind" | "brev" | "bfe" | "bfi" | "fns" | "szext"
            | "bmsk" | "dp4a" | "dp2a" => d.integer(root, &mut st),
            "and" | "or" | "xor" | "not" | "cnot" | "shl" | "shr" | "shf" | "lop3" | "prmt" => d.logic(root, &mut st),
            "rcp" | "sqrt" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" | "copysign" | "testp" => {
                d.function(root, &mut st)
            }
            "setp" | "set" | "selp" | "slct" => d.compare(root, &mut st),
            "cvt" => d.cvt(&mut st),
            "ld" | "ldu" | "st" | "atom" | "red" | "prefetch" | "prefetchu" | "cvta" | "isspacep" | "mapa"
            | "getctarank" | "discard" | "applypriority" | "createpolicy" => d.memory(root, &mut st),
            "bra" | "brx" | "ret" | "exit" | "trap" | "brkpt" | "call" | "pmevent" => d.control(root, &mut st),
            "shfl" | "vote" | "match" | "redux" | "activemask" | "elect" | "bar" | "barrier" | "membar" | "fence"
            | "griddepcontrol" | "setmaxnreg" | "nanosleep" => d.warp(root, &mut st),
            "cp" | "mbarrier" => d.asynchronous(root, &mut st),
            "ldmatrix" | "stmatrix" | "movmatrix" | "mma" | "wgmma" => d.matrix(root, &mut st),
            _ => Err("instruction not modelled".into()),
        }?;
        match modifiers.rest() {
            Some(rest) => Err(format!("{rest} is not modelled")),
            None => Ok(()),
        }
    }

    fn emit(&mut self, guard: PredSrc, op: Op) {
        self.code.instructions.push(Instr { guard, op });
        self.code.lines.push(self.line);
        self.code.place_of.push(self.place);
    }

    fn alu(&mut self, st: &Decode<'_, '_, 'a>, f: Alu, d: Reg, sources: &[Reg], imm: u32) {
        let source = |i: usize| sources.get(i).copied().unwrap_or(REG_SINK);
        self.emit(st.guard, Op::Alu { f, d, a: source(0), b: source(1), c: source(2), imm });
    }

    /// Rows for `n` registers; 64-bit ones take two each, at even places so that they never straddle.
    fn rows(&mut self, n: usize, wide: bool) -> Reg {
        let first = self.wide_rows.len().next_multiple_of(2);
        self.wide_rows.resize(first, false);
        for _ in 0..n {
            self.wide_rows.push(wide);
            if wide {
                self.wide_rows.push(false);
            }
        }
        first as Reg
    }

    /// A register that the program does not name.
    fn temporary(&mut self, wide: bool) -> Reg {
        self.rows(1, wide)
    }

    fn local(&mut self, bytes: usize, align: usize) -> usize {
        let offset = self.local_end.next_multiple_of(align);
        self.local_end = offset + bytes;
        offset
    }

    fn resolve_labels(&mut self) -> Result<(), ParseError> {
        for fixup in std::mem::take(&mut self.fixups) {
            let Some(target) = self.scopes.find_label(fixup.scope, fixup.label) else {
                return Err(ParseError { line: fixup.line, what: format!("label {} is not defined", fixup.label) });
            };
            match &mut self.code.instructions[fixup.instruction].op {
                Op::Branch { target: t } => *t = target,
                Op::Switch { targets, .. } => targets[fixup.index] = target,
                _ => unreachable!("only branches have labels"),
            }
        }
        Ok(())
    }
}

/// The statement being decoded.
struct Decode<'s, 'm, 'a> {
    s: &'s Statement<'a>,
    scope: usize,
    guard: PredSrc,
    m: &'m mut Modifiers<'a>,
    end: Option<&'a str>,
}

impl<'s, 'a> Decode<'s, '_, 'a> {
    fn operand(&self, i: usize) -> Result<&'s Operand<'a>, Refusal> {
        self.s.operands.get(i).ok_or_else(|| format!("operand {} is missing", i + 1))
    }

    /// Refuses operands beyond those understood.
    fn at_most(&self, n: usize) -> Result<(), Refusal> {
        match self.s.operands.len() {
            have if have > n => Err(format!("{have} operands, {n} expected")),
            _ => Ok(()),
        }
    }

    fn ty(&mut self) -> Result<Type, Refusal> {
        self.m.ty().ok_or_else(|| "no type".into())
    }
}
