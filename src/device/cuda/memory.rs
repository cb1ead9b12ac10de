//! Device memory: one arena per run, views into it, pinned host memory, copies.

use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};

use cudarc::driver::sys;

use super::driver::check;
use super::element::Element;
use super::gpu::Gpu;
use crate::bail;
use crate::device::{Plan, human_bytes};
use crate::error::Result;

/// Buffers begin at multiples of this: what the driver's own allocations do, and more than any vector load or tensor
/// map needs.
const ALIGN: u64 = 256;

/// An address on the device with a length in elements. Copies freely like a pointer: which op may write where is said
/// by the ops' argument order (destination first), not by borrows.
pub struct View<T> {
    address: u64,
    len: usize,
    of: PhantomData<T>,
}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for View<T> {}

impl<T> fmt::Debug for View<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View<{}>({:#x}, {})", std::any::type_name::<T>(), self.address, self.len)
    }
}

impl<T: Element> View<T> {
    fn new(address: u64, len: usize) -> Self {
        Self { address, len, of: PhantomData }
    }

    pub fn address(self) -> u64 {
        self.address
    }

    /// Elements.
    pub fn len(self) -> usize {
        self.len
    }

    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    pub fn bytes(self) -> usize {
        self.len * size_of::<T>()
    }

    /// The elements of `range`.
    ///
    /// # Panics
    /// If the range does not lie inside.
    pub fn slice(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} elements", self.len);
        Self::new(self.address + (range.start * size_of::<T>()) as u64, range.len())
    }

    /// Whether the address is a multiple of `bytes`.
    pub fn is_aligned(self, bytes: u64) -> bool {
        self.address.is_multiple_of(bytes)
    }

    /// The same bytes as elements of another type.
    ///
    /// # Panics
    /// If the bytes are no whole number of them.
    pub fn cast<U: Element>(self) -> View<U> {
        assert!(self.bytes().is_multiple_of(size_of::<U>()), "{self:?} cast");
        View::new(self.address, self.bytes() / size_of::<U>())
    }
}

/// An allocation of its own.
#[derive(Debug)]
pub struct Owned<T: Element> {
    gpu: Gpu,
    view: View<T>,
}

impl<T: Element> Owned<T> {
    pub fn view(&self) -> View<T> {
        self.view
    }
}

impl<T: Element> Drop for Owned<T> {
    fn drop(&mut self) {
        if self.gpu.synchronize().is_ok() {
            // SAFETY: allocated by `Gpu::alloc`, and nothing queued uses it any more.
            let _ = unsafe { sys::cuMemFree_v2(self.view.address) };
        }
    }
}

/// All device memory of a run in one allocation, cut in the order of the plan.
///
/// A run is laid out twice by the same code: with [`Arena::dry`], which only measures (its views must not be used),
/// then with [`Arena::allocate`] of the measured size. So what is printed is what is allocated, and nothing is
/// allocated before it is known to fit.
#[derive(Debug, Default)]
pub struct Arena {
    memory: Option<Owned<u8>>,
    used: u64,
    plan: Plan,
}

impl Arena {
    /// Measures only.
    pub fn dry() -> Self {
        Self::default()
    }

    /// As much memory as `measured` counted, zeroed.
    ///
    /// # Errors
    /// Device error when the device has not that much left.
    pub fn allocate(gpu: &Gpu, measured: &Self) -> Result<Self> {
        Ok(Self { memory: Some(gpu.zeros(measured.used as usize)?), used: 0, plan: Plan::new() })
    }

    /// Refuses what was measured where the device has not that much room. `what` needs it; `fix` says what to change.
    ///
    /// # Errors
    /// Device error with the plan.
    pub fn check(&self, gpu: &Gpu, what: &str, fix: &str) -> Result<()> {
        let (room, driver) = gpu.room()?;
        if self.used <= room {
            return Ok(());
        }
        let [needed, driver, free] = [self.used, driver, room + driver].map(human_bytes);
        let (name, plan) = (gpu.name(), self.plan());
        bail!(
            Device,
            "out of memory before the first step: {what} {needed} and the driver {driver}, {free} of {name} are free; {fix}\n{plan}"
        )
    }

    /// `len` elements, recorded as `group` / `name`.
    ///
    /// # Panics
    /// If more is taken than was measured.
    pub fn take<T: Element>(&mut self, group: &'static str, name: impl Into<String>, len: usize) -> View<T> {
        let bytes = (len * size_of::<T>()) as u64;
        let start = self.used;
        self.used += bytes.next_multiple_of(ALIGN);
        self.plan.record(group, name, bytes);
        let base = match &self.memory {
            Some(memory) => {
                assert!(self.used <= memory.view.len as u64, "the second layout takes more than the first");
                memory.view.address
            }
            None => 0,
        };
        View::new(base + start, len)
    }

    /// `len` bytes that begin `start` bytes after the arena does.
    ///
    /// # Panics
    /// If they have not all been taken.
    pub fn range(&self, start: u64, len: usize) -> View<u8> {
        assert!(start + len as u64 <= self.used, "{len} bytes at {start} of {}", self.used);
        View::new(self.memory.as_ref().map_or(0, |memory| memory.view.address) + start, len)
    }

    /// What was taken, by group.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn bytes(&self) -> u64 {
        self.used
    }
}

/// Host memory that the device reads and writes directly, behind the host.
#[derive(Debug)]
pub struct Pinned<T: Element> {
    gpu: Gpu,
    at: *mut T,
    len: usize,
}

// SAFETY: owns its memory, as a `Vec` does.
unsafe impl<T: Element> Send for Pinned<T> {}
// SAFETY: as above.
unsafe impl<T: Element> Sync for Pinned<T> {}

impl<T: Element> Deref for Pinned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements, zeroed when allocated, of a type for which every bit pattern is a value.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }
}

impl<T: Element> DerefMut for Pinned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, exclusively borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
    }
}

impl<T: Element> Drop for Pinned<T> {
    fn drop(&mut self) {
        let _ = self.gpu.synchronize();
        // SAFETY: allocated by `Gpu::pinned`; nothing queued uses it any more.
        let _ = unsafe { sys::cuMemFreeHost(self.at.cast()) };
    }
}

impl Gpu {
    /// `len` elements whose values nobody wrote yet.
    ///
    /// # Errors
    /// Device error when the device has not that much left.
    pub fn alloc<T: Element>(&self, len: usize) -> Result<Owned<T>> {
        self.bind()?;
        let bytes = (len * size_of::<T>()).max(1);
        let mut address = 0;
        // SAFETY: writes one address.
        let got = unsafe { sys::cuMemAlloc_v2(&mut address, bytes) };
        check(got, &format!("allocate {} on {}", human_bytes(bytes as u64), self.name()))?;
        Ok(Owned { gpu: self.clone(), view: View::new(address, len) })
    }

    pub fn zeros<T: Element>(&self, len: usize) -> Result<Owned<T>> {
        let owned = self.alloc(len)?;
        self.zero(owned.view)?;
        Ok(owned)
    }

    /// A new allocation with these values.
    pub fn upload<T: Element>(&self, values: &[T]) -> Result<Owned<T>> {
        let owned = self.alloc(values.len())?;
        self.write(owned.view, values)?;
        Ok(owned)
    }

    /// Copies `values` to the device; they may change as soon as this returns.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn write<T: Element>(&self, to: View<T>, values: &[T]) -> Result<()> {
        assert_eq!(to.len, values.len(), "write");
        if values.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: both ranges hold `bytes`; the driver takes pageable memory before it returns.
        let queued =
            unsafe { sys::cuMemcpyHtoDAsync_v2(to.address, values.as_ptr().cast(), to.bytes(), self.stream()) };
        check(queued, "copy to the GPU")
    }

    /// Queues a copy from pinned memory, which must not change before the device has read it.
    ///
    /// # Panics
    /// If `to` is longer than `from`.
    pub fn write_pinned<T: Element>(&self, to: View<T>, from: &Pinned<T>) -> Result<()> {
        self.write(to, &from[..to.len])
    }

    /// Waits, and copies from the device.
    ///
    /// # Errors
    /// Device error if anything queued before failed.
    pub fn read<T: Element>(&self, from: View<T>) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); from.len];
        if values.is_empty() {
            return Ok(values);
        }
        self.bind()?;
        // SAFETY: both ranges hold `bytes`, and `values` outlives the copy, which is waited for.
        let queued = unsafe {
            sys::cuMemcpyDtoHAsync_v2(values.as_mut_ptr().cast::<c_void>(), from.address, from.bytes(), self.stream())
        };
        check(queued, "copy from the GPU")?;
        self.synchronize()?;
        Ok(values)
    }

    /// Queues a copy into pinned memory; [`Gpu::synchronize`] or a mark tells when it is there.
    ///
    /// # Panics
    /// If `from` is longer than `to`.
    pub fn read_pinned<T: Element>(&self, to: &mut Pinned<T>, from: View<T>) -> Result<()> {
        assert!(from.len <= to.len, "read into pinned memory");
        self.bind()?;
        // SAFETY: both ranges hold `bytes`; pinned memory outlives the work of its GPU (its drop waits).
        let queued = unsafe { sys::cuMemcpyDtoHAsync_v2(to.at.cast(), from.address, from.bytes(), self.stream()) };
        check(queued, "copy from the GPU")
    }

    /// Queues a copy on the device.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn copy<T: Element>(&self, to: View<T>, from: View<T>) -> Result<()> {
        assert_eq!(to.len, from.len, "copy");
        self.bind()?;
        // SAFETY: both ranges hold `bytes`.
        check(
            unsafe { sys::cuMemcpyDtoDAsync_v2(to.address, from.address, to.bytes(), self.stream()) },
            "copy on the GPU",
        )
    }

    /// Queues filling with zero bytes.
    pub fn zero<T: Element>(&self, view: View<T>) -> Result<()> {
        if view.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: the range holds `bytes`.
        check(unsafe { sys::cuMemsetD8Async(view.address, 0, view.bytes(), self.stream()) }, "clear GPU memory")
    }

    /// `len` zeroed elements of pinned host memory.
    pub fn pinned<T: Element>(&self, len: usize) -> Result<Pinned<T>> {
        self.bind()?;
        let bytes = (len * size_of::<T>()).max(1);
        let mut at = std::ptr::null_mut();
        // SAFETY: writes one address. Cached memory (flag 0): the host reads it too.
        let got = unsafe { sys::cuMemHostAlloc(&mut at, bytes, 0) };
        check(got, &format!("pin {} of host memory", human_bytes(bytes as u64)))?;
        // SAFETY: just allocated, `bytes` long.
        unsafe { at.cast::<u8>().write_bytes(0, bytes) };
        Ok(Pinned { gpu: self.clone(), at: at.cast(), len })
    }
}
