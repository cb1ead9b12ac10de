//! Sampler steps: the bits of the CPU; with noise, but for the last place of the logarithm.

use half::{bf16, f16};

use crate::device::cuda::Half;
use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::sampler_step::cuda::{Buffers, Schedule, advance, keys, start, table};
use crate::ops::sampler_step::{self, NoiseKey, SLOTS, State, Step};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "steps f16", run: steps::<f16> },
    Check { name: "steps bf16", run: steps::<bf16> },
    Check { name: "noise", run: noise },
    Check { name: "same bits in any batch", run: batches },
    Check { name: "what is no number stays none", run: not_a_number },
    Check { name: "start", run: starts },
]);

/// Every kind of step: plain, clipped, remembering, recalling; slots are written before they are read.
fn mixed(case: &Case) -> Vec<Step> {
    let mut random = case.stream("coefficients");
    let mut coefficient = || random.uniform_in(-1.5, 1.5);
    let mut step = |now: bool, kept: [bool; SLOTS], keep, limit| Step {
        d: (coefficient(), coefficient()),
        limit,
        x: coefficient(),
        e: coefficient(),
        now: if now { coefficient() } else { 0.0 },
        kept: kept.map(|on| if on { coefficient() } else { 0.0 }),
        keep,
        noise: 0.0,
        input: coefficient(),
    };
    let free = f32::INFINITY;
    vec![
        step(false, [false; 3], None, free),
        step(true, [false; 3], None, 0.75),
        step(true, [false; 3], Some(1), free),
        step(true, [false, true, false], Some(1), 0.5),
        step(false, [false, true, false], Some(0), free),
        step(true, [true, true, false], Some(2), free),
        step(true, [true; 3], Some(0), free),
    ]
}

fn steps<T: Half>(case: &Case) -> Result<()> {
    // Image sizes in values: one quad, a block short of one, whole, one over; several images.
    for (images, values, w) in
        [(1, 4, None), (3, 1020, Some(2.0)), (2, 1024, Some(7.5)), (2, 1028, None), (2, 5 * 7 * 4, Some(-1.0))]
    {
        let (gpu, len) = (case.gpu(), images * values);
        let steps = mixed(case);
        let mut x = case.normal("x", len, 1.0);
        let x_gpu = case.f32(&x)?;
        let (input_gpu, history_gpu) = (gpu.upload(&vec![T::round(f32::NAN); len])?, gpu.alloc(SLOTS * len)?);
        let (mut input, mut history) = (vec![0.0; len], vec![0.0; SLOTS * len]);
        let (coefficients, counter) = (case.f32(&table(&steps, w.unwrap_or(f32::NAN)))?, gpu.upload(&[0u32])?);
        let schedule = Schedule { table: coefficients.view(), step: counter.view() };
        for (call, step) in steps.iter().enumerate() {
            let eps = case.normal(&format!("eps {call}"), if w.is_some() { 2 * len } else { len }, 1.0);
            let eps_gpu = case.f32(&eps)?;
            let buffers = Buffers { x: x_gpu.view(), input: input_gpu.view(), history: Some(history_gpu.view()) };
            advance(gpu, buffers, eps_gpu.view(), schedule, None, images)?;
            let state = State { x: &mut x, input: &mut input, history: &mut history, noise: &[] };
            sampler_step::advance(state, &eps[..len], w.map(|w| (&eps[len..], w)), step);
            let what = |name: &str| format!("{name} of {images} × {values}, w {w:?}, after call {call}");
            case.same(&what("x"), &gpu.read(x_gpu.view())?, &x)?;
            let rounded: Vec<T> = input.iter().map(|&v| T::round(v)).collect();
            case.same(&what("input"), &gpu.read(input_gpu.view())?, &rounded)?;
            for slot in (0..SLOTS).filter(|&slot| steps[..=call].iter().any(|step| step.keep == Some(slot))) {
                let part = slot * len..(slot + 1) * len;
                case.same(&what("history"), &gpu.read(history_gpu.view().slice(part.clone()))?, &history[part])?;
            }
            case.same(&what("counter"), &gpu.read(counter.view())?, &[call as u32 + 1])?;
        }
    }
    Ok(())
}

fn images(case: &Case, n: usize) -> Vec<NoiseKey> {
    let key =
        |i: usize| NoiseKey { seed: case.seed() << 33 | 77, caption: 1_000_003 * (i as u32 / 2), image: i as u32 % 2 };
    (0..n).map(key).collect()
}

/// Noise alone, of every image and call; and in a step.
fn noise(case: &Case) -> Result<()> {
    let (gpu, n, values) = (case.gpu(), 3, 1028);
    let len = n * values;
    let images = images(case, n);
    let keys = gpu.upload(&keys(&images))?;
    for mixed in [false, true] {
        let plain = if mixed { Step::linear(0.5, -1.0) } else { Step::linear(0.0, 0.0) };
        let steps = [Step { noise: 1.0, ..plain }; 3];
        let (coefficients, counter) = (case.f32(&table(&steps, 1.0))?, gpu.upload(&[0u32])?);
        let schedule = Schedule { table: coefficients.view(), step: counter.view() };
        let (mut x, eps) = (case.normal("x", len, 1.0), case.normal("eps", len, 1.0));
        let (x_gpu, eps_gpu, input) = (case.f32(&x)?, case.f32(&eps)?, gpu.alloc::<f16>(len)?);
        for (call, step) in steps.iter().enumerate() {
            let buffers = Buffers { x: x_gpu.view(), input: input.view(), history: None };
            advance(gpu, buffers, eps_gpu.view(), schedule, Some(keys.view()), n)?;
            let mut noise = vec![0.0; len];
            noise.chunks_exact_mut(values).zip(&images).for_each(|(z, key)| key.draw(call as u32, z));
            sampler_step::advance(State { x: &mut x, noise: &noise, ..State::default() }, &eps, None, step);
            let within = Tolerance { difference: 1e-13, relative: 1e-6, of_rms: 1e-6 };
            case.close(&format!("x with noise after call {call}"), &gpu.read(x_gpu.view())?, &x, within)?;
        }
    }
    Ok(())
}

/// An image alone and among others.
fn batches(case: &Case) -> Result<()> {
    let (gpu, n, values) = (case.gpu(), 8, 140);
    let images = images(case, n);
    let (x, eps) = (case.normal("x", n * values, 1.0), case.normal("eps", 2 * n * values, 1.0));
    let steps = [Step { noise: 0.5, now: 0.25, keep: Some(0), ..Step::linear(0.9, -0.3) }; 2];
    let coefficients = case.f32(&table(&steps, 3.0))?;
    let run = |first: usize, count: usize| -> Result<(Vec<f32>, Vec<bf16>)> {
        let rows = first * values..(first + count) * values;
        let other = (n + first) * values..(n + first + count) * values;
        let (x, eps) = (case.f32(&x[rows.clone()])?, case.f32(&[&eps[rows], &eps[other]].concat())?);
        let (input, history) = (gpu.alloc(count * values)?, gpu.alloc(count * values)?);
        let (keys, counter) = (gpu.upload(&keys(&images[first..first + count]))?, gpu.upload(&[0u32])?);
        let schedule = Schedule { table: coefficients.view(), step: counter.view() };
        let buffers = Buffers { x: x.view(), input: input.view(), history: Some(history.view()) };
        for _ in &steps {
            advance(gpu, buffers, eps.view(), schedule, Some(keys.view()), count)?;
        }
        Ok((gpu.read(x.view())?, gpu.read(input.view())?))
    };
    let whole = run(0, n)?;
    for size in [1, 3] {
        for first in (0..n).step_by(size) {
            let count = size.min(n - first);
            let part = run(first, count)?;
            let rows = first * values..(first + count) * values;
            case.same(&format!("x of image {first} in a batch of {count}"), &part.0, &whole.0[rows.clone()])?;
            case.same(&format!("input of image {first} in a batch of {count}"), &part.1, &whole.1[rows])?;
        }
    }
    Ok(())
}

/// A bound must not hide a NaN: the picture is flagged by it.
fn not_a_number(case: &Case) -> Result<()> {
    let (gpu, len) = (case.gpu(), 8);
    let mut eps = case.normal("eps", len, 1.0);
    (eps[1], eps[2], eps[6]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    let step = Step { limit: 1.0, now: 1.0, keep: Some(0), ..Step::linear(0.0, 1e-3) };
    let (x, eps_gpu) = (case.f32(&vec![0.5; len])?, case.f32(&eps)?);
    let (input, history, counter) = (gpu.alloc::<bf16>(len)?, gpu.alloc(len)?, gpu.upload(&[0u32])?);
    let coefficients = case.f32(&table(&[step], 1.0))?;
    let schedule = Schedule { table: coefficients.view(), step: counter.view() };
    advance(
        gpu,
        Buffers { x: x.view(), input: input.view(), history: Some(history.view()) },
        eps_gpu.view(),
        schedule,
        None,
        1,
    )?;
    let (mut want, mut kept) = (vec![0.5; len], vec![0.0; len]);
    sampler_step::advance(State { x: &mut want, history: &mut kept, ..State::default() }, &eps, None, &step);
    let finite = |values: &[f32]| -> Vec<u32> { values.iter().map(|v| u32::from(v.is_finite())).collect() };
    case.same("finite x", &finite(&gpu.read(x.view())?), &finite(&want))?;
    case.same("finite history", &finite(&gpu.read(history.view())?), &finite(&kept))?;
    case.same("finite history", &finite(&kept), &[1, 0, 1, 1, 1, 1, 1, 1])?;
    case.same("finite input", &finite(&case.read_half(input.view())?), &[1, 0, 0, 1, 1, 1, 0, 1])
}

fn starts(case: &Case) -> Result<()> {
    for len in [4, 1020, 1024, 1028, 9000] {
        let (gpu, unit) = (case.gpu(), case.normal("unit", len, 1.0));
        let (x, input) = (case.f32(&unit)?, gpu.alloc::<f16>(len)?);
        start(gpu, x.view(), input.view(), 14.6, 0.068)?;
        let want: Vec<f32> = unit.iter().map(|v| 14.6 * v).collect();
        let rounded: Vec<f16> = want.iter().map(|&v| f16::from_f32(0.068 * v)).collect();
        case.same(&format!("x of {len}"), &gpu.read(x.view())?, &want)?;
        case.same(&format!("input of {len}"), &gpu.read(input.view())?, &rounded)?;
    }
    Ok(())
}
