//! Runs PTX on the simulator's own interface: no driver, every finding in hand.
#![allow(dead_code)] // each test file uses its part

use std::fmt::Write;

use cuda_sim::check::Finding;
use cuda_sim::device::DeviceModel;
use cuda_sim::exec::{Launch, Options, Stats, launch};
use cuda_sim::memory::DeviceMemory;
use cuda_sim::ptx::{Kernel, Module};

/// What plain values look like in memory.
pub trait Plain: Copy + std::fmt::Debug {
    fn bytes(self) -> Vec<u8>;
    fn from_bytes(bytes: &[u8]) -> Self;
    /// The same bits, or both not a number: which one PTX leaves open.
    fn same(self, other: Self) -> bool;
}

macro_rules! plain {
    ($($t:ty)*) => {$(
        impl Plain for $t {
            fn bytes(self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
            fn from_bytes(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().unwrap())
            }
            #[allow(clippy::eq_op)] // true of floats
            fn same(self, other: Self) -> bool {
                self.bytes() == other.bytes() || (self != self && other != other)
            }
        }
    )*};
}
plain!(u8 i8 u16 i16 u32 i32 u64 i64 f32 f64);

/// One kernel argument.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    Ptr(u64),
    U32(u32),
    F32(f32),
}

pub struct Machine {
    pub memory: DeviceMemory,
    pub device: DeviceModel,
    pub options: Options,
}

impl Machine {
    pub fn new() -> Self {
        Self::with_seed(0)
    }

    pub fn with_seed(seed: u64) -> Self {
        let options = Options { seed, threads: 2, stats: true, ..Options::default() };
        Self { memory: DeviceMemory::new(64 << 20), device: DeviceModel::h200(), options }
    }

    pub fn alloc(&self, bytes: usize) -> u64 {
        self.memory.alloc(bytes, 256).unwrap()
    }

    pub fn upload<T: Plain>(&self, values: &[T]) -> u64 {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.bytes()).collect();
        let at = self.alloc(bytes.len().max(1));
        self.memory.write(at, &bytes).unwrap();
        at
    }

    pub fn download<T: Plain>(&self, at: u64, count: usize) -> Vec<T> {
        let mut bytes = vec![0; count * size_of::<T>()];
        self.memory.read(at, &mut bytes).unwrap_or_else(|finding| panic!("{finding}"));
        bytes.chunks(size_of::<T>()).map(T::from_bytes).collect()
    }

    /// The first kernel of `module`.
    pub fn run(&self, module: &Module, grid: [u32; 3], block: [u32; 3], args: &[Arg]) -> Result<Stats, Box<Finding>> {
        self.run_shared(module, grid, block, 0, args)
    }

    pub fn run_shared(
        &self,
        module: &Module,
        grid: [u32; 3],
        block: [u32; 3],
        dynamic_shared: u32,
        args: &[Arg],
    ) -> Result<Stats, Box<Finding>> {
        self.launch(&module.kernels[0], grid, block, dynamic_shared, args)
    }

    pub fn run_named(
        &self,
        module: &Module,
        name: &str,
        grid: [u32; 3],
        block: [u32; 3],
        args: &[Arg],
    ) -> Result<Stats, Box<Finding>> {
        let kernel = module.kernels.iter().find(|kernel| kernel.name == name).unwrap();
        self.launch(kernel, grid, block, 0, args)
    }

    fn launch(
        &self,
        kernel: &Kernel,
        grid: [u32; 3],
        block: [u32; 3],
        dynamic_shared: u32,
        args: &[Arg],
    ) -> Result<Stats, Box<Finding>> {
        assert_eq!(kernel.params.len(), args.len(), "{}", kernel.name);
        let mut params = vec![0; kernel.param_bytes];
        for (param, arg) in kernel.params.iter().zip(args) {
            let bytes = match *arg {
                Arg::Ptr(address) => address.bytes(),
                Arg::U32(value) => value.bytes(),
                Arg::F32(value) => value.bytes(),
            };
            assert_eq!(bytes.len(), param.size, "{}", param.name);
            params[param.offset..][..param.size].copy_from_slice(&bytes);
        }
        launch(&Launch {
            kernel,
            grid,
            block,
            cluster: [1; 3],
            dynamic_shared,
            params: &params,
            memory: &self.memory,
            device: &self.device,
            options: &self.options,
        })
    }
}

/// Parses and links a module, its variables placed and initialised on the machine.
pub fn load(machine: &Machine, text: &str) -> Module {
    dump(text);
    let mut module = Module::parse(text).unwrap_or_else(|error| panic!("{error}\n{}", numbered(text)));
    let addresses: Vec<u64> = module.globals.iter().map(|global| machine.alloc(global.bytes.max(1))).collect();
    module.link(&addresses);
    for (global, &address) in module.globals.iter().zip(&addresses) {
        machine.memory.write(address, &global.init).unwrap();
        if global.constant {
            machine.memory.protect(address);
        }
    }
    module
}

/// Writes the program into `CORPUS_PTX`, where that is set: for `ptxas` to judge whether it is PTX at all.
fn dump(text: &str) {
    if let Some(folder) = std::env::var_os("CORPUS_PTX") {
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ b as u64).wrapping_mul(0x100_0000_01b3));
        std::fs::write(std::path::Path::new(&folder).join(format!("{hash:016x}.ptx")), text).unwrap();
    }
}

pub fn numbered(text: &str) -> String {
    text.lines().enumerate().fold(String::new(), |mut all, (i, line)| {
        let _ = writeln!(all, "{:4} {line}", i + 1);
        all
    })
}

/// The line (counted from 1) that holds the marker `// HERE`.
pub fn marked_line(text: &str) -> u32 {
    text.lines().position(|line| line.contains("// HERE")).expect("no line is marked") as u32 + 1
}

pub const HEADER: &str = ".version 9.0\n.target sm_90\n.address_size 64\n";

/// Registers that every program of the corpus may use.
pub const REGISTERS: &str = "\t.reg .pred %p<16>;\n\t.reg .b16 %h<32>;\n\t.reg .b32 %r<64>;\n\t.reg .f32 %f<32>;\n\
    \t.reg .b64 %rd<64>;\n\t.reg .f64 %fd<16>;\n";

/// A kernel `k` over pointers `a`, `b`, … in `%rd1`, `%rd2`, … (global addresses), with the thread's index in `%r1`.
pub fn kernel(pointers: usize, body: &str) -> String {
    let names: Vec<String> = (0..pointers).map(|i| format!("\t.param .u64 k_param_{i}")).collect();
    let mut text = format!("{HEADER}.visible .entry k(\n{}\n)\n{{\n{REGISTERS}", names.join(",\n"));
    for i in 0..pointers {
        let n = i + 1;
        let _ = writeln!(text, "\tld.param.u64 %rd{n}, [k_param_{i}];\n\tcvta.to.global.u64 %rd{n}, %rd{n};");
    }
    let _ = write!(text, "\tmov.u32 %r1, %tid.x;\n{body}\n\tret;\n}}\n");
    text
}
