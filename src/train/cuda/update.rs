//! The device's side of an update: its buffers, and what is queued for it.

use std::ops::Range;

use super::feed::Feed;
use crate::device::cuda::{Arena, Gpu, Pinned, View};
use crate::error::Result;
use crate::layers::training::count::Tally;
use crate::layers::training::cuda::{Call, Memory};
use crate::layers::training::{Buffer, MomentumCopy, Stages, Weights};
use crate::ops::augment::Scales;
use crate::ops::clip::cuda as clip;
use crate::ops::lars::cuda as lars;
use crate::ops::optimizer::Group;
use crate::ops::optimizer::cuda::{self as optimizer, Buffers, Guard};
use crate::ops::{convert, logit_scale, reduce};
use crate::train::groups::lars_tensors;
use crate::train::method::{Network, SCALARS};
use crate::train::recipe::{Optimizer, Recipe};
use crate::train::schedule::Position;
use crate::train::state::State;
use crate::weights::DeviceParams;

/// Bytes that an update tells the host: the gradient's sum of squares (f64), the loss and what of it was noted (f32).
pub const NUMBERS: usize = 16;

/// Device memory of an update, but for the feed's.
#[derive(Debug)]
pub struct Update {
    params: DeviceParams,
    m: View<f32>,
    /// Empty with LARS.
    v: View<f32>,
    kept: View<f32>,
    /// The same before an update that may be left out.
    before: Option<View<f32>>,
    momentum: Option<(MomentumCopy, DeviceParams)>,
    decay: View<u8>,
    memory: Memory,
    squares: View<f64>,
    numbers: View<u8>,
    parts: Vec<Part>,
    clip: Option<Clip>,
    lars: Option<Lars>,
    recipe: Recipe,
}

/// Parameters that one launch updates, at one rate; of some nothing is learned in the first epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub range: Range<usize>,
    rate: f64,
    late: bool,
}

/// Those of a network, in order.
pub fn parts(network: &dyn Network) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for Group { range, rate, late, .. } in network.groups().into_iter().filter(|group| !group.range.is_empty()) {
        match parts.last_mut() {
            Some(last) if (last.rate, last.late) == (rate, late) => last.range.end = range.end,
            _ => parts.push(Part { range, rate, late }),
        }
    }
    parts
}

/// What gradients are cut with, tensor by tensor.
#[derive(Debug)]
struct Clip {
    most: f64,
    table: clip::Table,
    pieces: View<u32>,
    first: View<u32>,
    partials: View<f64>,
}

impl Clip {
    fn new(arena: &mut Arena, network: &dyn Network, most: f64) -> Self {
        let tensors: Vec<_> = network.parameters().iter().map(|info| info.param.range()).collect();
        let table = clip::Table::new(&tensors);
        Self {
            most,
            pieces: arena.take("optimizer", "pieces of tensors", table.pieces.len()),
            first: arena.take("optimizer", "first pieces", table.first.len()),
            partials: arena.take("optimizer", "norms of pieces", table.pieces.len() / 3),
            table,
        }
    }
}

/// What LARS knows of the tensors.
#[derive(Debug)]
struct Lars {
    table: lars::Table,
    tensors: lars::Tensors,
    partials: View<f64>,
}

impl Lars {
    fn new(arena: &mut Arena, network: &dyn Network) -> Self {
        let table = lars::Table::new(&lars_tensors(network.parameters(), &network.groups()));
        let tensors = lars::Tensors {
            pieces: arena.take("optimizer", "pieces of scaled tensors", table.pieces.len()),
            first: arena.take("optimizer", "first pieces of scaled tensors", table.first.len()),
            scaled: arena.take("optimizer", "which tensors are scaled", table.scaled.len()),
        };
        let partials = arena.take("optimizer", "norms of scaled pieces", table.scratch_len());
        Self { table, tensors, partials }
    }
}

impl Update {
    pub fn new(arena: &mut Arena, network: &dyn Network, recipe: &Recipe) -> Result<Self> {
        let mut tally = Tally::default();
        network.gradient(&mut tally)?;
        let len = network.parameters().len();
        let max_bad_updates = recipe.max_bad_updates;
        let params = DeviceParams::new(arena, len);
        let momentum = network.momentum().map(|copy| (copy, params.copied(arena, copy.parameters.len)));
        let kept = network.statistics_len();
        Ok(Self {
            params,
            momentum,
            m: arena.take("optimizer", "first moments", len),
            v: arena.take("optimizer", "second moments", recipe.optimizer().second_moments(len)),
            decay: arena.take("optimizer", "decay mask", len.div_ceil(8)),
            kept: arena.take("parameters", "running statistics", kept),
            before: (max_bad_updates > 0 && kept > 0)
                .then(|| arena.take("optimizer", "statistics before the update", kept)),
            memory: Memory::take(arena, network.layout(), &tally),
            squares: arena.take("optimizer", "partial sums", reduce::cuda::scratch_len(len)),
            numbers: arena.take("optimizer", "loss and norm", NUMBERS),
            parts: parts(network),
            clip: recipe.clip_gradient.map(|most| Clip::new(arena, network, most)),
            lars: (recipe.optimizer() == Optimizer::Lars).then(|| Lars::new(arena, network)),
            recipe: recipe.clone(),
        })
    }

    /// Writes what stays the same for the whole run.
    pub fn prepare(&self, gpu: &Gpu, network: &dyn Network) -> Result<()> {
        if let Some(clip) = &self.clip {
            gpu.write(clip.pieces, &clip.table.pieces)?;
            gpu.write(clip.first, &clip.table.first)?;
        }
        if let Some(Lars { table, tensors, .. }) = &self.lars {
            gpu.write(tensors.pieces, &table.pieces)?;
            gpu.write(tensors.first, &table.first)?;
            gpu.write(tensors.scaled, &table.scaled)?;
        }
        gpu.write(self.decay, &optimizer::decay_mask(&network.groups(), network.parameters().len()))
    }

    /// The numbers that update `step`, at `at`, reads from device memory.
    pub fn settings(&self, network: &dyn Network, at: Position, step: u64) -> Vec<f32> {
        let of_part = |part: &Part| match self.recipe.adamw(at, step + 1, part.late) {
            Some(adamw) => adamw.at(part.rate).settings(),
            None => optimizer::NOTHING,
        };
        let mut all: Vec<f32> = self.parts.iter().flat_map(of_part).chain(network.scalars(at)).collect();
        if let Some(settings) = self.recipe.lars(at) {
            all[..lars::SETTINGS].copy_from_slice(&settings.settings());
        }
        all.resize(self.settings_len(), 0.0);
        all
    }

    /// How many they are: the optimizer's of every part, then the network's.
    pub fn settings_len(&self) -> usize {
        self.parts.len() * optimizer::SETTINGS + SCALARS
    }

    /// A call of the network on what lies in the feed.
    pub fn call<'a, 's>(&'a self, gpu: &'a Gpu, feed: &Feed, stages: Stages<'a, 's>) -> Call<'a, 's> {
        Call {
            gpu,
            memory: &self.memory,
            params: self.params,
            statistics: self.kept,
            momentum: self.momentum.map(|(copy, params)| (params, copy.statistics)),
            weights: Weights::Online,
            images: feed.views(),
            scales: Scales::default(),
            numbers: feed.numbers(),
            scalars: feed.scalars(),
            loss: self.loss(),
            noted: self.numbers.slice(12..16).cast(),
            stages,
        }
    }

    /// Queues one whole update of what lies in the feed; `queued` hears of each part once it is queued.
    pub fn queue(
        &self,
        gpu: &Gpu,
        network: &dyn Network,
        feed: &Feed,
        queued: &mut (dyn FnMut(&'static str) -> Result<()> + Send),
    ) -> Result<()> {
        if let Some(before) = self.before {
            gpu.copy(before, self.kept)?;
        }
        feed.render(gpu)?;
        queued("augmentation")?;
        network.gradient(&mut self.call(gpu, feed, Some(queued)))?;
        let (params, sum) = (&self.params, self.sum_of_squares());
        reduce::cuda::sum_of_squares(gpu, sum, params.grads, self.squares)?;
        if let Some(Clip { most, pieces, first, partials, .. }) = self.clip.as_ref() {
            clip::clip(gpu, params.grads, (*pieces, *first), *most, *partials)?;
        }
        let guard = Guard { sum_of_squares: sum, loss: Some(self.loss()) };
        if let Some(Lars { tensors, partials, .. }) = &self.lars {
            let buffers = lars::Buffers { p: params.master, m: self.m, rounded: params.rounded };
            let settings = feed.settings(0).slice(0..lars::SETTINGS);
            lars::update(gpu, buffers, params.grads, *tensors, settings, guard, *partials)?;
        }
        let parts = self.parts.iter().enumerate().filter(|_| self.lars.is_none());
        for (i, Part { range, .. }) in parts {
            let [p, m, v, g] = [params.master, self.m, self.v, params.grads].map(|view| view.slice(range.clone()));
            let buffers = Buffers { p, m, v, rounded: Some(params.rounded.slice(range.clone())) };
            let decay = self.decay.slice(range.start / 8..range.end.div_ceil(8));
            optimizer::adamw(gpu, buffers, g, decay, feed.settings(i), guard, true)?;
        }
        if let Some(scale) = network.bounded() {
            logit_scale::cuda::clamp(gpu, params.f32(scale), params.bf16(scale))?;
        }
        if let Some((copy, to)) = self.momentum {
            let online = params.master.slice(0..copy.parameters.len);
            optimizer::follow(
                gpu,
                to.master,
                to.rounded,
                online,
                feed.scalars().slice(copy.rate..copy.rate + 1),
                guard,
            )?;
        }
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
        let (kept, copied) = state.kept.split_at(self.kept.len());
        gpu.write(self.kept, kept)?;
        if let Some((_, params)) = self.momentum {
            gpu.write(params.master, copied)?;
            convert::cuda::to_bf16(gpu, params.rounded, params.master)?;
        }
        gpu.zero(self.params.grads)?;
        convert::cuda::to_bf16(gpu, self.params.rounded, self.params.master)
    }

    /// Waits, and copies them back.
    pub fn download(&self, gpu: &Gpu, state: &mut State) -> Result<()> {
        let pairs = [(&mut state.params, self.params.master), (&mut state.m, self.m), (&mut state.v, self.v)];
        for (to, from) in pairs {
            to.copy_from_slice(&gpu.read(from)?);
        }
        let (kept, copied) = state.kept.split_at_mut(self.kept.len());
        kept.copy_from_slice(&gpu.read(self.kept)?);
        if let Some((_, params)) = self.momentum {
            copied.copy_from_slice(&gpu.read(params.master)?);
        }
        Ok(())
    }
}

/// Loss, what of it was noted, and sum of squares from what [`Update::read_numbers`] brought.
pub fn numbers(bytes: &[u8]) -> [f64; 3] {
    let squares: f64 = bytemuck::pod_read_unaligned(&bytes[0..8]);
    let [loss, noted]: [f32; 2] = bytemuck::pod_read_unaligned(&bytes[8..16]);
    [f64::from(loss), f64::from(noted), squares]
}
