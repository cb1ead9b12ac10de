//! Networks against the reference libraries' outputs (tests/fixtures).

mod projector;
mod support;
mod vit;
