//! Number formats: conversions and approximate functions.
