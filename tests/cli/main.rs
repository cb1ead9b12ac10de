//! The binary as its users meet it: whole commands, exit codes, messages, files.

mod common;

mod bad_generate;
mod bad_train;
mod bench;
mod captions;
mod checkpoint;
mod config;
mod docs;
mod generate;
mod help;
mod inspect;
mod limits;
#[path = "../common/process.rs"]
mod process;
mod resume_generate;
mod resume_train;
mod streams;
mod train_data;
