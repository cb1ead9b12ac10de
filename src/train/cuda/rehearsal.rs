//! The same update again and again, with marks: for `bench train`.

use super::{Cuda, Pending};
use crate::device::Queued;
use crate::device::cuda::Mark;
use crate::error::Result;
use crate::train::engine::Stage;
use crate::train::loader::Batch;
use crate::train::schedule::Position;

impl Cuda {
    /// Brings the batch to the device, runs its update once and records it.
    pub fn rehearse(&mut self, batch: &Batch, numbers: &[u32], at: Position) -> Result<()> {
        let gpu = self.gpu.clone();
        self.feed.fill(&gpu, 0, batch, numbers, &self.update.settings(&*self.network, at, 0))?;
        self.record()?;
        self.last_loss().map(drop)
    }

    /// Milliseconds of each of `count` replays.
    pub fn replays(&mut self, count: usize) -> Result<Vec<f64>> {
        let mut marks = vec![self.gpu.timed_mark()?];
        for _ in 0..count {
            if let Some(graph) = &self.graph {
                graph.launch()?;
            }
            marks.push(self.gpu.timed_mark()?);
        }
        self.last_loss()?;
        marks.windows(2).map(|pair| Ok(f64::from(pair[1].milliseconds_since(&pair[0])?))).collect()
    }

    /// The parts of one update that is not replayed.
    pub fn stages(&mut self) -> Result<Vec<Stage>> {
        let gpu = self.gpu.clone();
        // A replay before it keeps the host ahead of the device, so that no launch is waited for between the marks.
        if let Some(graph) = &self.graph {
            graph.launch()?;
        }
        let (mut names, mut marks) = (Vec::new(), vec![(gpu.timed_mark()?, gpu.queued().kernels)]);
        self.queue(&mut |name| {
            names.push(name);
            marks.push((gpu.timed_mark()?, gpu.queued().kernels));
            Ok(())
        })?;
        self.last_loss()?;
        let stage = |(name, pair): (&'static str, &[(Mark, u64)])| {
            let ((begin, before), (end, after)) = (&pair[0], &pair[1]);
            Ok(Stage { name, milliseconds: f64::from(end.milliseconds_since(begin)?), kernels: after - before })
        };
        names.into_iter().zip(marks.windows(2)).map(stage).collect()
    }

    /// Waits for everything, and refuses an update that is not finite.
    pub fn last_loss(&mut self) -> Result<f64> {
        self.update.read_numbers(&self.gpu, &mut self.numbers[0])?;
        let pending = Pending { step: 0, mark: self.gpu.mark()? };
        self.outcome(&pending).map(|outcome| outcome.loss)
    }

    /// Bytes of the arena and of what the feed took beside it.
    pub fn device_bytes(&self) -> u64 {
        self.arena.bytes() + self.feed.grown_bytes()
    }

    pub fn queued(&self) -> Queued {
        self.gpu.queued()
    }
}
