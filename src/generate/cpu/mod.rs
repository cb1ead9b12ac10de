//! Drawing on the CPU, in a thread of its own: while it draws, the pictures of the batch before can be encoded and
//! stored. It and its lanes share the threads of the pool with whoever does that.

mod lane;
mod studio;

use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::painter::{Drawn, Painter, Request};
use super::parts::Parts;
use super::trace::Meter;
use crate::bail;
use crate::device::Plan;
use crate::error::{Error, Result};
use crate::ops::gemm::Operands;
use studio::Studio;

/// The thread that draws, and how it is spoken to.
#[derive(Debug)]
pub(super) struct Cpu {
    batch: usize,
    /// Closed when nothing more is to be drawn.
    requests: Option<Sender<Request>>,
    news: Receiver<News>,
    /// Set when nobody waits for pictures any more: a batch ends after the step it is at.
    closed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What is heard of the batch begun first.
enum News {
    /// So many calls of the UNet are done.
    Step(usize),
    Drawn(Result<Drawn>),
}

impl Cpu {
    /// Reads the weights and takes the memory for batches of up to `batch`, and records both in `plan`.
    ///
    /// # Errors
    /// Device error if they do not fit into what memory is available; data error for weights that cannot be read.
    pub(super) fn new(parts: &Parts<'_>, operands: Operands, batch: usize, plan: &mut Plan) -> Result<Self> {
        let closed = Arc::<AtomicBool>::default();
        let studio = Studio::new(parts, operands, batch, plan, Arc::clone(&closed))?;
        let (requests, inbox) = mpsc::channel();
        let (outbox, news) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("painter".into())
            .spawn(move || work(studio, &inbox, &outbox))
            .map_err(|e| Error::Device(format!("cannot start the thread that draws: {e}")))?;
        Ok(Self { batch, requests: Some(requests), news, closed, thread: Some(thread) })
    }
}

/// Draws what is requested, one batch after the other, until no more can come.
fn work(mut studio: Studio, requests: &Receiver<Request>, news: &Sender<News>) {
    for request in requests {
        // Nobody listens any more once the pipeline is dropped, which ends the requests too.
        let drawn = studio.draw(request, &mut |call| _ = news.send(News::Step(call)));
        let _ = news.send(News::Drawn(drawn));
    }
}

impl Painter for Cpu {
    fn batch(&self) -> usize {
        self.batch
    }

    fn start(&mut self, request: Request) -> Result<()> {
        // A thread that is gone cannot be told; why it went is for who waits for its pictures.
        if let Some(requests) = &self.requests {
            let _ = requests.send(request);
        }
        Ok(())
    }

    fn finish(&mut self, on_step: &mut dyn FnMut(usize)) -> Result<Drawn> {
        loop {
            match self.news.recv() {
                Ok(News::Step(call)) => on_step(call),
                Ok(News::Drawn(drawn)) => return drawn,
                Err(_) => break,
            }
        }
        // It ended before its time.
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => panic::resume_unwind(panic),
            _ => bail!(Failed, "the thread that draws has ended"),
        }
    }
}

impl Meter for Cpu {}

impl Drop for Cpu {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        self.requests = None;
        // A panic of it has been told where it happened.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
