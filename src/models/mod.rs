//! Networks as explicit forward (and backward) passes over ops.
