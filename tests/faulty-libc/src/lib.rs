//! A library to preload (`LD_PRELOAD`) before libc: the n-th call of one kind on files below one folder fails, and with
//! it, where wanted, those that follow. The program under test is the unmodified binary, libraries of it included; only
//! system calls that go around libc get past.
//!
//! Read from the environment at the first call:
//! - `FAULT_UNDER`: absolute path of a folder; other files are left alone. Without it nothing is done.
//! - `FAULT_CALL`: the kind, a name of [`Call`].
//! - `FAULT_AT`: which call of this kind, from 1.
//! - `FAULT_ERROR`: the number of the error, `short` for a read or write of a part, `none` to log the calls alone.
//! - `FAULT_REPEAT`: which later calls fail too, a name of [`Repeat`].
//! - `FAULT_LOG`: the file to which each failed call adds a line, `call path`. It must not be below `FAULT_UNDER`.

mod hooks;
mod plan;

pub use plan::{Call, Repeat};
