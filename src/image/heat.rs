//! A map over a picture, in colours.

use super::Rgb8;

/// From nothing to the most: dark violet, red, yellow, nearly white; brightness rises all the way, so that it reads in
/// gray too.
const COLOURS: [[f32; 3]; 5] =
    [[12.0, 8.0, 38.0], [96.0, 20.0, 110.0], [204.0, 54.0, 70.0], [250.0, 162.0, 30.0], [252.0, 250.0, 190.0]];

/// How much of a pixel is the colour; the rest is the picture's gray, by which one finds one's way.
const COVER: f32 = 0.72;

/// `picture` in gray under the colours of `map [side, side]`, from 0 to its largest value, with smooth passages between
/// the middles of its cells. A map without a positive value is dark everywhere.
///
/// # Panics
/// When the map has not side² values.
pub fn heat(picture: &Rgb8, map: &[f32], side: usize) -> Rgb8 {
    assert_eq!(map.len(), side * side);
    let largest = map.iter().copied().fold(0.0f32, f32::max).max(f32::MIN_POSITIVE);
    let mut out = picture.clone();
    for (at, pixel) in out.data.chunks_exact_mut(3).enumerate() {
        let (x, y) = (at % picture.width, at / picture.width);
        let value = smooth(map, side, [(x, picture.width), (y, picture.height)]) / largest;
        let gray = 0.299 * f32::from(pixel[0]) + 0.587 * f32::from(pixel[1]) + 0.114 * f32::from(pixel[2]);
        for (channel, hue) in pixel.iter_mut().zip(colour(value)) {
            *channel = (COVER * hue + (1.0 - COVER) * gray + 0.5) as u8;
        }
    }
    out
}

/// The map between the middles of four cells, where pixel `(place, length)` of each direction is.
fn smooth(map: &[f32], side: usize, pixel: [(usize, usize); 2]) -> f32 {
    let [(left, right, x), (above, below, y)] = pixel.map(|(place, length)| {
        let at = ((place as f32 + 0.5) * side as f32 / length as f32 - 0.5).clamp(0.0, (side - 1) as f32);
        (at as usize, (at as usize + 1).min(side - 1), at.fract())
    });
    let row = |row: usize| (1.0 - x) * map[row * side + left] + x * map[row * side + right];
    (1.0 - y) * row(above) + y * row(below)
}

/// The colour of a value from 0 to 1.
fn colour(value: f32) -> [f32; 3] {
    let at = value.clamp(0.0, 1.0) * (COLOURS.len() - 1) as f32;
    let (low, high) = (COLOURS[at as usize], COLOURS[(at as usize + 1).min(COLOURS.len() - 1)]);
    [0, 1, 2].map(|channel: usize| low[channel] + at.fract() * (high[channel] - low[channel]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bright_where_the_map_is_large() {
        let picture = Rgb8::filled(8, 8, [100; 3]);
        let drawn = heat(&picture, &[0.0, 0.0, 0.0, 2.0], 2);
        let bright = |x, y| drawn.pixel(x, y).map(u32::from).iter().sum::<u32>();
        assert!(bright(7, 7) > bright(4, 4) && bright(4, 4) > bright(3, 3) && bright(3, 3) > bright(0, 0));
        let mixed = |colour: [f32; 3]| colour.map(|hue| (COVER * hue + (1.0 - COVER) * 100.0 + 0.5) as u8);
        assert_eq!((drawn.pixel(7, 7), drawn.pixel(0, 0)), (mixed(COLOURS[4]), mixed(COLOURS[0])));
        let brightness = COLOURS.map(|colour| colour.iter().sum::<f32>());
        assert!(brightness.is_sorted());
        let dark = heat(&picture, &[0.0; 4], 2);
        assert_eq!(dark, Rgb8::filled(8, 8, mixed(COLOURS[0])));
        // One cell, and more cells than pixels.
        assert_eq!(heat(&picture, &[3.0], 1), Rgb8::filled(8, 8, mixed(COLOURS[4])));
        heat(&Rgb8::filled(2, 1, [0; 3]), &[1.0; 49], 7);
    }
}
