//! The C ABI of the driver.
