//! A share of every class, held out.

use crate::rng::Stream;

/// Splits images into (kept, held out) by class: the nearest whole number of `share` of it, but at least one of a class
/// that has two, and never all; a class of one image keeps it. `stream` draws which. Kept images come in drawn order,
/// held-out ones in their own.
pub fn hold_out(labels: &[u32], classes: usize, share: f64, mut stream: Stream) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    stream.shuffle(&mut order);
    let mut sizes = vec![0usize; classes];
    labels.iter().for_each(|&label| sizes[label as usize] += 1);
    let wanted = |n: usize| if n < 2 { 0 } else { ((n as f64 * share).round() as usize).clamp(1, n - 1) };
    let mut left: Vec<usize> = sizes.into_iter().map(wanted).collect();
    let (mut kept, mut held_out) = (Vec::new(), Vec::new());
    for i in order {
        let left = &mut left[labels[i] as usize];
        if *left > 0 {
            *left -= 1;
            held_out.push(i);
        } else {
            kept.push(i);
        }
    }
    held_out.sort_unstable();
    (kept, held_out)
}
