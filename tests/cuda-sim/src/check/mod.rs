//! What the simulator found wrong, and how it is reported.

mod finding;
pub mod order;
pub mod shadow;

pub use finding::{Finding, Kind};
