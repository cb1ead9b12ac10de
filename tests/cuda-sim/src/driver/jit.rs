//! Options of the just-in-time compiler: the log buffers; the rest tunes code generation and is ignored.

use std::ffi::{c_int, c_uint};

use super::errors::{CUresult, Outcome, fail};
use super::ffi::{HostPtr, In};

/// `CUjit_option`.
pub type CUjit_option = c_int;

const WALL_TIME: CUjit_option = 2;
const INFO_BUFFER: CUjit_option = 3;
const INFO_BYTES: CUjit_option = 4;
const ERROR_BUFFER: CUjit_option = 5;
const ERROR_BYTES: CUjit_option = 6;

/// The caller's log buffers.
#[derive(Default)]
pub struct Log {
    info: Buffer,
    error: Buffer,
}

#[derive(Default)]
struct Buffer {
    place: usize,
    bytes: usize,
    /// The element of the option values that takes the size and returns what was filled.
    count: usize,
}

impl Log {
    /// # Safety
    /// `options` and `values` are arrays of `count`, the values of the types that their options ask for, and stay so
    /// while the log is used.
    pub unsafe fn new(count: c_uint, options: In<CUjit_option>, values: HostPtr) -> Outcome<Self> {
        // SAFETY: the caller vouches for the array.
        let options = unsafe { options.slice(count as usize)? };
        if count != 0 && values.is_null() {
            return fail(CUresult::INVALID_VALUE, "options without values");
        }
        let mut log = Self::default();
        for (i, &option) in options.iter().enumerate() {
            let place = values.offset(i * size_of::<usize>()).0;
            // SAFETY: the caller vouches for this array too.
            let number = unsafe { std::ptr::with_exposed_provenance::<usize>(place).read() };
            match option {
                // SAFETY: the value's element returns a float; compilation takes no time worth telling.
                WALL_TIME => unsafe { std::ptr::with_exposed_provenance_mut::<f32>(place).write(0.0) },
                INFO_BUFFER => log.info.place = number,
                INFO_BYTES => (log.info.bytes, log.info.count) = (number & 0xffff_ffff, place),
                ERROR_BUFFER => log.error.place = number,
                ERROR_BYTES => (log.error.bytes, log.error.count) = (number & 0xffff_ffff, place),
                _ => {}
            }
        }
        Ok(log)
    }

    pub fn info(&mut self, text: &str) {
        self.info.fill(text);
        self.error.fill("");
    }

    pub fn error(&mut self, text: &str) {
        self.error.fill(text);
        self.info.fill("");
    }
}

impl Buffer {
    fn fill(&self, text: &str) {
        if self.place == 0 || self.bytes == 0 {
            return;
        }
        let kept = text.len().min(self.bytes - 1);
        // SAFETY: `Log::new` was promised a buffer of this size.
        let buffer = unsafe { HostPtr(self.place).bytes_mut(kept + 1) };
        buffer[..kept].copy_from_slice(&text.as_bytes()[..kept]);
        buffer[kept] = 0;
        if self.count != 0 {
            // SAFETY: the option value that held the size; it takes the number of bytes filled.
            unsafe { std::ptr::with_exposed_provenance_mut::<c_uint>(self.count).write(kept as c_uint + 1) };
        }
    }
}
