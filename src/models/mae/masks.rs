//! Which patches an encoder is given, as the whole numbers that a step is given.

use crate::layers::training::{Numbers, Places};
use crate::ops::rows;
use crate::weights::Param;

/// The tables of a step's `of` images of so many patches, of which `kept` are seen, behind `start` other numbers; and
/// which of the images are meant: `n` from number `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masks {
    pub start: usize,
    pub of: usize,
    pub first: usize,
    pub n: usize,
    pub patches: usize,
    pub kept: usize,
}

impl Masks {
    /// Lengths of the tables of one image: the kept patches; what the encoder's places hold, and where their patches
    /// went; their positions, which are where the decoder's rows went; what the decoder's places hold.
    fn lengths(self) -> [usize; 5] {
        [self.kept, 1 + self.kept, self.kept, 1 + self.kept, 1 + self.patches]
    }

    /// Of `n` images from number `first` on.
    pub fn part(self, first: usize, n: usize) -> Self {
        Self { first, n, ..self }
    }

    /// How many numbers a step is given.
    pub fn count(self) -> usize {
        self.of * self.lengths().iter().sum::<usize>()
    }

    fn table(self, index: usize) -> Numbers {
        let lengths = self.lengths();
        Numbers {
            start: self.start + self.of * lengths[..index].iter().sum::<usize>() + self.first * lengths[index],
            len: self.n * lengths[index],
        }
    }

    /// `[N, kept]`: the kept patches.
    pub fn kept(self) -> Numbers {
        self.table(0)
    }

    /// Of the kept patches behind the class token.
    pub fn in_encoder(self, class: Param, pos: Param) -> Places {
        Places { rows: self.table(1), at: Some(self.table(3)), back: self.table(2), fill: class, pos }
    }

    /// Of the encoder's tokens among mask tokens.
    pub fn in_decoder(self, mask: Param, pos: Param) -> Places {
        Places { rows: self.table(4), at: None, back: self.table(3), fill: mask, pos }
    }

    /// How the kept patches of width `d` become the encoder's tokens.
    pub fn encoder_shape(self, d: usize) -> rows::Shape {
        rows::Shape { n: self.n, from: self.kept, to: 1 + self.kept, d }
    }

    /// How the encoder's tokens become the decoder's of width `d`.
    pub fn decoder_shape(self, d: usize) -> rows::Shape {
        rows::Shape { n: self.n, from: 1 + self.kept, to: 1 + self.patches, d }
    }

    /// Appends the tables of a step for `kept [of, kept]`, the patches that are seen.
    ///
    /// # Panics
    /// If there are not so many, or one is no patch.
    pub fn write(self, kept: &[u32], numbers: &mut Vec<u32>) {
        assert_eq!(kept.len(), self.of * self.kept, "kept patches of {self:?}");
        let (k, images) = (self.kept as u32, || kept.chunks_exact(self.kept));
        numbers.extend(kept);
        images().for_each(|_| numbers.extend([k].into_iter().chain(0..k)));
        images().for_each(|_| numbers.extend(1..=k));
        images().for_each(|kept| numbers.extend([0].into_iter().chain(kept.iter().map(|patch| 1 + patch))));
        for kept in images() {
            let first = numbers.len();
            numbers.extend(std::iter::once(0).chain(std::iter::repeat_n(1 + k, self.patches)));
            for (row, &patch) in (1..).zip(kept) {
                numbers[first + 1 + patch as usize] = row;
            }
        }
    }

    /// Whether each patch of image `image` of these is seen, by the numbers of a step.
    pub fn seen(self, numbers: &[u32], image: usize) -> Vec<bool> {
        let first = self.table(4).start + image * (1 + self.patches) + 1;
        numbers[first..first + self.patches].iter().map(|&row| row <= self.kept as u32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_two_images() {
        let masks = Masks { start: 1, of: 2, first: 0, n: 2, patches: 4, kept: 2 };
        let mut numbers = vec![77];
        masks.write(&[1, 3, 0, 2], &mut numbers);
        assert_eq!(numbers.len(), 1 + masks.count());
        let table = |run: Numbers| numbers[run.start..run.start + run.len].to_vec();
        let param = Param { offset: 0, len: 1 };
        let (encoder, decoder) = (masks.in_encoder(param, param), masks.in_decoder(param, param));
        assert_eq!(table(masks.kept()), [1, 3, 0, 2]);
        assert_eq!(table(encoder.rows), [2, 0, 1, 2, 0, 1]);
        assert_eq!(table(encoder.at.unwrap()), [0, 2, 4, 0, 1, 3]);
        assert_eq!(table(encoder.back), [1, 2, 1, 2]);
        assert_eq!(table(decoder.rows), [0, 3, 1, 3, 2, 0, 1, 3, 2, 3]);
        assert_eq!(table(decoder.back), [0, 2, 4, 0, 1, 3]);
        assert_eq!(masks.seen(&numbers, 1), [true, false, true, false]);
        let second = masks.part(1, 1);
        assert_eq!((table(second.kept()), second.seen(&numbers, 0)), (vec![0, 2], vec![true, false, true, false]));
        assert_eq!(table(second.in_decoder(param, param).back), [0, 1, 3]);
    }
}
