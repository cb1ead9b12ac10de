//! Norms, activations, sums, sampler and optimizer: bound by memory, or by the exponential.

use stablerep::ops::gemm::Threads;
use stablerep::ops::groupnorm::{self, GroupNorm};
use stablerep::ops::optimizer::{self, AdamW, Group};
use stablerep::ops::sampler_step::{self, State, Step};
use stablerep::ops::simd::vectorize;
use stablerep::ops::{activation, batchnorm, embed, gelu, layernorm, pixels, reduce, relu};

use crate::harness::{Bench, Work, values};

pub fn run(bench: &mut Bench) {
    norms(bench);
    activations(bench);
    sampler(bench);
    sums_and_optimizer(bench);
}

fn norms(bench: &mut Bench) {
    for (name, rows, d) in [("vit-s", 8 * 197, 384), ("demo vit", 256 * 17, 128)] {
        let (x, gamma, beta) = (values(rows * d), values(d), values(d));
        let (mut y, mut stats) = (vec![0.0; rows * d], vec![0.0; rows * 2]);
        let (mut dx, mut dgamma, mut dbeta) = (values(rows * d), vec![0.0; d], vec![0.0; d]);
        let (flops, bytes) = (layernorm::flops(rows, d), layernorm::bytes(rows, d, 4));
        let size = format!("{name} {rows}x{d}");
        bench.measure(&format!("layernorm forward/{size}"), Work::new(flops.0, bytes.0), || {
            layernorm::forward(&mut y, &mut stats, &x, &gamma, &beta, 1e-6)
        });
        bench.measure(&format!("layernorm infer/{size}"), Work::new(flops.0, bytes.0), || {
            layernorm::infer(&mut y, &x, &gamma, &beta, 1e-6, Threads::All)
        });
        bench.measure(&format!("layernorm backward/{size}"), Work::new(flops.1, bytes.1), || {
            layernorm::backward(&mut dx, &mut dgamma, &mut dbeta, &y, &x, &stats, &gamma)
        });
    }
    for (name, n, pixels, channels, groups) in [("sd1.5 64²", 2, 4096, 320, 32), ("tiny-sd 4²", 32, 16, 80, 8)] {
        let norm = GroupNorm { gamma: values(channels), beta: values(channels), groups, eps: 1e-5 };
        let (x, mut y) = (values(n * pixels * channels), vec![0.0; n * pixels * channels]);
        for silu in [false, true] {
            let name = format!("groupnorm{}/{name} {channels} n{n}", if silu { " silu" } else { "" });
            bench.measure(&name, Work::new(groupnorm::flops(x.len(), silu), groupnorm::bytes(x.len())), || {
                norm.forward(&mut y, &x, pixels, silu, Threads::All)
            });
        }
    }
    let (rows, cols) = (256, 4096);
    let (x, gamma, beta) = (values(rows * cols), values(cols), values(cols));
    let (mut y, mut stats) = (vec![0.0; x.len()], vec![0.0; 2 * cols]);
    let (mut mean, mut var) = (vec![0.0; cols], vec![1.0; cols]);
    let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; x.len()], vec![0.0; cols], vec![0.0; cols]);
    let (flops, bytes) = (batchnorm::flops(rows, cols), batchnorm::bytes(rows, cols));
    bench.measure(&format!("batchnorm forward/head {rows}x{cols}"), Work::new(flops.0, bytes.0), || {
        let running = batchnorm::Running { mean: &mut mean, var: &mut var };
        batchnorm::forward(&mut y, &mut stats, running, &x, &gamma, &beta)
    });
    bench.measure(
        &format!("batchnorm infer/head {rows}x{cols}"),
        Work::new(4.0 * x.len() as f64, 8.0 * x.len() as f64),
        || batchnorm::infer(&mut y, &x, &mean, &var, &gamma, &beta),
    );
    bench.measure(&format!("batchnorm backward/head {rows}x{cols}"), Work::new(flops.1, bytes.1), || {
        batchnorm::backward(&mut dx, &mut dgamma, &mut dbeta, &y, &x, &stats, &gamma)
    });
}

fn activations(bench: &mut Bench) {
    let len = 1 << 20;
    let (x, mut y) = (values(len), values(len));
    let (twice, mut dx) = (values(2 * len), values(len));
    let in_place = Work::new(20.0 * len as f64, 8.0 * len as f64);
    // In place, a value would shrink from call to call until it is denormal: each call starts from the same copy.
    let copied = Work::new(in_place.flops, 16.0 * len as f64);
    for (name, activate) in [
        ("silu, one thread", activation::silu as fn(&mut [f32])),
        ("quick_gelu, one thread", activation::quick_gelu),
        ("gelu, one thread", activation::gelu),
        ("relu", relu::forward_in_place),
    ] {
        bench.measure(&format!("{name}/copy and {len}"), copied, || {
            y.copy_from_slice(&x);
            activate(&mut y)
        });
    }
    bench.measure(&format!("geglu, one thread/{len}"), Work::new(20.0 * len as f64, 12.0 * len as f64), || {
        activation::geglu(&mut y, &twice, 1280 / 5)
    });
    let (flops, bytes) = (gelu::flops(len), gelu::bytes(len));
    bench.measure(&format!("gelu forward/{len}"), Work::new(flops.0, bytes.0), || {
        vectorize(
            #[inline(always)]
            || gelu::forward(&mut y, &x),
        )
    });
    bench.measure(&format!("gelu backward/copy and {len}"), Work::new(flops.1, bytes.1 + 8.0 * len as f64), || {
        dx.copy_from_slice(&x);
        vectorize(
            #[inline(always)]
            || gelu::backward_in_place(&mut dx, &x),
        )
    });
    let (flops, bytes) = (relu::flops(len), relu::bytes(len));
    bench
        .measure(&format!("relu backward/{len}"), Work::new(flops.1, bytes.1), || relu::backward_in_place(&mut dx, &y));
}

fn sampler(bench: &mut Bench) {
    let len = 16 * 64 * 64 * 4;
    let (mut x, c, u) = (values(len), values(len), values(len));
    let (step, mut input) = (Step::linear(0.99, 0.01), values(len));
    bench.measure(&format!("sampler_step/sd1.5 n16 {len}"), Work::new(9.0 * len as f64, 20.0 * len as f64), || {
        let state = State { x: &mut x, input: &mut input, ..State::default() };
        sampler_step::advance(state, &c, Some((&u, 2.0)), &step)
    });
    let image = values(512 * 512 * 3);
    let mut out = vec![0u8; image.len()];
    let work = Work::new(4.0 * image.len() as f64, 5.0 * image.len() as f64);
    bench.measure("pixels to_u8/512x512", work, || pixels::to_u8(&mut out, &image));
    bench.measure("embed timestep/320", Work::new(320.0 * 4.0, 320.0 * 4.0), || {
        std::hint::black_box(embed::timestep(981.0, 320, true, 0.0));
    });
}

fn sums_and_optimizer(bench: &mut Bench) {
    let (rows, cols) = (8 * 197, 1536);
    let x = values(rows * cols);
    let mut out = vec![0.0; cols];
    let work = Work::new(reduce::flops(rows, cols), reduce::bytes(rows, cols));
    bench.measure(&format!("reduce add_column_sums/{rows}x{cols}"), work, || reduce::add_column_sums(&mut out, &x));
    let parameters = 22_000_000;
    let (mut p, mut m, mut v, g) =
        (values(parameters), vec![0.0; parameters], vec![0.0; parameters], values(parameters));
    let read = Work::new(2.0 * parameters as f64, 4.0 * parameters as f64);
    bench.measure("reduce sum_of_squares/vit-s gradients", read, || {
        std::hint::black_box(reduce::sum_of_squares(&g));
    });
    bench.measure("reduce all_finite/vit-s gradients", read, || {
        std::hint::black_box(reduce::all_finite(&g));
    });
    let groups = [Group::new(0..parameters / 2, true), Group::new(parameters / 2..parameters, false)];
    let adamw = AdamW { lr: 1e-6, beta1: 0.9, beta2: 0.98, eps: 1e-8, weight_decay: 0.1, step: 10 };
    let work = Work::new(optimizer::flops(parameters), optimizer::bytes(parameters));
    bench.measure("adamw/vit-s 22 M parameters", work, || adamw.update(&mut p, &mut m, &mut v, &g, &groups));
}
