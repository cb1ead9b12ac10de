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
                "stopped by a signal: run the same command again; with --output it goes on from what it has kept there"
            )
        }
        false => Ok(()),
    }
}
