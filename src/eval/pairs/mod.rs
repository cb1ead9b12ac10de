//! Pictures and sentences about them: which goes with which.

pub mod aro;
pub mod retrieval;
