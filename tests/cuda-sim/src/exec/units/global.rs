//! Global memory of bulk copies: ranges, and boxes of tensors.

use super::violation::{Checked, Violation};
use crate::check::Kind;
use crate::memory::{Tlb, Update};
use crate::tensor::TensorMap;

/// The box of a tensor copy.
#[derive(Clone, Debug)]
pub struct TensorBox {
    pub map: TensorMap,
    pub coordinates: Vec<i32>,
    pub offsets: Vec<u16>,
}

/// Global memory of a bulk copy.
#[derive(Clone, Debug)]
pub enum Global {
    Range { at: u64, bytes: u32 },
    Tensor(Box<TensorBox>),
}

impl Global {
    /// Bytes of shared memory on the other side.
    pub fn bytes(&self) -> u32 {
        match self {
            Global::Range { bytes, .. } => *bytes,
            Global::Tensor(tensor) => tensor.map.box_bytes(),
        }
    }

    /// Alignment of both sides and sizes.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(&self, shared: u32) -> Checked {
        match self {
            Global::Range { at, bytes } => {
                aligned(*at, 16, "global side of a bulk copy")?;
                aligned(shared as u64, 16, "shared side of a bulk copy")?;
                whole(*bytes)
            }
            Global::Tensor(_) => aligned(shared as u64, 128, "shared side of a tensor copy"),
        }
    }

    /// What a load brings, as it lies in shared memory from `shared` on.
    ///
    /// # Errors
    /// What device memory finds.
    pub fn read(&self, shared: u32, memory: &mut Tlb) -> Checked<Vec<u8>> {
        let mut data = vec![0; self.bytes() as usize];
        let failed = |fault: Box<crate::memory::Fault>| Violation::memory(*fault, "bulk copy");
        match self {
            Global::Range { at, .. } => memory.read(*at, &mut data).map_err(failed)?,
            Global::Tensor(t) => {
                let fill = t.map.fill();
                t.map.pieces(&t.coordinates, &t.offsets, shared, |piece| {
                    let to = &mut data[(piece.shared - shared) as usize..][..piece.bytes as usize];
                    match piece.global {
                        Some(at) => {
                            memory.read(at, to).map_err(failed)?;
                            t.map.convert(to);
                        }
                        // Elements divide 16 bytes, so the fill repeats from any element on.
                        None => to.iter_mut().enumerate().for_each(|(i, b)| *b = fill[i % 16]),
                    }
                    Ok::<(), Box<Violation>>(())
                })?;
            }
        }
        Ok(data)
    }

    /// Writes what a store brings from shared memory at `shared`, or combines it with what is there.
    ///
    /// # Errors
    /// What device memory finds.
    pub fn write(&self, shared: u32, data: &[u8], reduce: Option<Update>, memory: &mut Tlb) -> Checked {
        let mut put = |at: u64, bytes: &[u8]| {
            let done = match reduce {
                Some(update) => memory.reduce(update, at, bytes),
                None => memory.write(at, bytes),
            };
            done.map_err(|fault| Violation::memory(*fault, "bulk copy"))
        };
        match self {
            Global::Range { at, .. } => put(*at, data),
            Global::Tensor(t) => t.map.pieces(&t.coordinates, &t.offsets, shared, |piece| match piece.global {
                Some(at) => put(at, &data[(piece.shared - shared) as usize..][..piece.bytes as usize]),
                None => Ok(()),
            }),
        }
    }
}

/// # Errors
/// `at` is no multiple of `to`.
pub fn aligned(at: u64, to: u32, what: &str) -> Checked {
    match at.is_multiple_of(to as u64) {
        true => Ok(()),
        false => Err(Violation::new(Kind::Misaligned, format!("{what} at {at:#x}, not a multiple of {to}"))),
    }
}

/// # Errors
/// Not whole units of 16 bytes.
pub fn whole(bytes: u32) -> Checked {
    match bytes.is_multiple_of(16) {
        true => Ok(()),
        false => Err(Violation::new(Kind::InvalidOperand, format!("bulk copy of {bytes} bytes, not a multiple of 16"))),
    }
}
