//! The end of the process: work that nobody waited for still runs, so that what is wrong with it is reported.

use std::ffi::c_int;
use std::sync::Once;
use std::time::Duration;

use super::{context, errors, stream};

unsafe extern "C" {
    fn atexit(function: extern "C" fn()) -> c_int;
}

/// Longest time that the process is kept from ending.
const LIMIT: Duration = Duration::from_secs(60);

pub fn at_exit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `drain` is a function of this library, which is linked never to be unloaded (see build.rs).
        unsafe { atexit(drain) };
    });
}

extern "C" fn drain() {
    errors::answer("at exit", || {
        if stream::in_host_function() {
            return Ok(()); // `exit` was called on a stream's own thread, which cannot wait for itself
        }
        let left = context::drain_all(LIMIT);
        if left > 0 {
            errors::say(format_args!("the process ended with {left} operations still queued on streams"));
        }
        Ok(())
    });
}
