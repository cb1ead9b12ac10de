use stablerep::image::*;
use stablerep::ops::augment::*;
use stablerep::ops::*;
use stablerep::rng::*;
use stablerep::train::views::*;
use std::time::Instant;
fn main() {
    let side: usize = std::env::args().nth(1).map_or(32, |s| s.parse().unwrap());
    let img =
        Rgb8 { width: side, height: side, data: (0..side * side * 3).map(|i| (i * i * 31 % 251) as u8).collect() };
    let out_side = if side > 224 { 224 } else { side };
    let reps = if side > 100 { 200 } else { 5000 };
    let t = |name: &str, f: &mut dyn FnMut(u32)| {
        for i in 0..reps / 10 {
            f(i);
        }
        let s = Instant::now();
        for i in 0..reps {
            f(i);
        }
        println!("{name}: {:.1} us", s.elapsed().as_secs_f64() * 1e6 / reps as f64);
    };
    let mut a = Augmenter::default();
    let mut out = vec![0f32; out_side * out_side * 3];
    let aug = Augment { policy: Policy::Strong, crop_scale: [0.08, 1.0], downsample: false };
    t("view", &mut |i| {
        let p = AugmentParams::draw(&mut Stream::new(1, Domain::Augmentation, [0, i, 0]), &aug, side, side);
        a.view(&mut out, &img, &p, out_side).unwrap();
    });
    t("draw", &mut |i| {
        std::hint::black_box(AugmentParams::draw(
            &mut Stream::new(1, Domain::Augmentation, [0, i, 0]),
            &aug,
            side,
            side,
        ));
    });
    let mut px = img.data.clone();
    t("hue", &mut |_| jitter::hue(&mut px, 0.05));
    t("sat", &mut |_| jitter::saturation(&mut px, 0.9));
    t("con", &mut |_| jitter::contrast(&mut px, 0.9));
    t("bri", &mut |_| jitter::brightness(&mut px, 1.0));
    t("gray", &mut |_| jitter::grayscale(&mut px));
    px.copy_from_slice(&img.data);
    let mut sc = blur::Scratch::default();
    t("blur1", &mut |_| blur::gaussian(&mut px, (side, side), 1.5, &mut sc));
    t("blur.5", &mut |_| blur::gaussian(&mut px, (side, side), 0.5, &mut sc));
    t("flip", &mut |_| flip(&mut px, side));
    let mut r = Resampler::default();
    let mut o = vec![];
    t("crop", &mut |_| {
        r.crop(&mut o, (out_side, out_side), &img, [side / 8, side / 7, side * 7 / 8, side * 6 / 8], Filter::Bilinear)
            .unwrap()
    });
    let n = Normalize::default();
    t("norm", &mut |_| n.apply(&mut out, &o));
}
