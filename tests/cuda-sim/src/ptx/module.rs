//! A parsed module: what the driver needs to know, and the code that `exec` runs.

use std::fmt;
use std::sync::Arc;

use super::instruction::{Constant, ConstantRow, Instr};

/// Why a module is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    pub line: u32,
    pub what: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PTX line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ParseError {}

/// One `.version` … text.
#[derive(Debug)]
pub struct Module {
    pub kernels: Vec<Kernel>,
    /// `.global` and `.const` variables with an initial value or without, in order of declaration.
    pub globals: Vec<Global>,
    /// 80, 86, 89, 90.
    pub target: u32,
    /// The target ends in `a`.
    pub arch_specific: bool,
    /// PTX ISA version.
    pub version: (u32, u32),
}

/// A kernel parameter's place in the packed parameter block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    pub name: String,
    pub offset: usize,
    pub size: usize,
    pub align: usize,
}

/// One `.entry`.
#[derive(Debug)]
pub struct Kernel {
    pub name: String,
    pub params: Vec<Param>,
    /// Size of the packed parameter block.
    pub param_bytes: usize,
    /// Bytes of static shared memory.
    pub static_shared: usize,
    /// Bytes of local memory of one thread.
    pub local_bytes: usize,
    /// `.maxntid`.
    pub max_threads: Option<[u32; 3]>,
    /// `.reqntid`.
    pub required_threads: Option<[u32; 3]>,
    /// `.reqnctapercluster`: a launch must use this cluster, or give none.
    pub cluster: Option<[u32; 3]>,
    /// `.maxclusterrank`.
    pub max_cluster: Option<u32>,
    /// `.minnctapersm`.
    pub min_blocks_per_sm: Option<u32>,
    pub(crate) code: Code,
}

/// What a warp executes.
#[derive(Debug, Default)]
pub(crate) struct Code {
    pub instructions: Vec<Instr>,
    /// PTX line of each instruction.
    pub lines: Vec<u32>,
    /// Index into `places` of each instruction, `u32::MAX` without `-lineinfo`.
    pub place_of: Vec<u32>,
    /// File number and line.
    pub places: Vec<(u32, u32)>,
    /// File names by number.
    pub files: Arc<Vec<(u32, String)>>,
    /// Rows of the register file, constants included.
    pub rows: usize,
    /// Predicates, the fixed ones included.
    pub predicates: usize,
    pub constants: Vec<ConstantRow>,
    /// Uses wgmma: what touches its registers is then checked.
    pub wgmma: bool,
    /// See [`Code::wgmma_registers`].
    pub(super) touched: std::sync::OnceLock<Vec<Box<[super::touched::Touch]>>>,
}

impl Code {
    /// File and line of an instruction.
    pub fn source(&self, pc: usize) -> Option<(String, u32)> {
        let &(file, line) = self.places.get(*self.place_of.get(pc)? as usize)?;
        let name = self.files.iter().find(|(number, _)| *number == file)?.1.clone();
        Some((name, line))
    }
}

/// One module-scope `.global` or `.const` variable.
#[derive(Debug, Clone)]
pub struct Global {
    pub name: String,
    pub bytes: usize,
    pub align: usize,
    /// `bytes` long (zeros where the text gives no value); final after [`Module::link`].
    pub init: Vec<u8>,
    pub constant: bool,
    /// Places in `init` that hold the address of another variable: offset, variable, addend.
    pub(crate) pointers: Vec<(usize, usize, i64)>,
}

impl Module {
    /// Gives the globals their addresses, in order; the driver then writes each `init` there and protects the
    /// constants.
    ///
    /// # Panics
    /// If there are not as many addresses as globals.
    pub fn link(&mut self, addresses: &[u64]) {
        assert_eq!(addresses.len(), self.globals.len(), "one address per global");
        for global in &mut self.globals {
            for &(at, index, addend) in &global.pointers {
                let address = addresses[index].wrapping_add_signed(addend);
                global.init[at..at + 8].copy_from_slice(&address.to_le_bytes());
            }
        }
        for kernel in &mut self.kernels {
            for constant in &mut kernel.code.constants {
                if let Constant::Global { index, offset } = constant.value {
                    constant.value = Constant::Bits(addresses[index].wrapping_add_signed(offset));
                }
            }
        }
    }
}

impl Kernel {
    /// Rows of the register file of one warp, constants included.
    pub fn rows(&self) -> usize {
        self.code.rows
    }
}
