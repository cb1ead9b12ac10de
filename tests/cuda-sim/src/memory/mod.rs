//! Device memory: allocations at addresses that are not reused soon, with a shadow bit per byte that says whether it
//! was ever written.

mod device_memory;

pub use device_memory::DeviceMemory;
