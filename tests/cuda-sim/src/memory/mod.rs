//! Device memory: allocations at addresses that are not reused soon, with a shadow bit per byte that says whether it
//! was ever written.
//!
//! [`DeviceMemory`] is shared by the host and by all threads that run blocks; each of those threads reaches it through
//! a [`Tlb`] of its own. All accesses to the bytes are relaxed atomics, so kernels that race get some value, as on the
//! card, and never break the simulator. Order between threads is the interpreter's part: it issues a
//! [`std::sync::atomic::fence`] where the kernel executes a fence or an access with acquire or release semantics.

mod allocation;
mod atomic;
mod device_memory;
mod fault;
mod shadow;
mod tlb;

pub use allocation::Element;
pub use atomic::{AtomicOp, AtomicType, Update, Values};
pub use device_memory::DeviceMemory;
pub use fault::{Access, Fault};
pub use tlb::Tlb;
