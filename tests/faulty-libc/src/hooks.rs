//! The calls that stand before libc's. Variadic ones are declared with the arguments they are called with: on the
//! platforms of Linux both are passed alike.

use std::ffi::{CString, c_char, c_int, c_long, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::plan::{Call, Fault, on_name, on_open};

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn __errno_location() -> *mut c_int;
}

/// "The next library", for `dlsym`.
const NEXT: *mut c_void = -1isize as *mut c_void;
const O_WRONLY: c_int = 1;
const O_CREAT: c_int = 0o100;
const O_APPEND: c_int = 0o2000;

fn set_error(number: c_int) {
    // SAFETY: libc gives every thread a place for its error.
    unsafe { *__errno_location() = number };
}

/// The function of this name in the next library, kept in `known`.
fn next(known: &AtomicPtr<c_void>, name: &'static std::ffi::CStr) -> *mut c_void {
    let mut found = known.load(Ordering::Relaxed);
    if found.is_null() {
        // SAFETY: the name ends with a zero; every hook below names a function that libc has.
        found = unsafe { dlsym(NEXT, name.as_ptr()) };
        assert!(!found.is_null(), "libc has no {name:?}");
        known.store(found, Ordering::Relaxed);
    }
    found
}

/// `fn name(arguments) -> result`: asks `fault` first, and calls libc's when it has nothing.
macro_rules! hooks {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty, $failed:expr, $fault:expr;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// As libc's.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $type),*) -> $result {
                static KNOWN: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
                let name = const {
                    match std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                        Ok(name) => name,
                        Err(_) => panic!("a name without a zero inside"),
                    }
                };
                // SAFETY: it is libc's function of this name, which has this type.
                let real: unsafe extern "C" fn($($type),*) -> $result =
                    unsafe { std::mem::transmute(next(&KNOWN, name)) };
                #[allow(unused_unsafe)]
                // SAFETY: the caller's promise about the arguments is libc's.
                match unsafe { $fault } {
                    Some(Fault::Error(number)) => {
                        set_error(number);
                        return $failed;
                    }
                    Some(Fault::Short) => {
                        // SAFETY: half as many bytes are no more than were promised.
                        return unsafe { hooks!(@short real, $($argument),*) };
                    }
                    Some(Fault::Logged) | None => {}
                }
                // SAFETY: as above.
                unsafe { real($($argument),*) }
            }
        )*
    };
    (@short $real:ident, $fd:ident, $buffer:ident, $count:ident) => { $real($fd, $buffer, half($count)) };
    (@short $real:ident, $fd:ident, $buffer:ident, $count:ident, $offset:ident) => {
        $real($fd, $buffer, half($count), $offset)
    };
    (@short $real:ident, $($argument:ident),*) => { $real($($argument),*) };
}

/// A smaller number of bytes, one at least: none would be the end of the file. Numbers of other things stay.
trait Half {
    fn half(self) -> Self;
}

impl Half for usize {
    fn half(self) -> Self {
        self.div_ceil(2)
    }
}

macro_rules! whole {
    ($($type:ty),*) => { $(impl Half for $type { fn half(self) -> Self { self } })* };
}

whole!(c_int, u32);

fn half<T: Half>(count: T) -> T {
    count.half()
}

fn opened(flags: c_int) -> Call {
    if flags & O_CREAT != 0 { Call::Create } else { Call::Open }
}

hooks! {
    /// Opens or makes a file.
    fn open(path: *const c_char, flags: c_int, mode: u32) -> c_int, -1, on_name(opened(flags), path);
    /// Opens or makes a file.
    fn open64(path: *const c_char, flags: c_int, mode: u32) -> c_int, -1, on_name(opened(flags), path);
    /// Lists a folder.
    fn opendir(path: *const c_char) -> *mut c_void, std::ptr::null_mut(), on_name(Call::List, path);
    /// Reads.
    fn read(fd: c_int, buffer: *mut c_void, count: usize) -> isize, -1, on_open(Call::Read, fd);
    /// Reads at a place.
    fn pread64(fd: c_int, buffer: *mut c_void, count: usize, offset: i64) -> isize, -1, on_open(Call::Read, fd);
    /// Copies between files.
    fn copy_file_range(from: c_int, at: *mut i64, to: c_int, to_at: *mut i64, count: usize, flags: u32) -> isize, -1,
        on_open(Call::Write, to).filter(|fault| *fault != Fault::Short);
    /// Maps a file.
    fn mmap(start: *mut c_void, length: usize, protection: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void,
        NEXT, on_open(Call::Map, fd);
    /// Maps a file.
    fn mmap64(start: *mut c_void, length: usize, protection: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void,
        NEXT, on_open(Call::Map, fd);
    /// Writes.
    fn write(fd: c_int, buffer: *const c_void, count: usize) -> isize, -1, on_open(Call::Write, fd);
    /// Writes from several buffers.
    fn writev(fd: c_int, buffers: *const c_void, count: c_int) -> isize, -1, on_open(Call::Write, fd);
    /// Writes at a place.
    fn pwrite64(fd: c_int, buffer: *const c_void, count: usize, offset: i64) -> isize, -1, on_open(Call::Write, fd);
    /// Cuts a file, or makes it longer.
    fn ftruncate64(fd: c_int, length: i64) -> c_int, -1, on_open(Call::Resize, fd);
    /// Waits until a file is on the disk.
    fn fsync(fd: c_int) -> c_int, -1, on_open(Call::Sync, fd);
    /// Waits until a file's content is on the disk.
    fn fdatasync(fd: c_int) -> c_int, -1, on_open(Call::Sync, fd);
    /// Locks.
    fn flock(fd: c_int, operation: c_int) -> c_int, -1, on_open(Call::Lock, fd);
    /// Renames; the new name counts.
    fn rename(from: *const c_char, to: *const c_char) -> c_int, -1, on_name(Call::Rename, to);
    /// Removes a file.
    fn unlink(path: *const c_char) -> c_int, -1, on_name(Call::Remove, path);
    /// Makes a folder.
    fn mkdir(path: *const c_char, mode: u32) -> c_int, -1, on_name(Call::Folder, path);
}

/// Adds a line to a file by system calls that no hook sees.
pub(crate) fn append(path: &Path, line: &str) {
    unsafe extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
    }
    #[cfg(target_arch = "x86_64")]
    const CALLS: (c_long, c_long, c_long) = (257, 1, 3);
    #[cfg(not(target_arch = "x86_64"))]
    const CALLS: (c_long, c_long, c_long) = (56, 64, 57);
    const HERE: c_long = -100;
    let Ok(name) = CString::new(path.as_os_str().as_bytes()) else { return };
    let flags = c_long::from(O_WRONLY | O_CREAT | O_APPEND);
    // SAFETY: openat, write and close with a name that ends with a zero and a buffer of the length given.
    unsafe {
        let file = syscall(CALLS.0, HERE, name.as_ptr(), flags, 0o600 as c_long);
        if file >= 0 {
            syscall(CALLS.1, file, line.as_ptr(), line.len());
            syscall(CALLS.2, file);
        }
    }
}
