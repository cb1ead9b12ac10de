//! Every call on files may fail: the binary with a library before libc that makes one fail, for every kind of call and
//! every file the first and the last. Each run ends well with the right files, or with one error that names the file;
//! and the same command run again ends in the same bytes as one that was never disturbed.

#[path = "../common/binary.rs"]
mod binary;

mod commands;
mod injection;
