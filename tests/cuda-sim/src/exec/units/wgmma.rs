//! Wgmma as an asynchronous unit of a warpgroup: issued by four warps, run when somebody waits.
//!
//! Operands are read as late as the program allows, which is when a warp waits for the group, so a buffer or register
//! that is reused too early holds the wrong thing. The checks do not depend on that: shared-memory reads are noted when
//! the fourth warp has issued, registers from issue to wait. The hardware completes a wgmma for the warpgroup as a
//! whole, so one warp's wait is enough to reuse the shared memory that all four read.

use std::collections::VecDeque;

use super::violation::{Checked, SharedMemory, Violation};
use crate::check::Kind;
use crate::check::order::{Agent, Common, Operation, Order};
use crate::check::shadow::{Access, Who};
use crate::matrix::Descriptor;
use crate::matrix::wgmma::{Scratch, Wgmma};
use crate::num::warp::Lanes;

/// Where A comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperandA {
    /// Rows of each warp's register file.
    Registers([u32; 4]),
    Shared(Descriptor),
}

/// One `wgmma.mma_async`, as a warp issues it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    pub pc: u32,
    pub form: Wgmma,
    pub a: OperandA,
    pub b: Descriptor,
    /// `scale-d`: D is added to; false starts from zero.
    pub keep: bool,
}

struct Pending {
    issue: Issue,
    d: Box<[u32]>,
    /// Warps that issued it.
    warps: u32,
}

/// Instructions between two commits.
struct Group {
    operation: Operation,
    /// Instructions issued up to its commit; none while it is open.
    end: Option<u64>,
}

/// Counts of instructions and groups since the start.
#[derive(Clone, Copy, Default)]
struct Progress {
    issued: u64,
    committed: u64,
    /// Groups this warp has waited for, and the instructions in them.
    waited: u64,
    done: u64,
    fences: u64,
}

/// One row of a warp's registers.
#[derive(Clone, Copy, Default)]
struct Row {
    /// Instructions issued up to the last that uses the row; it is in flight while that exceeds `done`.
    used: u64,
    /// Fences executed when the row was last written by anything but wgmma.
    written: u64,
    /// The last wgmma uses it as part of D.
    accumulator: bool,
}

/// The wgmma of four warps.
pub struct Warpgroup {
    /// Agent of its first warp.
    first: Agent,
    warps: [Progress; 4],
    rows: [Vec<Row>; 4],
    pending: VecDeque<Pending>,
    /// Instructions run.
    run: u64,
    groups: VecDeque<Group>,
    /// Groups before those.
    retired: u64,
    common: Common,
    /// [`crate::exec::Options::whole_spans`].
    whole_spans: bool,
    scratch: Scratch,
}

impl Warpgroup {
    /// For warps whose register files have `rows` rows.
    pub fn new(first: Agent, rows: usize, whole_spans: bool) -> Warpgroup {
        Warpgroup {
            first,
            warps: [Progress::default(); 4],
            rows: std::array::from_fn(|_| vec![Row::default(); rows]),
            pending: VecDeque::new(),
            run: 0,
            groups: VecDeque::new(),
            retired: 0,
            common: Common::default(),
            whole_spans,
            scratch: Scratch::default(),
        }
    }

    /// `wgmma.fence` by warp 0 to 3.
    pub fn fence(&mut self, warp: usize) {
        self.warps[warp].fences += 1;
    }

    /// A warp issues an instruction into rows `d`.
    ///
    /// # Errors
    /// Registers that need a fence or a wait, four warps that disagree, operands that are out of bounds, racing,
    /// unwritten or unfenced.
    pub fn issue(
        &mut self,
        warp: usize,
        issue: &Issue,
        d: &[u32],
        order: &mut Order,
        shared: &mut SharedMemory,
    ) -> Checked {
        self.use_registers(warp, issue, d)?;
        let progress = &mut self.warps[warp];
        let (index, group) = (progress.issued, progress.committed);
        progress.issued += 1;
        let operation = self.group(group, order).operation;
        let at = (index - self.run) as usize;
        if at == self.pending.len() {
            self.pending.push_back(Pending { issue: issue.clone(), d: d.into(), warps: 0 });
        }
        let pending = &mut self.pending[at];
        if pending.issue != *issue {
            return Err(Violation::new(
                Kind::Divergence,
                format!(
                    "warp {} issues another wgmma, or other operands, than the warps of its warpgroup",
                    self.first as usize + warp
                ),
            ));
        }
        pending.warps |= 1 << warp;
        if pending.warps == 0xf { self.note_operands(issue, operation, order, shared) } else { Ok(()) }
    }

    /// `wgmma.commit_group`.
    ///
    /// # Errors
    /// Warps that disagree about what is in the group.
    pub fn commit(&mut self, warp: usize, order: &mut Order) -> Checked {
        let progress = self.warps[warp];
        let group = self.group(progress.committed, order);
        if *group.end.get_or_insert(progress.issued) != progress.issued {
            return Err(Violation::new(Kind::Divergence, "warps of a warpgroup commit different wgmma in one group"));
        }
        self.warps[warp].committed += 1;
        Ok(())
    }

    /// `wgmma.wait_group keep`: returns whether the warp may go on. `files` are the register files of the four warps.
    ///
    /// # Errors
    /// None of its own today; operands were checked when they were issued.
    pub fn wait(
        &mut self,
        warp: usize,
        keep: u32,
        order: &mut Order,
        shared: &SharedMemory,
        files: [&mut [Lanes]; 4],
    ) -> Checked<bool> {
        let target = self.warps[warp].committed.saturating_sub(keep as u64);
        if target <= self.warps[warp].waited {
            return Ok(true);
        }
        let end = self.groups[(target - self.retired) as usize - 1].end.unwrap_or(0);
        if self.warps.iter().any(|w| w.issued < end) {
            return Ok(false);
        }
        self.run_until(end, shared, files)?;
        for index in self.warps[warp].waited..target {
            order.wait_together(self.first + warp as Agent, self.groups[(index - self.retired) as usize].operation);
        }
        self.warps[warp].waited = target;
        self.warps[warp].done = end;
        let everybody = self.warps.iter().map(|w| w.waited).min().unwrap_or(0);
        while self.retired < everybody {
            self.groups.pop_front();
            self.retired += 1;
        }
        Ok(true)
    }

    /// Another instruction reads or writes a row.
    ///
    /// # Errors
    /// The row is in flight.
    #[inline]
    pub fn touch(&mut self, warp: usize, row: u32, write: bool) -> Checked {
        let progress = self.warps[warp];
        let Some(state) = self.rows[warp].get_mut(row as usize) else { return Ok(()) };
        if state.used > progress.done && (write || state.accumulator) {
            let verb = if write { "writes" } else { "reads" };
            let what = if state.accumulator { "an accumulator" } else { "an operand" };
            return Err(Violation::new(
                Kind::WgmmaRegisters,
                format!("{verb} {what} of a wgmma that was not waited for"),
            ));
        }
        if write {
            state.written = progress.fences;
        }
        Ok(())
    }

    /// The warp ends.
    ///
    /// # Errors
    /// Instructions that nobody waited for.
    pub fn exit(&self, warp: usize) -> Checked {
        let Progress { issued, done, .. } = self.warps[warp];
        match issued > done {
            true => Err(Violation::new(
                Kind::AsyncNotWaited,
                format!("warp ends with {} wgmma not waited for", issued - done),
            )),
            false => Ok(()),
        }
    }

    /// Why a warp that waits cannot go on.
    pub fn describe(&self) -> String {
        let behind: Vec<String> = (0..4)
            .filter(|w| self.warps[*w].issued < self.warps.iter().map(|w| w.issued).max().unwrap_or(0))
            .map(|w| (self.first as usize + w).to_string())
            .collect();
        format!("wgmma waits for warps {} of the warpgroup to issue it", behind.join(", "))
    }

    /// The group with this index, begun if it is the next.
    fn group(&mut self, index: u64, order: &mut Order) -> &mut Group {
        let at = (index - self.retired) as usize;
        if at == self.groups.len() {
            self.groups.push_back(Group { operation: order.begin(), end: None });
        }
        &mut self.groups[at]
    }

    /// Checks the rows an instruction uses and marks them in flight.
    fn use_registers(&mut self, warp: usize, issue: &Issue, d: &[u32]) -> Checked {
        let progress = self.warps[warp];
        let rows = &mut self.rows[warp];
        let a: &[u32] = if let OperandA::Registers(a) = &issue.a { a } else { &[] };
        for (row, accumulator) in d.iter().map(|r| (*r, true)).chain(a.iter().map(|r| (*r, false))) {
            let state = &mut rows[row as usize];
            if state.written >= progress.fences {
                let text = match progress.fences {
                    0 => "no wgmma.fence before the first wgmma".to_string(),
                    _ => "a register of wgmma was written after the last wgmma.fence".to_string(),
                };
                return Err(Violation::new(Kind::WgmmaFence, text));
            }
            // In flight already: D may be added to by the next of the same shape, and A may be read again.
            if state.used > progress.done && state.accumulator != accumulator {
                let text = "a register is accumulator of one wgmma and operand A of another that is in flight";
                return Err(Violation::new(Kind::WgmmaRegisters, text));
            }
            *state = Row { used: progress.issued + 1, accumulator, ..*state };
        }
        Ok(())
    }

    /// Notes the reads of both operands, ordered after what all four warps know.
    fn note_operands(
        &mut self,
        issue: &Issue,
        operation: Operation,
        order: &Order,
        shared: &mut SharedMemory,
    ) -> Checked {
        order.common(self.first, 4, &mut self.common);
        let mut access = Access::group(&self.common, operation, issue.pc);
        for operand_b in [false, true] {
            let name = if operand_b { "wgmma operand B" } else { "wgmma operand A" };
            match (operand_b, issue.a) {
                (true, _) => issue.form.pieces_b(issue.b, self.whole_spans, &mut self.scratch),
                (false, OperandA::Shared(a)) => issue.form.pieces_a(a, &mut self.scratch),
                (false, OperandA::Registers(_)) => continue,
            }
            for &at in &self.scratch.pieces {
                shared.check(at, 16, name)?;
                let noted = shared.shadow.read(&mut access, at, 16, Who::WARP);
                noted.map_err(|clash| Violation::clash(clash, name, order))?;
            }
        }
        Ok(())
    }

    fn run_until(&mut self, end: u64, shared: &SharedMemory, mut files: [&mut [Lanes]; 4]) -> Checked {
        while self.run < end {
            let Some(Pending { issue, d, .. }) = self.pending.pop_front() else { break };
            self.run += 1;
            let (form, scratch) = (&issue.form, &mut self.scratch);
            let past =
                |at| Violation::new(Kind::OutOfBounds, format!("wgmma operand at shared address {at:#x}")).at(issue.pc);
            match issue.a {
                OperandA::Shared(a) => {
                    form.pieces_a(a, scratch);
                    form.load_a(shared.bytes, scratch).map_err(past)?;
                }
                OperandA::Registers(rows) => {
                    for (warp, file) in files.iter().enumerate() {
                        form.take_a(warp, rows.map(|r| &file[r as usize]), scratch);
                    }
                }
            }
            form.pieces_b(issue.b, self.whole_spans, scratch);
            form.load_b(shared.bytes, scratch).map_err(past)?;
            for (warp, file) in files.iter_mut().enumerate() {
                form.multiply(warp, issue.keep, scratch, file, &d);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "wgmma_tests.rs"]
mod tests;
