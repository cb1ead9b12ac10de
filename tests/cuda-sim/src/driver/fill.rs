//! Fills: a value of 1, 2 or 4 bytes repeated over rows of device memory, in stream order.

use std::ffi::{c_uchar, c_uint, c_ushort};
use std::sync::Arc;

use super::capture;
use super::context::current;
use super::copy::check_range;
use super::errors::{CUresult, Outcome, call, fail};
use super::ffi::DevicePtr;
use super::handles::Handle;
use super::stream::{CUstream, Stream, resolve};
use super::work::Op;
use crate::check::Finding;
use crate::memory::DeviceMemory;

#[derive(Clone)]
pub struct Fill {
    pub call: &'static str,
    pub to: DevicePtr,
    /// Bytes of the value, 1, 2 or 4, and how many of them a row has.
    pub pattern: [u8; 4],
    pub element: usize,
    pub width: usize,
    pub height: usize,
    pub pitch: usize,
}

impl Fill {
    pub fn run(&self, memory: &DeviceMemory) -> Result<(), Box<Finding>> {
        let pattern = &self.pattern[..self.element];
        let joined = self.pitch == self.width * self.element;
        let (count, rows) = if joined { (self.width * self.height, 1) } else { (self.width, self.height) };
        for row in 0..rows {
            memory.fill(self.to + (row * self.pitch) as u64, pattern, count).map_err(|mut finding| {
                finding.kernel = self.call.to_owned();
                finding
            })?;
        }
        Ok(())
    }
}

/// Checks a fill and submits it; the plain functions do not wait either.
pub fn submit_fill(stream: &Arc<Stream>, fill: Fill) -> Outcome {
    let context = stream.context()?;
    if fill.width == 0 || fill.height == 0 {
        return Ok(());
    }
    let row = fill.width * fill.element;
    if !fill.to.is_multiple_of(fill.element as u64) || (fill.height > 1 && !fill.pitch.is_multiple_of(fill.element)) {
        let text = format!("address {:#x} or pitch {} not a multiple of {}", fill.to, fill.pitch, fill.element);
        return fail(CUresult::INVALID_VALUE, text);
    }
    if fill.height > 1 && fill.pitch < row {
        return fail(CUresult::INVALID_VALUE, format!("rows of {row} bytes in a pitch of {}", fill.pitch));
    }
    check_range(&context, fill.to, row + fill.pitch * (fill.height - 1))?;
    stream.submit(Op::Fill(Arc::new(fill)))
}

/// `rows`: pitch and height.
fn fill(
    call: &'static str,
    to: DevicePtr,
    value: c_uint,
    element: usize,
    width: usize,
    rows: (usize, usize),
    stream: Option<CUstream>,
) -> Outcome {
    let fill = Fill { call, to, pattern: value.to_le_bytes(), element, width, pitch: rows.0, height: rows.1 };
    let stream = match stream {
        Some(stream) => resolve(stream)?,
        None => {
            capture::refuse_unsafe(&*current()?)?;
            resolve(Handle::NULL)?
        }
    };
    submit_fill(&stream, fill)
}

macro_rules! fills {
    ($($plain:ident $queued:ident $plain2d:ident $queued2d:ident ($type:ty);)*) => {
        $(
            #[unsafe(no_mangle)]
            pub extern "C" fn $plain(to: DevicePtr, value: $type, count: usize) -> CUresult {
                let name = stringify!($plain);
                call(name, || fill(name, to, value.into(), size_of::<$type>(), count, (0, 1), None))
            }

            #[unsafe(no_mangle)]
            pub extern "C" fn $queued(to: DevicePtr, value: $type, count: usize, stream: CUstream) -> CUresult {
                let name = stringify!($queued);
                call(name, || fill(name, to, value.into(), size_of::<$type>(), count, (0, 1), Some(stream)))
            }

            #[unsafe(no_mangle)]
            pub extern "C" fn $plain2d(to: DevicePtr, pitch: usize, value: $type, width: usize, height: usize) -> CUresult {
                let name = stringify!($plain2d);
                call(name, || fill(name, to, value.into(), size_of::<$type>(), width, (pitch, height), None))
            }

            #[unsafe(no_mangle)]
            pub extern "C" fn $queued2d(
                to: DevicePtr,
                pitch: usize,
                value: $type,
                width: usize,
                height: usize,
                stream: CUstream,
            ) -> CUresult {
                let name = stringify!($queued2d);
                call(name, || fill(name, to, value.into(), size_of::<$type>(), width, (pitch, height), Some(stream)))
            }
        )*
    };
}

fills! {
    cuMemsetD8_v2 cuMemsetD8Async cuMemsetD2D8_v2 cuMemsetD2D8Async (c_uchar);
    cuMemsetD16_v2 cuMemsetD16Async cuMemsetD2D16_v2 cuMemsetD2D16Async (c_ushort);
    cuMemsetD32_v2 cuMemsetD32Async cuMemsetD2D32_v2 cuMemsetD2D32Async (c_uint);
}
