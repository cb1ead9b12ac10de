//! The line of batches: while one is drawn, the next is begun already, and the one before is its owner's, to encode and
//! store it.

use std::collections::VecDeque;

use super::painter::{AHEAD, Drawn, Request};
use super::pipeline::Pipeline;
use crate::error::Result;

/// Batches on their way through a pipeline, in order, each with what its owner wants to know of it when it is drawn.
pub struct Line<'a, T> {
    pipeline: &'a mut Pipeline,
    on_step: Box<dyn FnMut(usize) + 'a>,
    under_way: VecDeque<T>,
}

impl<'a, T> Line<'a, T> {
    /// `on_step` hears how many calls of the UNet are done of the batch that is waited for.
    pub fn new(pipeline: &'a mut Pipeline, on_step: impl FnMut(usize) + 'a) -> Self {
        Self { pipeline, on_step: Box::new(on_step), under_way: VecDeque::new() }
    }

    pub fn pipeline(&self) -> &Pipeline {
        self.pipeline
    }

    /// Begins a batch. As many are under way already as may be: waits for the one begun first, and returns it.
    ///
    /// # Errors
    /// An interruption when a signal asks to stop.
    pub fn push(&mut self, of: T, request: Request) -> Result<Option<(T, Drawn)>> {
        let drawn = if self.under_way.len() == AHEAD { self.pop()? } else { None };
        self.pipeline.start(request)?;
        self.under_way.push_back(of);
        Ok(drawn)
    }

    /// Waits for the batch begun first of those under way; `None` when there is none.
    ///
    /// # Errors
    /// An interruption when a signal asks to stop.
    pub fn pop(&mut self) -> Result<Option<(T, Drawn)>> {
        let Some(of) = self.under_way.pop_front() else { return Ok(None) };
        Ok(Some((of, self.pipeline.finish(&mut self.on_step)?)))
    }
}
