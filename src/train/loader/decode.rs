//! Decoded images: a bounded cache that keeps what came first, and a shelf for the step ahead.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::Result;
use crate::image::{Rgb8, decode};
use crate::shards::PictureRef;

/// A decoded image, or why it could not be decoded.
pub(super) type Decoded = Arc<std::result::Result<Arc<Rgb8>, String>>;

/// Decoded images by their number. In a random order of epochs every image is needed once per epoch, so keeping the
/// first ones until the memory is used up hits as often as any other policy.
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

    /// The image `picture`, decoded if it is not at hand, or why it cannot be decoded.
    ///
    /// # Errors
    /// If its shard cannot be read any more.
    pub fn get(&self, picture: PictureRef<'_>) -> Result<Decoded> {
        let number = picture.number();
        for store in [&self.kept, &self.shelf] {
            if let Some(image) = store.read().unwrap_or_else(PoisonError::into_inner).get(&number) {
                return Ok(Arc::clone(image));
            }
        }
        let bytes = picture.read()?;
        let image: Decoded = Arc::new(decode(&bytes, &picture.name()).map(Arc::new).map_err(|e| e.to_string()));
        drop(bytes);
        let bytes = Self::ENTRY + image.as_ref().as_ref().map_or(0, |image| image.data.len() as u64);
        let fits = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(bytes)).is_ok();
        let store = if fits { &self.kept } else { &self.shelf };
        store.write().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::clone(&image));
        Ok(image)
    }

    /// Empties the shelf: its images were taken by the batch they were decoded for.
    pub fn forget_ahead(&self) {
        self.shelf.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
