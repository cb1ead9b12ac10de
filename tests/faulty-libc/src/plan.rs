//! Which call fails, and how.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::hooks;

/// Kinds of calls, as `FAULT_CALL` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `open` of what must exist.
    Open,
    /// `open` that may make the file.
    Create,
    Read,
    /// A file into memory.
    Map,
    Write,
    /// `ftruncate`.
    Resize,
    /// `fsync` of a file or folder.
    Sync,
    /// `flock`.
    Lock,
    Rename,
    /// `unlink`.
    Remove,
    /// `mkdir`.
    Folder,
    /// `opendir`.
    List,
}

impl Call {
    /// All kinds with their names.
    pub const ALL: [(Self, &'static str); 12] = [
        (Self::Open, "open"),
        (Self::Create, "create"),
        (Self::Read, "read"),
        (Self::Map, "map"),
        (Self::Write, "write"),
        (Self::Resize, "resize"),
        (Self::Sync, "sync"),
        (Self::Lock, "lock"),
        (Self::Rename, "rename"),
        (Self::Remove, "remove"),
        (Self::Folder, "folder"),
        (Self::List, "list"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(call, _)| *call == self).map_or("", |(_, name)| name)
    }
}

/// What a call that is chosen does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Fails with this number.
    Error(c_int),
    /// Moves one byte in two.
    Short,
    /// None: it is only logged.
    Logged,
}

/// Which calls fail after the chosen one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    None,
    /// All, as on a full disk.
    All,
    /// Every second one: who tries again at once goes on.
    Odd,
}

impl Repeat {
    /// All with their names, as `FAULT_REPEAT` gives them.
    pub const ALL: [(Self, &'static str); 3] = [(Self::None, "none"), (Self::All, "all"), (Self::Odd, "odd")];

    fn takes(self, number: u64, at: u64) -> bool {
        match self {
            Self::None => number == at,
            Self::All => number >= at,
            Self::Odd => number >= at && (number - at).is_multiple_of(2),
        }
    }
}

struct Plan {
    under: PathBuf,
    call: Call,
    at: u64,
    fault: Fault,
    repeat: Repeat,
    log: PathBuf,
    seen: AtomicU64,
}

fn plan() -> Option<&'static Plan> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    PLAN.get_or_init(read).as_ref()
}

fn named<T: Copy>(all: &[(T, &str)], wanted: &str) -> Option<T> {
    all.iter().find(|(_, name)| *name == wanted).map(|(value, _)| *value)
}

fn read() -> Option<Plan> {
    let text = |name: &str| std::env::var(name).ok();
    let error = text("FAULT_ERROR")?;
    Some(Plan {
        under: text("FAULT_UNDER")?.into(),
        call: named(&Call::ALL, &text("FAULT_CALL")?)?,
        at: text("FAULT_AT")?.parse().ok()?,
        fault: match error.as_str() {
            "short" => Fault::Short,
            "none" => Fault::Logged,
            number => Fault::Error(number.parse().ok()?),
        },
        repeat: named(&Repeat::ALL, &text("FAULT_REPEAT")?)?,
        log: text("FAULT_LOG")?.into(),
        seen: AtomicU64::new(0),
    })
}

/// What becomes of `call` on the file of this path.
pub(crate) fn on_path(call: Call, path: &Path) -> Option<Fault> {
    let plan = plan().filter(|plan| plan.call == call && path.starts_with(&plan.under))?;
    let number = plan.seen.fetch_add(1, Ordering::Relaxed) + 1;
    if !plan.repeat.takes(number, plan.at) {
        return None;
    }
    hooks::append(&plan.log, &format!("{} {}\n", call.name(), path.display()));
    Some(plan.fault)
}

/// As [`on_path`], for a C string.
///
/// # Safety
/// `path` must be null or end with a zero.
pub(crate) unsafe fn on_name(call: Call, path: *const c_char) -> Option<Fault> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
    on_path(call, Path::new(OsStr::from_bytes(bytes)))
}

/// As [`on_path`], for an open file.
pub(crate) fn on_open(call: Call, descriptor: c_int) -> Option<Fault> {
    // Standard streams are no files of the run, wherever they lead.
    if descriptor <= 2 || plan()?.call != call {
        return None;
    }
    on_path(call, &fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()?)
}
