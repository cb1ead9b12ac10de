//! SIGINT, SIGTERM and SIGHUP set a flag; loops look at it between units of work, save, and leave with exit code 75.

use std::fs;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

use crate::error::{Error, Result};

static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Installs the handlers. A second signal ends the process at once. A closed terminal (SIGHUP) stops like any other
/// signal, unless the process was started with `nohup`, which is asked to outlive it.
pub fn install_signal_handlers() -> Result<()> {
    let flag = STOP.get_or_init(|| Arc::new(AtomicBool::new(false)));
    let failed = |signal| move |e| Error::Failed(format!("cannot install the handler of signal {signal}: {e}"));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if signal == SIGHUP && is_ignored(SIGHUP) {
            continue;
        }
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(flag))
            .map_err(failed(signal))?;
        signal_hook::flag::register(signal, Arc::clone(flag)).map_err(failed(signal))?;
    }
    // Caught, a write past `ulimit -f` fails like one on a full disk, with its file named; else it ends the process.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(failed(SIGXFSZ))?;
    Ok(())
}

/// Whether who started this process had it ignore `signal`, as far as the system tells.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Whether a signal asked this process to stop.
pub fn interrupted() -> bool {
    STOP.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// `Err(Interrupted)` once a signal arrived. `state` says what is kept and how to go on.
pub fn check_interrupt(state: &str) -> Result<()> {
    if interrupted() { Err(Error::Interrupted(format!("stopped by a signal; {state}"))) } else { Ok(()) }
}
