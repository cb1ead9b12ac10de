//! Drawing with smooth edges: rectangles, lines, text, pictures.

use super::Rgb8;
use super::font::{CAP_HEIGHT, glyph, text_width};

/// Red, green, blue.
pub type Color = [u8; 3];

/// A picture being drawn. Positions are pixels from the top left corner; what falls outside is cut off.
#[derive(Debug)]
pub struct Canvas {
    image: Rgb8,
}

impl Canvas {
    /// An empty picture of one colour.
    pub fn new(width: usize, height: usize, background: Color) -> Self {
        Self { image: Rgb8::filled(width, height, background) }
    }

    /// The finished picture.
    pub fn finish(self) -> Rgb8 {
        self.image
    }

    /// Fills whole pixels `[x, x + width) × [y, y + height)`.
    pub fn rectangle(&mut self, x: usize, y: usize, width: usize, height: usize, color: Color) {
        for row in y..(y + height).min(self.image.height) {
            for column in x..(x + width).min(self.image.width) {
                self.put(column, row, color, 1.0);
            }
        }
    }

    /// Copies `picture` with its top left corner at (x, y), each pixel as a square of `scale` pixels.
    pub fn picture(&mut self, picture: &Rgb8, x: usize, y: usize, scale: usize) {
        for row in 0..(picture.height * scale).min(self.image.height.saturating_sub(y)) {
            for column in 0..(picture.width * scale).min(self.image.width.saturating_sub(x)) {
                self.put(x + column, y + row, picture.pixel(column / scale, row / scale), 1.0);
            }
        }
    }

    /// A line of `width` pixels with round ends.
    pub fn line(&mut self, from: (f32, f32), to: (f32, f32), width: f32, color: Color) {
        self.strokes(&[[from, to]], width, color);
    }

    /// Joined lines; where they cross, the colour is laid on once.
    pub fn polyline(&mut self, points: &[(f32, f32)], width: f32, color: Color) {
        let segments: Vec<_> = points.windows(2).map(|pair| [pair[0], pair[1]]).collect();
        // Blocks keep the searched rectangle of a long curve small.
        for block in segments.chunks(16) {
            self.strokes(block, width, color);
        }
    }

    /// Text whose capitals are `cap` pixels high, from x, with the baseline at y. Returns the x after it.
    pub fn text(&mut self, text: &str, x: f32, baseline: f32, cap: f32, color: Color) -> f32 {
        let unit = cap / CAP_HEIGHT;
        let top = baseline - cap;
        let mut pen = x;
        for c in text.chars() {
            let (segments, advance) = glyph(c);
            let placed: Vec<_> =
                segments.iter().map(|s| s.map(|(px, py)| (pen + px * unit, top + py * unit))).collect();
            self.strokes(&placed, pen_width(cap), color);
            pen += advance * unit;
        }
        pen
    }

    /// The same, turned a quarter to the left: it runs upwards from y, with the baseline at x.
    pub fn text_upwards(&mut self, text: &str, x: f32, y: f32, cap: f32, color: Color) {
        let unit = cap / CAP_HEIGHT;
        let mut pen = y;
        for c in text.chars() {
            let (segments, advance) = glyph(c);
            let placed: Vec<_> =
                segments.iter().map(|s| s.map(|(px, py)| (x - cap + py * unit, pen - px * unit))).collect();
            self.strokes(&placed, pen_width(cap), color);
            pen -= advance * unit;
        }
    }

    /// Lays `color` on by how much of each pixel lies within `width` / 2 of any segment.
    fn strokes(&mut self, segments: &[[(f32, f32); 2]], width: f32, color: Color) {
        let reach = width / 2.0 + 1.0;
        let bound = |pick: fn((f32, f32)) -> f32, limit: usize| {
            let values = || segments.iter().flatten().map(|&p| pick(p));
            let low = values().fold(f32::INFINITY, f32::min) - reach;
            let high = values().fold(f32::NEG_INFINITY, f32::max) + reach;
            (low.floor().clamp(0.0, limit as f32) as usize, high.ceil().clamp(0.0, limit as f32) as usize)
        };
        let (left, right) = bound(|p| p.0, self.image.width);
        let (top, bottom) = bound(|p| p.1, self.image.height);
        for y in top..bottom {
            for x in left..right {
                let center = (x as f32 + 0.5, y as f32 + 0.5);
                let distance = segments.iter().map(|s| distance(center, s)).fold(f32::INFINITY, f32::min);
                self.put(x, y, color, (width / 2.0 + 0.5 - distance).clamp(0.0, 1.0));
            }
        }
    }

    fn put(&mut self, x: usize, y: usize, color: Color, cover: f32) {
        let i = 3 * (y * self.image.width + x);
        for (value, wanted) in self.image.data[i..i + 3].iter_mut().zip(color) {
            *value = (f32::from(*value) + cover * (f32::from(wanted) - f32::from(*value)) + 0.5) as u8;
        }
    }
}

/// Pixels that `text` takes with capitals of `cap` pixels.
pub fn measure(text: &str, cap: f32) -> f32 {
    text_width(text) * cap / CAP_HEIGHT
}

/// Breaks `text` between words (or inside a word longer than a line) into lines of at most `width` pixels; what does
/// not fit in `max_lines` ends with "...".
pub fn wrap(text: &str, cap: f32, width: f32, max_lines: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let joined = if line.is_empty() { word.to_string() } else { format!("{line} {word}") };
        if measure(&joined, cap) <= width {
            line = joined;
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for c in word.chars() {
            if measure(&line, cap) + measure(&c.to_string(), cap) > width && !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
    }
    lines.push(line);
    if lines.len() > max_lines {
        lines.truncate(max_lines);
        if let Some(last) = lines.last_mut() {
            while !last.is_empty() && measure(last, cap) + measure("...", cap) > width {
                last.pop();
            }
            last.push_str("...");
        }
    }
    lines
}

/// Pen width of text: a ninth of the capital's height, never thinner than a pixel.
fn pen_width(cap: f32) -> f32 {
    (cap * 0.125).max(1.05)
}

fn distance(p: (f32, f32), [a, b]: &[(f32, f32); 2]) -> f32 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let square = dx * dx + dy * dy;
    let t = if square > 0.0 { (((p.0 - a.0) * dx + (p.1 - a.1) * dy) / square).clamp(0.0, 1.0) } else { 0.0 };
    (p.0 - a.0 - t * dx).hypot(p.1 - a.1 - t * dy)
}
