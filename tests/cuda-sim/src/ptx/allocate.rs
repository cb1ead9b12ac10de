//! Rows for registers: registers that are never alive at once share one.
//!
//! nvcc names a new register for nearly every result. Kept apart they would fill megabytes per block, far beyond the
//! caches; by lifetime a few hundred rows are enough. Lifetimes are those of one lane, which is what a row holds 32 of:
//! lanes at other places write only their own.

use super::instruction::{Instr, Op, PredSrc, REG_FIRST, Reg};
use super::module::Code;
use super::visit::Role;

/// Gives the registers of `code` their final rows. `wide` says for every row whether a 64-bit register starts there.
pub fn allocate(code: &mut Code, wide: &[bool]) {
    // Constants keep rows of their own, filled when a warp starts.
    let mut fixed = vec![false; wide.len()];
    code.constants.iter().for_each(|c| fixed[c.row as usize] = true);
    for instr in &mut code.instructions {
        instr.op.visit(&mut |reg, role| {
            // What an asynchronous instruction holds is in use until a wait, which lifetimes do not see.
            if role == Role::Held {
                fixed[*reg as usize] = true;
            }
        });
    }
    let lives = Lives::of(code, &fixed);
    let mut rows = Rows { next: REG_FIRST, pairs: Vec::new(), singles: Vec::new() };
    let mut new_row: Vec<Reg> = vec![Reg::MAX; wide.len()];
    (0..REG_FIRST).for_each(|r| new_row[r as usize] = r);
    for (r, is_fixed) in fixed.iter().enumerate().skip(REG_FIRST as usize) {
        if *is_fixed {
            new_row[r] = rows.take(wide[r]);
        }
    }
    let mut order: Vec<usize> = (0..wide.len()).filter(|r| lives.first[*r] <= lives.last[*r]).collect();
    order.sort_by_key(|r| lives.first[*r]);
    // Lifetimes that end, soonest first.
    let mut ending: std::collections::BinaryHeap<std::cmp::Reverse<(u32, usize)>> = Default::default();
    for r in order {
        while let Some(&std::cmp::Reverse((last, dead))) = ending.peek() {
            if last >= lives.first[r] {
                break;
            }
            ending.pop();
            rows.give(new_row[dead], wide[dead]);
        }
        new_row[r] = rows.take(wide[r]);
        ending.push(std::cmp::Reverse((lives.last[r], r)));
    }
    for instr in &mut code.instructions {
        instr.op.visit(&mut |reg, _| *reg = new_row[*reg as usize]);
    }
    for constant in &mut code.constants {
        constant.row = new_row[constant.row as usize];
    }
    code.rows = rows.next as usize;
}

/// Rows that are free.
struct Rows {
    next: Reg,
    pairs: Vec<Reg>,
    singles: Vec<Reg>,
}

impl Rows {
    /// A row once wide stays wide: lane l of a wide register lies where lanes 2l and 2l + 1 of narrow ones would, so
    /// lanes at other places would write each other's.
    fn take(&mut self, wide: bool) -> Reg {
        if let Some(row) = if wide { self.pairs.pop() } else { self.singles.pop() } {
            return row;
        }
        self.next += 2;
        if !wide {
            self.singles.push(self.next - 1);
        }
        self.next - 2
    }

    fn give(&mut self, row: Reg, wide: bool) {
        if wide {
            self.pairs.push(row);
        } else {
            self.singles.push(row);
        }
    }
}

/// First and last instruction at which each register is alive; `first > last` where it never is.
struct Lives {
    first: Vec<u32>,
    last: Vec<u32>,
}

/// A run of instructions that is entered at its start only.
struct Block {
    start: usize,
    end: usize,
    next: Vec<usize>,
    /// Registers read before any write, and registers written for certain before any read.
    reads: Bits,
    writes: Bits,
    alive_in: Bits,
}

#[derive(Clone, PartialEq)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(n: usize) -> Self {
        Self(vec![0; n.div_ceil(64)])
    }

    fn has(&self, i: usize) -> bool {
        self.0[i / 64] >> (i % 64) & 1 == 1
    }

    fn set(&mut self, i: usize) {
        self.0[i / 64] |= 1 << (i % 64);
    }

    fn each(&self, mut f: impl FnMut(usize)) {
        for (w, word) in self.0.iter().enumerate() {
            let mut word = *word;
            while word != 0 {
                f(w * 64 + word.trailing_zeros() as usize);
                word &= word - 1;
            }
        }
    }
}

impl Lives {
    fn of(code: &mut Code, fixed: &[bool]) -> Lives {
        let n = fixed.len();
        let mut blocks = blocks(code, n);
        let tracked = |r: Reg| r >= REG_FIRST && !fixed[r as usize];
        for block in &mut blocks {
            for instr in &mut code.instructions[block.start..block.end] {
                // A guarded write keeps the old value in some lanes.
                let certain = instr.guard == PredSrc::TRUE;
                instr.op.visit(&mut |reg, role| {
                    let r = *reg as usize;
                    if tracked(*reg) && !block.writes.has(r) {
                        match role {
                            Role::Destination if certain => block.writes.set(r),
                            Role::Destination | Role::Held => {}
                            Role::Source => block.reads.set(r),
                        }
                    }
                });
            }
        }
        // Alive at the start of a block: read in it, or alive at its end and not written in it.
        let mut changed = true;
        while changed {
            changed = false;
            for i in (0..blocks.len()).rev() {
                let out = alive_out(&blocks, i, n);
                let block = &mut blocks[i];
                for w in 0..out.0.len() {
                    let alive = block.reads.0[w] | out.0[w] & !block.writes.0[w];
                    changed |= alive != block.alive_in.0[w];
                    block.alive_in.0[w] = alive;
                }
            }
        }
        let mut lives = Lives { first: vec![u32::MAX; n], last: vec![0; n] };
        let mut touch = |r: usize, at: usize| {
            lives.first[r] = lives.first[r].min(at as u32);
            lives.last[r] = lives.last[r].max(at as u32);
        };
        for (i, block) in blocks.iter().enumerate() {
            block.alive_in.each(|r| touch(r, block.start));
            alive_out(&blocks, i, n).each(|r| touch(r, block.end - 1));
            for at in block.start..block.end {
                code.instructions[at].op.visit(&mut |reg, _| {
                    if tracked(*reg) {
                        touch(*reg as usize, at);
                    }
                });
            }
        }
        lives
    }
}

fn alive_out(blocks: &[Block], i: usize, n: usize) -> Bits {
    let mut out = Bits::new(n);
    for &next in &blocks[i].next {
        for (o, alive) in out.0.iter_mut().zip(&blocks[next].alive_in.0) {
            *o |= alive;
        }
    }
    out
}

/// Cuts the code at branches and their targets.
fn blocks(code: &Code, registers: usize) -> Vec<Block> {
    let instructions = &code.instructions;
    let targets = |instr: &Instr| -> Vec<usize> {
        match &instr.op {
            Op::Branch { target } => vec![*target as usize],
            Op::Switch { targets, .. } => targets.iter().map(|t| *t as usize).collect(),
            _ => Vec::new(),
        }
    };
    let mut starts = vec![false; instructions.len() + 1];
    starts[0] = true;
    for (i, instr) in instructions.iter().enumerate() {
        if matches!(instr.op, Op::Branch { .. } | Op::Switch { .. } | Op::Exit) {
            starts[i + 1] = true;
            targets(instr).into_iter().for_each(|t| starts[t] = true);
        }
    }
    let starts: Vec<usize> = (0..instructions.len()).filter(|i| starts[*i]).collect();
    let mut block_at = vec![0; instructions.len() + 1];
    starts.iter().enumerate().for_each(|(b, start)| block_at[*start] = b);
    (0..starts.len())
        .map(|b| {
            let end = starts.get(b + 1).copied().unwrap_or(instructions.len());
            let last = &instructions[end - 1];
            let mut next: Vec<usize> = targets(last).into_iter().map(|t| block_at[t]).collect();
            let ends = matches!(last.op, Op::Branch { .. } | Op::Switch { .. } | Op::Exit);
            if end < instructions.len() && (!ends || last.guard != PredSrc::TRUE) {
                next.push(block_at[end]);
            }
            let bits = || Bits::new(registers);
            Block { start: starts[b], end, next, reads: bits(), writes: bits(), alive_in: bits() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::ptx::Module;

    fn rows(body: &str) -> usize {
        let text = format!(
            ".version 9.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p)\n{{\n.reg .b32 %r<200>;\n\
             .reg .b64 %rd<200>;\n.reg .pred %p<9>;\n{body}\nret;\n}}\n"
        );
        Module::parse(&text).expect("the text above").kernels[0].rows()
    }

    #[test]
    fn a_chain_needs_few_rows() {
        let chain: String = (1..199).map(|i| format!("add.u32 %r{}, %r{i}, %r{i};\n", i + 1)).collect();
        assert!(rows(&chain) <= 8, "{}", rows(&chain));
        let wide: String = (1..199).map(|i| format!("add.u64 %rd{}, %rd{i}, %rd{i};\n", i + 1)).collect();
        assert!(rows(&wide) <= 10, "{}", rows(&wide));
    }

    #[test]
    fn what_is_alive_together_stays_apart() {
        let written: String = (0..100).map(|i| format!("mov.u32 %r{i}, %tid.x;\n")).collect();
        let read: String = (0..100).map(|i| format!("st.global.u32 [%rd0], %r{i};\n")).collect();
        let n = rows(&format!("{written}{read}"));
        assert!((100..120).contains(&n), "{n}");
        // Carried around a loop, through a use before the write in the text.
        let body = "mov.u32 %r1, 0;\nmov.u32 %r2, 1;\nL:\nadd.u32 %r3, %r1, %r2;\nmov.u32 %r1, %r3;\nadd.u32 %r4, %r3, 5;\n\
                    mov.u32 %r5, %r4;\nsetp.lt.u32 %p1, %r5, 9;\n@%p1 bra L;\nst.global.u32 [%rd0], %r2;";
        assert!(rows(body) >= 8);
    }
}
