//! The bytes of one allocation.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, Ordering::Relaxed};

use super::fault::{Access, Fault};
use super::shadow::{Shadow, zeroed};
use crate::check::Kind;

const WRITABLE: u8 = 0;
const READ_ONLY: u8 = 1;
const FREED: u8 = 2;

/// One allocation, alive as long as a table or a [`super::Tlb`] knows it.
pub(super) struct Allocation {
    pub base: u64,
    pub len: usize,
    /// Holds at least `len` bytes. Only reached through atomics of the width of the access: on every host this runs
    /// on, atomics of different widths on the same bytes are coherent.
    data: Box<[AtomicU64]>,
    pub shadow: Shadow,
    state: AtomicU8,
}

/// An unsigned integer that lanes load and store.
pub trait Element: Copy + Default + private::Cell {}

mod private {
    /// # Safety
    /// `Self` is an integer without padding, of `BYTES` bytes.
    pub unsafe trait Cell: Sized {
        const BYTES: usize;

        /// # Safety
        /// `at` points to `BYTES` live bytes that are only accessed atomically, and is a multiple of `BYTES`.
        unsafe fn load(at: *mut u8) -> Self;

        /// # Safety
        /// As for [`Cell::load`].
        unsafe fn store(at: *mut u8, value: Self);

        /// One step of compare-exchange loops.
        ///
        /// # Safety
        /// As for [`Cell::load`].
        unsafe fn exchange(at: *mut u8, current: u64, new: u64) -> Result<u64, u64>;
    }
}

pub(super) use private::Cell;

macro_rules! element {
    ($($integer:ty, $atomic:ty;)*) => { $(
        impl Element for $integer {}

        // SAFETY: an integer of the size that size_of says.
        unsafe impl Cell for $integer {
            const BYTES: usize = size_of::<$integer>();

            #[inline(always)]
            unsafe fn load(at: *mut u8) -> Self {
                // SAFETY: the caller's promise is that of `from_ptr`.
                unsafe { <$atomic>::from_ptr(at.cast()) }.load(Relaxed)
            }

            #[inline(always)]
            unsafe fn store(at: *mut u8, value: Self) {
                // SAFETY: the caller's promise is that of `from_ptr`.
                unsafe { <$atomic>::from_ptr(at.cast()) }.store(value, Relaxed)
            }

            #[inline(always)]
            unsafe fn exchange(at: *mut u8, current: u64, new: u64) -> Result<u64, u64> {
                // SAFETY: the caller's promise is that of `from_ptr`.
                let cell = unsafe { <$atomic>::from_ptr(at.cast()) };
                cell.compare_exchange_weak(current as Self, new as Self, Ordering::SeqCst, Relaxed)
                    .map(u64::from)
                    .map_err(u64::from)
            }
        }
    )* };
}

element! {
    u8, AtomicU8;
    u16, AtomicU16;
    u32, AtomicU32;
    u64, AtomicU64;
}

impl Allocation {
    /// `None` when the host has no memory for it. `base` is a multiple of 64, so that an aligned access lies in one
    /// shadow word.
    pub fn new(base: u64, len: usize) -> Option<Self> {
        debug_assert_eq!(base % 64, 0);
        Some(Self {
            base,
            len,
            data: zeroed(len.div_ceil(8))?,
            shadow: Shadow::new(len)?,
            state: AtomicU8::new(WRITABLE),
        })
    }

    pub fn end(&self) -> u64 {
        self.base + self.len as u64
    }

    #[inline(always)]
    pub fn live(&self) -> bool {
        self.state.load(Relaxed) != FREED
    }

    #[inline(always)]
    pub fn writable(&self) -> bool {
        self.state.load(Relaxed) == WRITABLE
    }

    pub fn protect(&self) {
        self.state.store(READ_ONLY, Relaxed);
    }

    pub fn retire(&self) {
        self.state.store(FREED, Relaxed);
    }

    /// Where byte `offset` lies, after the check that `n` bytes from there are inside.
    #[inline(always)]
    pub fn at(&self, offset: usize, n: usize) -> *mut u8 {
        assert!(offset <= self.len && n <= self.len - offset);
        self.data.as_ptr().cast_mut().cast::<u8>().wrapping_add(offset)
    }

    /// Copies out, whether written or not.
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) {
        let start = self.at(offset, to.len());
        let head = to.len().min(offset.wrapping_neg() % 8);
        let (first, rest) = to.split_at_mut(head);
        let (middle, last) = rest.as_chunks_mut::<8>();
        let tail = head + 8 * middle.len();
        // SAFETY: `at` checked the range; `data` is only accessed atomically; the words start at a multiple of 8, as
        // `data` does.
        unsafe {
            for (i, byte) in first.iter_mut().enumerate() {
                *byte = u8::load(start.add(i));
            }
            for (i, word) in middle.iter_mut().enumerate() {
                *word = u64::load(start.add(head + 8 * i)).to_ne_bytes();
            }
            for (i, byte) in last.iter_mut().enumerate() {
                *byte = u8::load(start.add(tail + i));
            }
        }
    }

    /// Copies in and marks as written.
    pub fn copy_in(&self, offset: usize, from: &[u8]) {
        self.put(offset, from);
        self.shadow.mark(offset, from.len());
    }

    /// Copies in without marking.
    pub fn put(&self, offset: usize, from: &[u8]) {
        let start = self.at(offset, from.len());
        let head = from.len().min(offset.wrapping_neg() % 8);
        let (first, rest) = from.split_at(head);
        let (middle, last) = rest.as_chunks::<8>();
        let tail = head + 8 * middle.len();
        // SAFETY: as in `copy_out`.
        unsafe {
            for (i, &byte) in first.iter().enumerate() {
                u8::store(start.add(i), byte);
            }
            for (i, &word) in middle.iter().enumerate() {
                u64::store(start.add(head + 8 * i), u64::from_ne_bytes(word));
            }
            for (i, &byte) in last.iter().enumerate() {
                u8::store(start.add(tail + i), byte);
            }
        }
    }

    /// # Errors
    /// A byte of the range was never written.
    pub fn check_written(&self, offset: usize, n: usize, access: Access) -> Result<(), Box<Fault>> {
        if self.shadow.written(offset, n) { Ok(()) } else { Err(self.unwritten(offset, n, access)) }
    }

    #[cold]
    pub fn unwritten(&self, offset: usize, n: usize, access: Access) -> Box<Fault> {
        let byte = self.shadow.first_unwritten(offset, n).unwrap_or(offset);
        let text = format!(
            "{n}-byte {} at {:#x}: byte {byte} of the {}-byte allocation at {:#x} was never written",
            access.name(),
            self.base + offset as u64,
            self.len,
            self.base
        );
        Fault::new(Kind::UninitializedGlobal, self.base + offset as u64, text)
    }

    /// # Errors
    /// The allocation is protected.
    #[inline(always)]
    pub fn check_writable(&self, offset: usize, n: usize, access: Access) -> Result<(), Box<Fault>> {
        if self.writable() { Ok(()) } else { Err(self.read_only(offset, n, access)) }
    }

    #[cold]
    pub fn read_only(&self, offset: usize, n: usize, access: Access) -> Box<Fault> {
        let address = self.base + offset as u64;
        let text = format!(
            "{n}-byte {} at {address:#x} in {} bytes of constants at {:#x}",
            access.name(),
            self.len,
            self.base
        );
        Fault::new(Kind::ReadOnly, address, text)
    }
}
