//! Group norms of the UNet and the decoder, f16 and the first of each kind in bf16.

use half::{bf16, f16};

use crate::device::cuda::Half;
use crate::ops::bench::{Case, Number, Size, Work, in_both_types, stored};
use crate::ops::groupnorm::cuda::{Modulation, Norm, apply, moments, moments_len, scale_shift, table_len};
use crate::ops::shapes::{UNET, decoder_rows, unet_channels, unet_level, unet_rows};

const GROUPS: usize = 32;
const OP: &str = "groupnorm";

pub fn cases(size: Size) -> Vec<Case> {
    in_both_types(every::<f16>(size), every::<bf16>(size))
}

fn every<T: Half + Number>(size: Size) -> Vec<Case> {
    let mut all = Vec::new();
    let n = unet_rows(size);
    let groups = size.pick(GROUPS, 8);
    for (side, c) in UNET {
        let (side, c) = unet_level(size, side, c);
        all.extend([
            moments_of::<T>(n, side * side, c),
            tables(n, side * side, c, groups),
            applied::<T>(n, side * side, &[c]),
        ]);
    }
    // Up blocks: what comes from below beside what was kept.
    for (side, below, kept) in [(64, 640, 320), (32, 1280, 640), (16, 1280, 1280), (8, 1280, 1280)] {
        let (side, below) = unet_level(size, side, below);
        all.push(applied::<T>(n, side * side, &[below, unet_channels(size, kept)]));
    }
    let n = decoder_rows(size);
    for (side, c) in [(64, 512), (256, 256), (512, 128)] {
        let (side, c) = unet_level(size, size.pick(side, 32), c);
        all.extend([tables(n, side * side, c, groups), applied::<T>(n, side * side, &[c])]);
    }
    all
}

fn moments_of<T: Half + Number>(n: usize, pixels: usize, c: usize) -> Case {
    let len = moments_len(n, pixels, c);
    let bytes = (2 * n * pixels * c + 4 * len) as f64;
    Case::new(
        (OP, stored::<T>("moments"), format!("[{n}, {pixels}, {c}]")),
        Work { bytes, ..Work::default() },
        move |inputs| {
            let (x, out) = (inputs.normal::<T>(n * pixels * c)?, inputs.room(len)?);
            Ok(move |gpu: &_| moments(gpu, out.view(), x.view(), n, pixels, c))
        },
    )
}

fn tables(n: usize, pixels: usize, c: usize, groups: usize) -> Case {
    let bytes = 4.0 * (moments_len(n, pixels, c) + table_len(n, c) + 2 * c) as f64;
    let name = (OP, "scale and shift", format!("[{n}, {pixels}, {c}]"));
    Case::new(name, Work { bytes, ..Work::default() }, move |inputs| {
        let x = inputs.normal::<f16>(n * pixels * c)?;
        let statistics = inputs.room(moments_len(n, pixels, c))?;
        moments(inputs.gpu(), statistics.view(), x.view(), n, pixels, c)?;
        let (gamma, beta, table) = (inputs.normal(c)?, inputs.normal(c)?, inputs.room(table_len(n, c))?);
        Ok(move |gpu: &_| {
            let parts = [(statistics.view(), n, c)];
            let norm = Norm { gamma: gamma.view(), beta: beta.view(), groups, eps: 1e-5 };
            scale_shift(gpu, table.view(), &parts, norm, n, pixels)
        })
    })
}

fn applied<T: Half + Number>(n: usize, pixels: usize, channels: &[usize]) -> Case {
    let (c, channels) = (channels.iter().sum::<usize>(), channels.to_vec());
    let values = n * pixels * c;
    let bytes = (4 * values + 4 * table_len(n, c)) as f64;
    // An exponential and a reciprocal per value.
    let work = Work { bytes, exps: 2.0 * values as f64, ..Work::default() };
    let (kernel, shape) = match channels[..] {
        [c] => ("apply, SiLU", format!("[{n}, {pixels}, {c}]")),
        _ => ("apply, SiLU, joined", format!("[{n}, {pixels}, {channels:?}]")),
    };
    Case::new((OP, stored::<T>(kernel), shape), work, move |inputs| {
        let sources = channels.iter().map(|&c| Ok((inputs.normal::<T>(n * pixels * c)?, c)));
        let sources = sources.collect::<crate::error::Result<Vec<_>>>()?;
        let (table, y) = (inputs.normal(table_len(n, c))?, inputs.room::<T>(values)?);
        Ok(move |gpu: &_| {
            let parts: Vec<_> = sources.iter().map(|(x, c)| (x.view(), n, *c)).collect();
            apply(gpu, y.view(), &parts, Modulation { table: table.view(), silu: true }, n, pixels)
        })
    })
}
