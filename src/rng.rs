//! Counter-based random numbers, keyed by what they are for.
//!
//! A draw depends on (seed, [`Domain`], three ids) and its position in that stream, never on what was drawn before it
//! elsewhere: results are the same for any batch size, rank count, thread count or resume point.
//! The generator is Philox4x32-10 (Salmon et al., SC 2011), cheap enough to run inside a kernel.

/// What a stream of random numbers is for. Two domains never share a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Domain {
    /// Initial latent of an image; ids: caption, image index, 0.
    InitialNoise = 1,
    /// Noise a stochastic sampler adds; ids: caption, image index, step.
    SamplerNoise = 2,
    /// Augmentation; ids: epoch, sample, view.
    Augmentation = 3,
    /// Order of the captions of an epoch; ids: epoch, 0, 0.
    Shuffle = 4,
    /// Which m of a caption's n images are drawn; ids: epoch, caption, 0.
    ImageChoice = 5,
    /// Initial weights; ids: index of the parameter tensor, 0, 0.
    Init = 6,
    /// Linear probe: order and augmentation of its training set; ids: epoch, sample, 0.
    Probe = 7,
    /// Patches that a masked autoencoder keeps; ids: epoch, sample, view.
    Mask = 9,
    /// Which of a caption's texts is read; ids: epoch, caption, 0.
    TextChoice = 13,
    /// Residual branches that an image leaves out; ids: epoch, sample, view.
    DropPath = 10,
    /// Channels that an image leaves out in front of a classifier of pixels; ids: epoch, sample, which classifier.
    DropChannels = 11,
    /// Pictures of a subset that two sets are compared by; ids: subset, which set, 0.
    Subset = 32,
    /// How the labelled pictures of a batch are mixed; ids: epoch, step, 0.
    Mix = 12,
    /// Parts of data sets that their authors did not divide; ids: 0, 0, 0 for validation, 1, class, 0 for training.
    Parts = 30,
    /// Classes and images of a few-shot episode; ids: episode, 0, 0.
    Episode = 31,
    /// Inputs of the kernel checks; ids: of the input's name.
    SelfTest = 8,
}

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    ids: [u32; 3],
    block: u32,
    buffer: [u32; 4],
    used: usize,
}

impl Stream {
    /// The stream of `domain` for `ids` under `seed`, at its beginning.
    pub fn new(seed: u64, domain: Domain, ids: [u32; 3]) -> Self {
        Self { key: Self::key(seed, domain), ids, block: 0, buffer: [0; 4], used: 4 }
    }

    /// Philox's key of a seed and domain; a counter is (block, ids).
    pub(crate) fn key(seed: u64, domain: Domain) -> [u32; 2] {
        let mixed = seed ^ u64::from(domain as u32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        [mixed as u32, (mixed >> 32) as u32]
    }

    /// The next 32 uniform bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.buffer = philox4x32_10([self.block, self.ids[0], self.ids[1], self.ids[2]], self.key);
            self.block = self.block.wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.buffer[self.used - 1]
    }

    /// Uniform in [0, 1): 24 bits, exact in f32.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in [lo, hi).
    pub fn uniform_in(&mut self, lo: f32, hi: f32) -> f32 {
        lo + (hi - lo) * self.uniform()
    }

    /// Uniform in 0..n by widening multiplication (bias below n / 2^32); `n` must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        debug_assert!(n > 0 && n <= u32::MAX as usize);
        ((u64::from(self.next_u32()) * n as u64) >> 32) as usize
    }

    /// Two standard normal values by Box–Muller, in f64 so that every platform rounds to the same f32.
    fn normal_pair(&mut self) -> [f32; 2] {
        let u = (f64::from(self.next_u32()) + 0.5) / 4_294_967_296.0;
        let v = f64::from(self.next_u32()) / 4_294_967_296.0;
        let radius = (-2.0 * u.ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * v).sin_cos();
        [(radius * cos) as f32, (radius * sin) as f32]
    }

    /// Fills `out` with independent N(0, 1).
    pub fn fill_normal(&mut self, out: &mut [f32]) {
        for pair in out.chunks_mut(2) {
            let values = self.normal_pair();
            pair.copy_from_slice(&values[..pair.len()]);
        }
    }

    /// Fills `out` with N(0, std) truncated to [-2, 2] by redrawing (timm's `trunc_normal_` with its default bounds).
    pub fn fill_trunc_normal(&mut self, out: &mut [f32], std: f32) {
        let mut spare = [0.0; 2];
        let mut left = 0;
        for slot in out {
            *slot = loop {
                if left == 0 {
                    spare = self.normal_pair();
                    left = 2;
                }
                left -= 1;
                let value = spare[1 - left] * std;
                if value.abs() <= 2.0 {
                    break value;
                }
            };
        }
    }

    /// Fisher–Yates shuffle.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// `m` different numbers below `n`, in random order. `m` must not exceed `n`.
    pub fn choose(&mut self, n: usize, m: usize) -> Vec<usize> {
        let mut items: Vec<usize> = (0..n).collect();
        for i in 0..m {
            items.swap(i, i + self.below(n - i));
        }
        items.truncate(m);
        items
    }
}

/// One block of Philox4x32 with 10 rounds.
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution (kat_vectors, philox4x32 10).
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]);
        assert_eq!(philox4x32_10([u32::MAX; 4], [u32::MAX; 2]), [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]);
        assert_eq!(
            philox4x32_10([0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344], [0xA409_3822, 0x299F_31D0]),
            [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1]
        );
    }

    #[test]
    fn streams_differ_by_each_id_and_domain() {
        let first = |seed, domain, ids| Stream::new(seed, domain, ids).next_u32();
        let base = first(1, Domain::InitialNoise, [0, 0, 0]);
        for other in [
            first(2, Domain::InitialNoise, [0, 0, 0]),
            first(1, Domain::SamplerNoise, [0, 0, 0]),
            first(1, Domain::InitialNoise, [1, 0, 0]),
            first(1, Domain::InitialNoise, [0, 1, 0]),
            first(1, Domain::InitialNoise, [0, 0, 1]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn normal_moments() {
        let mut values = vec![0.0; 200_001];
        Stream::new(3, Domain::InitialNoise, [0; 3]).fill_normal(&mut values);
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let var = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        let kurtosis = values.iter().map(|&v| (f64::from(v) - mean).powi(4)).sum::<f64>() / n / var.powi(2);
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((var - 1.0).abs() < 0.015, "{var}");
        assert!((kurtosis - 3.0).abs() < 0.06, "{kurtosis}");
    }

    #[test]
    fn choose_is_without_replacement_and_uniform() {
        let mut counts = [0usize; 10];
        for id in 0..3000 {
            let mut picked = Stream::new(0, Domain::ImageChoice, [0, id, 0]).choose(10, 6);
            for &p in &picked {
                counts[p] += 1;
            }
            picked.sort_unstable();
            picked.dedup();
            assert_eq!(picked.len(), 6);
        }
        for count in counts {
            assert!((count as f64 - 1800.0).abs() < 150.0, "{counts:?}");
        }
    }
}
