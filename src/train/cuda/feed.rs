//! What an update reads from the host: pictures, how to make views of them, labels and other numbers, the optimizer's
//! settings and the network's scalars. One pinned copy per update, of two that take turns, so that the host packs the
//! next batch while the device still reads this one.

use std::collections::HashMap;
use std::sync::Arc;

use bytemuck::Pod;

use crate::device::cuda::{Arena, Gpu, Mark, Owned, Pinned, View};
use crate::device::human_bytes;
use crate::error::{Error, Result};
use crate::ops::augment::Augment;
use crate::ops::augment::cuda::{self as augment, Job, Plan, Slot as Scratch};
use crate::ops::optimizer::cuda::SETTINGS;
use crate::train::loader::{Batch, Pictures, Row, Section};
use crate::train::method::SCALARS;
use crate::train::recipe::Recipe;

/// Sections begin at multiples of this.
const ALIGN: usize = 256;

/// Offsets of the sections, bytes. Pictures come last: they alone vary in size.
#[derive(Clone, Copy, Debug)]
struct Layout {
    rows: usize,
    /// How many settings: those of the optimizer for every part of the parameters, and scalars of the network, which
    /// change from step to step.
    settings: usize,
    /// How many numbers, and where.
    count: usize,
    numbers: usize,
    jobs: usize,
    pictures: usize,
}

impl Layout {
    fn new(rows: usize, settings: usize, count: usize) -> Self {
        let after = |start: usize, bytes: usize| (start + bytes).next_multiple_of(ALIGN);
        let numbers = after(0, settings * size_of::<f32>());
        let jobs = after(numbers, count * size_of::<u32>());
        Self { rows, settings, count, numbers, jobs, pictures: after(jobs, rows * size_of::<Job>()) }
    }
}

/// Host memory of one update, and when the device has read it.
#[derive(Debug)]
struct Slot {
    staged: Pinned<u8>,
    read: Option<Mark>,
}

/// Memory of the run's arena, or what replaced it when pictures came that are larger than those it was planned for.
#[derive(Debug)]
struct Buffer {
    view: View<u8>,
    own: Option<Owned<u8>>,
}

impl Buffer {
    fn planned(view: View<u8>) -> Self {
        Self { view, own: None }
    }

    fn grow(&mut self, gpu: &Gpu, bytes: usize) -> Result<()> {
        // What it was comes back first: both at once may not fit.
        self.own = None;
        let own = gpu.zeros(bytes).map_err(|error| {
            let bytes = human_bytes(bytes as u64);
            Error::Device(format!(
                "{error}: pictures larger than those that the plan was made for take {bytes}; lower --batch"
            ))
        })?;
        (self.view, self.own) = (own.view(), Some(own));
        Ok(())
    }
}

/// What a plan must know of a card beside its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Card {
    pub sms: u32,
    /// Most shared memory of a block, bytes.
    pub shared_per_block: u32,
}

impl Card {
    pub fn of(gpu: &Gpu) -> Self {
        Self { sms: gpu.sms(), shared_per_block: gpu.shared_per_block() }
    }

    fn plan(self, side: usize, need: Scratch) -> Plan {
        Plan::new(side, need, self.sms, self.shared_per_block)
    }
}

/// Views of one size, and how they are made.
#[derive(Clone, Debug)]
struct Size {
    section: Section,
    /// What pictures take while views are made of them.
    need: Scratch,
    plan: Plan,
}

impl Size {
    /// For the size's views of pictures of `width`×`height`.
    fn new(section: Section, card: Card, augment: &Augment, (width, height): (usize, usize)) -> Self {
        let need = Scratch::for_pictures(width, height, augment, section.side);
        Self { plan: card.plan(section.side, need), need, section }
    }

    /// Makes room for larger pictures; whether any is.
    fn grow(&mut self, card: Card, augment: &Augment, batch: &Batch) -> bool {
        let side = self.section.side;
        let pictures = batch.rows[self.section.rows.clone()].iter().map(|row| (row.image.width, row.image.height));
        let need = pictures
            .fold(self.need, |need, (width, height)| need.join(Scratch::for_pictures(width, height, augment, side)));
        if need == self.need {
            return false;
        }
        (self.need, self.plan) = (need, card.plan(side, need));
        true
    }
}

/// What any of them takes while views are made.
fn scratch_len(sizes: &[Size]) -> usize {
    sizes.iter().map(|size| size.plan.scratch_len()).max().unwrap_or(0)
}

/// The device's side of a feed.
#[derive(Debug)]
pub struct Memory {
    layout: Layout,
    card: Card,
    input: View<u8>,
    sizes: Vec<Size>,
    scratch: View<u8>,
    views: View<u8>,
}

impl Memory {
    /// Taken from the arena, for steps of `pictures`, and so many settings and numbers.
    pub fn new(
        arena: &mut Arena,
        card: Card,
        recipe: &Recipe,
        [settings, numbers]: [usize; 2],
        pictures: Pictures,
    ) -> Self {
        let layout = Layout::new(recipe.rows_per_step(), settings, numbers);
        let Pictures { count, width, height } = pictures;
        let (loader, input) =
            (recipe.loader(None), layout.pictures + count * (3 * width * height).next_multiple_of(ALIGN));
        let (augment, sections) = (loader.augment(), loader.sections());
        let views = Section::values_of(&sections);
        let size = |section| Size::new(section, card, &augment, (width, height));
        let sizes: Vec<Size> = sections.into_iter().map(size).collect();
        Self {
            layout,
            card,
            input: arena.take("feed", "pictures", input),
            scratch: arena.take("feed", "pictures while they are resized", scratch_len(&sizes)),
            views: arena.take("feed", "views", views),
            sizes,
        }
    }

    /// Bytes that its feed takes on the host.
    pub fn host_bytes(&self) -> u64 {
        2 * self.input.len() as u64
    }
}

/// The way from the loader's batches to views on the device.
#[derive(Debug)]
pub struct Feed {
    layout: Layout,
    card: Card,
    augment: Augment,
    slots: [Slot; 2],
    input: Buffer,
    /// As the pictures so far need it.
    sizes: Vec<Size>,
    scratch: Buffer,
    views: View<u8>,
}

impl Feed {
    /// Allocates the host's side.
    pub fn new(gpu: &Gpu, recipe: &Recipe, memory: Memory) -> Result<Self> {
        let Memory { layout, card, input, sizes, scratch, views } = memory;
        let slot = || -> Result<Slot> { Ok(Slot { staged: gpu.pinned(input.len())?, read: None }) };
        Ok(Self {
            layout,
            card,
            augment: recipe.loader(None).augment(),
            slots: [slot()?, slot()?],
            input: Buffer::planned(input),
            sizes,
            scratch: Buffer::planned(scratch),
            views,
        })
    }

    /// Packs update `step` and queues its copy to the device. Returns whether device buffers moved because pictures are
    /// larger than any before.
    pub fn fill(&mut self, gpu: &Gpu, step: u64, batch: &Batch, numbers: &[u32], settings: &[f32]) -> Result<bool> {
        let Layout { rows, settings: some, count, .. } = self.layout;
        assert!(settings.len() == some, "feed: {} settings for {some}", settings.len());
        assert!(batch.rows.len() == rows && numbers.len() == count, "feed: {} rows for {rows}", batch.rows.len());
        let (offsets, bytes) = self.place(batch);
        let mut moved = false;
        if bytes > self.input.view.len() {
            // An eighth more, so that sizes that vary a little do not move it often.
            self.input.grow(gpu, bytes + bytes / 8)?;
            moved = true;
        }
        let job = |(row, (view, &offset)): (usize, (&Row, &usize))| {
            let size = (view.image.width, view.image.height);
            // Counted within its section.
            let first = self.sizes.iter().rev().map(|size| size.section.rows.start).find(|&first| first <= row);
            Job::new(&view.params, size, offset - self.layout.pictures, row - first.unwrap_or(0))
        };
        let jobs = batch.rows.iter().zip(&offsets).enumerate().map(job).collect::<Result<Vec<Job>>>()?;
        let grown = self.sizes.iter_mut().map(|size| size.grow(self.card, &self.augment, batch));
        if grown.fold(false, |any, grown| any | grown) {
            let scratch = scratch_len(&self.sizes);
            if scratch > self.scratch.view.len() {
                self.scratch.grow(gpu, scratch)?;
            }
            moved = true;
        }

        let slot = &mut self.slots[(step % 2) as usize];
        if let Some(read) = slot.read.take() {
            read.wait()?;
        }
        if bytes > slot.staged.len() {
            slot.staged = gpu.pinned(bytes + bytes / 8)?;
        }
        put(&mut slot.staged, 0, settings);
        put(&mut slot.staged, self.layout.numbers, numbers);
        put(&mut slot.staged, self.layout.jobs, &jobs);
        for (row, &offset) in batch.rows.iter().zip(&offsets) {
            put(&mut slot.staged, offset, &row.image.data);
        }
        gpu.write_pinned(self.input.view.slice(0..bytes), &slot.staged)?;
        slot.read = Some(gpu.mark()?);
        Ok(moved)
    }

    /// Bytes of device memory beside the arena.
    pub fn grown_bytes(&self) -> u64 {
        let own = [&self.input, &self.scratch].into_iter().filter(|buffer| buffer.own.is_some());
        own.map(|buffer| buffer.view.bytes() as u64).sum()
    }

    /// Where the picture of each row goes, once each; and the bytes up to the end of the last.
    fn place(&self, batch: &Batch) -> (Vec<usize>, usize) {
        let mut end = self.layout.pictures;
        let mut placed = HashMap::new();
        let place = |row: &Row| {
            *placed.entry(Arc::as_ptr(&row.image)).or_insert_with(|| {
                let start = end;
                end = (end + row.image.data.len()).next_multiple_of(ALIGN);
                start
            })
        };
        let offsets = batch.rows.iter().map(place).collect();
        (offsets, end)
    }

    /// Queues making the views.
    pub fn render(&self, gpu: &Gpu) -> Result<()> {
        let input = self.input.view;
        let pictures = input.slice(self.layout.pictures..input.len());
        let jobs = self.section::<Job>(self.layout.jobs, self.layout.rows);
        self.sizes.iter().try_for_each(|Size { section, plan, .. }| {
            let (views, jobs) = (self.views.slice(section.values()), jobs.slice(section.rows.clone()));
            augment::views(gpu, views, jobs, pictures, plan, self.scratch.view)
        })
    }

    /// `[rows, side, side, 3]`, section by section.
    pub fn views(&self) -> View<u8> {
        self.views
    }

    pub fn numbers(&self) -> View<u32> {
        self.section(self.layout.numbers, self.layout.count)
    }

    /// The optimizer's for a part of the parameters.
    pub fn settings(&self, part: usize) -> View<f32> {
        self.section(part * SETTINGS * size_of::<f32>(), SETTINGS)
    }

    /// The scalars of the network.
    pub fn scalars(&self) -> View<f32> {
        self.section((self.layout.settings - SCALARS) * size_of::<f32>(), SCALARS)
    }

    fn section<T: crate::device::cuda::Element>(&self, start: usize, len: usize) -> View<T> {
        self.input.view.slice(start..start + len * size_of::<T>()).cast()
    }
}

/// Writes `values` at byte `at`.
fn put<T: Pod>(bytes: &mut [u8], at: usize, values: &[T]) {
    let values: &[u8] = bytemuck::cast_slice(values);
    bytes[at..at + values.len()].copy_from_slice(values);
}
