//! Presets and configuration files.
