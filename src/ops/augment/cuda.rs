//! Views of images on CUDA: `kernels/augment.cu`, with the bits of the CPU. The random parameters are the CPU's own
//! ([`AugmentParams::draw`]); a [`Job`] is what one view needs of them.

use bytemuck::{Pod, Zeroable};

use super::{Augment, AugmentParams, downsampled, short_side};
use crate::bail;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;
use crate::image::Filter;
use crate::ops::{blur, jitter};

/// Longest side of a picture; decoders give none longer (a JPEG holds no longer one).
const LONGEST: usize = 65_535;

/// One view to be made, as the kernel reads it.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Job {
    offset: u64,
    size: [u32; 2],
    low: [u32; 2],
    high: [u32; 2],
    corner: [u32; 2],
    crop: [u32; 2],
    changes: u32,
    /// Of brightness, contrast, saturation.
    factors: [f32; 3],
    hue: i32,
    grayscale: u32,
    /// Radius, weight inside, weight at the ends.
    boxes: [u32; 3],
    flip: u32,
    row: u32,
    /// Whether the crop is resized by the bicubic filter, not the bilinear one.
    cubic: u16,
    /// Whether values of 128 and more are inverted.
    solarize: u16,
}

impl Job {
    /// View number `row` of the output, of the picture of `width`×`height` whose `[height, width, 3]` bytes begin at
    /// `offset`.
    ///
    /// # Errors
    /// Usage error for a crop outside the picture or a side too long, as on the CPU, and for a filter without kernels.
    pub fn new(params: &AugmentParams, (width, height): (usize, usize), offset: usize, row: usize) -> Result<Self> {
        let (low, high) = match params.downsample {
            Some((low, high)) => {
                let low = short_side((width, height), low);
                (low, short_side(low, high))
            }
            None => ((0, 0), (0, 0)),
        };
        let (within_width, within_height) = if low.0 > 0 { high } else { (width, height) };
        let [left, top, right, bottom] = params.crop;
        if !(left < right && right <= within_width && top < bottom && bottom <= within_height) {
            bail!(
                Usage,
                "cannot crop ({left}, {top}, {right}, {bottom}) out of a picture of {within_width}×{within_height}"
            );
        }
        if !matches!(params.filter, Filter::Bilinear | Filter::Bicubic) {
            bail!(Usage, "views are resized by the bilinear or the bicubic filter, not by {:?}", params.filter);
        }
        let longest = [width, height, low.0, low.1, high.0, high.1].into_iter().max().unwrap_or(0);
        if longest > LONGEST {
            bail!(
                Usage,
                "cannot resize a picture of {width}×{height} by way of a side of {longest}: sides must be 1 to {LONGEST}"
            );
        }
        let pair = |(width, height): (usize, usize)| [width as u32, height as u32];
        let jitter = params.jitter.as_ref();
        let (radius, full, edge) = params.blur.and_then(blur::boxes).unwrap_or((0, 0, 0));
        Ok(Self {
            offset: offset as u64,
            size: pair((width, height)),
            low: pair(low),
            high: pair(high),
            corner: pair((left, top)),
            crop: pair((right - left, bottom - top)),
            changes: jitter.map_or(u32::MAX, |jitter| u32::from_le_bytes(jitter.order)),
            factors: jitter.map_or([1.0; 3], |jitter| [jitter.brightness, jitter.contrast, jitter.saturation]),
            hue: jitter.map_or(0, |jitter| jitter::hue_steps(jitter.hue)),
            grayscale: u32::from(params.grayscale),
            boxes: [radius as u32, full, edge],
            flip: u32::from(params.flip),
            row: row as u32,
            cubic: u16::from(params.filter == Filter::Bicubic),
            solarize: u16::from(params.solarize),
        })
    }
}

/// Scratch memory of one block: bytes of each of its parts. The memory of several jobs is the largest of each part
/// ([`Slot::join`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// The filters' weights of both axes.
    weights: usize,
    /// Between the two passes of a resize.
    between: usize,
    /// After the first and the second resize of a downsampled picture.
    low: usize,
    high: usize,
}

/// Bytes of a row of whole words.
fn word_pitch(width: usize) -> usize {
    (3 * width).next_multiple_of(4)
}

impl Slot {
    /// What a resize takes in weights and between its passes, whichever comes first.
    fn resize(from: [usize; 2], to: [usize; 2], cubic: bool) -> Self {
        let reach = if cubic { 4 } else { 2 };
        let taps = |from: usize, to: usize| (reach * from.max(to)).div_ceil(to) + 1;
        let table = |axis: usize| 4 * to[axis] * (2 + taps(from[axis], to[axis]));
        let between = (word_pitch(to[0]) * from[1]).max(word_pitch(from[0]) * to[1]);
        Self { weights: table(0) + table(1), between, low: 0, high: 0 }
    }

    /// What `job` takes for a view of `side`.
    pub fn of(job: &Job, side: usize) -> Self {
        let pair = |[width, height]: [u32; 2]| [width as usize, height as usize];
        Self::chain(pair(job.size), pair(job.low), pair(job.high), pair(job.crop), (side, job.cubic != 0))
    }

    /// What any view of `side`, as `augment` has it, of pictures of `width`×`height` takes.
    pub fn for_pictures(width: usize, height: usize, augment: &Augment, side: usize) -> Self {
        let (to, downsample) = ((side, augment.filter == Filter::Bicubic), augment.downsample);
        let whole = Self::chain([width, height], [0, 0], [0, 0], [width, height], to);
        // The two ways that `AugmentParams::draw` chooses from.
        let ways = [64, 128].into_iter().filter(|_| downsample).filter_map(|low| downsampled((width, height), low));
        ways.fold(whole, |slot, [low, high]| {
            slot.join(Self::chain([width, height], low.into(), high.into(), high.into(), to))
        })
    }

    fn chain(
        size: [usize; 2],
        low: [usize; 2],
        high: [usize; 2],
        crop: [usize; 2],
        (side, cubic): (usize, bool),
    ) -> Self {
        let last = Self::resize(crop, [side, side], cubic);
        // A wide blur goes by way of a picture like the view.
        let last = Self { between: last.between.max(word_pitch(side) * side), ..last };
        if low[0] == 0 {
            return last;
        }
        let pictures =
            Self { low: word_pitch(low[0]) * low[1], high: word_pitch(high[0]) * high[1], ..Self::default() };
        last.join(pictures).join(Self::resize(size, low, false)).join(Self::resize(low, high, false))
    }

    /// What either takes.
    pub fn join(self, other: Self) -> Self {
        Self {
            weights: self.weights.max(other.weights),
            between: self.between.max(other.between),
            low: self.low.max(other.low),
            high: self.high.max(other.high),
        }
    }
}

/// Bytes from row to row of a view while it is made: an odd number of words.
fn view_pitch(side: usize) -> usize {
    4 * ((3 * side).div_ceil(4) | 1)
}

/// Shared memory that the kernel has beside the view, bytes: the tables of the hue, one job, and what the driver keeps
/// per block.
const STATIC_SHARED: usize = 4096;
const DRIVER_SHARED: usize = 1024;
/// Registers per thread that the kernel was compiled with, and those of a multiprocessor.
const REGISTERS: usize = 80;
const ALL_REGISTERS: usize = 65_536;
/// More blocks per multiprocessor gain nothing, and each has its scratch memory.
const MOST_BLOCKS: usize = 8;
/// Longest side of a view: the sum of its lumas fits 32 bits.
const MOST_SIDE: usize = 4096;

/// How views of one side are made on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    side: usize,
    slot: Slot,
    /// Whether the view stays in shared memory.
    shared: bool,
    threads: usize,
    /// Blocks that the device runs at once, of which each needs its scratch memory.
    blocks: usize,
}

impl Plan {
    /// For views of `side` of jobs that fit `slot`, on a device of `sms` multiprocessors with `shared_per_block` bytes
    /// of shared memory.
    ///
    /// # Panics
    /// If the side is 0 or more than 4096.
    pub fn new(side: usize, slot: Slot, sms: u32, shared_per_block: u32) -> Self {
        assert!((1..=MOST_SIDE).contains(&side), "views of side {side}: expected 1 to {MOST_SIDE}");
        let view = view_pitch(side) * side;
        let available = shared_per_block as usize;
        let shared = view + STATIC_SHARED <= available;
        // A thread per line of the blur, three lines per row.
        let threads = (3 * side).next_multiple_of(32).clamp(128, 768);
        let taken = STATIC_SHARED + DRIVER_SHARED + if shared { view } else { 0 };
        let fitting =
            ((available + DRIVER_SHARED) / taken).min(ALL_REGISTERS / (REGISTERS * threads)).clamp(1, MOST_BLOCKS);
        Self { side, slot, shared, threads, blocks: sms as usize * fitting }
    }

    /// For the device `gpu`.
    pub fn on(gpu: &Gpu, side: usize, slot: Slot) -> Self {
        Self::new(side, slot, gpu.sms(), gpu.shared_per_block())
    }

    /// Where the parts of a slot begin (between, low, high, view), and its length.
    fn parts(&self) -> ([usize; 4], usize) {
        let Slot { weights, between, low, high } = self.slot;
        let view = if self.shared { 0 } else { view_pitch(self.side) * self.side };
        let mut at = weights.next_multiple_of(16);
        let starts = [between, low, high, view].map(|bytes| {
            let start = at;
            at += bytes.next_multiple_of(16);
            start
        });
        (starts, at)
    }

    /// Bytes of scratch memory with which the whole device works; a smaller number of whole [`Self::slot_len`]s does,
    /// more slowly.
    pub fn scratch_len(&self) -> usize {
        self.blocks * self.slot_len()
    }

    /// Bytes of scratch memory that one block takes.
    pub fn slot_len(&self) -> usize {
        self.parts().1
    }

    /// The launch over `count` views with so much scratch memory.
    pub fn launch(&self, count: usize, scratch_len: usize) -> Launch {
        let blocks = self.blocks.min(count).min(scratch_len / self.slot_len());
        let shared = if self.shared { view_pitch(self.side) * self.side } else { 0 };
        Launch::new(blocks, self.threads as u32).shared(shared)
    }
}

/// Makes the views of `jobs` into `out` `[rows, side, side, 3]`, each in its row; rows that no job names stay as they
/// are. The jobs must have been made for pictures that lie in `images`, and fit the plan's slot.
pub fn views(
    gpu: &Gpu,
    out: View<u8>,
    jobs: View<Job>,
    images: View<u8>,
    plan: &Plan,
    scratch: View<u8>,
) -> Result<()> {
    let (parts, slot) = plan.parts();
    assert!(
        out.len().is_multiple_of(plan.side * plan.side * 3) && out.is_aligned(4) && scratch.is_aligned(16),
        "augment: {out:?} for side {}, {scratch:?}",
        plan.side
    );
    assert!(scratch.len() >= slot && slot < 1 << 32, "augment: {scratch:?} for blocks of {slot} bytes");
    if jobs.is_empty() {
        return Ok(());
    }
    let at = plan.launch(jobs.len(), scratch.len());
    let kernel = if plan.shared { kernels::AugmentKernel::Shared } else { kernels::AugmentKernel::Global };
    let [between_at, low_at, high_at, view_at] = parts.map(|at| at as u32);
    kernels::Augment {
        out,
        jobs: jobs.cast(),
        images,
        scratch,
        count: jobs.len() as u32,
        side: plan.side as u32,
        between_at,
        low_at,
        high_at,
        view_at,
        slot_bytes: slot as u64,
    }
    .launch(gpu, at, kernel)
}
