//! The C functions of the driver, called as a program calls them: one context for each test.

mod captures;
mod launches;
mod memory;
mod modules;
mod queries;
mod streams;
mod support;
