use std::process::ExitCode;

use stablerep::device::Heap;

#[global_allocator]
static HEAP: Heap = Heap;

fn main() -> ExitCode {
    stablerep::cli::main()
}
