//! Runs PTX text against device memory, without the driver.
#![allow(dead_code)] // each test uses its part

use cuda_sim::check::{Finding, Kind};
use cuda_sim::device::DeviceModel;
use cuda_sim::exec::{Launch, Options, Stats, launch};
use cuda_sim::memory::DeviceMemory;
use cuda_sim::ptx::Module;

/// A module with its memory.
pub struct Program {
    pub module: Module,
    pub memory: DeviceMemory,
    pub device: DeviceModel,
    pub options: Options,
}

/// One argument of a kernel.
#[derive(Clone, Copy)]
pub enum Arg {
    U32(u32),
    I32(i32),
    F32(f32),
    U64(u64),
    /// A tensor map.
    Map([u8; 128]),
}

/// How a kernel is launched.
#[derive(Clone)]
pub struct Shape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub cluster: [u32; 3],
    pub shared: u32,
}

impl Shape {
    pub fn new(grid: u32, block: u32) -> Self {
        Self { grid: [grid, 1, 1], block: [block, 1, 1], cluster: [1; 3], shared: 0 }
    }
}

/// The head that every module needs.
pub const HEAD: &str = ".version 9.0\n.target sm_90a\n.address_size 64\n";

impl Program {
    /// `text` without its head.
    pub fn new(text: &str) -> Self {
        Self::whole(&format!("{HEAD}{text}"))
    }

    pub fn whole(text: &str) -> Self {
        let mut module = Module::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let memory = DeviceMemory::new(1 << 30);
        let addresses: Vec<u64> = module
            .globals
            .iter()
            .map(|g| memory.alloc(g.bytes.max(1), g.align.max(256)).expect("memory for a global"))
            .collect();
        module.link(&addresses);
        for (global, address) in module.globals.iter().zip(&addresses) {
            memory.write(*address, &global.init).expect("a fresh allocation");
            if global.constant {
                memory.protect(*address);
            }
        }
        let options = Options { threads: 1, ..Options::default() };
        Self { module, memory, device: DeviceModel::h200(), options }
    }

    /// Memory that holds `data`.
    pub fn upload<T: Copy>(&self, data: &[T]) -> u64 {
        let bytes = bytes_of(data);
        let address = self.memory.alloc(bytes.len(), 256).expect("memory");
        self.memory.write(address, bytes).expect("a fresh allocation");
        address
    }

    /// Memory that nobody has written.
    pub fn blank(&self, bytes: usize) -> u64 {
        self.memory.alloc(bytes, 256).expect("memory")
    }

    pub fn download<T: Copy + Default>(&self, address: u64, n: usize) -> Vec<T> {
        let mut out = vec![T::default(); n];
        // SAFETY: the tests download plain numbers, for which any bytes are valid.
        let bytes = unsafe { std::slice::from_raw_parts_mut(out.as_mut_ptr().cast(), size_of_val(&out[..])) };
        self.memory.read(address, bytes).unwrap_or_else(|e| panic!("{e}"));
        out
    }

    /// Launches the kernel `name`.
    pub fn launch(&self, name: &str, shape: &Shape, args: &[Arg]) -> Result<Stats, Box<Finding>> {
        let kernel = self.module.kernels.iter().find(|k| k.name == name).expect("a kernel of the module");
        let mut params = vec![0; kernel.param_bytes];
        for (param, arg) in kernel.params.iter().zip(args) {
            let plain: [u8; 8] = match *arg {
                Arg::U32(v) => u64::from(v).to_le_bytes(),
                Arg::I32(v) => (v as u64).to_le_bytes(),
                Arg::F32(v) => u64::from(v.to_bits()).to_le_bytes(),
                Arg::U64(v) => v.to_le_bytes(),
                Arg::Map(_) => [0; 8],
            };
            let bytes: &[u8] = if let Arg::Map(map) = arg { map } else { &plain };
            // Blocks passed by value start with the argument and are zero behind it.
            let size = param.size.min(bytes.len());
            params[param.offset..param.offset + size].copy_from_slice(&bytes[..size]);
        }
        launch(&Launch {
            kernel,
            grid: shape.grid,
            block: shape.block,
            cluster: shape.cluster,
            dynamic_shared: shape.shared,
            params: &params,
            memory: &self.memory,
            device: &self.device,
            options: &self.options,
        })
    }

    /// Launches and panics with the report of a finding.
    pub fn run(&self, name: &str, shape: &Shape, args: &[Arg]) -> Stats {
        self.launch(name, shape, args).unwrap_or_else(|finding| panic!("{finding}"))
    }

    /// Launches and returns what was found.
    pub fn finds(&self, name: &str, shape: &Shape, args: &[Arg]) -> Box<Finding> {
        match self.launch(name, shape, args) {
            Ok(_) => panic!("nothing was found"),
            Err(finding) => finding,
        }
    }
}

pub fn bytes_of<T: Copy>(data: &[T]) -> &[u8] {
    // SAFETY: the tests upload plain numbers, which have no padding.
    unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), size_of_val(data)) }
}

/// Runs the body of a kernel for one warp and returns its register `%out` per lane. The body may use `%r<64>`,
/// `%rd<64>`, `%f<64>`, `%fd<64>`, `%rs<64>`, `%p<16>`, and finds the lane in `%r0`.
pub fn lanes_of(body: &str) -> Vec<u32> {
    let text = format!(
        ".visible .entry k(.param .u64 k_param_0)\n{{\n.reg .b32 %r<64>, %out;\n.reg .b64 %rd<64>, %rw<2>;\n\
         .reg .f32 %f<64>;\n.reg .f64 %fd<64>;\n.reg .b16 %rs<64>;\n.reg .pred %p<16>;\nmov.u32 %r0, %laneid;\n{body}\n\
         ld.param.u64 %rw0, [k_param_0];\nmul.wide.u32 %rw1, %r0, 4;\nadd.s64 %rw0, %rw0, %rw1;\n\
         st.global.u32 [%rw0], %out;\nret;\n}}\n"
    );
    let program = Program::new(&text);
    let out = program.blank(128);
    program.run("k", &Shape::new(1, 32), &[Arg::U64(out)]);
    program.download(out, 32)
}

/// The first lane's `%out`.
pub fn value_of(body: &str) -> u32 {
    lanes_of(body)[0]
}

/// Whether a finding is of a kind, with its report if not.
pub fn expect(finding: &Finding, kind: Kind) {
    assert_eq!(finding.kind, kind, "{finding}");
}
