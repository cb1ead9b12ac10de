//! Decoded images: a bounded cache that keeps what came first, and a shelf for the step ahead.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::image::{Rgb8, decode};
use crate::shards::SampleRef;

/// A decoded image, or why it could not be decoded.
pub(super) type Decoded = Arc<Result<Arc<Rgb8>, String>>;

/// Decoded images by sample. In a random order of epochs every image is needed once per epoch, so keeping the first ones until the memory
/// is used up hits as often as any other policy.
#[derive(Debug)]
pub(super) struct Images {
    kept: RwLock<HashMap<u32, Decoded>>,
    shelf: RwLock<HashMap<u32, Decoded>>,
    free: AtomicU64,
    limit: u64,
}

impl Images {
    /// What an image takes beside its pixels, bytes.
    pub const ENTRY: u64 = 120;

    pub fn new(limit: u64) -> Self {
        Self { kept: RwLock::default(), shelf: RwLock::default(), free: AtomicU64::new(limit), limit }
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The image of `sample`, decoded if it is not at hand.
    pub fn get(&self, sample: SampleRef<'_>) -> Decoded {
        let index = sample.index() as u32;
        for store in [&self.kept, &self.shelf] {
            if let Some(image) = store.read().unwrap_or_else(PoisonError::into_inner).get(&index) {
                return Arc::clone(image);
            }
        }
        let image: Decoded = Arc::new(match sample.image() {
            Some((_, bytes)) => decode(bytes, &sample.name()).map(Arc::new).map_err(|e| e.to_string()),
            None => Err(format!("{}: no image", sample.name())),
        });
        let bytes = Self::ENTRY + image.as_ref().as_ref().map_or(0, |image| image.data.len() as u64);
        let fits = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(bytes)).is_ok();
        let store = if fits { &self.kept } else { &self.shelf };
        store.write().unwrap_or_else(PoisonError::into_inner).insert(index, Arc::clone(&image));
        image
    }

    /// Empties the shelf: its images were taken by the batch they were decoded for.
    pub fn forget_ahead(&self) {
        self.shelf.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
