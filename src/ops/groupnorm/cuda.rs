//! Launches of `kernels/groupnorm.cu` and `kernels/groupnorm_sm89.cu`.
//!
//! Statistics travel as *moments*, `[N, runs, C, 2]` f32: sum and sum of squares of every channel over runs of [`RUN`]
//! pixels of one image. A convolution writes them with its output; [`moments`] makes them of a tensor that nothing
//! wrote them for.

use crate::device::cuda::kernels::groupnorm::{ROWS, WIDEST};
use crate::device::cuda::{E4m3, Element, Gpu, Half, Launch, View, kernels};
use crate::error::Result;

/// Pixels of one image behind one pair of moments.
pub const RUN: usize = kernels::groupnorm::RUN;

/// A tensor of `rows` images and `channels`; image n of the output reads image n modulo `rows`.
type Part<T> = (View<T>, usize, usize);

/// f32 values of the moments of `n` images.
pub fn moments_len(n: usize, pixels: usize, channels: usize) -> usize {
    2 * n * pixels.div_ceil(RUN) * channels
}

/// f32 values of the table of `n` images.
pub fn table_len(n: usize, channels: usize) -> usize {
    2 * n * channels
}

/// A block per run, image, and 512 channels at most, spread evenly.
fn plan(n: usize, pixels: usize, channels: usize) -> Launch {
    let vectors = channels / 8;
    let pieces = vectors.div_ceil(WIDEST);
    let across = vectors.div_ceil(pieces) as u32;
    Launch { block: [across, ROWS as u32, 1], ..Launch::grid([pixels.div_ceil(RUN), pieces, n], 1) }
}

fn check(n: usize, pixels: usize, channels: &[usize]) {
    let total: usize = channels.iter().sum();
    let vectors = channels.iter().all(|&c| c > 0 && c.is_multiple_of(8));
    let fits = n > 0 && n < 1 << 16 && pixels > 0 && pixels * total < 1 << 31;
    assert!(vectors && fits, "groupnorm: {n} images of {pixels} pixels, channels {channels:?} (multiples of 8)");
}

/// Both parts, the second without channels where there is one only.
fn pair<T>(parts: &[Part<T>]) -> (Part<T>, Option<Part<T>>)
where
    View<T>: Copy,
{
    match *parts {
        [a] => (a, None),
        [a, b] => (a, Some(b)),
        _ => panic!("groupnorm: {} tensors side by side, expected one or two", parts.len()),
    }
}

/// `moments` of `x [n, pixels, channels]`.
pub fn moments<T: Half>(
    gpu: &Gpu,
    moments: View<f32>,
    x: View<T>,
    n: usize,
    pixels: usize,
    channels: usize,
) -> Result<()> {
    check(n, pixels, &[channels]);
    assert!(
        x.len() == n * pixels * channels && moments.len() == moments_len(n, pixels, channels),
        "groupnorm: moments"
    );
    assert!(x.is_aligned(16) && moments.is_aligned(16), "groupnorm: moments: addresses");
    let (at, pixels, channels) = (plan(n, pixels, channels), pixels as u32, channels as u32);
    kernels::GroupnormMoments { moment: moments, x, pixels, channels }.launch(gpu, at)
}

/// A group norm: gain and shift, `[C]` each, and what is added to the variance.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    pub gamma: View<f32>,
    pub beta: View<f32>,
    pub groups: usize,
    pub eps: f32,
}

/// `table [n, C, 2]` such that the norm is `x·table[0] + table[1]`: `gamma·rstd` and `beta − mean·gamma·rstd`, from the
/// moments of one tensor or of two whose channels lie side by side; groups may reach over the border between them.
pub fn scale_shift(
    gpu: &Gpu,
    table: View<f32>,
    parts: &[Part<f32>],
    norm: Norm,
    n: usize,
    pixels: usize,
) -> Result<()> {
    let Norm { gamma, beta, groups, eps } = norm;
    let (a, b) = pair(parts);
    let channels = a.2 + b.map_or(0, |b| b.2);
    assert!(groups > 0 && channels.is_multiple_of(groups), "groupnorm: {channels} channels in {groups} groups");
    assert!(table.len() == table_len(n, channels) && table.is_aligned(16), "groupnorm: table");
    assert!(gamma.len() == channels && beta.len() == channels, "groupnorm: parameters of {channels} channels");
    for &(moments, rows, c) in parts {
        check(n, pixels, &[c]);
        assert!(rows > 0 && moments.len() == moments_len(rows, pixels, c), "groupnorm: moments of {rows} rows");
        assert!(moments.is_aligned(8), "groupnorm: moments: address");
    }
    let at = Launch::grid([groups, n, 1], 256);
    let (b, rows_b, channels_b) = b.map_or((None, 1, 0), |(b, rows, c)| (Some(b), rows as u32, c as u32));
    let (a, rows_a, channels_a) = (a.0, a.1 as u32, a.2 as u32);
    let pixels = pixels as u32;
    kernels::GroupnormScaleShift { table, a, rows_a, channels_a, b, rows_b, channels_b, gamma, beta, eps, pixels }
        .launch(gpu, at)
}

/// What is done to the values: `table` from [`scale_shift`], then SiLU if `silu`.
#[derive(Clone, Copy, Debug)]
pub struct Modulation {
    pub table: View<f32>,
    pub silu: bool,
}

/// `y [n, pixels, C] = x·table[0] + table[1]`, then SiLU if it is asked for, of one tensor or of two side by side,
/// which are joined here.
pub fn apply<T: Half>(
    gpu: &Gpu,
    y: View<T>,
    parts: &[Part<T>],
    Modulation { table, silu }: Modulation,
    n: usize,
    pixels: usize,
) -> Result<()> {
    let Application { at, a, rows_a, channels_a, b, rows_b, channels_b, pixels } =
        Application::new(y, 16, parts, table, n, pixels);
    let kernel = if silu { kernels::GroupnormKernel::Silu } else { kernels::GroupnormKernel::Apply };
    kernels::Groupnorm { y, a, rows_a, channels_a, b, rows_b, channels_b, table, pixels }.launch(gpu, at, kernel)
}

/// [`apply`] into e4m3: times `inverse`, ±448 at most.
///
/// # Errors
/// Device error on cards without e4m3 ([`Gpu::has_e4m3`]).
pub fn apply_e4m3<T: Half>(
    gpu: &Gpu,
    y: View<E4m3>,
    inverse: f32,
    parts: &[Part<T>],
    Modulation { table, silu }: Modulation,
    n: usize,
    pixels: usize,
) -> Result<()> {
    gpu.needs_e4m3()?;
    let Application { at, a, rows_a, channels_a, b, rows_b, channels_b, pixels } =
        Application::new(y, 8, parts, table, n, pixels);
    let kernel = if silu { kernels::GroupnormE4m3Kernel::Silu } else { kernels::GroupnormE4m3Kernel::Apply };
    kernels::GroupnormE4m3 { y, inverse, a, rows_a, channels_a, b, rows_b, channels_b, table, pixels }
        .launch(gpu, at, kernel)
}

/// What both applications' kernels take besides y and the table, checked.
struct Application<T> {
    at: Launch,
    a: View<T>,
    rows_a: u32,
    channels_a: u32,
    b: Option<View<T>>,
    rows_b: u32,
    channels_b: u32,
    pixels: u32,
}

impl<T: Half> Application<T> {
    /// `piece`: bytes that y is written in.
    fn new<Y: Element>(y: View<Y>, piece: u64, parts: &[Part<T>], table: View<f32>, n: usize, pixels: usize) -> Self {
        let (a, b) = pair(parts);
        let channels = a.2 + b.map_or(0, |b| b.2);
        check(n, pixels, &parts.iter().map(|part| part.2).collect::<Vec<_>>());
        assert!(y.len() == n * pixels * channels && table.len() == table_len(n, channels), "groupnorm: y, table");
        assert!(y.is_aligned(piece) && table.is_aligned(16), "groupnorm: addresses of y and table");
        for &(x, rows, c) in parts {
            assert!(rows > 0 && x.len() == rows * pixels * c && x.is_aligned(16), "groupnorm: x of {rows} rows");
        }
        let (b, rows_b, channels_b) = b.map_or((None, 1, 0), |(b, rows, c)| (Some(b), rows as u32, c as u32));
        let (a, rows_a, channels_a) = (a.0, a.1 as u32, a.2 as u32);
        Self { at: plan(n, pixels, channels), a, rows_a, channels_a, b, rows_b, channels_b, pixels: pixels as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_every_vector_once() {
        for channels in [8, 16, 80, 320, 512, 520, 640, 960, 1280, 1920, 2560] {
            let Launch { grid, block, .. } = plan(3, 65, channels);
            let vectors = channels / 8;
            assert_eq!((grid[0], grid[2], block[1]), (2, 3, 8));
            assert!(block[0] as usize <= WIDEST && (grid[1] * block[0]) as usize >= vectors, "{channels}");
            assert!(((grid[1] - 1) * block[0]) < vectors as u32, "{channels}: a block without work");
        }
        // What the UNet and the decoder launch.
        let sizes = |channels| (plan(1, 64, channels).grid[1], plan(1, 64, channels).block[0]);
        assert_eq!([320, 640, 1280, 2560, 128, 512].map(sizes), [(1, 40), (2, 40), (3, 54), (5, 64), (1, 16), (1, 64)]);
    }
}
