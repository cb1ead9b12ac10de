//! Branches, calls (decoded into the caller), ends.

use super::*;
use crate::ptx::parse::Function;

impl<'a> Decoder<'_, '_, 'a> {
    pub(super) fn control(&mut self, root: &str, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        st.m.ignore(&["uni"]);
        match root {
            "bra" => {
                let Operand::Name(label, 0) = st.operand(0)? else { return Err("no label".into()) };
                self.branch(st.guard, label, st.scope);
            }
            "brx" => {
                st.m.ignore(&["idx"]);
                let index = self.source(st.operand(0)?, Type::U32, st.scope)?;
                let Operand::Name(table, 0) = st.operand(1)? else { return Err("no table".into()) };
                let Some(labels) = self.branch_targets.get(table).cloned() else {
                    return Err(format!("table {table} is not defined"));
                };
                for (i, label) in labels.iter().enumerate() {
                    let (instruction, line) = (self.code.instructions.len(), self.line);
                    self.fixups.push(Fixup { instruction, index: i, scope: st.scope, label, line });
                }
                self.emit(st.guard, Op::Switch { index, targets: vec![0; labels.len()].into() });
            }
            "ret" => match st.end {
                Some(end) => self.branch(st.guard, end, st.scope),
                None => self.emit(st.guard, Op::Exit),
            },
            "exit" => self.emit(st.guard, Op::Exit),
            "trap" | "brkpt" => self.emit(st.guard, Op::Trap),
            "pmevent" => {
                st.m.ignore(&["mask"]);
                self.emit(st.guard, Op::Nop);
            }
            _ => return self.call(st),
        }
        Ok(())
    }

    fn branch(&mut self, guard: PredSrc, label: &'a str, scope: usize) {
        let (instruction, line) = (self.code.instructions.len(), self.line);
        self.fixups.push(Fixup { instruction, index: 0, scope, label, line });
        self.emit(guard, Op::Branch { target: 0 });
    }

    /// Decodes the called function here: no call stack, no recursion.
    fn call(&mut self, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        let operands = &st.s.operands;
        let mut at = 0;
        let results: &[Operand<'a>] = match operands.first() {
            Some(Operand::List(list)) => {
                at = 1;
                list
            }
            _ => &[],
        };
        let Some(&Operand::Name(name, 0)) = operands.get(at) else { return Err("no function".into()) };
        let arguments: &[Operand<'a>] = match operands.get(at + 1) {
            Some(Operand::List(list)) => list,
            _ => &[],
        };
        if self.scopes.find(st.scope, name).is_some() {
            return Err("indirect calls are not modelled".into());
        }
        let Some(function) = self.context.functions.get(name).cloned() else {
            return Err(format!("function {name} is not declared"));
        };
        if results.len() != function.results.len() || arguments.len() != function.params.len() {
            return Err(format!("{name} has {} parameters", function.params.len()));
        }
        let results = self.slots(results, st.scope)?;
        let arguments = self.slots(arguments, st.scope)?;
        let Some(body) = function.body else { return self.intrinsic(name, &results, &arguments, st) };
        if self.calls.contains(&name) {
            return Err(format!("{name} is recursive, which is not modelled"));
        }
        self.inline(name, &function, body, &results, &arguments, st)
    }

    /// Local memory of the `.param` variables of a call.
    fn slots(&mut self, list: &[Operand<'a>], scope: usize) -> Result<Vec<usize>, Refusal> {
        list.iter()
            .map(|operand| match operand {
                Operand::Name(name, 0) => match self.scopes.find(scope, name) {
                    Some(Symbol::Local(slot)) => Ok(slot),
                    _ => Err(format!("argument {name} is no .param variable")),
                },
                other => Err(format!("argument {other:?} is not modelled")),
            })
            .collect()
    }

    fn inline(
        &mut self,
        name: &'a str,
        function: &Function<'a>,
        body: usize,
        results: &[usize],
        arguments: &[usize],
        st: &mut Decode<'_, '_, 'a>,
    ) -> Result<(), Refusal> {
        let scope = self.scopes.open(None);
        for (formal, &slot) in function.results.iter().zip(results).chain(function.params.iter().zip(arguments)) {
            // Passed by value: the callee may write its copy.
            self.scopes.declare(scope, formal.name, Symbol::Local(slot));
        }
        // A label that cannot occur in text.
        const END: &str = "(end)";
        if st.guard != PredSrc::TRUE {
            self.branch(PredSrc { negated: !st.guard.negated, ..st.guard }, END, scope);
        }
        self.calls.push(name);
        let (line, place) = (self.line, self.place);
        self.body(body, scope, Some(END)).map_err(|e| format!("in {name}, line {}: {}", e.line, e.what))?;
        (self.line, self.place) = (line, place);
        self.calls.pop();
        self.scopes.label(scope, END, self.code.instructions.len() as u32);
        Ok(())
    }

    /// Functions of the device runtime.
    fn intrinsic(
        &mut self,
        name: &str,
        results: &[usize],
        arguments: &[usize],
        st: &mut Decode<'_, '_, 'a>,
    ) -> Result<(), Refusal> {
        let fetch = |this: &mut Self, i: usize, bytes: u8| -> Reg {
            let wide = bytes == 8;
            let reg = this.temporary(wide);
            let base = this.bits(arguments[i] as u64, true);
            let addr = Addr { space: Space::Local, base, wide: true, offset: 0 };
            let regs = Box::new([reg]);
            let (signed, used, strong) = (false, u64::MAX, false);
            let access = Access { addr, bytes, signed, wide, regs, used, strong };
            this.emit(st.guard, Op::Load(Box::new(access)));
            reg
        };
        match name {
            "vprintf" => {
                let (format, buffer) = (fetch(self, 0, 8), fetch(self, 1, 8));
                let d = self.temporary(false);
                self.emit(st.guard, Op::Intrinsic(Box::new(Intrinsic::Printf { format, arguments: buffer, d })));
                let base = self.bits(results[0] as u64, true);
                let addr = Addr { space: Space::Local, base, wide: true, offset: 0 };
                let (signed, used, strong) = (false, u64::MAX, false);
                let regs = Box::new([d]);
                let store = Access { addr, bytes: 4, signed, wide: false, regs, used, strong };
                self.emit(st.guard, Op::Store(Box::new(store)));
            }
            "__assertfail" => {
                let (message, file) = (fetch(self, 0, 8), fetch(self, 1, 8));
                let (line, function) = (fetch(self, 2, 4), fetch(self, 3, 8));
                let intrinsic = Intrinsic::AssertFail { message, file, line, function };
                self.emit(st.guard, Op::Intrinsic(Box::new(intrinsic)));
            }
            _ => return Err(format!("function {name} of the device runtime is not modelled")),
        }
        Ok(())
    }
}
