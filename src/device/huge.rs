//! Memory in huge pages, which the system gives to mappings that ask for them (Linux,
//! Documentation/admin-guide/mm/transhuge.rst).
//!
//! A network's activations are read in other orders than they are written, and a product reads hundreds of rows at
//! once: in pages of 4 KiB they are more than a core knows the places of. Linear layers of training are 5 to 10 %
//! faster so, and buffers that begin with a cache line are part of that.

use std::ptr;

use libc::{MAP_ANON, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, c_void};

/// Bytes of a huge page, on the systems that have them of this size.
pub(super) const PAGE: usize = 2 << 20;

/// What ends of mappings are multiples of: pages of all Linux systems are at most as large.
const SMALL: usize = 64 << 10;

/// A zeroed mapping of `size` bytes, not zero, which begins with a page of [`PAGE`] where there is address space for
/// that; null where there is not enough.
pub(super) fn map(size: usize) -> *mut u8 {
    let Some(size) = rounded(size) else { return ptr::null_mut() };
    let Some(start) = anonymous(size + PAGE) else { return anonymous(size).unwrap_or(ptr::null_mut()) };
    let before = start.align_offset(PAGE);
    let at = start.wrapping_add(before);
    // SAFETY: the parts before and behind are of the mapping just made, which nobody else knows; the advice concerns
    // what is left of it.
    unsafe {
        for (part, size) in [(start, before), (at.wrapping_add(size), PAGE - before)] {
            if size > 0 {
                libc::munmap(part.cast(), size);
            }
        }
        // A system without huge pages refuses, and nothing is lost.
        #[cfg(target_os = "linux")]
        libc::madvise(at.cast(), size, libc::MADV_HUGEPAGE);
    }
    at
}

/// Gives a mapping back.
///
/// # Safety
/// `at` must be of [`map`] or [`remap`] with this size, and not used any more.
pub(super) unsafe fn unmap(at: *mut u8, size: usize) {
    // SAFETY: the caller's promise. What the system refuses to take stays ours.
    unsafe { libc::munmap(at.cast(), rounded(size).unwrap_or(size)) };
}

/// The same mapping with another size, perhaps elsewhere; null, and the old one as it was, where there is not enough.
///
/// # Safety
/// As [`unmap`]; `size` is not zero.
pub(super) unsafe fn remap(at: *mut u8, before: usize, size: usize) -> *mut u8 {
    #[cfg(target_os = "linux")]
    {
        let (Some(before), Some(size)) = (rounded(before), rounded(size)) else { return ptr::null_mut() };
        // SAFETY: the caller's promise.
        given(unsafe { libc::mremap(at.cast(), before, size, libc::MREMAP_MAYMOVE) }).unwrap_or(ptr::null_mut())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let moved = map(size);
        if !moved.is_null() {
            // SAFETY: the caller's promise; both are as large as what is copied.
            unsafe {
                moved.copy_from_nonoverlapping(at, before.min(size));
                unmap(at, before);
            }
        }
        moved
    }
}

fn rounded(size: usize) -> Option<usize> {
    size.checked_next_multiple_of(SMALL).filter(|size| size.checked_add(PAGE).is_some())
}

fn anonymous(size: usize) -> Option<*mut u8> {
    // SAFETY: a new mapping, wherever the system puts it.
    given(unsafe { libc::mmap(ptr::null_mut(), size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0) })
}

fn given(mapping: *mut c_void) -> Option<*mut u8> {
    (mapping != MAP_FAILED).then_some(mapping.cast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_aligned_zeroed_moved_and_taken_back() {
        let size = 3 * PAGE + 5;
        let at = map(size);
        assert!(!at.is_null() && at.align_offset(PAGE) == 0);
        // SAFETY: within the sizes asked for; each mapping is given back once.
        unsafe {
            assert!((0..size).step_by(4096).all(|i| at.add(i).read() == 0));
            at.add(size - 1).write(7);
            let grown = remap(at, size, 9 * PAGE);
            assert!(grown.add(size - 1).read() == 7 && grown.add(9 * PAGE - 1).read() == 0);
            let shrunk = remap(grown, 9 * PAGE, size);
            assert_eq!(shrunk.add(size - 1).read(), 7);
            unmap(shrunk, size);
        }
        assert!(map(usize::MAX).is_null() && map(usize::MAX / 2).is_null());
    }
}
