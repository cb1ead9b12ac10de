//! Changes of brightness, contrast, saturation and hue, each with odds ½, contrast before or behind the last two: the
//! photometric distortion of SSD (Liu et al. 2016, arXiv 1512.02325), with the strengths that mmsegmentation trains
//! segmentation networks with. Pictures are `[_, 3]` u8, changed in place.
//!
//! Bytes: 6 per pixel and change. Bound by arithmetic.

use super::simd::vectorize;
use crate::rng::Stream;

/// Most that brightness is moved, of 255.
const BRIGHTNESS: f32 = 32.0;
/// Factors of contrast and saturation.
const FACTORS: [f32; 2] = [0.5, 1.5];
/// Most that the hue is turned: 18 steps of two degrees, of a circle.
const HUE: f32 = 36.0 / 360.0;

/// One change.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Brightness(f32),
    Contrast(f32),
    Saturation(f32),
    Hue(f32),
}

/// The changes of a picture, in turn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Photometric(Vec<Change>);

impl Photometric {
    /// Draws them: as many numbers whatever comes of them.
    pub fn draw(stream: &mut Stream) -> Self {
        let [has_brightness, has_contrast, has_saturation, has_hue, early] = [(); 5].map(|()| stream.uniform() < 0.5);
        let brightness = Change::Brightness(stream.uniform_in(-BRIGHTNESS, BRIGHTNESS));
        let contrast = Change::Contrast(stream.uniform_in(FACTORS[0], FACTORS[1]));
        let saturation = Change::Saturation(stream.uniform_in(FACTORS[0], FACTORS[1]));
        let hue = Change::Hue(stream.uniform_in(-HUE, HUE));
        let all = [
            (has_brightness, brightness),
            (has_contrast && early, contrast),
            (has_saturation, saturation),
            (has_hue, hue),
            (has_contrast && !early, contrast),
        ];
        Self(all.into_iter().filter_map(|(has, change)| has.then_some(change)).collect())
    }

    /// Changes `pixels`.
    pub fn apply(&self, pixels: &mut [u8]) {
        for change in &self.0 {
            match *change {
                Change::Brightness(by) => each_value(pixels, |value| value + by),
                Change::Contrast(factor) => each_value(pixels, |value| value * factor),
                Change::Saturation(factor) => each_pixel(pixels, |pixel| saturated(pixel, factor)),
                Change::Hue(turn) => each_pixel(pixels, |pixel| turned(pixel, turn)),
            }
        }
    }
}

fn each_value(pixels: &mut [u8], change: impl Fn(f32) -> f32) {
    let table: [u8; 256] = std::array::from_fn(|value| change(value as f32).clamp(0.0, 255.0) as u8);
    pixels.iter_mut().for_each(|value| *value = table[usize::from(*value)]);
}

fn each_pixel(pixels: &mut [u8], change: impl Fn([f32; 3]) -> [f32; 3]) {
    vectorize(
        #[inline(always)]
        || {
            for pixel in pixels.chunks_exact_mut(3) {
                let changed = change([pixel[0], pixel[1], pixel[2]].map(f32::from));
                pixel.iter_mut().zip(changed).for_each(|(to, value)| *to = (value + 0.5).clamp(0.0, 255.0) as u8);
            }
        },
    );
}

/// HSV's saturation times `factor`, 1 at most; value and hue stay.
#[inline(always)]
fn saturated(pixel: [f32; 3], factor: f32) -> [f32; 3] {
    let value = pixel[0].max(pixel[1]).max(pixel[2]);
    let range = value - pixel[0].min(pixel[1]).min(pixel[2]);
    let factor = factor.min(value / range.max(1.0));
    pixel.map(|channel| value - (value - channel) * factor)
}

/// HSV's hue turned by so much of a circle; value and saturation stay.
#[inline(always)]
fn turned([r, g, b]: [f32; 3], turn: f32) -> [f32; 3] {
    let value = r.max(g).max(b);
    let range = value - r.min(g).min(b);
    let part = range.max(1.0);
    let sixth = if value == r {
        (g - b) / part
    } else if value == g {
        2.0 + (b - r) / part
    } else {
        4.0 + (r - g) / part
    };
    // Each channel falls from the value and rises to it over the circle, a third of it apart.
    let channel = |third: f32| {
        let at = (third + sixth + 6.0 * turn + 12.0) % 6.0;
        value - range * at.min(4.0 - at).clamp(0.0, 1.0)
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Domain;

    fn of(change: Change, pixel: [u8; 3]) -> [u8; 3] {
        let mut pixels = pixel;
        Photometric(vec![change]).apply(&mut pixels);
        pixels
    }

    /// The same as Python's colorsys, rounded.
    #[test]
    fn changes_are_hsv_s() {
        assert_eq!(of(Change::Brightness(-10.0), [4, 100, 250]), [0, 90, 240]);
        assert_eq!(of(Change::Contrast(1.5), [4, 100, 250]), [6, 150, 255]);
        assert_eq!(of(Change::Saturation(0.5), [200, 100, 50]), [200, 150, 125]);
        // A saturation of 1 is the most: the smallest channel becomes 0 and no less.
        assert_eq!(of(Change::Saturation(1.5), [200, 100, 50]), [200, 67, 0]);
        assert_eq!(of(Change::Hue(1.0 / 3.0), [200, 100, 50]), [50, 200, 100]);
        assert_eq!(of(Change::Hue(-1.0 / 3.0), [200, 100, 50]), [100, 50, 200]);
        // A tenth of a circle from 20° is 56°: yellow has nearly all of its green.
        assert_eq!(of(Change::Hue(0.1), [200, 100, 50]), [200, 190, 50]);
        assert_eq!(of(Change::Hue(0.07), [90, 90, 90]), [90, 90, 90]);
        assert_eq!(of(Change::Hue(0.0), [13, 77, 201]), [13, 77, 201]);
        assert_eq!(of(Change::Hue(0.0), [0, 0, 0]), [0, 0, 0]);
    }

    /// Half of the pictures are changed in each way, contrast before or behind the others as often.
    #[test]
    fn each_change_is_drawn_half_the_time() {
        let mut counts = [0; 5];
        for id in 0..4000 {
            let Photometric(changes) = Photometric::draw(&mut Stream::new(3, Domain::Augmentation, [0, id, 0]));
            let places: Vec<usize> = changes
                .iter()
                .map(|change| match change {
                    Change::Brightness(by) => {
                        assert!(by.abs() <= BRIGHTNESS);
                        0
                    }
                    Change::Contrast(_) => 1,
                    Change::Saturation(_) => 2,
                    Change::Hue(_) => 3,
                })
                .collect();
            places.iter().for_each(|&place| counts[place] += 1);
            counts[4] += usize::from(places.len() > 1 && places.last() == Some(&1));
        }
        assert!(counts[..4].iter().all(|count| (1880..2120).contains(count)), "{counts:?}");
        // Last of several: behind, unless alone (7/32), or before, with brightness and nothing else (1/32).
        assert!((890..1110).contains(&counts[4]), "{counts:?}");
    }
}
