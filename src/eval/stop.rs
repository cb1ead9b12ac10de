//! An evaluation that a signal asks to stop.

use crate::bail;
use crate::error::Result;
use crate::store;

/// `Err(Interrupted)` once a signal arrived.
pub(super) fn check_stop() -> Result<()> {
    match store::interrupted() {
        true => {
            bail!(
                Interrupted,
                "stopped by a signal; an evaluation keeps nothing of its scores: run it again from the start"
            )
        }
        false => Ok(()),
    }
}
