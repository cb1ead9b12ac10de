//! The binary as its users meet it: whole commands, exit codes, messages, files.

mod common;

mod bad_generate;
mod bad_train;
mod bench;
mod docs;
mod generate;
mod help;
mod inspect;
mod resume_generate;
mod resume_train;
