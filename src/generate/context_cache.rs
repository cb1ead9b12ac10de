//! Which captions' keys and values a device holds, and where: a caption is encoded once for all its images, also those
//! of later batches, until a batch without it needs the place.

use std::collections::{HashMap, HashSet};

use crate::bail;
use crate::error::Result;

/// A place and the token ids of the caption that goes there.
pub(super) type Placed = (usize, Vec<u32>);

/// Which captions' keys and values are where.
#[derive(Debug)]
pub(super) struct ContextCache {
    places: HashMap<Vec<u32>, usize>,
    /// Text of each place; place 0 is the branch without caption.
    texts: Vec<Option<Vec<u32>>>,
}

impl ContextCache {
    /// Places for as many captions as a batch may have.
    pub(super) fn new(batch: usize) -> Self {
        Self { places: HashMap::new(), texts: vec![None; batch + 1] }
    }

    /// Places of `texts`, and those among them that are new with where they go. Captions not in use make room.
    pub(super) fn place(&mut self, texts: &[&[u32]]) -> Result<(Vec<usize>, Vec<Placed>)> {
        let wanted: HashSet<&[u32]> = texts.iter().copied().collect();
        let mut new = Vec::new();
        let mut at = 1;
        for text in texts {
            if self.places.contains_key(*text) {
                continue;
            }
            let in_use = |held: &Option<Vec<u32>>| held.as_ref().is_some_and(|held| wanted.contains(&held[..]));
            while self.texts.get(at).is_some_and(in_use) {
                at += 1;
            }
            if at == self.texts.len() {
                bail!(Failed, "{} images for {} captions' places", texts.len(), self.texts.len() - 1);
            }
            if let Some(old) = self.texts[at].replace(text.to_vec()) {
                self.places.remove(&old);
            }
            self.places.insert(text.to_vec(), at);
            new.push((at, text.to_vec()));
        }
        Ok((texts.iter().map(|text| self.places[*text]).collect(), new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stays, what is new, and what makes room, over batches of two places.
    #[test]
    fn captions_keep_their_places_while_they_are_drawn() {
        let mut cache = ContextCache::new(2);
        let mut place = |texts: &[&[u32]]| cache.place(texts).unwrap();
        let [a, b, c] = [[1, 9], [2, 9], [3, 9]];
        assert_eq!(place(&[&a, &a]), (vec![1, 1], vec![(1, a.to_vec())]));
        assert_eq!(place(&[&a, &b]), (vec![1, 2], vec![(2, b.to_vec())]));
        // a is drawn no more and makes room; b stays where it is.
        assert_eq!(place(&[&b, &c]), (vec![2, 1], vec![(1, c.to_vec())]));
        assert_eq!(place(&[&c]), (vec![1], vec![]));
        // The first place that is not drawn from, not the oldest.
        assert_eq!(place(&[&a]), (vec![1], vec![(1, a.to_vec())]));
        // Three captions and two places.
        assert!(cache.place(&[&a, &b, &c]).is_err());
    }
}
