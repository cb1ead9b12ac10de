//! Handles are numbers looked up in tables, never addresses: one that was destroyed, or is of another kind, is an
//! error and not a crash.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::errors::{CUresult, Outcome, fail};

/// `CUstream`, `CUmodule`, … : the size of a pointer, null where it is 0.
#[repr(transparent)]
pub struct Handle<T>(usize, PhantomData<fn() -> T>);

impl<T> Handle<T> {
    pub const NULL: Handle<T> = Handle(0, PhantomData);

    pub const fn from_raw(raw: usize) -> Self {
        Self(raw, PhantomData)
    }

    pub const fn raw(self) -> usize {
        self.0
    }

    pub const fn is_null(self) -> bool {
        self.0 == 0
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> PartialEq for Handle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Handle<T> {}

impl<T> std::fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The live objects of one kind.
pub struct Table<T> {
    what: &'static str,
    entries: RwLock<BTreeMap<usize, Arc<T>>>,
}

/// Handles start here: away from the special streams 1 and 2 and from anything that a program could mistake for memory.
static NEXT: AtomicUsize = AtomicUsize::new(0x5EED_0000_0010);

impl<T> Table<T> {
    pub const fn new(what: &'static str) -> Self {
        Self { what, entries: RwLock::new(BTreeMap::new()) }
    }

    /// Makes an object that knows its own handle.
    pub fn insert_with(&self, make: impl FnOnce(Handle<T>) -> Arc<T>) -> Handle<T> {
        let raw = NEXT.fetch_add(16, Ordering::Relaxed);
        let object = make(Handle::from_raw(raw));
        self.entries.write().unwrap_or_else(PoisonError::into_inner).insert(raw, object);
        Handle::from_raw(raw)
    }

    pub fn insert(&self, object: Arc<T>) -> Handle<T> {
        self.insert_with(|_| object)
    }

    /// # Errors
    /// `CUDA_ERROR_INVALID_HANDLE`.
    pub fn get(&self, handle: Handle<T>) -> Outcome<Arc<T>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(&handle.0).cloned().map_or_else(|| self.unknown(handle), Ok)
    }

    pub fn contains(&self, handle: Handle<T>) -> bool {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).contains_key(&handle.0)
    }

    /// # Errors
    /// `CUDA_ERROR_INVALID_HANDLE`.
    pub fn remove(&self, handle: Handle<T>) -> Outcome<Arc<T>> {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.remove(&handle.0).map_or_else(|| self.unknown(handle), Ok)
    }

    /// Drops all objects that `gone` names, after the table is unlocked: their destructors may use it.
    pub fn remove_where(&self, gone: impl Fn(&T) -> bool) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let (removed, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut *entries).into_iter().partition(|(_, object)| gone(object));
        *entries = kept;
        drop(entries);
        drop(removed);
    }

    pub fn for_each(&self, visit: impl FnMut(&Arc<T>)) {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).values().for_each(visit);
    }

    fn unknown<R>(&self, handle: Handle<T>) -> Outcome<R> {
        fail(CUresult::INVALID_HANDLE, format!("{handle:?} is no live {}", self.what))
    }
}
