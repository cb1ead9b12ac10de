//! `ldmatrix`, `stmatrix`, `movmatrix` and `mma.sync`.

use super::access::addresses;
use super::machine::{At, Fault, Flow, Machine};
use super::registers::{Lanes, WideLanes};
use super::run;
use super::shared;
use crate::check::Kind;
use crate::check::order::Agent;
use crate::check::shadow::{self, Who};
use crate::matrix::ldmatrix;
use crate::ptx::instruction::{MatrixAccess, Mma, Reg};

/// Bytes of a row of 8 elements.
const ROW: usize = 16;

/// Lane, block and offset of every row, matrix by matrix.
struct Rows {
    places: [(usize, usize, usize); 32],
    count: usize,
}

impl Rows {
    fn of(m: &Machine, at: &At, access: &MatrixAccess) -> Result<Self, Fault> {
        let addresses = addresses(m, at.warp, &access.addr);
        let mut rows = Self { places: [(0, 0, 0); 32], count: access.regs.len() * 8 };
        for i in 0..rows.count {
            let lane = ldmatrix::address_lane(i / 8, i % 8);
            let address = addresses[lane];
            if !address.is_multiple_of(ROW as u64) {
                let text = format!("row {} of matrix {} at {address:#x}, no multiple of {ROW}", i % 8, i / 8);
                return Err(Fault::lane(Kind::Misaligned, lane, text));
            }
            let (block, offset) = shared::place(m, at, lane, address, ROW)?;
            rows.places[i] = (lane, block, offset);
        }
        Ok(rows)
    }

    fn each(&self) -> &[(usize, usize, usize)] {
        &self.places[..self.count]
    }

    /// Notes all rows in the shadow.
    fn note(&self, m: &mut Machine, at: &At, write: bool) -> Result<(), Fault> {
        let mut access = shadow::Access::warp(&m.order, at.warp as Agent, at.pc);
        for &(lane, block, offset) in self.each() {
            let shadow = &mut m.blocks[block].shadow;
            let result = match write {
                true => shadow.write(&mut access, offset as u32, ROW as u32, Who::Mask(1 << lane)),
                false => shadow.read(&mut access, offset as u32, ROW as u32, Who::Mask(1 << lane)),
            };
            if let Err(clash) = result {
                return Err(shared::clash(m, Some(lane), block, clash, write));
            }
        }
        if m.launch.options.stats {
            self.count(m, write);
        }
        Ok(())
    }

    /// Bytes and bank conflicts: the eight rows of a matrix are one wavefront if their 16-byte columns differ.
    fn count(&self, m: &mut Machine, write: bool) {
        for matrix in self.each().chunks_exact(8) {
            let mut columns = [0u64; 8];
            for &(_, _, offset) in matrix {
                columns[offset / ROW % 8] += 1;
            }
            m.stats.bank_conflicts += columns.into_iter().max().unwrap_or(1) - 1;
        }
        let bytes = (self.count * ROW) as u64;
        *(if write { &mut m.stats.shared_write_bytes } else { &mut m.stats.shared_read_bytes }) += bytes;
    }
}

pub fn load(m: &mut Machine, at: &At, access: &MatrixAccess) -> Result<Flow, Fault> {
    if !run::all_lanes(m, at) {
        return Ok(run::wait_aligned(m, at));
    }
    let rows = Rows::of(m, at, access)?;
    rows.note(m, at, false)?;
    let mut matrix = [[0; ROW]; 8];
    for (places, r) in rows.each().chunks_exact(8).zip(&access.regs) {
        for (row, &(_, block, offset)) in matrix.iter_mut().zip(places) {
            row.copy_from_slice(&m.blocks[block].shared[offset..offset + ROW]);
        }
        m.warps[at.warp].registers.store(*r, &ldmatrix::load(&matrix, access.transpose), at.mask);
    }
    Ok(Flow::Next)
}

pub fn store(m: &mut Machine, at: &At, access: &MatrixAccess) -> Result<Flow, Fault> {
    if !run::all_lanes(m, at) {
        return Ok(run::wait_aligned(m, at));
    }
    let rows = Rows::of(m, at, access)?;
    rows.note(m, at, true)?;
    for (places, r) in rows.each().chunks_exact(8).zip(&access.regs) {
        let values = ldmatrix::store(m.warps[at.warp].registers.row(*r), access.transpose);
        for (row, &(_, block, offset)) in values.iter().zip(places) {
            m.blocks[block].shared[offset..offset + ROW].copy_from_slice(row);
        }
    }
    Ok(Flow::Next)
}

pub fn transpose(m: &mut Machine, at: &At, d: Reg, a: Reg) -> Result<Flow, Fault> {
    if !run::all_lanes(m, at) {
        return Ok(run::wait_aligned(m, at));
    }
    let registers = &mut m.warps[at.warp].registers;
    let values = ldmatrix::transpose(registers.row(a));
    registers.store(d, &values, at.mask);
    m.order.sync(at.warp as Agent, at.mask);
    Ok(Flow::Next)
}

pub fn mma(m: &mut Machine, at: &At, op: &Mma) -> Result<Flow, Fault> {
    if !run::all_lanes(m, at) {
        return Ok(run::wait_aligned(m, at));
    }
    m.stats.mma += 1;
    m.order.sync(at.warp as Agent, at.mask);
    let registers = &mut m.warps[at.warp].registers;
    if op.form.is_f64() {
        let fetch = |regs: &[Reg]| -> Vec<WideLanes> { regs.iter().map(|r| *registers.wide(*r)).collect() };
        let (a, b, c) = (fetch(&op.a), fetch(&op.b), fetch(&op.c));
        let mut d = c.clone();
        op.form.run_f64(&a, &b, &c, &mut d);
        for (r, values) in op.d.iter().zip(&d) {
            registers.store_wide(*r, values, at.mask);
        }
        return Ok(Flow::Next);
    }
    // No shape has more than 4 registers of an operand or 4 of the accumulator.
    let mut operands = [[[0u32; 32]; 4]; 3];
    for (rows, regs) in operands.iter_mut().zip([&op.a, &op.b, &op.c]) {
        for (row, r) in rows.iter_mut().zip(regs.iter()) {
            *row = *registers.row(*r);
        }
    }
    let [a, b, c] = &operands;
    let mut d: [Lanes; 4] = [[0; 32]; 4];
    let fp8 = m.launch.device.fp8_mma();
    op.form.run(fp8, &a[..op.a.len()], &b[..op.b.len()], &c[..op.c.len()], &mut d[..op.d.len()]);
    for (r, values) in op.d.iter().zip(&d) {
        registers.store(*r, values, at.mask);
    }
    Ok(Flow::Next)
}
