//! The binary as its users meet it: whole commands, exit codes, messages, files.

mod common;

mod bad_generate;
mod docs;
mod generate;
mod help;
mod resume_generate;
