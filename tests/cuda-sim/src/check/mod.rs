//! What the simulator found wrong, and how it is reported.

mod finding;

pub use finding::{Finding, Kind};
