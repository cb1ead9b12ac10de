//! The device's side of an update: its buffers, and what is queued for it.

use half::bf16;

use super::feed::Feed;
use crate::device::cuda::{Arena, Element, Gpu, Pinned, View};
use crate::error::Result;
use crate::models::{projector, vit};
use crate::ops::contrastive::cuda::{self as contrastive, Batch};
use crate::ops::l2norm::cuda::{self as l2norm, Outputs};
use crate::ops::optimizer::AdamW;
use crate::ops::optimizer::cuda::{self as optimizer, Buffers, Guard};
use crate::ops::{convert, reduce};
use crate::train::groups::decay_groups;
use crate::train::network::{ADAM_EPS, NORM_EPS, Network, State};
use crate::train::recipe::Recipe;
use crate::train::rehearsal::LOSS;
use crate::weights::DeviceParams;

/// Bytes that an update tells the host: the gradient's sum of squares (f64), the loss (f32).
pub const NUMBERS: usize = 16;

/// Device memory of an update, but for the feed's.
#[derive(Debug)]
pub struct Update {
    params: DeviceParams,
    m: View<f32>,
    v: View<f32>,
    statistics: View<f32>,
    decay: View<u8>,
    vit: vit::cuda::CudaActs,
    head: projector::cuda::CudaActs,
    shape: contrastive::Shape,
    temperature: f32,
    /// Unit rows that the loss compares, their lengths, their gradient.
    z: View<f32>,
    norms: View<f32>,
    dz: View<f32>,
    dout: View<bf16>,
    lse: View<f32>,
    weight: View<f32>,
    pairs: View<f32>,
    dfeatures: View<bf16>,
    squares: View<f64>,
    numbers: View<u8>,
    flag: View<u32>,
    adamw: AdamW,
}

impl Update {
    pub fn new(arena: &mut Arena, network: &Network, recipe: &Recipe) -> Self {
        let (rows, len) = (recipe.images_per_step(), network.table.len());
        let Recipe { beta1, beta2, weight_decay, .. } = *recipe;
        let params = DeviceParams::new(arena, len);
        let m = arena.take("optimizer", "first moments", len);
        let v = arena.take("optimizer", "second moments", len);
        let decay = arena.take("optimizer", "decay mask", len.div_ceil(8));
        let statistics = arena.take("parameters", "running statistics", network.statistics.len());
        let vit = vit::cuda::CudaActs::new(arena, &network.vit, rows);
        let head = projector::cuda::CudaActs::new(arena, &network.head, rows, recipe.norm_slots());
        let dim = recipe.head_dims[1];
        let shape = contrastive::Shape::whole(rows, dim);
        let group = "loss";
        Self {
            z: arena.take(group, "z", rows * dim),
            norms: arena.take(group, "norms", rows),
            dz: arena.take(group, "d z", rows * dim),
            dout: arena.take(group, "d head output", rows * dim),
            lse: arena.take(group, "log-sum-exp", rows),
            weight: arena.take(group, "positives", rows),
            pairs: arena.take(group, "partial sums", contrastive::scratch_len(shape)),
            dfeatures: arena.take(group, "d features", rows * recipe.model.width),
            squares: arena.take("optimizer", "partial sums", reduce::cuda::scratch_len(len)),
            numbers: arena.take("optimizer", "loss and norm", NUMBERS),
            flag: arena.take("optimizer", "flag", 1),
            adamw: AdamW { lr: 0.0, beta1, beta2, eps: ADAM_EPS, weight_decay, step: 0 },
            temperature: recipe.temperature as f32,
            params,
            m,
            v,
            statistics,
            decay,
            vit,
            head,
            shape,
        }
    }

    /// Writes what stays the same for the whole run.
    pub fn prepare(&self, gpu: &Gpu, network: &Network) -> Result<()> {
        gpu.write(self.decay, &optimizer::decay_mask(&decay_groups(&network.table), network.table.len()))
    }

    /// The numbers that update `step` reads from device memory.
    pub fn settings(&self, lr: f64, step: u64) -> [f32; optimizer::SETTINGS] {
        AdamW { lr, step: step + 1, ..self.adamw }.settings()
    }

    /// Queues one whole update of what lies in the feed.
    pub fn queue(&self, gpu: &Gpu, network: &Network, feed: &Feed) -> Result<()> {
        self.queue_in_stages(gpu, network, feed, &mut |_| Ok(()))
    }

    /// As [`Update::queue`]; `queued` hears of each part once it is queued.
    pub fn queue_in_stages(
        &self,
        gpu: &Gpu,
        network: &Network,
        feed: &Feed,
        queued: &mut dyn FnMut(&'static str) -> Result<()>,
    ) -> Result<()> {
        let Network { vit, head, .. } = network;
        let params = &self.params;
        feed.render(gpu)?;
        queued("augmentation")?;
        vit.forward_cuda(gpu, params, &self.vit, feed.views())?;
        queued("encoder, forward")?;
        let features = self.vit.features();
        head.forward_cuda(gpu, params, self.statistics, &self.head, features)?;
        queued("head, forward")?;
        l2norm::forward(gpu, Outputs { f32: Some(self.z), bf16: None }, self.norms, self.head.out(), NORM_EPS)?;
        let &Self { shape, z, temperature, pairs: scratch, .. } = self;
        let batch = Batch { shape, z, labels: feed.labels(), temperature, scratch };
        contrastive::forward(gpu, self.loss(), self.lse, self.weight, batch)?;

        contrastive::backward(gpu, self.dz, self.lse, self.weight, batch)?;
        l2norm::backward(gpu, Outputs { f32: None, bf16: Some(self.dout) }, self.dz, self.z, self.norms, NORM_EPS)?;
        queued(LOSS)?;
        head.backward_cuda(gpu, params, &self.head, self.dfeatures, self.dout, features)?;
        queued("head, backward")?;
        vit.backward_cuda(gpu, params, &self.vit, self.dfeatures)?;
        queued("encoder, backward")?;
        reduce::cuda::sum_of_squares(gpu, self.sum_of_squares(), params.grads, self.squares)?;

        let buffers = Buffers { p: params.master, m: self.m, v: self.v, rounded: Some(params.rounded) };
        let guard = Guard { sum_of_squares: self.sum_of_squares(), loss: Some(self.loss()) };
        optimizer::adamw(gpu, buffers, params.grads, self.decay, feed.settings(), guard, true)?;
        queued("optimizer")
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

    /// Copies parameters, moments and statistics to the device.
    pub fn upload(&self, gpu: &Gpu, state: &State) -> Result<()> {
        gpu.write(self.params.master, &state.params)?;
        gpu.write(self.m, &state.m)?;
        gpu.write(self.v, &state.v)?;
        gpu.write(self.statistics, &state.statistics)?;
        gpu.zero(self.params.grads)?;
        convert::cuda::to_bf16(gpu, self.params.rounded, self.params.master)
    }

    /// Waits, and copies them back.
    pub fn download(&self, gpu: &Gpu, state: &mut State) -> Result<()> {
        let pairs = [
            (&mut state.params, self.params.master),
            (&mut state.m, self.m),
            (&mut state.v, self.v),
            (&mut state.statistics, self.statistics),
        ];
        for (to, from) in pairs {
            to.copy_from_slice(&gpu.read(from)?);
        }
        Ok(())
    }

    /// The first tensor that is not finite, in the order of computation: parameters, activations, gradients (last layer first).
    pub fn first_not_finite(&self, gpu: &Gpu, network: &Network) -> Result<Option<String>> {
        for info in network.table.iter() {
            if !self.finite(gpu, self.params.f32(info.param))? {
                return Ok(Some(format!("parameter {}", info.name)));
            }
        }
        let acts = self.vit.named().into_iter().map(|(name, values)| (format!("visual.{name}"), values));
        for (name, values) in acts.chain(self.head.named().into_iter().map(|(n, v)| (format!("the output of {n}"), v)))
        {
            if !self.finite(gpu, values)? {
                return Ok(Some(name));
            }
        }
        for (name, values) in
            [("the output of image_mlp.layer3", self.head.out()), ("the unit vectors of the loss", self.z)]
        {
            if !self.finite(gpu, values)? {
                return Ok(Some(name.to_owned()));
            }
        }
        let infos: Vec<_> = network.table.iter().collect();
        for info in infos.into_iter().rev() {
            if !self.finite(gpu, self.params.grad(info.param))? {
                return Ok(Some(format!("the gradient of {}", info.name)));
            }
        }
        Ok(None)
    }

    fn finite<T: Element + reduce::cuda::Number>(&self, gpu: &Gpu, values: View<T>) -> Result<bool> {
        gpu.zero(self.flag)?;
        reduce::cuda::find_not_finite(gpu, self.flag, values)?;
        Ok(gpu.read(self.flag)? == [0])
    }
}

/// Loss and sum of squares from what [`Update::read_numbers`] brought.
pub fn numbers(bytes: &[u8]) -> [f64; 2] {
    let squares: f64 = bytemuck::pod_read_unaligned(&bytes[0..8]);
    let loss: f32 = bytemuck::pod_read_unaligned(&bytes[8..12]);
    [f64::from(loss), squares]
}
