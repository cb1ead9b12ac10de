//! The patch embedding around its product, against the CPU op.

use half::bf16;

use crate::error::Result;
use crate::ops::augment::{Normalize, Scales};
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::patch_embed::cuda::{Weights, backward, scratch_len, tokens, unfold};
use crate::ops::patch_embed::{self, Gradients, Shape};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "patches from pixels", run: |case| every_shape(case, compare_unfold) },
    Check { name: "tokens from embedded patches", run: |case| every_shape(case, compare_tokens) },
    Check { name: "gradients of leading tokens, positions and bias", run: |case| every_shape(case, compare_backward) },
]);

fn every_shape(case: &Case, compare: fn(&Case, Shape) -> Result<()>) -> Result<()> {
    let shape = |n, height, width, patch, dim| Shape { n, height, width, channels: 3, patch, dim, leading: 1 };
    let shapes = [
        shape(1, 8, 8, 8, 8),
        shape(3, 32, 32, 16, 64),
        shape(9, 48, 32, 16, 24),
        shape(2, 32, 48, 8, 192),
        shape(5, 12, 20, 4, 33),
        shape(2, 28, 28, 14, 40),
        shape(33, 6, 4, 2, 16),
        shape(70, 3, 2, 1, 7),
        Shape { leading: 5, ..shape(9, 32, 48, 16, 24) },
        Shape { leading: 4, ..shape(34, 6, 4, 2, 7) },
    ];
    shapes.iter().try_for_each(|&shape| compare(case, shape))?;
    if case.full() {
        compare(case, shape(64, 224, 224, 16, 768))?;
    }
    Ok(())
}

/// Every value a pixel can have is among them.
fn compare_unfold(case: &Case, shape: Shape) -> Result<()> {
    let Shape { n, height, width, .. } = shape;
    let mut stream = case.stream(&format!("pixels {shape:?}"));
    let shift = stream.uniform_in(0.0, 256.0) as usize;
    let pixels: Vec<u8> = (0..n * height * width * 3).map(|i| (i * 89 + i / 256 * 31 + shift) as u8).collect();
    let mut normalised = vec![0.0; pixels.len()];
    let unfolded = |normalised: &[f32]| {
        let mut want = vec![0.0; pixels.len()];
        patch_embed::unfold(&mut want, normalised, shape);
        want.into_iter().map(bf16::from_f32).collect::<Vec<bf16>>()
    };
    Normalize::default().apply(&mut normalised, &pixels);
    let want = unfolded(&normalised);
    // At an aligned address and one byte after.
    for offset in [0, 1] {
        let mut bytes = vec![0; offset];
        bytes.extend(&pixels);
        let (images, patches) = (case.gpu().upload(&bytes)?, case.gpu().upload(&vec![bf16::NAN; want.len()])?);
        unfold(case.gpu(), patches.view(), images.view().slice(offset..bytes.len()), Scales::default(), shape)?;
        case.same(&format!("patches of {shape:?} + {offset}"), &case.gpu().read(patches.view())?, &want)?;
        // Others than ImageNet's, each channel's own.
        let others = Scales::new([0.5, 0.25, 0.75], [0.5, 0.125, 1.0]);
        let of = |(i, &v): (usize, &u8)| f32::from(v).mul_add(others.scale[i % 3], others.shift[i % 3]);
        let want = unfolded(&pixels.iter().enumerate().map(of).collect::<Vec<_>>());
        unfold(case.gpu(), patches.view(), images.view().slice(offset..bytes.len()), others, shape)?;
        case.same(&format!("others of {shape:?} + {offset}"), &case.gpu().read(patches.view())?, &want)?;
    }
    Ok(())
}

fn compare_tokens(case: &Case, shape: Shape) -> Result<()> {
    let (gpu, Shape { n, dim, .. }) = (case.gpu(), shape);
    let (embedded, values) = case.bf16(&case.normal(&format!("embedded {shape:?}"), n * shape.patches() * dim, 1.0))?;
    let leading = shape.leading * dim;
    let (b, cls) = (case.normal("b", dim, 1.0), case.normal("cls", leading, 1.0));
    let pos = case.normal(&format!("pos {shape:?}"), shape.tokens() * dim, 1.0);
    let mut want = Vec::with_capacity(n * shape.tokens() * dim);
    for image in values.chunks_exact(shape.patches() * dim) {
        want.extend((0..leading).map(|i| bf16::from_f32(cls[i] + pos[i])));
        want.extend(image.iter().enumerate().map(|(i, &x)| bf16::from_f32(x + pos[leading + i] + b[i % dim])));
    }
    let (b, cls, pos) = (case.f32(&b)?, case.f32(&cls)?, case.f32(&pos)?);
    let got = gpu.upload(&vec![bf16::NAN; want.len()])?;
    let weights = Weights { b: b.view(), cls: cls.view(), pos: pos.view() };
    tokens(gpu, got.view(), embedded.view(), weights, shape)?;
    case.same(&format!("tokens of {shape:?}"), &gpu.read(got.view())?, &want)
}

fn compare_backward(case: &Case, shape: Shape) -> Result<()> {
    let (gpu, Shape { n, dim, .. }) = (case.gpu(), shape);
    let (patches, count) = (n * shape.patches(), shape.tokens());
    let (dtokens, values) = case.bf16(&case.normal(&format!("dtokens {shape:?}"), n * count * dim, 1.0))?;
    let (mut b, mut cls) = (case.normal("db", dim, 1.0), case.normal("dcls", shape.leading * dim, 1.0));
    let mut pos = case.normal(&format!("dpos {shape:?}"), count * dim, 1.0);
    let on_gpu = [case.f32(&b)?, case.f32(&cls)?, case.f32(&pos)?];
    let mut w = vec![0.0; shape.patch_len() * dim];
    let mut dembedded = vec![0.0; patches * dim];
    let gradients = Gradients { w: &mut w, b: &mut b, cls: &mut cls, pos: &mut pos };
    let unfolded = vec![0.0; patches * shape.patch_len()];
    patch_embed::backward(gradients, &mut dembedded, &values, &unfolded, shape);

    let gathered = gpu.upload(&vec![bf16::NAN; patches * dim])?;
    let scratch = gpu.upload(&vec![f32::NAN; scratch_len(shape)])?;
    let [db, dcls, dpos] = [on_gpu[0].view(), on_gpu[1].view(), on_gpu[2].view()];
    let gradients = Weights { b: db, cls: dcls, pos: dpos };
    backward(gpu, gradients, gathered.view(), dtokens.view(), scratch.view(), shape)?;
    let dembedded: Vec<bf16> = dembedded.into_iter().map(bf16::from_f32).collect();
    case.same(&format!("dembedded of {shape:?}"), &gpu.read(gathered.view())?, &dembedded)?;
    for (name, got, want) in [("db", db, &b), ("dcls", dcls, &cls), ("dpos", dpos, &pos)] {
        case.close(&format!("{name} of {shape:?}"), &gpu.read(got)?, want, Tolerance::f32())?;
    }
    Ok(())
}
