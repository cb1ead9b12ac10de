//! A parsed module: what the driver needs to know, and the code that `exec` runs.

use std::fmt;

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
}

impl Module {
    /// # Errors
    /// Anything that is not PTX as nvcc emits it, or not modelled: the line and what was found there.
    pub fn parse(_text: &str) -> Result<Module, ParseError> {
        todo!()
    }

    /// Gives the globals their addresses, in order; the driver then writes each `init` there and protects the constants.
    pub fn link(&mut self, _addresses: &[u64]) {
        todo!()
    }
}
