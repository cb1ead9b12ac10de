//! One bit per byte of an allocation: set once the byte was written.

use std::alloc::{Layout, alloc_zeroed};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// `words` zeros that cost no physical memory until they are touched; `None` when the host has no room for them.
pub(super) fn zeroed(words: usize) -> Option<Box<[AtomicU64]>> {
    if words == 0 {
        return Some(Box::default());
    }
    let layout = Layout::array::<AtomicU64>(words).ok()?;
    // SAFETY: the layout is not empty, as `words` is not 0.
    let start = unsafe { alloc_zeroed(layout) }.cast::<AtomicU64>();
    if start.is_null() {
        return None;
    }
    // SAFETY: the global allocator gave `words` AtomicU64 with the layout that Box frees them with, and zero bytes are
    // valid ones.
    Some(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(start, words)) })
}

/// Bits are read and set with relaxed atomics: a block that reads what another writes without synchronising with it
/// may or may not be told that the bytes are unwritten.
pub(super) struct Shadow {
    words: Box<[AtomicU64]>,
}

/// Bits `from..to` of a word, `from < to ≤ 64`.
#[inline(always)]
fn span(from: usize, to: usize) -> u64 {
    !0 << from & !0 >> (64 - to)
}

/// Sets `bits`. Most stores repeat earlier ones, so a look first saves the locked instruction.
#[inline(always)]
pub(super) fn set(word: &AtomicU64, bits: u64) {
    if word.load(Relaxed) & bits != bits {
        word.fetch_or(bits, Relaxed);
    }
}

impl Shadow {
    pub fn new(bytes: usize) -> Option<Self> {
        Some(Self { words: zeroed(bytes.div_ceil(64))? })
    }

    /// The bits of the 64-byte group `index`.
    #[inline(always)]
    fn word(&self, index: usize) -> u64 {
        self.words[index].load(Relaxed)
    }

    pub fn words(&self) -> &[AtomicU64] {
        &self.words
    }

    /// Calls `each(index, bits)` for the groups that bytes `offset..offset + n` touch, until it returns false.
    #[inline(always)]
    fn groups(offset: usize, n: usize, mut each: impl FnMut(usize, u64) -> bool) -> bool {
        if n == 0 {
            return true;
        }
        let (end, first) = (offset + n, offset / 64);
        let last = (end - 1) / 64;
        if first == last {
            return each(first, span(offset % 64, end - first * 64));
        }
        each(first, span(offset % 64, 64))
            && (first + 1..last).all(|index| each(index, !0))
            && each(last, span(0, end - last * 64))
    }

    /// Whether all bytes of the range are written.
    #[inline(always)]
    pub fn written(&self, offset: usize, n: usize) -> bool {
        Self::groups(offset, n, |index, bits| self.word(index) & bits == bits)
    }

    #[inline(always)]
    pub fn mark(&self, offset: usize, n: usize) {
        Self::groups(offset, n, |index, bits| {
            set(&self.words[index], bits);
            true
        });
    }

    /// The first byte of the range that is not written.
    #[cold]
    pub fn first_unwritten(&self, offset: usize, n: usize) -> Option<usize> {
        let mut found = None;
        Self::groups(offset, n, |index, bits| {
            let missing = !self.word(index) & bits;
            if missing != 0 {
                found = Some(index * 64 + missing.trailing_zeros() as usize);
            }
            missing == 0
        });
        found
    }

    /// The bits of the 64 bytes from `offset`, which lies in the allocation; zeros past its end.
    pub fn bits(&self, offset: usize) -> u64 {
        let (index, shift) = (offset / 64, offset % 64);
        let low = self.word(index) >> shift;
        match self.words.get(index + 1) {
            Some(next) if shift > 0 => low | next.load(Relaxed) << (64 - shift),
            _ => low,
        }
    }

    /// Makes bytes `to..to + n` as written as bytes `from..from + n` of `other`. The ranges do not overlap.
    pub fn copy(&self, to: usize, other: &Shadow, from: usize, n: usize) {
        Self::groups(to, n, |index, mask| {
            let start = (index * 64).max(to);
            let bits = other.bits(from + start - to) << (start % 64) & mask;
            set(&self.words[index], bits);
            if mask != bits {
                self.words[index].fetch_and(!(mask & !bits), Relaxed);
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(shadow: &Shadow, n: usize) -> Vec<bool> {
        (0..n).map(|i| shadow.written(i, 1)).collect()
    }

    /// Every range operation against a plain array of flags, over all offsets within and across groups.
    #[test]
    fn ranges_match_flags() {
        for offset in (0..140).step_by(3) {
            for n in [0, 1, 7, 31, 64, 65, 128, 150] {
                let shadow = Shadow::new(300).expect("small");
                shadow.mark(offset, n);
                let expect: Vec<bool> = (0..300).map(|i| (offset..offset + n).contains(&i)).collect();
                assert_eq!(listed(&shadow, 300), expect, "{offset} {n}");
                assert!(shadow.written(offset, n));
                assert!(!shadow.written(offset, n + 1));
                assert_eq!(shadow.first_unwritten(offset, n), None);
                assert_eq!(shadow.first_unwritten(offset, n + 9), Some(offset + n));
            }
        }
    }

    #[test]
    fn copies_carry_both_states() {
        let source = Shadow::new(300).expect("small");
        for i in (0..300).filter(|i| i * i % 7 < 3) {
            source.mark(i, 1);
        }
        let from = listed(&source, 300);
        for (to, at, n) in [(0, 0, 300), (1, 0, 200), (63, 5, 66), (64, 63, 130), (17, 90, 1), (70, 3, 128)] {
            let target = Shadow::new(300).expect("small");
            target.mark(0, 150);
            let mut expect = listed(&target, 300);
            expect[to..to + n].copy_from_slice(&from[at..at + n]);
            target.copy(to, &source, at, n);
            assert_eq!(listed(&target, 300), expect, "{to} {at} {n}");
        }
    }
}
