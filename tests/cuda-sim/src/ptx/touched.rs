//! Which instructions touch the registers of wgmma.

use std::collections::HashSet;

use super::instruction::{Op, Reg};
use super::module::Code;
use super::visit::Role;

/// A row, and whether the instruction writes it.
pub type Touch = (Reg, bool);

impl Code {
    /// Rows that the instruction at `pc` reads or writes and that some wgmma of the kernel uses; none for wgmma itself.
    #[inline]
    pub fn wgmma_registers(&self, pc: u32) -> &[Touch] {
        &self.touched.get_or_init(|| self.find_touched())[pc as usize]
    }

    fn find_touched(&self) -> Vec<Box<[Touch]>> {
        let operands = |op: &Op| {
            let mut operands = vec![];
            op.clone().visit(&mut |row, role| operands.push((*row, role)));
            operands
        };
        let mut held = HashSet::new();
        for instr in &self.instructions {
            held.extend(operands(&instr.op).into_iter().filter(|o| o.1 == Role::Held).map(|o| o.0));
        }
        let touched = |op: &Op| -> Box<[Touch]> {
            if matches!(op, Op::Wgmma(_)) {
                return Box::default();
            }
            let mine = operands(op).into_iter().filter(|o| held.contains(&o.0));
            mine.map(|(row, role)| (row, role == Role::Destination)).collect()
        };
        self.instructions.iter().map(|instr| touched(&instr.op)).collect()
    }
}
