//! The copy instructions: `cp.async`, `cp.async.bulk`, `cp.async.bulk.tensor` and their groups.

use super::barriers::targets;
use super::flights::LaneCopy;
use super::global::{Global, TensorBox};
use super::*;
use crate::check::Kind;
use crate::exec::access::{addresses, count_global, count_shared};
use crate::exec::run::predicate;
use crate::exec::shared::place;
use crate::memory::{AtomicOp, AtomicType, Update};
use crate::ptx::instruction::{Addr, BulkCopy, CpAsync, RemoteStore, Space, TensorCopy, TensorKind};
use crate::ptx::{PARAM_WINDOW, SHARED_WINDOW};
use crate::tensor::{DataType, TensorMap};

pub(super) fn cp_async(m: &mut Machine, at: &At, copy: &CpAsync) -> Result<Flow, Fault> {
    let (to, from) = (addresses(m, at.warp, &copy.dst), addresses(m, at.warp, &copy.src));
    let ignored = copy.ignore_src.map_or(0, |p| predicate(m, at.warp, p));
    let bytes = u32::from(copy.bytes);
    let mut parts = Vec::with_capacity(32);
    for l in lanes(at.mask) {
        let read = match copy.src_bytes {
            _ if ignored >> l & 1 == 1 => 0,
            Some(row) => m.warps[at.warp].registers.row(row)[l],
            None => bytes,
        };
        if read > bytes {
            let text = format!("cp.async reads {read} of {bytes} bytes");
            return Err(Fault::lane(Kind::InvalidOperand, l, text));
        }
        let (block, offset) = place(m, at, l, to[l], usize::from(copy.bytes))?;
        if block != at.block {
            return Err(Fault::lane(Kind::Cluster, l, "cp.async into another block's shared memory"));
        }
        parts.push(LaneCopy { lane: l as u32, to: offset as u32, from: from[l], bytes, read });
    }
    if m.launch.options.stats {
        // Lanes that fill with zeros alone read nothing.
        let reading =
            lanes(at.mask).zip(&parts).filter(|(_, part)| part.read > 0).fold(0, |mask, (l, _)| mask | 1 << l);
        count_global(m, reading, &from, usize::from(copy.bytes), false);
        count_shared(m, at.mask, &to, usize::from(copy.bytes), true);
    }
    let (flights, mut s) = surroundings(m);
    flights.copy(&mut s, operator(at), at.block, parts.into()).map_err(|v| fault(m, None, v))?;
    issued(m)
}

pub(super) fn arrive(m: &mut Machine, at: &At, addr: &Addr, noinc: bool) -> Result<Flow, Fault> {
    let targets = targets(m, at, addr)?;
    // Lanes that name the same mbarrier arrive together.
    let mut rest = at.mask;
    while rest != 0 {
        let target = targets[rest.trailing_zeros() as usize];
        let group = lanes(rest).filter(|l| targets[*l] == target).fold(0u32, |group, l| group | 1 << l);
        rest &= !group;
        let by = Operator { lanes: group, ..operator(at) };
        let (flights, mut s) = surroundings(m);
        let (block, offset) = target;
        let done = flights.arrive_after_copies(&mut s, by, block, offset, group.count_ones(), noinc);
        done.map_err(|v| fault(m, Some(group.trailing_zeros() as usize), v))?;
    }
    issued(m)
}

pub(super) fn commit(m: &mut Machine, at: &At, kind: GroupKind) -> Result<Flow, Fault> {
    m.units.flights.commit(&mut m.order, at.warp as Agent, kind);
    Ok(Flow::Next)
}

pub(super) fn wait(m: &mut Machine, at: &At, kind: GroupKind, keep: Option<u32>, reads: bool) -> Result<Flow, Fault> {
    let (flights, mut s) = surroundings(m);
    let done = match keep {
        Some(keep) => flights.wait(&mut s, operator(at), kind, keep, reads),
        None => flights.wait_all(&mut s, operator(at)),
    };
    done.map_err(|v| fault(m, None, v))?;
    moved(m);
    Ok(Flow::Next)
}

pub(super) fn bulk(m: &mut Machine, at: &At, copy: &BulkCopy) -> Result<Flow, Fault> {
    let (to, from) = (addresses(m, at.warp, &copy.dst), addresses(m, at.warp, &copy.src));
    let mbarrier = copy.mbarrier.as_ref().map(|addr| addresses(m, at.warp, addr));
    for l in lanes(at.mask) {
        let bytes = m.warps[at.warp].registers.row(copy.bytes)[l];
        let by = Operator { lanes: 1 << l, ..operator(at) };
        let shared = |m: &Machine, address: u64| shared_place(m, at, l, address);
        let done = match (copy.dst.space, copy.src.space) {
            (Space::Shared, Space::Global) => {
                let (block, offset) = shared(m, to[l])?;
                let signal = shared(m, mbarrier.map_or(0, |a| a[l]))?;
                let blocks = destinations(m, l, copy.multicast, block, signal.0, at)?;
                let (flights, mut s) = surroundings(m);
                flights.load(&mut s, by, at.block, Global::Range { at: from[l], bytes }, [offset, blocks, signal.1])
            }
            (Space::Shared, Space::Shared) => {
                let (block, offset) = shared(m, to[l])?;
                let signal = shared(m, mbarrier.map_or(0, |a| a[l]))?;
                if signal.0 != block {
                    return Err(Fault::lane(Kind::InvalidOperand, l, "mbarrier and destination in different blocks"));
                }
                let (own, from) = shared(m, from[l])?;
                if own != at.block {
                    return Err(Fault::lane(Kind::InvalidOperand, l, "bulk copy from another block's shared memory"));
                }
                let (flights, mut s) = surroundings(m);
                flights.forward(&mut s, by, at.block, from, [block as u32, offset, signal.1], bytes, copy.reduce)
            }
            (Space::Global, Space::Shared) => {
                let (own, from) = shared(m, from[l])?;
                if own != at.block {
                    return Err(Fault::lane(Kind::InvalidOperand, l, "bulk copy from another block's shared memory"));
                }
                let (flights, mut s) = surroundings(m);
                flights.store(&mut s, by, at.block, from, Global::Range { at: to[l], bytes }, copy.reduce)
            }
            other => return Err(Fault::lane(Kind::Unsupported, l, format!("bulk copy between {other:?}"))),
        };
        done.map_err(|v| fault(m, Some(l), v))?;
        m.stats.bulk_bytes += u64::from(bytes);
    }
    issued(m)
}

pub(super) fn remote(m: &mut Machine, at: &At, store: &RemoteStore) -> Result<Flow, Fault> {
    let (to, mbarrier) = (addresses(m, at.warp, &store.to), addresses(m, at.warp, &store.mbarrier));
    for l in lanes(at.mask) {
        let (block, offset) = shared_place(m, at, l, to[l])?;
        let signal = shared_place(m, at, l, mbarrier[l])?;
        if signal.0 != block {
            return Err(Fault::lane(Kind::InvalidOperand, l, "mbarrier and destination in different blocks"));
        }
        let registers = &m.warps[at.warp].registers;
        let element = |r: &u32| match store.bytes {
            8 => registers.wide(*r)[l].to_le_bytes().to_vec(),
            _ => registers.row(*r)[l].to_le_bytes().to_vec(),
        };
        let data = store.src.iter().flat_map(element).collect();
        let by = Operator { lanes: 1 << l, ..operator(at) };
        let (flights, mut s) = surroundings(m);
        let place = [block as u32, offset, signal.1];
        flights.remote(&mut s, by, at.block, place, data, store.update).map_err(|v| fault(m, Some(l), v))?;
    }
    issued(m)
}

pub(super) fn tensor(m: &mut Machine, at: &At, copy: &TensorCopy) -> Result<Flow, Fault> {
    if copy.kind == TensorKind::Prefetch {
        return Ok(Flow::Next);
    }
    let (shared, maps) = (addresses(m, at.warp, &copy.shared), addresses(m, at.warp, &copy.map));
    let mbarrier = copy.mbarrier.as_ref().map(|addr| addresses(m, at.warp, addr));
    for l in lanes(at.mask) {
        let map = tensor_map(m, l, maps[l])?;
        if map.rank() != copy.coordinates.len() || map.is_im2col() != copy.im2col {
            let mode = |im2col: bool| if im2col { "im2col" } else { "tiled" };
            let text = format!(
                "{} copy of rank {} with a {} tensor map of rank {}",
                mode(copy.im2col),
                copy.coordinates.len(),
                mode(map.is_im2col()),
                map.rank()
            );
            return Err(Fault::lane(Kind::InvalidOperand, l, text));
        }
        let registers = &m.warps[at.warp].registers;
        let coordinates = copy.coordinates.iter().map(|r| registers.row(*r)[l] as i32).collect();
        let offsets = copy.offsets.iter().map(|r| registers.row(*r)[l] as u16).collect();
        let bytes = map.box_bytes();
        let global = Global::Tensor(Box::new(TensorBox { map, coordinates, offsets }));
        let (block, offset) = shared_place(m, at, l, shared[l])?;
        let by = Operator { lanes: 1 << l, ..operator(at) };
        let done = match copy.kind {
            TensorKind::Load => {
                let signal = shared_place(m, at, l, mbarrier.map_or(0, |a| a[l]))?;
                let blocks = destinations(m, l, copy.multicast, block, signal.0, at)?;
                let (flights, mut s) = surroundings(m);
                flights.load(&mut s, by, at.block, global, [offset, blocks, signal.1])
            }
            TensorKind::Store | TensorKind::Reduce(_) => {
                if block != at.block {
                    return Err(Fault::lane(Kind::InvalidOperand, l, "tensor copy from another block's shared memory"));
                }
                let reduce = match copy.kind {
                    TensorKind::Reduce(op) => Some(
                        reduction(op, map.data_type()).map_err(|text| Fault::lane(Kind::InvalidOperand, l, text))?,
                    ),
                    _ => None,
                };
                let (flights, mut s) = surroundings(m);
                flights.store(&mut s, by, at.block, offset, global, reduce)
            }
            TensorKind::Prefetch => Ok(()),
        };
        done.map_err(|v| fault(m, Some(l), v))?;
        m.stats.bulk_bytes += u64::from(bytes);
    }
    issued(m)
}

/// After a copy was issued: it may land at once, if copies are not to be late.
fn issued(m: &mut Machine) -> Result<Flow, Fault> {
    while !m.launch.options.late_copies && m.units.flights.in_flight() > 0 {
        land_one(m, 0).map_err(|(_, _, fault)| fault)?;
    }
    m.units.timeouts = 0;
    Ok(Flow::Next)
}

/// Block and offset of a shared address; sizes are checked by the copy.
fn shared_place(m: &Machine, at: &At, lane: usize, address: u64) -> Result<(usize, u32), Fault> {
    let address = if address >> 32 == SHARED_WINDOW { address & 0xffff_ffff } else { address };
    let (block, offset) = place(m, at, lane, address, 1)?;
    Ok((block, offset as u32))
}

/// The blocks a load goes to. Without multicast it is the block of the destination, whose mbarrier must be its own.
fn destinations(
    m: &Machine,
    lane: usize,
    multicast: Option<u32>,
    block: usize,
    signal: usize,
    at: &At,
) -> Result<u32, Fault> {
    match multicast {
        Some(row) => Ok(m.warps[at.warp].registers.row(row)[lane] & 0xffff),
        None if signal != block => {
            Err(Fault::lane(Kind::InvalidOperand, lane, "mbarrier and destination in different blocks"))
        }
        None => Ok(1 << block),
    }
}

/// The tensor map at a generic address.
fn tensor_map(m: &mut Machine, lane: usize, address: u64) -> Result<TensorMap, Fault> {
    if !address.is_multiple_of(64) {
        return Err(Fault::lane(Kind::Misaligned, lane, format!("tensor map at {address:#x}, not a multiple of 64")));
    }
    let mut bytes = [0; 128];
    if address >> 32 == PARAM_WINDOW {
        let offset = (address & 0xffff_ffff) as usize;
        let Some(found) = m.launch.params.get(offset..offset + 128) else {
            return Err(Fault::lane(Kind::OutOfBounds, lane, "tensor map past the kernel's parameters"));
        };
        bytes.copy_from_slice(found);
    } else {
        m.memory.read(address, &mut bytes).map_err(|f| Fault::lane(f.kind, lane, format!("tensor map: {}", f.text)))?;
    }
    TensorMap::from_bytes(&bytes).ok_or_else(|| {
        Fault::lane(Kind::InvalidOperand, lane, format!("the 128 bytes at {address:#x} are no tensor map"))
    })
}

/// How a tensor map's elements are combined.
fn reduction(op: AtomicOp, ty: DataType) -> Result<Update, String> {
    let atomic = match ty {
        DataType::U32 => AtomicType::U32,
        DataType::I32 => AtomicType::S32,
        DataType::U64 => AtomicType::U64,
        DataType::I64 => AtomicType::S64,
        DataType::F16 => AtomicType::F16,
        DataType::Bf16 => AtomicType::Bf16,
        DataType::F32 | DataType::F32Ftz | DataType::Tf32 | DataType::Tf32Ftz => AtomicType::F32,
        DataType::F64 => AtomicType::F64,
        DataType::U8 | DataType::U16 => return Err(format!("no reduction of {ty:?} elements")),
    };
    let update = Update { op, ty: atomic };
    match update.apply(0, 0, 0, false) {
        Some(_) => Ok(update),
        None => Err(format!("no {op:?} of {ty:?} elements")),
    }
}
