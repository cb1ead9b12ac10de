//! The device's side of an update: its buffers, and what is queued for it.

use super::feed::Feed;
use crate::device::cuda::{Arena, Gpu, Pinned, View};
use crate::error::Result;
use crate::layers::training::count::Tally;
use crate::layers::training::cuda::{Call, Memory};
use crate::layers::training::{Buffer, Stages};
use crate::ops::optimizer::AdamW;
use crate::ops::optimizer::cuda::{self as optimizer, Buffers, Guard};
use crate::ops::{convert, reduce};
use crate::train::method::Network;
use crate::train::recipe::Recipe;
use crate::train::state::{ADAM_EPS, State};
use crate::weights::DeviceParams;

/// Bytes that an update tells the host: the gradient's sum of squares (f64), the loss (f32).
pub const NUMBERS: usize = 16;

/// Device memory of an update, but for the feed's.
#[derive(Debug)]
pub struct Update {
    params: DeviceParams,
    m: View<f32>,
    v: View<f32>,
    kept: View<f32>,
    /// The same before an update that may be left out.
    before: Option<View<f32>>,
    decay: View<u8>,
    memory: Memory,
    squares: View<f64>,
    numbers: View<u8>,
    adamw: AdamW,
}

impl Update {
    pub fn new(arena: &mut Arena, network: &dyn Network, recipe: &Recipe) -> Result<Self> {
        let mut tally = Tally::default();
        network.gradient(&mut tally)?;
        let len = network.parameters().len();
        let Recipe { beta1, beta2, weight_decay, max_bad_updates, .. } = *recipe;
        let kept = network.kept().len();
        Ok(Self {
            params: DeviceParams::new(arena, len),
            m: arena.take("optimizer", "first moments", len),
            v: arena.take("optimizer", "second moments", len),
            decay: arena.take("optimizer", "decay mask", len.div_ceil(8)),
            kept: arena.take("parameters", "running statistics", kept),
            before: (max_bad_updates > 0 && kept > 0)
                .then(|| arena.take("optimizer", "statistics before the update", kept)),
            memory: Memory::take(arena, network.layout(), &tally),
            squares: arena.take("optimizer", "partial sums", reduce::cuda::scratch_len(len)),
            numbers: arena.take("optimizer", "loss and norm", NUMBERS),
            adamw: AdamW { lr: 0.0, beta1, beta2, eps: ADAM_EPS, weight_decay, step: 0 },
        })
    }

    /// Writes what stays the same for the whole run.
    pub fn prepare(&self, gpu: &Gpu, network: &dyn Network) -> Result<()> {
        gpu.write(self.decay, &optimizer::decay_mask(&network.groups(), network.parameters().len()))
    }

    /// The numbers that update `step` reads from device memory.
    pub fn settings(&self, lr: f64, step: u64) -> [f32; optimizer::SETTINGS] {
        AdamW { lr, step: step + 1, ..self.adamw }.settings()
    }

    /// A call of the network on what lies in the feed.
    pub fn call<'a, 's>(&'a self, gpu: &'a Gpu, feed: &Feed, stages: Stages<'a, 's>) -> Call<'a, 's> {
        Call {
            gpu,
            memory: &self.memory,
            params: self.params,
            statistics: self.kept,
            images: feed.views(),
            numbers: feed.numbers(),
            loss: self.loss(),
            stages,
        }
    }

    /// Queues one whole update of what lies in the feed; `queued` hears of each part once it is queued.
    pub fn queue(
        &self,
        gpu: &Gpu,
        network: &dyn Network,
        feed: &Feed,
        queued: &mut dyn FnMut(&'static str) -> Result<()>,
    ) -> Result<()> {
        if let Some(before) = self.before {
            gpu.copy(before, self.kept)?;
        }
        feed.render(gpu)?;
        queued("augmentation")?;
        network.gradient(&mut self.call(gpu, feed, Some(queued)))?;
        let (params, sum) = (&self.params, self.sum_of_squares());
        reduce::cuda::sum_of_squares(gpu, sum, params.grads, self.squares)?;
        let buffers = Buffers { p: params.master, m: self.m, v: self.v, rounded: Some(params.rounded) };
        let guard = Guard { sum_of_squares: sum, loss: Some(self.loss()) };
        optimizer::adamw(gpu, buffers, params.grads, self.decay, feed.settings(), guard, true)?;
        queued("optimizer")
    }

    /// Takes back what an update changed that the optimizer withheld: what the network keeps, and the gradient.
    pub fn restore(&self, gpu: &Gpu) -> Result<()> {
        if let Some(before) = self.before {
            gpu.copy(self.kept, before)?;
        }
        gpu.zero(self.params.grads)
    }

    fn sum_of_squares(&self) -> View<f64> {
        self.numbers.slice(0..8).cast()
    }

    fn loss(&self) -> View<f32> {
        self.numbers.slice(8..12).cast()
    }

    /// Queues bringing the numbers of the update queued last.
    pub fn read_numbers(&self, gpu: &Gpu, to: &mut Pinned<u8>) -> Result<()> {
        gpu.read_pinned(to, self.numbers)
    }

    /// Waits, and reads what an update left in `buffer`.
    pub fn read(&self, gpu: &Gpu, buffer: Buffer) -> Result<Vec<f32>> {
        self.memory.read(gpu, buffer)
    }

    /// Copies parameters, moments and statistics to the device.
    pub fn upload(&self, gpu: &Gpu, state: &State) -> Result<()> {
        gpu.write(self.params.master, &state.params)?;
        gpu.write(self.m, &state.m)?;
        gpu.write(self.v, &state.v)?;
        gpu.write(self.kept, &state.kept)?;
        gpu.zero(self.params.grads)?;
        convert::cuda::to_bf16(gpu, self.params.rounded, self.params.master)
    }

    /// Waits, and copies them back.
    pub fn download(&self, gpu: &Gpu, state: &mut State) -> Result<()> {
        let pairs = [
            (&mut state.params, self.params.master),
            (&mut state.m, self.m),
            (&mut state.v, self.v),
            (&mut state.kept, self.kept),
        ];
        for (to, from) in pairs {
            to.copy_from_slice(&gpu.read(from)?);
        }
        Ok(())
    }
}

/// Loss and sum of squares from what [`Update::read_numbers`] brought.
pub fn numbers(bytes: &[u8]) -> [f64; 2] {
    let squares: f64 = bytemuck::pod_read_unaligned(&bytes[0..8]);
    let loss: f32 = bytemuck::pod_read_unaligned(&bytes[8..12]);
    [f64::from(loss), squares]
}
