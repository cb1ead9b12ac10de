//! SIGINT and SIGTERM set a flag; loops look at it between units of work, save, and leave with exit code 75.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Installs the handlers. A second signal ends the process at once.
pub fn install_signal_handlers() -> Result<()> {
    let flag = STOP.get_or_init(|| Arc::new(AtomicBool::new(false)));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let failed = |e| Error::Failed(format!("cannot install the handler of signal {signal}: {e}"));
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(flag)).map_err(failed)?;
        signal_hook::flag::register(signal, Arc::clone(flag)).map_err(failed)?;
    }
    Ok(())
}

/// Whether a signal asked this process to stop.
pub fn interrupted() -> bool {
    STOP.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// `Err(Interrupted)` once a signal arrived; call after the state is saved. `resume` says how to go on.
pub fn check_interrupt(resume: &str) -> Result<()> {
    if interrupted() {
        Err(Error::Interrupted(format!("stopped by a signal with the state saved; {resume}")))
    } else {
        Ok(())
    }
}
