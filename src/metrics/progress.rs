//! One line that shows that long work is alive, how far it is, and when it will end.

use crate::say;

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two lines when stderr is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A progress bar on stderr; where stderr is no terminal, a plain line every five seconds. It may be advanced from several threads.
#[derive(Debug)]
pub struct Progress {
    what: String,
    bar: ProgressBar,
    /// When the next plain line is due; `None` on a terminal.
    next_line: Option<Mutex<Instant>>,
}

impl Progress {
    /// Shows `what` at 0 of `len`.
    pub fn bar(len: u64, what: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(len), target);
        let style =
            ProgressStyle::with_template("{prefix:<22} {bar:28} {pos}/{len}  {per_sec:>10}  {eta_precise} left  {msg}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("━╸·"));
        }
        bar.set_prefix(what.to_string());
        if terminal {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let next_line = (!terminal).then(|| Mutex::new(Instant::now() + LINE_EVERY));
        Self { what: what.to_string(), bar, next_line }
    }

    /// Moves on by `n`.
    pub fn advance(&self, n: u64) {
        self.bar.inc(n);
        self.maybe_line();
    }

    /// Work that an earlier run did: moves to `position` without counting it into the rate.
    pub fn resume_at(&self, position: u64) {
        self.bar.set_position(position);
        self.bar.reset_eta();
        self.bar.reset_elapsed();
    }

    /// A short text at the end of the line, such as the current loss.
    pub fn note(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }

    /// Prints a line of its own above the bar.
    pub fn println(&self, text: &str) {
        self.bar.suspend(|| say!("{text}"));
    }

    /// Removes the bar; in plain mode, says that the work is done and how long it took.
    pub fn finish(self) {
        if self.next_line.is_some() {
            say!("{}: {} done in {}", self.what, self.bar.position(), clock(self.bar.elapsed()));
        }
        self.bar.finish_and_clear();
    }

    fn maybe_line(&self) {
        let Some(Ok(mut due)) = self.next_line.as_ref().map(Mutex::try_lock) else { return };
        let now = Instant::now();
        if now < *due {
            return;
        }
        *due = now + LINE_EVERY;
        let (position, len) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let percent = (100 * position).checked_div(len).unwrap_or(0);
        say!(
            "{}: {position}/{len} ({percent} %), {:.1}/s, {} left{}{}",
            self.what,
            self.bar.per_sec(),
            clock(self.bar.eta()),
            if self.bar.message().is_empty() { "" } else { ", " },
            self.bar.message()
        );
    }
}

/// `1:02:03` or `2:03`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}
