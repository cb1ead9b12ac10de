//! What the `bench.rs` of an op is made of: a kernel, a shape, the work it must do, and a closure that queues it.

use std::cell::OnceCell;
use std::fmt;

use half::{bf16, f16};

use crate::device::cuda::{DType, E4m3, Element, Gpu, Half, Owned, View};
use crate::error::Result;
use crate::rng::{Domain, Stream};

/// Shapes as in the models, or cut down for the simulated driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Full,
    Reduced,
}

impl Size {
    /// The first on a card, the second on the simulated driver.
    pub fn pick<T>(self, full: T, reduced: T) -> T {
        match self {
            Self::Full => full,
            Self::Reduced => reduced,
        }
    }
}

/// What a kernel has to do, whatever way it does it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// FLOPs of matrix products; elementwise ones are not counted, memory bounds them.
    pub flops: f64,
    /// Bytes of every tensor read and written, once.
    pub bytes: f64,
    /// Exponentials and other results of the special function units.
    pub exps: f64,
}

/// A plain product `[m, k]·[n, k]ᵀ`: what a vendor's library is asked to do beside a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub dtype: DType,
}

/// Queues the kernel once; owns its buffers.
pub type Queue = Box<dyn Fn(&Gpu) -> Result<()>>;

/// Makes a case's buffers.
type Prepare = Box<dyn Fn(&Inputs) -> Result<Queue>>;

/// One kernel at one shape.
pub struct Case {
    pub op: &'static str,
    pub kernel: String,
    pub shape: String,
    pub work: Work,
    pub rival: Option<Product>,
    /// Reads or writes e4m3: products have twice the rate of 16 bits, and older cards have none.
    pub e4m3: bool,
    /// Allocates and fills the buffers.
    pub(crate) prepare: Prepare,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("title", &self.title()).field("work", &self.work).finish_non_exhaustive()
    }
}

impl Case {
    /// A case; `prepare` makes its buffers and returns what queues it.
    pub fn new<Run>(
        (op, kernel, shape): (&'static str, impl Into<String>, String),
        work: Work,
        prepare: impl Fn(&Inputs) -> Result<Run> + 'static,
    ) -> Self
    where
        Run: Fn(&Gpu) -> Result<()> + 'static,
    {
        let prepare = Box::new(move |inputs: &Inputs| Ok(Box::new(prepare(inputs)?) as Queue));
        Self { op, kernel: kernel.into(), shape, work, rival: None, e4m3: false, prepare }
    }

    /// Beside a product by cuBLASLt.
    pub fn against(self, m: usize, n: usize, k: usize, dtype: DType) -> Self {
        Self { rival: Some(Product { m, n, k, dtype }), ..self }
    }

    /// For cards with e4m3 only.
    pub fn over_e4m3(self) -> Self {
        Self { e4m3: true, ..self }
    }

    /// Op, kernel and shape.
    pub fn title(&self) -> String {
        format!("{} {} {}", self.op, self.kernel, self.shape)
    }
}

/// Values drawn once and repeated over buffers of any length: enough to look random to a memory system and to the power
/// meter of a matrix unit, for which zeros would be cheaper.
const DRAWN: usize = 1 << 20;

/// `kernel` and the type its tensors are stored in.
pub fn stored<T: Half>(kernel: &str) -> String {
    format!("{kernel} {}", T::DTYPE)
}

/// The cases in f16; of those in bf16, whose kernels are the same but for the type, the first of each kernel.
pub fn in_both_types(f16: Vec<Case>, bf16: Vec<Case>) -> Vec<Case> {
    let mut all = f16;
    for case in bf16 {
        if !all.iter().any(|other| other.kernel == case.kernel) {
            all.push(case);
        }
    }
    all
}

/// Makes the buffers of cases.
pub struct Inputs {
    gpu: Gpu,
    normal: OnceCell<Vec<f32>>,
}

/// What buffers hold.
pub trait Number: Element {
    fn of(value: f32) -> Self;
}

impl Number for f32 {
    fn of(value: f32) -> Self {
        value
    }
}

impl Number for bf16 {
    fn of(value: f32) -> Self {
        Self::from_f32(value)
    }
}

impl Number for f16 {
    fn of(value: f32) -> Self {
        Self::from_f32(value)
    }
}

impl Number for E4m3 {
    /// As layers hold it: scaled so that four deviations are the largest.
    fn of(value: f32) -> Self {
        Self::round(value * (Self::MAX / 4.0))
    }
}

impl Inputs {
    pub(crate) fn new(gpu: &Gpu) -> Self {
        Self { gpu: gpu.clone(), normal: OnceCell::new() }
    }

    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// `len` values of N(0, 1).
    pub fn normal<T: Number>(&self, len: usize) -> Result<Owned<T>> {
        self.scaled(len, 1.0)
    }

    /// `len` values of N(0, std²).
    pub fn scaled<T: Number>(&self, len: usize, std: f32) -> Result<Owned<T>> {
        let drawn = self.normal.get_or_init(|| {
            let mut values = vec![0.0; DRAWN];
            Stream::new(0, Domain::SelfTest, [0; 3]).fill_normal(&mut values);
            values
        });
        let first: Vec<T> = drawn.iter().take(len).map(|&v| T::of(v * std)).collect();
        self.repeated(&first, len)
    }

    /// `len` random bytes.
    pub fn bytes(&self, len: usize) -> Result<Owned<u8>> {
        let mut stream = Stream::new(0, Domain::SelfTest, [1, 0, 0]);
        let first: Vec<u8> = (0..len.min(DRAWN) / 4 + 1).flat_map(|_| stream.next_u32().to_le_bytes()).collect();
        self.repeated(&first[..first.len().min(len)], len)
    }

    /// `len` random numbers below `limit`.
    pub fn below(&self, len: usize, limit: usize) -> Result<Owned<u32>> {
        let mut stream = Stream::new(0, Domain::SelfTest, [2, 0, 0]);
        let first: Vec<u32> = (0..len.min(DRAWN)).map(|_| stream.below(limit) as u32).collect();
        self.repeated(&first, len)
    }

    /// `len` zeros: where results go.
    pub fn room<T: Element>(&self, len: usize) -> Result<Owned<T>> {
        self.gpu.zeros(len)
    }

    /// These values.
    pub fn upload<T: Element>(&self, values: &[T]) -> Result<Owned<T>> {
        self.gpu.upload(values)
    }

    /// `first`, again and again up to `len`.
    fn repeated<T: Element>(&self, first: &[T], len: usize) -> Result<Owned<T>> {
        let all = self.gpu.alloc(len)?;
        let view: View<T> = all.view();
        let mut filled = first.len().min(len);
        self.gpu.write(view.slice(0..filled), &first[..filled])?;
        while filled < len {
            let more = filled.min(len - filled);
            self.gpu.copy(view.slice(filled..filled + more), view.slice(0..more))?;
            filled += more;
        }
        Ok(all)
    }
}
