//! Updates of parameters: the same bits as the CPU's.

use half::bf16;

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks};
use crate::ops::optimizer::cuda::{self, Buffers, Guard, Heads, SETTINGS, adamw, decay_mask, sgd};
use crate::ops::optimizer::{AdamW, Group, follow};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "AdamW", run: adamw_steps },
    Check { name: "AdamW withheld from numbers that are not finite", run: withheld },
    Check { name: "SGD with momentum", run: sgd_steps },
    Check { name: "momentum copy", run: followed },
]);

const ADAMW: AdamW = AdamW { lr: 3e-3, beta1: 0.9, beta2: 0.98, eps: 1e-8, weight_decay: 0.1, step: 1 };

/// Groups that begin in the middle of a thread's values.
fn groups(len: usize) -> Vec<Group> {
    let cut = |share: usize| (len * share / 7).min(len);
    let bounds = [0, cut(1), cut(3), cut(4), len];
    bounds.windows(2).enumerate().map(|(i, w)| Group::new(w[0]..w[1], i % 2 == 0)).collect()
}

fn bits(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|&v| bf16::from_f32(v)).collect()
}

/// Three steps of different rates through one buffer of settings.
fn adamw_steps(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    let mut lengths = vec![1, 3, 4, 7, 1024, 2048, 2051, 5003];
    if case.full() {
        lengths.push(3_000_001);
    }
    for len in lengths {
        for clear in [false, true] {
            let groups = groups(len);
            let mut p = case.normal("p", len, 0.1);
            let mut m = case.normal("m", len, 1e-3);
            let mut v: Vec<f32> = case.normal("v", len, 1e-3).iter().map(|v| v * v).collect();
            let buffers = [case.f32(&p)?, case.f32(&m)?, case.f32(&v)?, gpu.alloc(len)?];
            let [p_gpu, m_gpu, v_gpu, g_gpu] = [0, 1, 2, 3].map(|i| buffers[i].view());
            let (copy, decay) = (gpu.upload(&vec![bf16::NAN; len])?, gpu.upload(&decay_mask(&groups, len))?);
            let (settings, squares, loss) = (gpu.alloc(SETTINGS)?, gpu.upload(&[1.0f64])?, gpu.upload(&[2.0f32])?);
            for step in 1..=3 {
                // Some gradients are 0, as those of tokens that no image has.
                let mut g = case.normal(&format!("g {step}"), len, 1e-3);
                g.iter_mut().step_by(5).for_each(|g| *g = 0.0);
                let now = AdamW { lr: ADAMW.lr / step as f64, step, ..ADAMW };
                gpu.write(g_gpu, &g)?;
                gpu.write(settings.view(), &now.settings())?;
                let rounded = (step != 2).then(|| copy.view());
                let buffers = Buffers { p: p_gpu, m: m_gpu, v: v_gpu, rounded };
                let guard = Guard { sum_of_squares: squares.view(), loss: (step != 3).then(|| loss.view()) };
                adamw(gpu, buffers, g_gpu, decay.view(), settings.view(), guard, clear)?;
                now.update(&mut p, &mut m, &mut v, &g, &groups);
                let what = |name: &str| format!("{name} of {len} after step {step}");
                for (name, got, want) in [("p", p_gpu, &p), ("m", m_gpu, &m), ("v", v_gpu, &v)] {
                    case.same(&what(name), &gpu.read(got)?, want)?;
                }
                if step != 2 {
                    case.same(&what("bf16 p"), &gpu.read(copy.view())?, &bits(&p))?;
                }
                case.same(&what("g"), &gpu.read(g_gpu)?, &if clear { vec![0.0; len] } else { g })?;
            }
        }
    }
    Ok(())
}

fn withheld(case: &Case) -> Result<()> {
    let (gpu, len) = (case.gpu(), 1030);
    for (squares, loss) in
        [(f64::NAN, None), (f64::INFINITY, Some(1.0)), (1.0, Some(f32::NAN)), (1.0, Some(f32::NEG_INFINITY))]
    {
        let values = [case.normal("p", len, 1.0), case.normal("m", len, 1.0), vec![1.0; len], vec![2.0; len]];
        let buffers = [0, 1, 2, 3].map(|i| case.f32(&values[i]));
        let [p, m, v, g] = buffers;
        let (p, m, v, g) = (p?, m?, v?, g?);
        let copy = gpu.upload(&bits(&values[0]))?;
        let (decay, settings) = (gpu.upload(&vec![0xffu8; len.div_ceil(8)])?, case.f32(&ADAMW.settings())?);
        let (squares, loss) = (gpu.upload(&[squares])?, loss.map(|loss| gpu.upload(&[loss])).transpose()?);
        let buffers = Buffers { p: p.view(), m: m.view(), v: v.view(), rounded: Some(copy.view()) };
        let guard = Guard { sum_of_squares: squares.view(), loss: loss.as_ref().map(|loss| loss.view()) };
        adamw(gpu, buffers, g.view(), decay.view(), settings.view(), guard, true)?;
        for (name, (got, want)) in ["p", "m", "v", "g"].iter().zip([&p, &m, &v, &g].iter().zip(&values)) {
            case.same(&format!("{name} left alone"), &gpu.read(got.view())?, want)?;
        }
        case.same("bf16 p left alone", &gpu.read(copy.view())?, &bits(&values[0]))?;
    }
    Ok(())
}

/// Two steps of different rates; a copy that is withheld with the update of what it copies.
fn followed(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for len in [1, 3, 4, 1021, 1024, 4099] {
        let (mut slow, fast) = (case.normal("slow", len, 1.0), case.normal("fast", len, 1.0));
        let (slow_gpu, fast_gpu) = (case.f32(&slow)?, case.f32(&fast)?);
        let (copy, share) = (gpu.upload(&bits(&slow))?, gpu.alloc(1)?);
        let numbers = [(1.0, Some(2.0f32)), (f64::NAN, Some(2.0)), (1.0, None), (1.0, Some(f32::INFINITY))];
        for (i, (squares, loss)) in numbers.into_iter().enumerate() {
            let rate = 0.3 / (i + 1) as f32;
            gpu.write(share.view(), &[rate])?;
            let (sound, squares) =
                (f64::is_finite(squares) && loss.is_none_or(f32::is_finite), gpu.upload(&[squares])?);
            let loss = loss.map(|loss| gpu.upload(&[loss])).transpose()?;
            let guard = Guard { sum_of_squares: squares.view(), loss: loss.as_ref().map(|loss| loss.view()) };
            cuda::follow(gpu, slow_gpu.view(), copy.view(), fast_gpu.view(), share.view(), guard)?;
            if sound {
                follow(&mut slow, &fast, rate);
            }
            case.same(&format!("copy of {len} after step {i}"), &gpu.read(slow_gpu.view())?, &slow)?;
            case.same(&format!("bf16 copy of {len} after step {i}"), &gpu.read(copy.view())?, &bits(&slow))?;
        }
    }
    Ok(())
}

fn sgd_steps(case: &Case) -> Result<()> {
    const MOMENTUM: f32 = 0.9;
    let gpu = case.gpu();
    for (heads, each) in [(1, 1), (3, 7), (2, 45), (10, 480), (1, 9900)] {
        let len = heads * each;
        let lrs: Vec<f32> = (0..heads).map(|g| 0.1 * (g + 1) as f32).collect();
        let (mut w, mut v) = (case.normal("w", len, 0.1), vec![0.0f32; len]);
        let (weight, velocity, copy) = (case.f32(&w)?, case.f32(&v)?, gpu.upload(&vec![bf16::NAN; len])?);
        let (rates, schedule) = (case.f32(&lrs)?, gpu.alloc(1)?);
        for step in 0..3 {
            let (g, factor) = (case.normal(&format!("g {step}"), len, 1.0), 1.0 - 0.3 * step as f32);
            let gradient = case.f32(&g)?;
            gpu.write(schedule.view(), &[factor])?;
            let rounded = (step != 1).then(|| copy.view());
            let (weight, velocity, gradient) = (weight.view(), velocity.view(), gradient.view());
            sgd(gpu, Heads { weight, velocity, rounded, gradient }, rates.view(), schedule.view(), MOMENTUM)?;
            for i in 0..len {
                let rate = lrs[i / each] * factor;
                v[i] = MOMENTUM * v[i] + g[i];
                w[i] -= rate * v[i];
            }
            let what = |name: &str| format!("{name} of {heads} heads of {each} after step {step}");
            case.same(&what("weight"), &gpu.read(weight)?, &w)?;
            case.same(&what("velocity"), &gpu.read(velocity)?, &v)?;
            case.same(&what("gradient"), &gpu.read(gradient)?, &vec![0.0; len])?;
            if step != 1 {
                case.same(&what("bf16 weight"), &gpu.read(copy.view())?, &bits(&w))?;
            }
        }
    }
    Ok(())
}
