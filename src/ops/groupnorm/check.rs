//! Group normalisation against the CPU op on the same rounded inputs.

use half::{bf16, f16};

use crate::device::cuda::{E4m3, Half, Owned};
use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::gemm::Threads;
use crate::ops::groupnorm::GroupNorm;
use crate::ops::groupnorm::cuda::{
    Modulation, Norm, RUN, apply, apply_e4m3, moments, moments_len, scale_shift, table_len,
};

pub const CHECKS: Checks = Checks { quick: QUICK, full_size: FULL_SIZE };

const QUICK: &[Check] = &[
    Check { name: "groupnorm moments f16", run: |case| moments_of_runs::<f16>(case) },
    Check { name: "groupnorm moments bf16", run: |case| moments_of_runs::<bf16>(case) },
    Check { name: "groupnorm f16", run: |case| whole::<f16>(case) },
    Check { name: "groupnorm bf16", run: |case| whole::<bf16>(case) },
    Check { name: "groupnorm e4m3 of f16", run: |case| narrow::<f16>(case) },
    Check { name: "groupnorm e4m3 of bf16", run: |case| narrow::<bf16>(case) },
    Check { name: "groupnorm, an image's bits in any batch", run: batch_independent },
    Check { name: "groupnorm at full size", run: full_size },
];

/// Layers of Stable Diffusion 1.5 at 512², one image (of both guidance branches, the first still one): the UNet's
/// widest norms of joined tensors and its longest groups, and a strip of the decoder's.
const FULL_SIZE: &[Check] = &[
    Check {
        name: "groupnorm of 64², 640 and 320 channels joined",
        run: |case| compare::<f16>(case, &problem(1, 4096, 32, &[(1, 640), (1, 320)]), true),
    },
    Check {
        name: "groupnorm of 8², 1280 and 1280 channels joined",
        run: |case| compare::<f16>(case, &problem(2, 64, 32, &[(2, 1280), (1, 1280)]), true),
    },
    Check {
        name: "groupnorm of 64², 320 channels, no activation",
        run: |case| compare::<f16>(case, &problem(2, 4096, 32, &[(1, 320)]), false),
    },
    Check {
        name: "groupnorm of the decoder, 16 lines of 512",
        run: |case| compare::<f16>(case, &problem(1, 16 * 512, 32, &[(1, 128)]), true),
    },
];

const EPS: f32 = 1e-5;
/// Of the results in e4m3: what is beyond 3 saturates.
const INVERSE: f32 = E4m3::MAX / 3.0;

/// Images, pixels and channels of a tensor, and how many images it holds.
#[derive(Clone, Copy, Debug)]
struct Part {
    rows: usize,
    channels: usize,
}

/// A norm of one tensor or of two side by side.
#[derive(Clone, Debug)]
struct Problem {
    n: usize,
    pixels: usize,
    groups: usize,
    parts: Vec<Part>,
}

fn problem(n: usize, pixels: usize, groups: usize, parts: &[(usize, usize)]) -> Problem {
    Problem { n, pixels, groups, parts: parts.iter().map(|&(rows, channels)| Part { rows, channels }).collect() }
}

/// One pixel, a run less one, exactly, plus one, several runs; one vector of channels to several blocks of them; a
/// group wider than a block; tensors that repeat; and groups over the border of two tensors.
fn problems() -> Vec<Problem> {
    vec![
        problem(1, 1, 1, &[(1, 8)]),
        problem(2, 63, 4, &[(2, 16)]),
        problem(3, 64, 8, &[(3, 80)]),
        problem(4, 65, 8, &[(2, 160)]),
        problem(2, 35, 32, &[(1, 320)]),
        problem(1, 300, 8, &[(1, 16)]),
        problem(2, 129, 1, &[(2, 24)]),
        problem(1, 16, 32, &[(1, 1280)]),
        problem(1, 70, 1, &[(1, 320)]),
        problem(4, 35, 8, &[(4, 80), (2, 160)]),
        problem(3, 140, 8, &[(1, 160), (3, 80)]),
        problem(2, 70, 32, &[(2, 320), (1, 640)]),
        problem(2, 16, 32, &[(2, 1280), (2, 640)]),
        problem(6, 5, 3, &[(2, 8), (3, 16)]),
    ]
}

/// Every channel with its own mean, up to 20 times its deviation; every fifth constant.
fn input(case: &Case, name: &str, rows: usize, pixels: usize, channels: usize) -> Vec<f32> {
    let mut values = case.normal(&format!("{name} {rows}·{pixels}·{channels}"), rows * pixels * channels, 1.0);
    let means = case.normal(&format!("{name} means"), channels, 1.0);
    for (i, value) in values.iter_mut().enumerate() {
        let c = i % channels;
        *value = match c % 5 {
            0 => means[c],
            1 => *value + 20.0 * means[c].signum(),
            _ => *value * (0.5 + means[c].abs()) + means[c],
        };
    }
    values
}

fn moments_of_runs<T: Half>(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for (n, pixels, channels) in
        [(1, 1, 8), (2, 63, 16), (1, 64, 520), (2, 65, 80), (3, 200, 40), (1, 71, 320), (1, 9, 2560)]
    {
        let values = input(case, "x", n, pixels, channels);
        let (x, values) = case.half::<T>(&values)?;
        let out = gpu.upload(&vec![f32::NAN; moments_len(n, pixels, channels)])?;
        moments(gpu, out.view(), x.view(), n, pixels, channels)?;
        let mut want = Vec::new();
        for run in values.chunks_exact(pixels * channels).flat_map(|image| image.chunks(RUN * channels)) {
            let mut sums = vec![[0.0f64; 2]; channels];
            for (i, &x) in run.iter().enumerate() {
                sums[i % channels][0] += f64::from(x);
                sums[i % channels][1] += f64::from(x) * f64::from(x);
            }
            want.extend(sums.as_flattened().iter().map(|&s| s as f32));
        }
        let what = format!("moments of {n}×{pixels}×{channels}");
        case.close(&what, &gpu.read(out.view())?, &want, Tolerance::f32())?;
    }
    Ok(())
}

/// What the kernels make of a problem: the sources, then everything in order.
struct Made<T: Half> {
    y: Vec<T>,
    /// y in e4m3, where the card has it.
    narrow: Vec<E4m3>,
    table: Vec<f32>,
    /// The sources as the CPU op takes them: joined and repeated, rounded.
    x: Vec<f32>,
    norm: GroupNorm,
}

/// Values and moments on the device, what they are part of, and the rounded values.
type Uploaded<T> = (Owned<T>, Owned<f32>, Part, Vec<f32>);

fn make<T: Half>(case: &Case, problem: &Problem, silu: bool, image: Option<usize>) -> Result<Made<T>> {
    let (gpu, pixels) = (case.gpu(), problem.pixels);
    // One image alone of a problem, or all of it.
    let n = if image.is_some() { 1 } else { problem.n };
    let channels: usize = problem.parts.iter().map(|part| part.channels).sum();
    let mut sources: Vec<Uploaded<T>> = Vec::new();
    for (which, &part) in problem.parts.iter().enumerate() {
        let values = input(case, &format!("x{which}"), part.rows, pixels, part.channels);
        let one = pixels * part.channels;
        let (part, values) = match image {
            Some(i) => (Part { rows: 1, ..part }, values[i % part.rows * one..][..one].to_vec()),
            None => (part, values),
        };
        let (x, values) = case.half::<T>(&values)?;
        let statistics = gpu.upload(&vec![f32::NAN; moments_len(part.rows, pixels, part.channels)])?;
        moments(gpu, statistics.view(), x.view(), part.rows, pixels, part.channels)?;
        sources.push((x, statistics, part, values));
    }
    let gamma: Vec<f32> = case.normal("gamma", channels, 0.5).iter().map(|g| 1.0 + g).collect();
    let norm = GroupNorm { gamma, beta: case.normal("beta", channels, 0.5), groups: problem.groups, eps: EPS };
    let (gamma, beta) = (case.f32(&norm.gamma)?, case.f32(&norm.beta)?);
    let table = gpu.upload(&vec![f32::NAN; table_len(n, channels)])?;
    let y = gpu.upload(&vec![T::round(f32::NAN); n * pixels * channels])?;
    let statistics: Vec<_> = sources.iter().map(|(_, m, part, _)| (m.view(), part.rows, part.channels)).collect();
    let tensors: Vec<_> = sources.iter().map(|(x, _, part, _)| (x.view(), part.rows, part.channels)).collect();
    let on_gpu = Norm { gamma: gamma.view(), beta: beta.view(), groups: problem.groups, eps: EPS };
    let modulation = Modulation { table: table.view(), silu };
    scale_shift(gpu, table.view(), &statistics, on_gpu, n, pixels)?;
    apply(gpu, y.view(), &tensors, modulation, n, pixels)?;
    let narrow = gpu.upload(&vec![E4m3::round(f32::NAN); if gpu.has_e4m3() { n * pixels * channels } else { 0 }])?;
    if gpu.has_e4m3() {
        apply_e4m3(gpu, narrow.view(), INVERSE, &tensors, modulation, n, pixels)?;
    }

    let mut x = Vec::with_capacity(n * pixels * channels);
    for image in 0..n {
        for pixel in 0..pixels {
            for (_, _, part, values) in &sources {
                x.extend_from_slice(&values[(image % part.rows * pixels + pixel) * part.channels..][..part.channels]);
            }
        }
    }
    Ok(Made { y: gpu.read(y.view())?, narrow: gpu.read(narrow.view())?, table: gpu.read(table.view())?, x, norm })
}

fn compare<T: Half>(case: &Case, problem: &Problem, silu: bool) -> Result<()> {
    let made = make::<T>(case, problem, silu, None)?;
    let mut want = vec![0.0; made.x.len()];
    made.norm.forward(&mut want, &made.x, problem.pixels, silu, Threads::One);
    let got: Vec<f32> = made.y.iter().map(|y| y.widen()).collect();
    case.close(&format!("y of {problem:?}, silu {silu}"), &got, &want, Tolerance::of::<T>())
}

fn whole<T: Half>(case: &Case) -> Result<()> {
    for problem in problems() {
        compare::<T>(case, &problem, true)?;
        compare::<T>(case, &problem, false)?;
    }
    Ok(())
}

/// The same values as in 16 bits, rounded once instead.
fn narrow<T: Half>(case: &Case) -> Result<()> {
    if !case.has_e4m3() {
        return Ok(());
    }
    for problem in problems() {
        for silu in [false, true] {
            let made = make::<T>(case, &problem, silu, None)?;
            case.narrowed(&format!("y of {problem:?}, silu {silu}"), &made.narrow, &made.y, INVERSE)?;
        }
    }
    Ok(())
}

fn batch_independent(case: &Case) -> Result<()> {
    for (n, image) in [(3, 1), (8, 5), (8, 7)] {
        let problem = problem(n, 70, 8, &[(n, 80), (n.div_ceil(2), 160)]);
        let all = make::<f16>(case, &problem, true, None)?;
        let alone = make::<f16>(case, &problem, true, Some(image))?;
        let (y, table, narrow) = (alone.y.len(), alone.table.len(), alone.narrow.len());
        case.same("table", &all.table[image * table..][..table], &alone.table)?;
        case.same("y", &all.y[image * y..][..y], &alone.y)?;
        case.same("y in e4m3", &all.narrow[image * narrow..][..narrow], &alone.narrow)?;
    }
    Ok(())
}

/// The widest of the UNet, its largest joined norm, and the decoder's last.
fn full_size(case: &Case) -> Result<()> {
    if !case.full() {
        return Ok(());
    }
    for problem in [
        problem(8, 4096, 32, &[(4, 320)]),
        problem(4, 4096, 32, &[(4, 640), (4, 320)]),
        problem(8, 64, 32, &[(8, 1280), (8, 1280)]),
        problem(2, 512 * 512, 32, &[(2, 128)]),
    ] {
        compare::<f16>(case, &problem, true)?;
        compare::<bf16>(case, &problem, true)?;
    }
    Ok(())
}
