//! Meeting a running process at a moment that is seen, not timed: a line in a file, a name in a folder. However slow or
//! busy the machine is, either the process is met there or it ended first, and the caller is told which.

use std::fs;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

/// Waits until `seen`, looking again and again; `false` when the process ended before.
pub fn meets(child: &mut Child, seen: impl Fn() -> bool) -> bool {
    while child.try_wait().unwrap().is_none() {
        if seen() {
            return true;
        }
        // Only so as not to take the time that the process needs.
        sleep(Duration::from_millis(1));
    }
    false
}

/// Sends the signal of this name.
pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(status.success(), "kill -{name}: {status}");
}

/// Stops the process when `seen`, so that whatever comes next finds it there; `false` when it ended before. [`thaw`]
/// lets it go on.
pub fn freezes(child: &mut Child, seen: impl Fn() -> bool) -> bool {
    if !meets(child, seen) {
        return false;
    }
    signal(child, "STOP");
    let stat = format!("/proc/{}/stat", child.id());
    // The state stands behind the name, which ends with the last bracket.
    let stopped =
        || fs::read_to_string(&stat).is_ok_and(|text| text.rsplit(')').next().unwrap().trim().starts_with('T'));
    meets(child, stopped)
}

/// Lets a frozen process go on.
pub fn thaw(child: &Child) {
    signal(child, "CONT");
}
