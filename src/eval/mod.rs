//! A trained encoder to scores.
