//! The allocator of the program: memory that the system refuses ends it with a sentence and an exit code of ours.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::huge;
use crate::error::Error;

/// Longest text written when there is no memory left to build one in.
const LONGEST: usize = 256;

/// Where address space is limited (`ulimit -v`), has all threads share one part of it: glibc gives each of them 64 MiB
/// in advance, which no plan knows of. Call before there are threads.
pub fn begin() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if super::memory::address_space().is_some() {
        // SAFETY: glibc's own function, which takes two numbers.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
}

/// Bytes from which an allocation begins with a cache line, so that no vector of it lies across two.
const LINED: usize = 64 << 10;

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// Bytes from which an allocation is a mapping of its own, in huge pages where the system has them. Smaller ones would
/// be made and given back too often, and hold little but the pages at their ends.
const MAPPED: usize = 2 * huge::PAGE;

/// The system's allocator, but for what is large. Where it has nothing left, as under `ulimit -v`, the process says so
/// and exits with the code of [`Error::Device`] instead of aborting; files are then as a kill would leave them: whole
/// or not there.
#[derive(Debug)]
pub struct Heap;

/// Where an allocation is from.
enum Source {
    System(Layout),
    Mapping,
}

/// The same for the same layout.
fn source(layout: Layout) -> Source {
    match layout.size() {
        MAPPED.. if layout.align() <= LINE => Source::Mapping,
        LINED.. => Source::System(layout.align_to(LINE).unwrap_or(layout)),
        _ => Source::System(layout),
    }
}

// SAFETY: what `System` is asked to take back it has given with the same layout, as the source of an allocation follows
// from its layout alone; a mapping begins with a page, which is more than a line, and is as large as it was asked for.
// Null never returns.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let pointer = match source(layout) {
            // SAFETY: the caller's promise about `layout` is the one that `System` asks for.
            Source::System(layout) => unsafe { System.alloc(layout) },
            Source::Mapping => huge::map(layout.size()),
        };
        granted(pointer, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let pointer = match source(layout) {
            // SAFETY: as above.
            Source::System(layout) => unsafe { System.alloc_zeroed(layout) },
            Source::Mapping => huge::map(layout.size()),
        };
        granted(pointer, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise: the alignment of `layout`, and a size that fits it.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let moved = match (source(layout), source(new)) {
            // SAFETY: `pointer` is a mapping of the size of `layout`.
            (Source::Mapping, Source::Mapping) => unsafe { huge::remap(pointer, layout.size(), size) },
            (Source::System(before), Source::System(after)) if before.align() == after.align() => {
                // SAFETY: `pointer` came from `System` with this layout.
                unsafe { System.realloc(pointer, before, size) }
            }
            // SAFETY: both are at least as large as what is copied, and the old one is given back as it was taken.
            _ => unsafe {
                let moved = self.alloc(new);
                moved.copy_from_nonoverlapping(pointer, size.min(layout.size()));
                self.dealloc(pointer, layout);
                moved
            },
        };
        granted(moved, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match source(layout) {
            // SAFETY: `pointer` came from `System` with this layout.
            Source::System(layout) => unsafe { System.dealloc(pointer, layout) },
            // SAFETY: `pointer` is a mapping of this size.
            Source::Mapping => unsafe { huge::unmap(pointer, layout.size()) },
        }
    }
}

fn granted(pointer: *mut u8, size: usize) -> *mut u8 {
    if pointer.is_null() {
        refused(size);
    }
    pointer
}

/// Whether it was said.
static SAID: AtomicBool = AtomicBool::new(false);

#[cold]
fn refused(size: usize) -> ! {
    let code = i32::from(Error::Device(String::new()).exit_code());
    if SAID.swap(true, Ordering::Relaxed) {
        // Another thread has said so, and ends the program.
        thread::sleep(Duration::from_secs(10));
        end(code);
    }
    let mut text = [0; LONGEST];
    let mut rest = &mut text[..];
    let _ = writeln!(
        rest,
        "error: out of memory: the system refused {size} bytes more (`stablerep doctor` shows the limits); \
         give a smaller --batch or --threads, or raise the limit"
    );
    let length = LONGEST - rest.len();
    // SAFETY: descriptor 2 is not closed here, as the file is never dropped. A closed one gives an error, which is.
    let mut stderr = ManuallyDrop::new(unsafe { File::from_raw_fd(2) });
    let _ = stderr.write_all(&text[..length]);
    end(code)
}

/// Ends the process at once. The standard library's exit would first take its lock of standard output, which never
/// comes free when it is in making that buffer that memory was refused.
fn end(code: i32) -> ! {
    // SAFETY: the system's own function, which takes a number and does not return.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_grown_and_taken_back() {
        // Across every two of the three kinds of allocation, and within each.
        let sizes = [64, 4096, LINED, 3 * LINED, MAPPED, MAPPED + 1, 3 * MAPPED];
        for before in sizes {
            for after in sizes {
                let layout = Layout::from_size_align(before, 8).unwrap();
                let kept = before.min(after);
                // SAFETY: no layout is empty, and each pointer is used within its size and given back once.
                unsafe {
                    let first = Heap.alloc_zeroed(layout);
                    assert!((0..before).step_by(64).all(|i| first.add(i).read() == 0));
                    assert!(before < LINED || first.align_offset(LINE) == 0);
                    first.write(7);
                    first.add(kept - 1).write(8);
                    let moved = Heap.realloc(first, layout, after);
                    assert_eq!((moved.read(), moved.add(kept - 1).read()), (7, 8), "{before} to {after}");
                    moved.add(after - 1).write(9);
                    Heap.dealloc(moved, Layout::from_size_align(after, 8).unwrap());
                }
            }
        }
    }
}
