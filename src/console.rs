//! What the program says: progress and remarks on standard error, answers on standard output.
//!
//! A stream that is full, closed, or whose reader went away ends no run and panics nowhere: what cannot be written is
//! dropped. An answer that was lost for another reason than a reader that had seen enough is remembered, and
//! [`lost_answer`] makes an error of it when the work is done.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

static LOST: OnceLock<String> = OnceLock::new();

/// Whether standard output was a terminal when the program began.
static TERMINAL: OnceLock<bool> = OnceLock::new();

/// The system's number for "input/output error".
const EIO: i32 = 5;

/// Looks at the streams; to be called first.
pub fn begin() {
    let _ = TERMINAL.set(io::stdout().is_terminal());
}

/// Whether the streams are left alone.
static MUTE: AtomicBool = AtomicBool::new(false);

/// Drops what is said and answered from here on, once it is put into words, for who calls much that says much.
pub fn mute() {
    MUTE.store(true, Ordering::Relaxed);
}

/// Writes `text` to standard error, if it can be.
pub fn to_stderr(text: Arguments) {
    if MUTE.load(Ordering::Relaxed) {
        drop(text.to_string());
        return;
    }
    // There is nowhere left to say that saying failed.
    let _ = io::stderr().lock().write_fmt(text);
}

/// Writes `text` to standard output, if it can be.
pub fn to_stdout(text: Arguments) {
    if MUTE.load(Ordering::Relaxed) {
        drop(text.to_string());
        return;
    }
    let mut stdout = io::stdout().lock();
    wrote_to_stdout(stdout.write_fmt(text).and_then(|()| stdout.flush()));
}

/// Remembers how somebody else's writing to standard output ended.
pub fn wrote_to_stdout(result: io::Result<()>) {
    let Err(e) = result else { return };
    // A terminal that was closed says "input/output error", and by then no longer that it is one.
    let hung_up = TERMINAL.get() == Some(&true) && e.raw_os_error() == Some(EIO);
    if e.kind() != ErrorKind::BrokenPipe && !hung_up {
        let _ = LOST.set(e.to_string());
    }
}

/// Whether all answers were written, or their reader wanted no more of them.
///
/// # Errors
/// `Failed` with the system's reason, such as a full disk.
pub fn lost_answer() -> Result<()> {
    match LOST.get() {
        Some(why) => Err(Error::Failed(format!(
            "standard output could not be written ({why}); the work itself is done, its answer is incomplete"
        ))),
        None => Ok(()),
    }
}

/// A line of progress or a remark, on standard error.
#[macro_export]
macro_rules! say {
    ($($arg:tt)+) => {
        $crate::console::to_stderr(format_args!("{}\n", format_args!($($arg)+)))
    };
}

/// A line of what was asked for, on standard output.
#[macro_export]
macro_rules! answer {
    () => {
        $crate::console::to_stdout(format_args!("\n"))
    };
    ($($arg:tt)+) => {
        $crate::console::to_stdout(format_args!("{}\n", format_args!($($arg)+)))
    };
}
