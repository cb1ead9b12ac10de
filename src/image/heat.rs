//! A map in colours.

use super::Rgb8;

/// From nothing to the most: dark violet, red, yellow, nearly white; brightness rises all the way, so that it reads in
/// gray too.
const COLOURS: [[f32; 3]; 5] =
    [[12.0, 8.0, 38.0], [96.0, 20.0, 110.0], [204.0, 54.0, 70.0], [250.0, 162.0, 30.0], [252.0, 250.0, 190.0]];

/// `map [side, side]` as a picture of `shown`², in colours from 0 to its largest value, with smooth passages between
/// the middles of its cells. A map without a positive value is dark everywhere.
///
/// # Panics
/// When the map has not side² values.
pub fn heat(map: &[f32], side: usize, shown: usize) -> Rgb8 {
    assert_eq!(map.len(), side * side);
    let largest = map.iter().copied().fold(0.0f32, f32::max).max(f32::MIN_POSITIVE);
    let pixel = |at: usize| colour(smooth(map, side, [at % shown, at / shown].map(|place| (place, shown))) / largest);
    Rgb8 { width: shown, height: shown, data: (0..shown * shown).flat_map(pixel).collect() }
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
fn colour(value: f32) -> [u8; 3] {
    let at = value.clamp(0.0, 1.0) * (COLOURS.len() - 1) as f32;
    let (low, high) = (COLOURS[at as usize], COLOURS[(at as usize + 1).min(COLOURS.len() - 1)]);
    [0, 1, 2].map(|channel: usize| (low[channel] + at.fract() * (high[channel] - low[channel]) + 0.5) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bright_where_the_map_is_large() {
        let drawn = heat(&[0.0, 0.0, 0.0, 2.0], 2, 8);
        let bright = |x, y| drawn.pixel(x, y).map(u32::from).iter().sum::<u32>();
        assert!(bright(7, 7) > bright(4, 4) && bright(4, 4) > bright(3, 3) && bright(3, 3) > bright(0, 0));
        assert_eq!((drawn.pixel(7, 7), drawn.pixel(0, 0)), ([252, 250, 190], [12, 8, 38]));
        // Half of the largest value has the middle colour.
        assert_eq!(heat(&[1.0, 2.0, 2.0, 2.0], 2, 2).pixel(0, 0), [204, 54, 70]);
        let brightness = COLOURS.map(|colour| colour.iter().sum::<f32>());
        assert!(brightness.is_sorted());
        assert_eq!(heat(&[0.0; 4], 2, 5), Rgb8::filled(5, 5, [12, 8, 38]));
        // One cell, and more cells than pixels.
        assert_eq!(heat(&[3.0], 1, 4), Rgb8::filled(4, 4, [252, 250, 190]));
        assert_eq!(heat(&[1.0; 49], 7, 2), Rgb8::filled(2, 2, [252, 250, 190]));
    }
}
