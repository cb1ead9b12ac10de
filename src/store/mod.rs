//! Files that appear whole or not at all, folders that remember their configuration, and stopping on a signal.

mod atomic;
mod folder;
mod interrupt;

pub use atomic::{AtomicFile, create_dir, write_atomic};
pub use folder::{FolderLock, claim_folder, lock_folder, occupy_folder};
pub use interrupt::{check_interrupt, install_signal_handlers, interrupted};
