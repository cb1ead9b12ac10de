//! Constant rows, clocks, carries, packing, and arithmetic on addresses.

use super::machine::{At, Fault, Flow, Machine};
use super::registers::{Lanes, WideLanes, lanes};
use super::run::set_predicate;
use crate::check::Kind;
use crate::ptx::instruction::{CarryOp, Clock, Constant, Op, PRED_CARRY, Reg, Space, Special};
use crate::ptx::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_START, SHARED_WINDOW};

/// Writes immediates, addresses and special registers into their rows.
pub fn fill_constants(m: &mut Machine, w: usize) {
    let code = m.code;
    for constant in &code.constants {
        let mut values: WideLanes = [0; 32];
        match constant.value {
            Constant::Bits(bits) => values = [bits; 32],
            // The driver links a module before it launches; unlinked addresses are null.
            Constant::Global { .. } => {}
            Constant::Special(special) => {
                for (l, value) in values.iter_mut().enumerate() {
                    *value = u64::from(special_value(m, w, l as u32, special));
                }
            }
        }
        let registers = &mut m.warps[w].registers;
        if constant.wide {
            *registers.wide_mut(constant.row) = values;
        } else {
            *registers.row_mut(constant.row) = values.map(|v| v as u32);
        }
    }
}

fn special_value(m: &Machine, w: usize, lane: u32, special: Special) -> u32 {
    let warp = &m.warps[w];
    let launch = m.launch;
    let thread = warp.in_block * 32 + lane;
    let [bx, by, _] = launch.block;
    let index = m.blocks[warp.block].index;
    let [cx, cy, cz] = m.cluster;
    let axis = |v: [u32; 3], i: u8| v[i as usize];
    let dynamic = launch.dynamic_shared;
    match special {
        Special::Tid(i) => axis([thread % bx, thread / bx % by, thread / (bx * by)], i),
        Special::Ntid(i) => axis(launch.block, i),
        Special::Ctaid(i) => axis(index, i),
        Special::Nctaid(i) => axis(launch.grid, i),
        Special::Laneid => lane,
        Special::Warpid => warp.in_block,
        Special::Nwarpid => m.blocks[warp.block].warps.len() as u32,
        Special::Smid => (index[0] + index[1] * launch.grid[0]) % launch.device.sms,
        Special::Nsmid => launch.device.sms,
        Special::Gridid => 1,
        Special::LanemaskEq => 1 << lane,
        Special::LanemaskLt => (1 << lane) - 1,
        Special::LanemaskLe => ((1u64 << (lane + 1)) - 1) as u32,
        Special::LanemaskGe => !((1 << lane) - 1),
        Special::LanemaskGt => !((1u64 << (lane + 1)) - 1) as u32,
        Special::Clusterid(i) => axis(index, i) / axis(m.cluster, i),
        Special::Nclusterid(i) => axis(launch.grid, i) / axis(m.cluster, i),
        Special::ClusterCtaid(i) => axis(index, i) % axis(m.cluster, i),
        Special::ClusterNctaid(i) => axis(m.cluster, i),
        Special::ClusterCtarank => warp.block as u32,
        Special::ClusterNctarank => cx * cy * cz,
        Special::DynamicSharedSize => dynamic,
        Special::TotalSharedSize => SHARED_START as u32 + launch.kernel.static_shared as u32 + dynamic,
    }
}

pub fn run(m: &mut Machine, at: &At, op: &Op) {
    match op {
        Op::Carry { op, wide, d, a, b, c, carry_in, carry_out } => {
            carry(m, at, (*op, *wide), [*d, *a, *b, *c], *carry_in, *carry_out);
        }
        Op::Pack { wide, bits, d, parts } => {
            let mut out: WideLanes = [0; 32];
            let g = &mut m.warps[at.warp].registers;
            for (i, part) in parts.iter().enumerate() {
                let row = g.row(*part);
                let keep = u32::MAX >> (32 - bits);
                for (o, v) in out.iter_mut().zip(row) {
                    *o |= u64::from(v & keep) << (i * *bits as usize);
                }
            }
            if *wide {
                g.store_wide(*d, &out, at.mask);
            } else {
                g.store(*d, &out.map(|v| v as u32), at.mask);
            }
        }
        Op::Unpack { wide, bits, a, parts } => {
            let g = &mut m.warps[at.warp].registers;
            let values: WideLanes = if *wide { *g.wide(*a) } else { g.row(*a).map(u64::from) };
            for (i, part) in parts.iter().enumerate() {
                let keep = u32::MAX >> (32 - bits);
                let row: Lanes = values.map(|v| (v >> (i * *bits as usize)) as u32 & keep);
                g.store(*part, &row, at.mask);
            }
        }
        Op::Clock { which, d } => {
            let warp = &mut m.warps[at.warp];
            // Every look sees time pass.
            warp.cycles += 1;
            let value = warp.cycles;
            match which {
                Clock::Cycles64 | Clock::Globaltimer => warp.registers.store_wide(*d, &[value; 32], at.mask),
                Clock::Cycles | Clock::GlobaltimerLo => warp.registers.store(*d, &[value as u32; 32], at.mask),
                Clock::CyclesHi | Clock::GlobaltimerHi => {
                    warp.registers.store(*d, &[(value >> 32) as u32; 32], at.mask);
                }
            }
        }
        _ => unreachable!("routed by `run::execute`"),
    }
}

/// Arithmetic with the carry flag. A borrow is a carry too, as in PTX.
fn carry(
    m: &mut Machine,
    at: &At,
    (op, wide): (CarryOp, bool),
    [d, a, b, c]: [Reg; 4],
    carry_in: bool,
    carry_out: bool,
) {
    let warp = &mut m.warps[at.warp];
    let bits = if wide { 64 } else { 32 };
    let low = u128::MAX >> (128 - bits);
    let flag = if carry_in { warp.predicates[PRED_CARRY as usize] } else { 0 };
    let row =
        |r: Reg| -> WideLanes { if wide { *warp.registers.wide(r) } else { warp.registers.row(r).map(u64::from) } };
    let (x, y) = (row(a), row(b));
    let z = match op {
        CarryOp::Add | CarryOp::Sub => [0; 32],
        _ => row(c),
    };
    let mut out: WideLanes = [0; 32];
    let mut carries = 0;
    for l in 0..32 {
        let (x, y, z, flag) = (u128::from(x[l]), u128::from(y[l]), u128::from(z[l]), u128::from(flag >> l & 1));
        let sum = match op {
            CarryOp::Add => x + y + flag,
            CarryOp::Sub => x.wrapping_sub(y).wrapping_sub(flag),
            CarryOp::MadLo => ((x * y) & low) + z + flag,
            CarryOp::MadHi => ((x * y) >> bits) + z + flag,
            CarryOp::MadHiSigned => {
                let signed = |v: u128| ((v as i128) << (128 - bits)) >> (128 - bits);
                ((signed(x) * signed(y)) as u128 >> bits & low) + z + flag
            }
        };
        out[l] = (sum & low) as u64;
        carries |= ((sum >> bits & 1) as u32) << l;
    }
    if wide {
        warp.registers.store_wide(d, &out, at.mask);
    } else {
        warp.registers.store(d, &out.map(|v| v as u32), at.mask);
    }
    if carry_out {
        set_predicate(&mut warp.predicates, PRED_CARRY, carries, at.mask);
    }
}

/// Which block of the cluster a shared address means; its own prefix is 0.
pub fn block_of(m: &Machine, at: &At, address: u32) -> Option<usize> {
    match address >> 24 {
        0 => Some(at.block),
        rank if rank as usize <= m.blocks.len() => Some(rank as usize - 1),
        _ => None,
    }
}

/// `isspacep`, `mapa`, `getctarank`.
pub fn address(m: &mut Machine, at: &At, op: &Op) -> Result<Flow, Fault> {
    match op {
        Op::IsSpace { p, a, space, own_block } => {
            let rows = *m.warps[at.warp].registers.wide(*a);
            let mut truth = 0;
            for l in lanes(at.mask) {
                let window = rows[l] >> 32;
                let inside = match space {
                    Space::Shared => {
                        window == SHARED_WINDOW && (!own_block || block_of(m, at, rows[l] as u32) == Some(at.block))
                    }
                    Space::Local => window == LOCAL_WINDOW,
                    Space::Param => window == PARAM_WINDOW,
                    _ => !matches!(window, SHARED_WINDOW | LOCAL_WINDOW | PARAM_WINDOW),
                };
                truth |= u32::from(inside) << l;
            }
            set_predicate(&mut m.warps[at.warp].predicates, *p, truth, at.mask);
        }
        Op::MapA { wide, generic, d, a, rank } => {
            let g = &m.warps[at.warp].registers;
            let ranks = *g.row(*rank);
            let addresses: WideLanes = if *wide { *g.wide(*a) } else { g.row(*a).map(u64::from) };
            let mut out: WideLanes = [0; 32];
            for l in lanes(at.mask) {
                if ranks[l] as usize >= m.blocks.len() {
                    let text = format!("mapa to block {} of a cluster of {}", ranks[l], m.blocks.len());
                    return Err(Fault::lane(Kind::Cluster, l, text));
                }
                if *generic && addresses[l] >> 32 != SHARED_WINDOW {
                    let text = format!("mapa of {:#x}, which is no shared address", addresses[l]);
                    return Err(Fault::lane(Kind::InvalidOperand, l, text));
                }
                out[l] = addresses[l] & !0xff00_0000 | u64::from(ranks[l] + 1) << 24;
            }
            let g = &mut m.warps[at.warp].registers;
            if *wide {
                g.store_wide(*d, &out, at.mask);
            } else {
                g.store(*d, &out.map(|v| v as u32), at.mask);
            }
        }
        Op::CtaRank { wide, d, a } => {
            let g = &m.warps[at.warp].registers;
            let addresses: WideLanes = if *wide { *g.wide(*a) } else { g.row(*a).map(u64::from) };
            let mut out: Lanes = [0; 32];
            for l in lanes(at.mask) {
                match block_of(m, at, addresses[l] as u32) {
                    Some(rank) => out[l] = rank as u32,
                    None => return Err(Fault::lane(Kind::Cluster, l, "getctarank of no shared address")),
                }
            }
            m.warps[at.warp].registers.store(*d, &out, at.mask);
        }
        _ => unreachable!("routed by `run::execute`"),
    }
    Ok(Flow::Next)
}
