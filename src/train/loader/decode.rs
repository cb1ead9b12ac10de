//! Decoded images: a bounded cache that keeps what came first, and a shelf for the step ahead.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::bail;
use crate::error::{Error, Result};
use crate::image::{LabelMap, Rgb8, decode, decode_scene};
use crate::shards::{MAP, PictureRef};

/// A decoded image, and the class numbers of its pixels where they are learned.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub image: Arc<Rgb8>,
    pub map: Option<Arc<LabelMap>>,
}

impl Seen {
    fn decode(picture: PictureRef<'_>, mapped: bool) -> Result<Self> {
        let (bytes, name) = (picture.read()?, picture.name());
        if !mapped {
            return Ok(Self { image: Arc::new(decode(&bytes, &name)?), map: None });
        }
        let map = picture.sample().read(MAP)?;
        let Some(map) = map else { bail!(Data, "{name}: no .{MAP} beside the image") };
        let (image, map) = decode_scene(&bytes, &map, &name)?;
        Ok(Self { image: Arc::new(image), map: Some(Arc::new(map)) })
    }

    fn bytes(&self) -> u64 {
        (self.image.data.len() + self.map.as_ref().map_or(0, |map| map.data.len())) as u64
    }
}

/// A decoded image, or why it could not be decoded.
pub(super) type Decoded = Arc<std::result::Result<Seen, String>>;

/// Decoded images by their number. In a random order of epochs every image is needed once per epoch, so keeping the
/// first ones until the memory is used up hits as often as any other policy.
#[derive(Debug)]
pub(super) struct Images {
    kept: RwLock<HashMap<u32, Decoded>>,
    shelf: RwLock<HashMap<u32, Decoded>>,
    free: AtomicU64,
    limit: u64,
    /// Whether the class numbers of their pixels are wanted too.
    mapped: bool,
}

impl Images {
    /// What an image takes beside its pixels, bytes.
    pub const ENTRY: u64 = 120;

    pub fn new(limit: u64, mapped: bool) -> Self {
        Self { kept: RwLock::default(), shelf: RwLock::default(), free: AtomicU64::new(limit), limit, mapped }
    }

    pub fn is_mapped(&self) -> bool {
        self.mapped
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
        let image: Decoded = match Seen::decode(picture, self.mapped) {
            Ok(seen) => Arc::new(Ok(seen)),
            Err(Error::Data(message)) => Arc::new(Err(message)),
            Err(other) => return Err(other),
        };
        let bytes = Self::ENTRY + image.as_ref().as_ref().map_or(0, Seen::bytes);
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
