//! The pictures of the sample that was asked for last. Of a caption with many pictures one after the other is wanted,
//! and which members they are is found in all of its members.

use std::sync::{Arc, Mutex, PoisonError};

use super::sample::SampleRef;
use super::scan::Member;
use crate::error::Result;

/// Their members, known by the number of the first.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Option<(u32, Arc<[Member]>)>>);

impl Recent {
    /// The members of `sample` that are its pictures, in order.
    ///
    /// # Errors
    /// As [`SampleRef::pictures`].
    pub fn members(&self, sample: &SampleRef<'_>) -> Result<Arc<[Member]>> {
        let first = sample.first_picture();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, members)) if *known == first => Ok(Arc::clone(members)),
            _ => {
                let members: Arc<[Member]> = sample.pictures()?.iter().map(|picture| picture.member()).collect();
                *last = Some((first, Arc::clone(&members)));
                Ok(members)
            }
        }
    }
}
