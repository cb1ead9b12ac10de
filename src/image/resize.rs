//! Antialiased resizing with exactly Pillow's bits: the filter is stretched by the scale when shrinking, weights are
//! rounded to 22 fractional bits, and the picture is rounded to 8 bits between the horizontal and the vertical pass.
//!
//! FLOPs: 6·taps per value written by each pass; taps = ⌈2·radius·max(1, scale)⌉ + 1 at most.

use serde::{Deserialize, Serialize};

use super::Rgb8;
use crate::bail;
use crate::error::Result;

/// Longest side of a picture that resizing makes.
pub const MAX_SIDE: usize = 16_384;

/// Kernel of the resampling, named as in Pillow; in brackets its radius in pixels of the coarser grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Mean of the covered pixels (0.5).
    Box,
    /// Triangle (1).
    #[default]
    Bilinear,
    /// Keys' cubic with a = −0.5 (2); Pillow's default.
    Bicubic,
    /// Lanczos (3).
    Lanczos,
}

impl Filter {
    fn radius(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let a = x.abs();
        match self {
            Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - a).max(0.0),
            Self::Bicubic if a < 1.0 => (1.5 * a - 2.5) * a * a + 1.0,
            Self::Bicubic if a < 2.0 => ((-0.5 * a + 2.5) * a - 4.0) * a + 2.0,
            Self::Bicubic => 0.0,
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) }
}

/// The whole picture at `width`×`height`.
pub fn resize(image: &Rgb8, width: usize, height: usize, filter: Filter) -> Result<Rgb8> {
    let mut data = Vec::new();
    Resampler::default().crop(&mut data, (width, height), image, [0, 0, image.width, image.height], filter)?;
    Ok(Rgb8 { width, height, data })
}

/// The part `[left, top, right, bottom]` (pixels, fractions allowed) at `width`×`height`. The filter also reads pixels
/// beside the part where the picture has them (Pillow's `resize(box=…)`).
pub fn resize_box(image: &Rgb8, part: [f64; 4], width: usize, height: usize, filter: Filter) -> Result<Rgb8> {
    let mut data = Vec::new();
    Resampler::default().part(&mut data, (width, height), image, part, filter)?;
    Ok(Rgb8 { width, height, data })
}

/// The part `[left, top, right, bottom]` of the picture that [`resize`] would make at `width`×`height`, to the bit, and
/// no more of it: that picture may be as long as it likes.
pub fn resize_window(
    image: &Rgb8,
    (width, height): (usize, usize),
    [left, top, right, bottom]: [usize; 4],
    filter: Filter,
) -> Result<Rgb8> {
    if left >= right || top >= bottom || right > width || bottom > height {
        bail!(Usage, "cannot cut ({left}, {top}, {right}, {bottom}) out of a picture resized to {width}×{height}");
    }
    let size = (right - left, bottom - top);
    check(image, [0.0, 0.0, image.width as f64, image.height as f64], size)?;
    let along = Axis::whole(image.width, width).only(left, right, filter);
    let across = Axis::whole(image.height, height).only(top, bottom, filter);
    let mut data = Vec::with_capacity(3 * along.held() * across.held());
    for y in across.from..across.to {
        data.extend_from_slice(&image.row(y)[3 * along.from..3 * along.to]);
    }
    Resampler::default().passes(&mut data, along, across, filter);
    Ok(Rgb8 { width: size.0, height: size.1, data })
}

/// Bits behind the point of a weight: 8 bits of value, a sign and one bit of overshoot fit above them in an i32.
const FRACTION: u32 = 32 - 8 - 2;

/// Values of a row that the vertical pass sums at a time.
const LANES: usize = 32;

/// The scratch memory of resizing, to be reused from picture to picture.
#[derive(Debug, Default)]
pub struct Resampler {
    weights: Weights,
    between: Vec<u8>,
}

impl Resampler {
    /// The part `[left, top, right, bottom]` (pixels) as `[height, width, 3]` in `out`, as if it were cut out first:
    /// the filter reads nothing beside it (torchvision's `resized_crop`, Pillow's `crop(…).resize(…)`).
    pub fn crop(
        &mut self,
        out: &mut Vec<u8>,
        size: (usize, usize),
        image: &Rgb8,
        part: [usize; 4],
        filter: Filter,
    ) -> Result<()> {
        check(image, part.map(|edge| edge as f64), size)?;
        let [left, top, right, bottom] = part;
        out.clear();
        (top..bottom).for_each(|y| out.extend_from_slice(&image.row(y)[3 * left..3 * right]));
        let (width, height) = (right - left, bottom - top);
        self.passes(out, Axis::whole(width, size.0), Axis::whole(height, size.1), filter);
        Ok(())
    }

    /// Like [`resize_box`], into `out`.
    pub fn part(
        &mut self,
        out: &mut Vec<u8>,
        size: (usize, usize),
        image: &Rgb8,
        part: [f64; 4],
        filter: Filter,
    ) -> Result<()> {
        check(image, part, size)?;
        let [left, top, right, bottom] = part;
        out.clone_from(&image.data);
        let along = Axis { low: left, high: right, ..Axis::whole(image.width, size.0) };
        let across = Axis { low: top, high: bottom, ..Axis::whole(image.height, size.1) };
        self.passes(out, along, across, filter);
        Ok(())
    }

    fn passes(&mut self, image: &mut Vec<u8>, along: Axis, across: Axis, filter: Filter) {
        if columns_first((along.pixels, across.pixels), (along.output, across.output)) {
            self.across(image, along.held(), across, filter);
            self.along(image, along, across.made(), filter);
        } else {
            self.along(image, along, across.held(), filter);
            self.across(image, along.made(), across, filter);
        }
    }

    /// Changes the width of `image`.
    fn along(&mut self, image: &mut Vec<u8>, axis: Axis, height: usize, filter: Filter) {
        if axis.is_identity() {
            return;
        }
        self.weights.fill(axis, filter);
        self.between.clear();
        self.between.resize(3 * axis.made() * height, 0);
        for (row, source) in self.between.chunks_exact_mut(3 * axis.made()).zip(image.chunks_exact(3 * axis.held())) {
            self.weights.along(row, source);
        }
        std::mem::swap(image, &mut self.between);
    }

    /// Changes the height of `image`.
    fn across(&mut self, image: &mut Vec<u8>, width: usize, axis: Axis, filter: Filter) {
        if axis.is_identity() {
            return;
        }
        self.weights.fill(axis, filter);
        self.between.clear();
        self.between.resize(3 * width * axis.made(), 0);
        pulp::Arch::new().dispatch(|| self.weights.across(&mut self.between, image, 3 * width));
        std::mem::swap(image, &mut self.between);
    }
}

/// Whether the height is changed before the width. Pillow 13 shortens the columns first when that sheds more rows than
/// twice the columns that the other pass sheds; earlier releases always went along the rows first, which rounds a few
/// values to the neighbouring level.
pub fn columns_first(from: (usize, usize), to: (usize, usize)) -> bool {
    let shed = |from: usize, to: usize| from as i64 - to as i64;
    let (along, across) = (shed(from.0, to.0), shed(from.1, to.1));
    across > 0 && across > 2 * along
}

/// What each of `outputs` is made of where a whole axis of `inputs` is brought to them: the first input, and the
/// weights from there on, whose sum is 1.
pub fn taps(inputs: usize, outputs: usize, filter: Filter) -> Vec<(usize, Vec<f64>)> {
    let axis = Axis::whole(inputs, outputs);
    let of_output = |i| {
        let mut weights = Vec::new();
        (axis.weights(i, filter, &mut weights), weights)
    };
    (0..outputs).map(of_output).collect()
}

/// The weights that bring a whole axis of `inputs` pixels to `outputs`, for a device: a table `[2 + taps, outputs]` of
/// the first input of each output, how many it has, and their weights in 22 fractional bits, zeros behind the last.
pub fn weight_table(inputs: usize, outputs: usize, filter: Filter) -> Vec<i32> {
    let mut weights = Weights::default();
    weights.fill(Axis::whole(inputs, outputs), filter);
    let taps = weights.taps().map(|(_, weights)| weights.len()).max().unwrap_or(0);
    let mut table = vec![0; (2 + taps) * outputs];
    for (i, (first, weights)) in weights.taps().enumerate() {
        table[i] = first as i32;
        table[outputs + i] = weights.len() as i32;
        for (tap, &weight) in weights.iter().enumerate() {
            table[(2 + tap) * outputs + i] = weight;
        }
    }
    table
}

fn check(image: &Rgb8, [left, top, right, bottom]: [f64; 4], (width, height): (usize, usize)) -> Result<()> {
    let inside = 0.0 <= left && left < right && right <= image.width as f64;
    let inside = inside && 0.0 <= top && top < bottom && bottom <= image.height as f64;
    if !inside || image.data.len() != 3 * image.width * image.height {
        bail!(
            Usage,
            "cannot resize the box ({left}, {top}, {right}, {bottom}) of a picture of {}×{} with {} bytes; \
             expected 0 ≤ left < right ≤ width, 0 ≤ top < bottom ≤ height and 3 bytes per pixel",
            image.width,
            image.height,
            image.data.len()
        );
    }
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
        bail!(Usage, "cannot resize to {width}×{height}: sides must be 1 to {MAX_SIDE}");
    }
    Ok(())
}

/// What happens along one axis: of `pixels`, the part from `low` to `high` becomes `output` pixels.
#[derive(Clone, Copy, Debug)]
struct Axis {
    pixels: usize,
    low: f64,
    high: f64,
    output: usize,
    /// Output pixels that are made, the last excluded.
    first: usize,
    end: usize,
    /// Input pixels that are at hand, the last excluded.
    from: usize,
    to: usize,
}

impl Axis {
    fn whole(pixels: usize, output: usize) -> Self {
        Self { pixels, low: 0.0, high: pixels as f64, output, first: 0, end: output, from: 0, to: pixels }
    }

    /// The same with only the outputs from `first` to `end` made, of the inputs that they take.
    fn only(self, first: usize, end: usize, filter: Filter) -> Self {
        let (from, _) = self.inputs(first, filter);
        let (_, to) = self.inputs(end - 1, filter);
        Self { first, end, from, to, ..self }
    }

    /// The inputs that output `i` takes, the last excluded.
    fn inputs(&self, i: usize, filter: Filter) -> (usize, usize) {
        let (center, radius) = (self.center(i), filter.radius() * self.stretch());
        let first = (center - radius + 0.5).max(0.0) as usize;
        (first, ((center + radius + 0.5) as usize).min(self.pixels))
    }

    /// Fills `weights` with those of output `i`, whose sum is 1, and returns the first input that they are for.
    fn weights(&self, i: usize, filter: Filter, weights: &mut Vec<f64>) -> usize {
        let center = self.center(i);
        let (first, end) = self.inputs(i, filter);
        // Multiplied by the reciprocal and summed in this order because Pillow does: the last bit decides some
        // roundings.
        let shrink = 1.0 / self.stretch();
        weights.clear();
        weights.extend((first..end).map(|x| filter.weight((x as f64 - center + 0.5) * shrink)));
        let sum = weights.iter().fold(0.0, |sum, w| sum + w);
        if sum != 0.0 {
            weights.iter_mut().for_each(|w| *w /= sum);
        }
        first
    }

    fn scale(&self) -> f64 {
        (self.high - self.low) / self.output as f64
    }

    fn stretch(&self) -> f64 {
        self.scale().max(1.0)
    }

    fn center(&self, i: usize) -> f64 {
        self.low + (i as f64 + 0.5) * self.scale()
    }

    fn made(&self) -> usize {
        self.end - self.first
    }

    fn held(&self) -> usize {
        self.to - self.from
    }

    fn is_identity(&self) -> bool {
        self.made() == self.pixels && self.pixels == self.output && self.low == 0.0 && self.high == self.pixels as f64
    }
}

/// For every output of one axis that is made: the first input (counted from the first at hand), and the weights from
/// there on.
#[derive(Debug, Default)]
struct Weights {
    first: Vec<usize>,
    /// Where each output's weights begin in `values`; one more than outputs.
    start: Vec<usize>,
    values: Vec<i32>,
    /// The weights of one output before rounding.
    real: Vec<f64>,
}

impl Weights {
    fn fill(&mut self, axis: Axis, filter: Filter) {
        self.first.clear();
        self.start.clear();
        self.start.push(0);
        self.values.clear();
        for i in axis.first..axis.end {
            let first = axis.weights(i, filter, &mut self.real);
            let one = f64::from(1 << FRACTION);
            self.values.extend(self.real.iter().map(|w| (w * one).round() as i32));
            self.first.push(first - axis.from);
            self.start.push(self.values.len());
        }
    }

    /// (first input, weights) of every output.
    fn taps(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.first.iter().zip(self.start.windows(2)).map(|(&first, ends)| (first, &self.values[ends[0]..ends[1]]))
    }

    /// Resizes one row of RGB pixels.
    fn along(&self, to: &mut [u8], from: &[u8]) {
        for (pixel, (first, weights)) in to.chunks_exact_mut(3).zip(self.taps()) {
            let mut sum = [HALF; 3];
            for (source, &w) in from[3 * first..].chunks_exact(3).zip(weights) {
                for c in 0..3 {
                    sum[c] += i32::from(source[c]) * w;
                }
            }
            for c in 0..3 {
                pixel[c] = rounded(sum[c]);
            }
        }
    }

    /// Sums whole rows of `length` values.
    #[inline(always)]
    fn across(&self, to: &mut [u8], from: &[u8], length: usize) {
        for (row, (first, weights)) in to.chunks_exact_mut(length).zip(self.taps()) {
            for (block, slots) in row.chunks_mut(LANES).enumerate() {
                let begin = first * length + block * LANES;
                let mut sum = [HALF; LANES];
                for (tap, &w) in weights.iter().enumerate() {
                    let source = &from[begin + tap * length..][..slots.len()];
                    for (s, &v) in sum.iter_mut().zip(source) {
                        *s += i32::from(v) * w;
                    }
                }
                for (slot, s) in slots.iter_mut().zip(sum) {
                    *slot = rounded(s);
                }
            }
        }
    }
}

const HALF: i32 = 1 << (FRACTION - 1);

#[inline(always)]
fn rounded(sum: i32) -> u8 {
    (sum >> FRACTION).clamp(0, 255) as u8
}
