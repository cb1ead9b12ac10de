//! What the `check.rs` of an op is made of: a device, inputs that depend on the seed and their name only, and
//! comparisons.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};

use half::bf16;

use crate::bail;
use crate::device::cuda::{DType, E4m3, Element, Gpu, Half, Owned, View};
use crate::error::Result;
use crate::rng::{Domain, Stream};

/// One comparison of a kernel with its op on the CPU.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// What is compared: op, direction, storage type, kernel family.
    pub name: &'static str,
    /// Fails with what differs.
    pub run: fn(&Case) -> Result<()>,
}

/// The checks of one op.
#[derive(Clone, Copy, Debug)]
pub struct Checks {
    /// Awkward shapes, small enough for the simulated driver.
    pub quick: &'static [Check],
    /// Layers of Stable Diffusion 1.5 with all their channels and pixels. Small tensors do not fill a card's
    /// multiprocessors, wrap their rings often, or reach beyond the first megabytes; these do, at one image, so that
    /// the simulated driver takes them in a minute.
    pub full_size: &'static [Check],
}

impl Checks {
    /// Without layers at full size.
    pub const fn quick(quick: &'static [Check]) -> Self {
        Self { quick, full_size: &[] }
    }
}

/// How far results may lie from their reference.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Of 1 − 2⟨x, y⟩ / (|x|² + |y|²) over the whole tensor.
    pub difference: f64,
    /// Of one element, as a share of itself …
    pub relative: f64,
    /// … plus a share of the reference's root mean square.
    pub of_rms: f64,
}

impl Tolerance {
    /// For results stored in bf16 (relative spacing 2⁻⁸): one rounding of the result and some of what led to it.
    pub const fn bf16() -> Self {
        Self { difference: 1e-5, relative: 1.0 / 128.0, of_rms: 0.03 }
    }

    /// For results stored in f16 (relative spacing 2⁻¹¹).
    pub const fn f16() -> Self {
        Self { difference: 2e-7, relative: 1.0 / 1024.0, of_rms: 0.004 }
    }

    /// For results stored in T.
    pub const fn of<T: Half>() -> Self {
        match T::DTYPE {
            DType::F16 => Self::f16(),
            DType::Bf16 => Self::bf16(),
        }
    }

    /// For results stored and computed in f32, from exact or f32 inputs.
    pub const fn f32() -> Self {
        Self { difference: 1e-10, relative: 1e-4, of_rms: 1e-4 }
    }
}

/// The context of one check.
#[derive(Debug)]
pub struct Case {
    gpu: Gpu,
    seed: u64,
    full: bool,
    skipped: Cell<Option<&'static str>>,
    note: Cell<Option<&'static str>>,
}

impl Case {
    pub(crate) fn new(gpu: Gpu, seed: u64, full: bool) -> Self {
        Self { gpu, seed, full, skipped: Cell::new(None), note: Cell::new(None) }
    }

    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether the card has e4m3; a check of it then ends without a verdict, and the report says so.
    pub fn has_e4m3(&self) -> bool {
        if !self.gpu.has_e4m3() {
            self.skip("needs compute capability 8.9");
        }
        self.gpu.has_e4m3()
    }

    /// The check does not apply to this card; the report says why.
    pub fn skip(&self, why: &'static str) {
        self.skipped.set(Some(why));
    }

    /// What the report says beside a check that passed.
    pub fn say(&self, what: &'static str) {
        self.note.set(Some(what));
    }

    /// What was said.
    pub(crate) fn note(&self) -> Option<&'static str> {
        self.note.get()
    }

    /// Why the check did not apply.
    pub(crate) fn skipped(&self) -> Option<&'static str> {
        self.skipped.get()
    }

    /// Whether shapes too large for the simulator are wanted.
    pub fn full(&self) -> bool {
        self.full
    }

    /// The random stream called `name`.
    pub fn stream(&self, name: &str) -> Stream {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let id = hasher.finish();
        Stream::new(self.seed, Domain::SelfTest, [id as u32, (id >> 32) as u32, 0])
    }

    /// `len` values of N(0, std²).
    pub fn normal(&self, name: &str, len: usize, std: f32) -> Vec<f32> {
        let mut values = vec![0.0; len];
        self.stream(name).fill_normal(&mut values);
        values.iter_mut().for_each(|v| *v *= std);
        values
    }

    /// `values` rounded to bf16 on the device, and the rounded values.
    pub fn bf16(&self, values: &[f32]) -> Result<(Owned<bf16>, Vec<f32>)> {
        self.half(values)
    }

    /// `values` rounded to a 16-bit type on the device, and the rounded values.
    pub fn half<T: Half>(&self, values: &[f32]) -> Result<(Owned<T>, Vec<f32>)> {
        let rounded: Vec<T> = values.iter().map(|&v| T::round(v)).collect();
        Ok((self.gpu.upload(&rounded)?, rounded.iter().map(|v| v.widen()).collect()))
    }

    /// `values` on the device.
    pub fn f32(&self, values: &[f32]) -> Result<Owned<f32>> {
        self.gpu.upload(values)
    }

    /// bf16 values of the device, widened.
    pub fn read_bf16(&self, view: View<bf16>) -> Result<Vec<f32>> {
        self.read_half(view)
    }

    /// 16-bit values of the device, widened.
    pub fn read_half<T: Half>(&self, view: View<T>) -> Result<Vec<f32>> {
        Ok(self.gpu.read(view)?.iter().map(|v| v.widen()).collect())
    }

    /// Fails with place and size of the difference when `got` is not as close to `want` as `tolerance` asks.
    pub fn close(&self, what: &str, got: &[f32], want: &[f32], tolerance: Tolerance) -> Result<()> {
        if got.len() != want.len() {
            bail!(Failed, "{what}: {} values, expected {}", got.len(), want.len());
        }
        let (mut product, mut squares, mut reference) = (0.0f64, 0.0f64, 0.0f64);
        for (&g, &w) in got.iter().zip(want) {
            let (g, w) = (f64::from(g), f64::from(w));
            product += g * w;
            squares += g * g + w * w;
            reference += w * w;
        }
        let rms = (reference / want.len().max(1) as f64).sqrt();
        for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
            let (g, w) = (f64::from(g), f64::from(w));
            let bound = tolerance.relative * w.abs() + tolerance.of_rms * rms;
            // Not `>`: a NaN must fail.
            let within = (g - w).abs() <= bound;
            if !within {
                bail!(
                    Failed,
                    "{what}[{i}] of {}: got {g}, expected {w} ± {bound:.2e} (root mean square {rms:.3e})",
                    want.len()
                );
            }
        }
        let difference = if squares > 0.0 { 1.0 - 2.0 * product / squares } else { 0.0 };
        if difference > tolerance.difference {
            bail!(
                Failed,
                "{what}: difference {difference:.2e} over {} values, expected at most {:.0e}",
                want.len(),
                tolerance.difference
            );
        }
        Ok(())
    }

    /// Fails unless `got` could be e4m3(x·inverse) of numbers x that round to `wide`: within half a step of T of them.
    pub fn narrowed<T: Half>(&self, what: &str, got: &[E4m3], wide: &[T], inverse: f32) -> Result<()> {
        if got.len() != wide.len() {
            bail!(Failed, "{what}: {} values, expected {}", got.len(), wide.len());
        }
        let precision = match T::DTYPE {
            DType::F16 => 1.0 / 2048.0,
            DType::Bf16 => 1.0 / 256.0,
        };
        for (i, (got, y)) in got.iter().zip(wide).enumerate() {
            let (got, y) = (got.widen(), y.widen());
            // The last term: half the smallest f16.
            let half_step = y.abs() * precision + 3.0e-8;
            let [low, high] = [y - half_step, y + half_step].map(|x| E4m3::round(x * inverse).widen());
            if !(low..=high).contains(&got) {
                bail!(Failed, "{what}[{i}] of {}: got {got}, expected {low} to {high}: {y} × {inverse}", wide.len());
            }
        }
        Ok(())
    }

    /// Fails at the first element that is not the same, bit for bit.
    pub fn same<T: Element>(&self, what: &str, got: &[T], want: &[T]) -> Result<()> {
        if got.len() != want.len() {
            bail!(Failed, "{what}: {} values, expected {}", got.len(), want.len());
        }
        let differs = |(a, b): (&T, &T)| bytemuck::bytes_of(a) != bytemuck::bytes_of(b);
        match got.iter().zip(want).position(differs) {
            Some(i) => bail!(Failed, "{what}[{i}] of {}: got {:?}, expected {:?}", want.len(), got[i], want[i]),
            None => Ok(()),
        }
    }
}
