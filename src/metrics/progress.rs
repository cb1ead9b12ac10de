//! One line that shows that long work is alive, how far it is, and when it will end.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::say;

/// Least and greatest time between two lines when stderr is no terminal.
const LINE_EVERY: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];

/// Time that a rate is the mean of, when a step does not take longer.
const RATE_OVER: Duration = Duration::from_secs(60);

/// A progress bar on stderr; where stderr is no terminal, plain lines with date and time: one after five seconds, then
/// fewer and fewer, in the end one a minute. It may be advanced from several threads.
#[derive(Debug)]
pub struct Progress {
    what: String,
    /// What rates count, one of it, and how many of them a step is.
    unit: (&'static str, u64),
    bar: ProgressBar,
    /// Nothing on a terminal.
    plain: Option<Mutex<Plain>>,
    /// Whether anything was shown; work that is usually short shows nothing before [`LINE_EVERY`]'s first pause.
    shown: AtomicBool,
}

/// State of the plain lines.
#[derive(Debug)]
struct Plain {
    started: Instant,
    due: Instant,
    pace: Pace,
}

impl Progress {
    /// Shows `what` at 0 of `len` steps; its rate counts `one`s, of which every step has `each`.
    pub fn bar(len: u64, what: &str, unit: (&'static str, u64)) -> Self {
        let progress = Self::of_short_work(len, what, unit);
        progress.show();
        progress
    }

    /// The same for work that is usually short: there is nothing to see of it unless it takes more than five seconds.
    pub fn of_short_work(len: u64, what: &str, (one, each): (&'static str, u64)) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::hidden());
        let style =
            ProgressStyle::with_template("{prefix:<22} {bar:28} {pos}/{len}  {pace:>14}  {eta_precise} left  {msg}");
        if let Ok(style) = style {
            let pace = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                // A line that cannot be formatted is not shown.
                let _ = out.write_str(&rate(state.per_sec() * each as f64, one));
            };
            bar.set_style(style.with_key("pace", pace).progress_chars("━╸·"));
        }
        bar.set_prefix(what.to_string());
        let now = Instant::now();
        let plain = Plain { started: now, due: now + LINE_EVERY[0], pace: Pace::from(0) };
        let plain = (!terminal).then(|| Mutex::new(plain));
        Self { what: what.to_string(), unit: (one, each), bar, plain, shown: AtomicBool::new(false) }
    }

    fn show(&self) {
        if !self.shown.swap(true, Ordering::Relaxed) && self.plain.is_none() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(Duration::from_millis(200));
        }
    }

    /// Moves on by `n`.
    pub fn advance(&self, n: u64) {
        self.bar.inc(n);
        if !self.shown.load(Ordering::Relaxed) && self.bar.elapsed() >= LINE_EVERY[0] {
            self.show();
        }
        self.plainly(|plain, now| plain.pace.reach(now - plain.started, self.bar.position()));
    }

    /// Work that an earlier run did: moves to `position` without counting it into the rate.
    pub fn resume_at(&self, position: u64) {
        self.bar.set_position(position);
        self.bar.reset_eta();
        self.bar.reset_elapsed();
        self.plainly(|plain, now| (plain.started, plain.pace) = (now, Pace::from(position)));
    }

    /// A short text at the end of the line, such as the current loss.
    pub fn note(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
        self.plainly(|_, _| ());
    }

    /// Removes the bar; in plain mode, says that the work is done and how long it took.
    pub fn finish(self) {
        if self.plain.is_some() && self.shown.into_inner() {
            let (position, took) = (self.bar.position(), clock(self.bar.elapsed()));
            say!("{}  {}: {position} done in {took}", utc_now(), self.what);
        }
        self.bar.finish_and_clear();
    }

    /// In plain mode: changes the state, and prints a line if one is due.
    fn plainly(&self, change: impl FnOnce(&mut Plain, Instant)) {
        let Some(Ok(mut plain)) = self.plain.as_ref().map(Mutex::lock) else { return };
        let now = Instant::now();
        change(&mut plain, now);
        if now < plain.due {
            return;
        }
        plain.due = now + pause(now - plain.started);
        let (len, note) = (self.bar.length().unwrap_or(0), self.bar.message());
        let line = line(&self.what, self.unit, (self.bar.position(), len), plain.pace.per_second(), &note);
        say!("{}  {line}", utc_now());
    }
}

/// `images: 30/60 (50 %), 1.5 images/s, 0:20 left, step 3 of 50`, as far as it is known.
fn line(what: &str, (one, each): (&str, u64), (position, len): (u64, u64), pace: Option<f64>, note: &str) -> String {
    let percent = (100 * position).checked_div(len).unwrap_or(0);
    let mut line = format!("{what}: {position}/{len} ({percent} %)");
    if let Some(pace) = pace {
        let left = len.saturating_sub(position) as f64 / pace;
        // No work that anybody waits for takes longer.
        let left = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
        line += &format!(", {}, {} left", rate(pace * each as f64, one), clock(left));
    }
    if !note.is_empty() {
        line += &format!(", {note}");
    }
    line
}

/// Time from a line to the next one when the work began `elapsed` ago.
fn pause(elapsed: Duration) -> Duration {
    (elapsed / 12).clamp(LINE_EVERY[0], LINE_EVERY[1])
}

/// The mean rate of the last minute, or of the last step where that took longer.
#[derive(Debug)]
struct Pace {
    /// When which position was reached, at least a second apart.
    marks: VecDeque<(Duration, u64)>,
    last: (Duration, u64),
}

impl Pace {
    fn from(position: u64) -> Self {
        let begin = (Duration::ZERO, position);
        Self { marks: VecDeque::from([begin]), last: begin }
    }

    /// Position `position` was reached at the time `at`.
    fn reach(&mut self, at: Duration, position: u64) {
        self.last = (at, position);
        if self.marks.back().is_none_or(|(before, _)| at >= *before + Duration::from_secs(1)) {
            self.marks.push_back(self.last);
        }
        // What remains first is the latest mark that is old enough.
        while self.marks.get(1).is_some_and(|(next, _)| *next + RATE_OVER <= at) {
            self.marks.pop_front();
        }
    }

    /// Steps per second; nothing before the first step.
    fn per_second(&self) -> Option<f64> {
        let (from, first) = *self.marks.front()?;
        let (at, position) = self.last;
        let pace = position.saturating_sub(first) as f64 / (at.saturating_sub(from)).as_secs_f64();
        (pace.is_finite() && pace > 0.0).then_some(pace)
    }
}

/// A rate of things called `one` in three digits: `123 images/s`, `1.5 images/s`, and below one a second `45.3
/// s/image`.
pub fn rate(per_second: f64, one: &str) -> String {
    let digits = |value: f64| match value {
        value if value < 9.95 => format!("{value:.2}"),
        value if value < 99.5 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    };
    match per_second {
        fast if fast >= 1.0 => format!("{} {one}s/s", digits(fast)),
        slow if slow > 0.0 => format!("{} s/{one}", digits(1.0 / slow)),
        _ => format!("no {one} yet"),
    }
}

/// `1:02:03` or `2:03`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

fn utc_now() -> String {
    utc(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()))
}

/// `2026-11-29 07:15:33Z` from the seconds since 1970. Years begin in March here, so that leap days end them; 400 years
/// are 146,097 days.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * march + 2) / 5 + 1, if march < 10 { march + 3 } else { march - 9 });
    let year = 400 * era + year + u64::from(month < 3);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_below_one_a_second_are_seconds() {
        for (per_second, text) in [
            (4031.7, "4032 images/s"),
            (123.4, "123 images/s"),
            (12.34, "12.3 images/s"),
            (1.0, "1.00 images/s"),
            (0.5, "2.00 s/image"),
            (6.0 / 271.8, "45.3 s/image"),
            (1.0 / 3000.0, "3000 s/image"),
            (0.0, "no image yet"),
            (f64::NAN, "no image yet"),
        ] {
            assert_eq!(rate(per_second, "image"), text);
        }
    }

    #[test]
    fn lines_say_what_is_known() {
        let images = ("image", 1);
        assert_eq!(line("images", images, (0, 60), None, ""), "images: 0/60 (0 %)");
        assert_eq!(line("images", images, (0, 60), None, "step 3 of 50"), "images: 0/60 (0 %), step 3 of 50");
        let text = "images: 30/60 (50 %), 1.50 images/s, 0:20 left, step 3 of 50";
        assert_eq!(line("images", images, (30, 60), Some(1.5), "step 3 of 50"), text);
        // A step of training is many images, and may take long.
        let text = "train: 1/4 (25 %), 5.12 images/s, 2:30 left";
        assert_eq!(line("train", ("image", 256), (1, 4), Some(0.02), ""), text);
        assert!(line("x", images, (0, u64::MAX), Some(1e-300), "").contains(" left"));
    }

    #[test]
    fn lines_become_fewer_up_to_one_a_minute() {
        let mut at = Duration::ZERO;
        let mut times = Vec::new();
        while at < Duration::from_secs(7 * 86_400) {
            at += pause(at);
            times.push(at);
        }
        assert_eq!(times[..3], [5, 10, 15].map(Duration::from_secs));
        let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.is_sorted() && gaps.last() == Some(&LINE_EVERY[1]));
        // A week of a line per five seconds would be 120,960.
        assert!(times.len() < 10_200, "{}", times.len());
    }

    #[test]
    fn a_pace_is_that_of_the_last_minute_or_step() {
        let mut pace = Pace::from(1000);
        assert_eq!(pace.per_second(), None);
        // Slow for a while, then ten a second, many times a second.
        pace.reach(Duration::from_secs(100), 1001);
        assert_eq!(pace.per_second(), Some(0.01));
        for tick in 1..=1000u64 {
            pace.reach(Duration::from_secs(100) + Duration::from_millis(100 * tick), 1001 + tick);
        }
        let now = pace.per_second().unwrap();
        assert!((now - 10.0).abs() < 0.2, "{now}");
        assert!(pace.marks.len() < 70, "{}", pace.marks.len());
        // Then one step that takes an hour.
        pace.reach(Duration::from_secs(3800), 2002);
        let now = pace.per_second().unwrap();
        assert!((now * 3600.0 - 1.0).abs() < 0.1, "{now}");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_399, "2000-02-28 23:59:59Z"),
            (951_782_400, "2000-02-29 00:00:00Z"),
            (1_709_251_199, "2024-02-29 23:59:59Z"),
            (1_709_251_200, "2024-03-01 00:00:00Z"),
            (1_795_936_533, "2026-11-29 07:15:33Z"),
            (4_102_444_799, "2099-12-31 23:59:59Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
