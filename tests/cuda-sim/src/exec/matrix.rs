//! `ldmatrix`, `stmatrix`, `movmatrix` and `mma.sync`.

use super::access::addresses;
use super::machine::{At, Fault, Flow, Machine};
use super::registers::{Lanes, WideLanes};
use super::run;
use super::shared;
use crate::check::Kind;
use crate::matrix::ldmatrix;
use crate::ptx::instruction::{MatrixAccess, Mma, Reg};

/// Bytes of a row of 8 elements.
const ROW: usize = 16;

/// Block and offset of every row of every matrix.
fn rows(m: &Machine, at: &At, access: &MatrixAccess) -> Result<Vec<(usize, (usize, usize))>, Fault> {
    let addresses = addresses(m, at.warp, &access.addr);
    (0..access.regs.len() * 8)
        .map(|i| {
            let lane = ldmatrix::address_lane(i / 8, i % 8);
            let address = addresses[lane];
            if address % ROW as u64 != 0 {
                let text = format!("row {} of matrix {} at {address:#x}, no multiple of {ROW}", i % 8, i / 8);
                return Err(Fault::lane(Kind::Misaligned, lane, text));
            }
            Ok((lane, shared::place(m, at, lane, address, ROW)?))
        })
        .collect()
}

pub fn load(m: &mut Machine, at: &At, access: &MatrixAccess) -> Result<Flow, Fault> {
    if !run::all_lanes(m, at) {
        return Ok(run::wait_aligned(m, at));
    }
    let places = rows(m, at, access)?;
    let mut matrix = [[0; ROW]; 8];
    for (i, &(lane, place)) in places.iter().enumerate() {
        shared::note(m, at, Some(lane), place, ROW, false, false)?;
        matrix[i % 8].copy_from_slice(&m.blocks[place.0].shared[place.1..place.1 + ROW]);
        if i % 8 == 7 {
            let values = ldmatrix::load(&matrix, access.transpose);
            m.warps[at.warp].registers.store(access.regs[i / 8], &values, at.mask);
        }
    }
    count(m, &places, false);
    Ok(Flow::Next)
}

pub fn store(m: &mut Machine, at: &At, access: &MatrixAccess) -> Result<Flow, Fault> {
    if !run::all_lanes(m, at) {
        return Ok(run::wait_aligned(m, at));
    }
    let places = rows(m, at, access)?;
    for (matrix, places) in places.chunks_exact(8).enumerate() {
        let values = ldmatrix::store(m.warps[at.warp].registers.row(access.regs[matrix]), access.transpose);
        for (row, &(lane, place)) in values.iter().zip(places) {
            shared::note(m, at, Some(lane), place, ROW, true, false)?;
            m.blocks[place.0].shared[place.1..place.1 + ROW].copy_from_slice(row);
        }
    }
    count(m, &places, true);
    Ok(Flow::Next)
}

/// Bytes and bank conflicts: the eight rows of a matrix are one wavefront if their 16-byte columns differ.
fn count(m: &mut Machine, places: &[(usize, (usize, usize))], write: bool) {
    if !m.launch.options.stats {
        return;
    }
    for matrix in places.chunks_exact(8) {
        let mut columns = [0u64; 8];
        for &(_, (_, offset)) in matrix {
            columns[offset / ROW % 8] += 1;
        }
        m.stats.bank_conflicts += columns.into_iter().max().unwrap_or(1) - 1;
    }
    let bytes = (places.len() * ROW) as u64;
    *(if write { &mut m.stats.shared_write_bytes } else { &mut m.stats.shared_read_bytes }) += bytes;
}

pub fn transpose(m: &mut Machine, at: &At, d: Reg, a: Reg) -> Result<Flow, Fault> {
    if !run::all_lanes(m, at) {
        return Ok(run::wait_aligned(m, at));
    }
    let registers = &mut m.warps[at.warp].registers;
    let values = ldmatrix::transpose(registers.row(a));
    registers.store(d, &values, at.mask);
    Ok(Flow::Next)
}

pub fn mma(m: &mut Machine, at: &At, op: &Mma) -> Result<Flow, Fault> {
    if !run::all_lanes(m, at) {
        return Ok(run::wait_aligned(m, at));
    }
    m.stats.mma += 1;
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
    op.form.run(&a[..op.a.len()], &b[..op.b.len()], &c[..op.c.len()], &mut d[..op.d.len()]);
    for (r, values) in op.d.iter().zip(&d) {
        registers.store(*r, values, at.mask);
    }
    Ok(Flow::Next)
}
