//! Files that appear whole or not at all, folders that remember their configuration and let in one writer, and stopping
//! on a signal.

mod atomic;
mod folder;
mod interrupt;
mod lock;
mod occupy;
mod read;

pub use atomic::{AtomicFile, check_folder, create_dir, remove_file, remove_leftovers, write_atomic};
pub use folder::{check_record, claim_folder, read_record, write_record};
pub use interrupt::{check_interrupt, install_signal_handlers, interrupted};
pub use lock::Lock;
pub use occupy::{Occupied, lock_folder, occupy_folder, occupy_locked};
pub use read::{RECORD, read};
