//! The allocator of the program: memory that the system refuses ends it with a sentence and an exit code of ours.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_int;
use std::fs::File;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::error::Error;

/// Longest text written when there is no memory left to build one in.
const LONGEST: usize = 256;

/// Where address space is limited (`ulimit -v`), has all threads share one part of it: glibc gives each of them 64 MiB
/// in advance, which no plan knows of. Call before there are threads.
pub fn begin() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if super::memory::address_space().is_some() {
        unsafe extern "C" {
            fn mallopt(parameter: c_int, value: c_int) -> c_int;
        }
        /// The number of glibc's arenas.
        const M_ARENA_MAX: c_int = -8;
        // SAFETY: glibc's own function, which takes two numbers.
        unsafe { mallopt(M_ARENA_MAX, 1) };
    }
}

/// The system's allocator. Where it has nothing left, as under `ulimit -v`, the process says so and exits with the code
/// of [`Error::Device`] instead of aborting; files are then as a kill would leave them: whole or not there.
#[derive(Debug)]
pub struct Heap;

// SAFETY: all calls go to `System` with their arguments unchanged; what it gives is given on, and null never returns.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout` is the one that `System` asks for.
        granted(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        granted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; `pointer` came from `System`.
        granted(unsafe { System.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
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
    unsafe extern "C" {
        fn _exit(code: c_int) -> !;
    }
    // SAFETY: the system's own function, which takes a number and does not return.
    unsafe { _exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_grown_and_taken_back() {
        let layout = Layout::from_size_align(64, 8).unwrap();
        // SAFETY: the layout is not empty, and each pointer is used within its size and given back once.
        unsafe {
            let first = Heap.alloc_zeroed(layout);
            assert!((0..64).all(|i| first.add(i).read() == 0));
            first.write(7);
            let grown = Heap.realloc(first, layout, 4096);
            assert_eq!(grown.read(), 7);
            Heap.dealloc(grown, Layout::from_size_align(4096, 8).unwrap());
        }
    }
}
