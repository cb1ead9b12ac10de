//! Line plots: loss curves for people without a plotting tool.

use super::Rgb8;
use super::canvas::{Canvas, Color, measure};

/// One curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub name: String,
    /// (x, y); points with a value that is not finite interrupt the curve.
    pub points: Vec<(f64, f64)>,
}

/// Names of the axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axes<'a> {
    pub x: &'a str,
    pub y: &'a str,
}

/// Okabe and Ito's colours, told apart by people with colour-blindness.
const COLORS: [Color; 7] =
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [86, 160, 210], [230, 159, 0], [90, 90, 90]];
const BACKGROUND: Color = [255, 255, 255];
const INK: Color = [38, 42, 48];
const FAINT: Color = [228, 230, 233];
const AXIS: Color = [130, 136, 144];
const WIDTH: usize = 960;
const HEIGHT: usize = 560;
// Space around the plot: tick labels and the name of y at the left, the title above, tick labels and the name of x
// below.
const LEFT: f32 = 84.0;
const RIGHT: f32 = 28.0;
const TOP: f32 = 64.0;
const BOTTOM: f32 = 62.0;

/// Curves of `series` over common axes, 960×560 pixels, with a legend where the plot is emptiest.
pub fn lines(series: &[Series], title: &str, axes: Axes<'_>) -> Rgb8 {
    let mut canvas = Canvas::new(WIDTH, HEIGHT, BACKGROUND);
    let frame = Frame::around(series);
    canvas.text(title, LEFT, 36.0, 13.0, INK);
    frame.draw_grid(&mut canvas, axes);
    for (index, one) in series.iter().enumerate() {
        let color = COLORS[index % COLORS.len()];
        for run in one.points.split(|p| !p.0.is_finite() || !p.1.is_finite()) {
            let points: Vec<(f32, f32)> = run.iter().map(|&p| frame.place(p)).collect();
            match points[..] {
                [only] => canvas.line(only, only, 5.0, color),
                _ => canvas.polyline(&points, 2.0, color),
            }
        }
    }
    frame.draw_legend(&mut canvas, series);
    canvas.finish()
}

/// Where values lie on the canvas.
struct Frame {
    x: Scale,
    y: Scale,
}

impl Frame {
    fn around(series: &[Series]) -> Self {
        let points = || series.iter().flat_map(|s| &s.points).filter(|p| p.0.is_finite() && p.1.is_finite());
        Self {
            x: Scale::around(points().map(|p| p.0), 8, false, (LEFT, WIDTH as f32 - RIGHT)),
            y: Scale::around(points().map(|p| p.1), 6, true, (HEIGHT as f32 - BOTTOM, TOP)),
        }
    }

    fn place(&self, (x, y): (f64, f64)) -> (f32, f32) {
        (self.x.place(x), self.y.place(y))
    }

    fn draw_grid(&self, canvas: &mut Canvas, axes: Axes<'_>) {
        let ((left, right), (bottom, top)) = (self.x.pixels, self.y.pixels);
        for tick in self.y.ticks() {
            let y = self.y.place(tick).round() + 0.5;
            canvas.line((left, y), (right, y), 1.0, FAINT);
            let label = self.y.label(tick);
            canvas.text(&label, left - 10.0 - measure(&label, 9.0), y + 4.5, 9.0, INK);
        }
        for tick in self.x.ticks() {
            let x = self.x.place(tick).round() + 0.5;
            canvas.line((x, bottom), (x, bottom + 5.0), 1.0, AXIS);
            let label = self.x.label(tick);
            canvas.text(&label, x - measure(&label, 9.0) / 2.0, bottom + 21.0, 9.0, INK);
        }
        canvas.line((left, bottom + 0.5), (right, bottom + 0.5), 1.0, AXIS);
        let (center, middle) = ((left + right) / 2.0, (top + bottom) / 2.0);
        canvas.text(axes.x, center - measure(axes.x, 10.0) / 2.0, HEIGHT as f32 - 14.0, 10.0, INK);
        canvas.text_upwards(axes.y, 24.0, middle + measure(axes.y, 10.0) / 2.0, 10.0, INK);
    }

    fn draw_legend(&self, canvas: &mut Canvas, series: &[Series]) {
        let widest = series.iter().map(|s| measure(&s.name, 10.0)).fold(0.0, f32::max);
        let (width, height) = (widest + 52.0, 20.0 * series.len() as f32 + 12.0);
        let ((left, right), (bottom, top)) = (self.x.pixels, self.y.pixels);
        // Of the four corners, the one that covers the fewest points.
        let corners = [
            (right - width - 8.0, top + 4.0),
            (left + 12.0, top + 4.0),
            (right - width - 8.0, bottom - height - 8.0),
            (left + 12.0, bottom - height - 8.0),
        ];
        let covered = |&(x, y): &(f32, f32)| {
            let inside =
                |p: (f32, f32)| p.0 > x - 8.0 && p.0 < x + width + 8.0 && p.1 > y - 8.0 && p.1 < y + height + 8.0;
            series.iter().flat_map(|s| &s.points).filter(|&&p| inside(self.place(p))).count()
        };
        let Some((x, y)) = corners.into_iter().min_by_key(covered) else { return };
        canvas.rectangle(x as usize, y as usize, width as usize, height as usize, BACKGROUND);
        for (index, one) in series.iter().enumerate() {
            let baseline = y + 20.0 * (index as f32 + 1.0);
            canvas.line((x + 10.0, baseline - 5.0), (x + 32.0, baseline - 5.0), 3.0, COLORS[index % COLORS.len()]);
            canvas.text(&one.name, x + 42.0, baseline, 10.0, INK);
        }
    }
}

/// One axis: its range, the distance of its ticks, and the pixels it spans.
struct Scale {
    low: f64,
    high: f64,
    step: f64,
    pixels: (f32, f32),
}

impl Scale {
    /// Covers `values`; `whole` widens the range to whole ticks.
    fn around(values: impl Iterator<Item = f64>, ticks: usize, whole: bool, pixels: (f32, f32)) -> Self {
        let (mut low, mut high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if high - low <= 1e-12 * high.abs().max(1e-12) {
            let pad = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
            (low, high) = (low - pad, high + pad);
        }
        // The smallest of 1, 2, 5 × a power of ten that gives no more than `ticks` ticks.
        let rough = (high - low) / ticks as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|f| f * power).into_iter().find(|&s| s >= rough * 0.999).unwrap_or(rough);
        if whole {
            (low, high) = ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step);
        }
        Self { low, high, step, pixels }
    }

    fn place(&self, value: f64) -> f32 {
        self.pixels.0 + ((value - self.low) / (self.high - self.low)) as f32 * (self.pixels.1 - self.pixels.0)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let first = (self.low / self.step - 1e-9).ceil() as i64;
        let last = (self.high / self.step + 1e-9).floor() as i64;
        (first..=last).map(move |i| i as f64 * self.step)
    }

    fn label(&self, tick: f64) -> String {
        let decimals = (-self.step.log10().floor()).max(0.0) as usize;
        if tick.abs() >= 1e6 || decimals > 6 { format!("{tick:.2e}") } else { format!("{tick:.decimals$}") }
    }
}
