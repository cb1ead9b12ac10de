//! What tests of the binary's messages and files share.

use std::collections::BTreeMap;
use std::path::Path;

pub use crate::binary::{command, files, fixture, root, run, succeeds, text};

/// Runs the binary and checks its exit code and that its message holds every needle; returns the message.
pub fn fails(args: &[&str], exit_code: i32, needles: &[&str]) -> String {
    let output = run(args);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(exit_code), "{args:?}\n{text}");
    for needle in needles {
        assert!(text.contains(needle), "{args:?}\nexpected `{needle}` in:\n{text}");
    }
    text
}

/// Fails with the names of the files that differ.
pub fn assert_same_files(a: &Path, b: &Path, what: &str) {
    let (left, right) = (files(a), files(b));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&left), names(&right), "{what}: other files");
    for (name, bytes) in &left {
        assert!(bytes == &right[name], "{what}: {name} differs");
    }
}
