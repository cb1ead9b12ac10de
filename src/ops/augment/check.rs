//! Views of images against the CPU's, bit for bit.

use crate::device::cuda::Gpu;
use crate::error::Result;
use crate::image::{Filter, Resampler, Rgb8, resize};
use crate::ops::augment::cuda::{Job, Plan, Slot, views};
use crate::ops::augment::{Augment, AugmentParams, Jitter, Policy, Turn, short_side};
use crate::ops::blur;
use crate::ops::check::{Case, Check, Checks};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "augment drawn views u8", run: drawn },
    Check { name: "augment jitter in every order u8", run: orders },
    Check { name: "augment every hue u8", run: hues },
    Check { name: "augment resizes u8", run: resizes },
    Check { name: "augment blurs u8", run: blurs },
    Check { name: "augment views in global memory u8", run: in_global_memory },
    Check { name: "augment few blocks, scattered rows u8", run: few_blocks },
    Check { name: "augment scratch planned from the pictures' size", run: planned },
]);

/// A picture with smooth and rough places, with black, white and gray ones.
fn picture(case: &Case, name: &str, width: usize, height: usize) -> Rgb8 {
    let mut stream = case.stream(name);
    let mut image = Rgb8::filled(width, height, [0; 3]);
    for (i, pixel) in image.data.chunks_exact_mut(3).enumerate() {
        let (x, y) = (i % width, i / width);
        let noise = stream.next_u32().to_le_bytes();
        let smooth = [(x * 255 / width) as u8, (y * 255 / height) as u8, ((x + y) * 3) as u8];
        let kind = if x < width / 2 { noise[3] % 2 } else { noise[3] % 16 };
        pixel.copy_from_slice(&match kind {
            0 => [noise[0], noise[1], noise[2]],
            1 => [noise[0]; 3],
            2 => [0; 3],
            3 => [255; 3],
            _ => smooth,
        });
    }
    image
}

/// What is done to which picture.
type Wanted<'a> = (&'a Rgb8, AugmentParams);

/// The views of `wanted` by the CPU.
fn on_cpu(wanted: &[Wanted], side: usize) -> Result<Vec<u8>> {
    let (mut resampler, mut scratch) = (Resampler::default(), blur::Scratch::default());
    let (mut view, mut all) = (Vec::new(), Vec::new());
    for (image, params) in wanted {
        let mut image = (*image).clone();
        if let Some((low, high)) = params.downsample {
            for side in [low, high] {
                let (width, height) = short_side((image.width, image.height), side);
                image = resize(&image, width, height, Filter::Bilinear)?;
            }
        }
        resampler.crop(&mut view, (side, side), &image, params.crop, params.filter)?;
        params.apply(&mut view, side, &mut scratch);
        all.extend_from_slice(&view);
    }
    Ok(all)
}

/// Jobs for `wanted` with the pictures packed one behind the other, view i in row `row(i)`; what they take.
fn pack(wanted: &[Wanted], side: usize, row: impl Fn(usize) -> usize) -> Result<(Vec<u8>, Vec<Job>, Slot)> {
    let (mut bytes, mut jobs, mut slot) = (Vec::new(), Vec::new(), Slot::default());
    for (i, (image, params)) in wanted.iter().enumerate() {
        let job = Job::new(params, (image.width, image.height), bytes.len(), row(i))?;
        slot = slot.join(Slot::of(&job, side));
        jobs.push(job);
        bytes.extend_from_slice(&image.data);
    }
    Ok((bytes, jobs, slot))
}

fn on_device(gpu: &Gpu, wanted: &[Wanted], side: usize, plan: impl Fn(Slot) -> Plan) -> Result<Vec<u8>> {
    let (bytes, jobs, slot) = pack(wanted, side, |i| i)?;
    let plan = plan(slot);
    let (images, jobs) = (gpu.upload(&bytes)?, gpu.upload(&jobs)?);
    let out = gpu.alloc::<u8>(wanted.len() * side * side * 3)?;
    let scratch = gpu.alloc::<u8>(plan.scratch_len().min(wanted.len() * plan.slot_len()))?;
    views(gpu, out.view(), jobs.view(), images.view(), &plan, scratch.view())?;
    gpu.read(out.view())
}

/// Compares view by view, so that a difference names the parameters it came with.
fn compare(case: &Case, what: &str, got: &[u8], wanted: &[Wanted], side: usize) -> Result<()> {
    let want = on_cpu(wanted, side)?;
    let values = side * side * 3;
    for ((got, want), (image, params)) in got.chunks_exact(values).zip(want.chunks_exact(values)).zip(wanted) {
        case.same(&format!("{what}: {}×{} → {side}², {params:?}", image.width, image.height), got, want)?;
    }
    case.same(&format!("{what}: number of values"), &[got.len() as u64], &[want.len() as u64])
}

fn check(case: &Case, what: &str, wanted: &[Wanted], side: usize) -> Result<()> {
    let got = on_device(case.gpu(), wanted, side, |slot| Plan::on(case.gpu(), side, slot))?;
    compare(case, what, &got, wanted, side)
}

/// The whole picture and nothing else.
fn plain(image: &Rgb8) -> AugmentParams {
    let crop = [0, 0, image.width, image.height];
    let (filter, blur) = (Filter::Bilinear, None);
    AugmentParams { downsample: None, crop, filter, jitter: None, grayscale: false, blur, solarize: false, flip: false }
}

/// Parameters as training draws them, by every policy, from pictures of several sizes.
fn drawn(case: &Case) -> Result<()> {
    let sizes = [(37, 53), (64, 64), (96, 64), (32, 32), (70, 41)];
    let images: Vec<Rgb8> = sizes.iter().map(|&(w, h)| picture(case, &format!("{w}x{h}"), w, h)).collect();
    let sides: &[usize] = if case.full() { &[16, 32, 33, 48, 96, 224] } else { &[16, 32, 33, 48] };
    for &side in sides {
        let mut wanted = Vec::new();
        for (i, image) in images.iter().enumerate() {
            let unlike = [Turn::First, Turn::Second, Turn::Second].map(Policy::Byol);
            let alike = [Policy::Strong, Policy::Strong, Policy::Strong, Policy::Weak, Policy::None];
            for policy in alike.into_iter().chain(unlike) {
                let mut stream = case.stream(&format!("view {side} {i} {}", wanted.len()));
                let filter = if wanted.len() % 2 == 0 { Filter::Bilinear } else { Filter::Bicubic };
                let augment = Augment { policy, crop_scale: policy.crop_scale(), filter, downsample: false };
                wanted.push((image, AugmentParams::draw(&mut stream, &augment, image.width, image.height)));
            }
        }
        let solarized = |image, flip| (image, AugmentParams { solarize: true, flip, ..plain(image) });
        wanted.extend([solarized(&images[0], false), solarized(&images[1], true)]);
        check(case, "drawn", &wanted, side)?;
    }
    // Views that fit into the 48 KB of shared memory that every kernel may have, but not beside its static part.
    [122, 126]
        .iter()
        .try_for_each(|&side| check(case, "beside what is static", &[(&images[0], plain(&images[0]))], side))
}

fn orders(case: &Case) -> Result<()> {
    let image = picture(case, "orders", 24, 20);
    let mut wanted = Vec::new();
    let mut stream = case.stream("factors");
    for code in 0..256u32 {
        let order = [0, 2, 4, 6].map(|shift| (code >> shift & 3) as u8);
        if (0..4).all(|change| order.contains(&change)) {
            // Decimal fractions: blends come out a hair beside whole numbers, where a fused multiplication shows.
            let mut factor = || stream.below(200) as f32 / 100.0;
            let (brightness, contrast, saturation) = (factor(), factor(), factor());
            let jitter = Jitter { order, brightness, contrast, saturation, hue: stream.uniform_in(-0.5, 0.5) };
            let grayscale = wanted.len() % 5 == 0;
            wanted.push((&image, AugmentParams { jitter: Some(jitter), grayscale, ..plain(&image) }));
        }
    }
    case.same("orders", &[wanted.len()], &[24])?;
    check(case, "jitter", &wanted, 20)
}

/// Pictures that hold many colours as they are: with the side of the view, nothing is resized. On a real card all 2²⁴
/// colours.
fn hues(case: &Case) -> Result<()> {
    let side = if case.full() { 4096 } else { 64 };
    let step = (1usize << 24) / (side * side);
    let mut image = Rgb8::filled(side, side, [0; 3]);
    for (i, pixel) in image.data.chunks_exact_mut(3).enumerate() {
        // A step that is a power of two would leave some bits of the colour at rest.
        let color = if step == 1 { i } else { i * step + i * 2_654_435_761 % step };
        pixel.copy_from_slice(&[color as u8, (color >> 8) as u8, (color >> 16) as u8]);
    }
    let wanted: Vec<Wanted> = [-0.1f32, -0.037, 0.004, 0.05, 0.0999]
        .into_iter()
        .map(|hue| {
            let jitter = Jitter { order: [3, 1, 0, 2], brightness: 1.0, contrast: 1.0, saturation: 1.0, hue };
            (&image, AugmentParams { jitter: Some(jitter), ..plain(&image) })
        })
        .collect();
    check(case, "hue", &wanted, side)
}

/// Up and down by small and large factors, either pass first, one axis only, slivers, and by way of two other sizes.
fn resizes(case: &Case) -> Result<()> {
    for side in [1, 7, 16] {
        let images: Vec<Rgb8> = [(1, 1), (1, 9), (16, 16), (16, 40), (50, 16), (3, 90), (90, 5), (33, 160), (128, 30)]
            .iter()
            .map(|&(w, h)| picture(case, &format!("resize {w}x{h}"), w, h))
            .collect();
        let mut wanted: Vec<Wanted> = images.iter().map(|image| (image, plain(image))).collect();
        wanted.push((&images[7], AugmentParams { crop: [5, 11, 6, 150], ..plain(&images[7]) }));
        wanted.push((&images[8], AugmentParams { crop: [1, 3, 128, 4], flip: true, ..plain(&images[8]) }));
        check(case, "resize", &wanted, side)?;
        wanted.iter_mut().for_each(|(_, params)| params.filter = Filter::Bicubic);
        check(case, "bicubic resize", &wanted, side)?;
    }
    let images = [picture(case, "down", 50, 37), picture(case, "down", 24, 61)];
    let mut wanted: Vec<Wanted> = Vec::new();
    for (image, downsample) in [(&images[0], (12, 40)), (&images[1], (10, 33)), (&images[0], (60, 37))] {
        let low = short_side((image.width, image.height), downsample.0);
        let (width, height) = short_side(low, downsample.1);
        for crop in [[0, 0, width, height], [3, 5, width - 2, height - 1]] {
            wanted.push((image, AugmentParams { downsample: Some(downsample), crop, ..plain(image) }));
        }
    }
    check(case, "downsample", &wanted, 24)
}

/// Radii from below a pixel to beyond the picture.
fn blurs(case: &Case) -> Result<()> {
    for side in [1, 2, 5, 33] {
        let image = picture(case, "blur", side, side);
        let sigmas = [0.0, 0.1, 0.4, 0.5, 0.9, 1.1, 1.5, 1.99, 2.4, 3.1, 6.0, 40.0];
        let wanted: Vec<Wanted> =
            sigmas.iter().map(|&sigma| (&image, AugmentParams { blur: Some(sigma), ..plain(&image) })).collect();
        check(case, "blur", &wanted, side)?;
    }
    Ok(())
}

/// A device with too little shared memory for the view.
fn in_global_memory(case: &Case) -> Result<()> {
    let image = picture(case, "global", 60, 45);
    let policy = Policy::Strong;
    let augment = Augment { policy, crop_scale: policy.crop_scale(), filter: Filter::Bicubic, downsample: false };
    let draw = |i| AugmentParams::draw(&mut case.stream(&format!("global {i}")), &augment, image.width, image.height);
    let mut wanted: Vec<Wanted> = (0..6).map(|i| (&image, draw(i))).collect();
    wanted[0].1.blur = Some(3.0);
    let side = 38;
    let got = on_device(case.gpu(), &wanted, side, |slot| Plan::new(side, slot, case.gpu().sms(), 6000))?;
    compare(case, "global memory", &got, &wanted, side)
}

/// Blocks that make several views one after the other, into rows in another order; rows nobody asked for stay.
fn few_blocks(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    let images = [picture(case, "few", 40, 30), picture(case, "few", 21, 44)];
    let policy = Policy::Strong;
    let augment = Augment { policy, crop_scale: policy.crop_scale(), filter: Filter::Bicubic, downsample: false };
    let (count, side) = (9, 21);
    let wanted: Vec<Wanted> = (0..count)
        .map(|i| {
            let image = &images[i % 2];
            let mut stream = case.stream(&format!("few {i}"));
            (image, AugmentParams::draw(&mut stream, &augment, image.width, image.height))
        })
        .collect();
    let row = |i: usize| i * 3 % (count + 1);
    let (bytes, jobs, slot) = pack(&wanted, side, row)?;
    let plan = Plan::on(gpu, side, slot);
    let values = side * side * 3;
    let (images, jobs, out) = (gpu.upload(&bytes)?, gpu.upload(&jobs)?, gpu.upload(&vec![77u8; (count + 1) * values])?);
    let scratch = gpu.alloc::<u8>(2 * plan.slot_len())?;
    views(gpu, out.view(), jobs.view(), images.view(), &plan, scratch.view())?;
    let got = gpu.read(out.view())?;
    let at = |row: usize| &got[row * values..(row + 1) * values];
    let in_order: Vec<u8> = (0..count).flat_map(|i| at(row(i)).to_vec()).collect();
    compare(case, "few blocks", &in_order, &wanted, side)?;
    let untouched = (0..=count).find(|&r| (0..count).all(|i| row(i) != r));
    case.same("the row nobody asked for", untouched.map_or(&[], at), &vec![77; values])
}

/// What is planned before a run, from the pictures' size alone, is enough for whatever is drawn then.
fn planned(case: &Case) -> Result<()> {
    let sizes = [(512, 512, 224), (256, 256, 224), (300, 70, 96), (32, 32, 32), (40, 800, 33)];
    let filters = [Filter::Bilinear, Filter::Bicubic];
    for ((width, height, side), filter) in sizes.into_iter().flat_map(|size| filters.map(|filter| (size, filter))) {
        let (policy, crop_scale) = (Policy::Strong, Policy::Strong.crop_scale());
        let augment = Augment { policy, crop_scale, filter, downsample: true };
        let slot = Slot::for_pictures(width, height, &augment, side);
        let mut stream = case.stream(&format!("{width} {height}"));
        for _ in 0..500 {
            let params = AugmentParams::draw(&mut stream, &augment, width, height);
            let job = Job::new(&params, (width, height), 0, 0)?;
            case.same(
                &format!("{width}×{height}: {params:?}"),
                &[u8::from(slot.join(Slot::of(&job, side)) == slot)],
                &[1],
            )?;
        }
        // Device models of three generations: (multiprocessors, shared memory per block).
        for (sms, shared) in [(108, 166_912), (132, 232_448), (128, 101_376)] {
            let plan = Plan::new(side, slot, sms, shared);
            let launch = plan.launch(100_000, plan.scratch_len());
            case.same("blocks fill the device", &[u8::from(launch.grid[0] >= sms)], &[1])?;
            case.same(
                "the view is in shared memory where it fits",
                &[u8::from(launch.shared > 0)],
                &[u8::from(side < 224 || shared > 160_000)],
            )?;
            case.same("no more blocks than views", &[plan.launch(3, plan.scratch_len()).grid[0]], &[3])?;
        }
    }
    Ok(())
}
