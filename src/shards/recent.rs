//! The pictures of the sample that was asked for last. Of a caption with many pictures one after the other is wanted,
//! and which members they are is found in all of its members.

use std::sync::{Arc, Mutex, PoisonError};

use super::scan::Member;
use crate::error::Result;

/// Their members, known by the number of the first.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Option<(u32, Arc<[Member]>)>>);

impl Recent {
    /// The members that are the pictures of a sample whose first picture has the number `first`, in order; `find` looks
    /// for them.
    ///
    /// # Errors
    /// Those of `find`.
    pub fn members(&self, first: u32, find: impl FnOnce() -> Result<Arc<[Member]>>) -> Result<Arc<[Member]>> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, members)) if *known == first => Ok(Arc::clone(members)),
            _ => {
                let members = find()?;
                *last = Some((first, Arc::clone(&members)));
                Ok(members)
            }
        }
    }
}
