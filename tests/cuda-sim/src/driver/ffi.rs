//! Types of the C functions' arguments. They have the layout of the pointers and handles that `cuda.h` declares, and
//! keep the unsafe part of reading them in this file.

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::errors::{CUresult, Outcome, fail};

/// `CUdeviceptr`.
pub type DevicePtr = u64;

/// A pointer to one result, or null.
#[repr(transparent)]
pub struct Out<'a, T>(Option<&'a mut MaybeUninit<T>>);

impl<T> Out<'_, T> {
    pub const fn null() -> Self {
        Self(None)
    }

    pub fn is_null(&self) -> bool {
        self.0.is_none()
    }

    /// # Errors
    /// `CUDA_ERROR_INVALID_VALUE` for a null pointer.
    pub fn put(self, value: T) -> Outcome {
        match self.0 {
            Some(place) => {
                place.write(value);
                Ok(())
            }
            None => fail(CUresult::INVALID_VALUE, "a pointer for a result is null"),
        }
    }

    /// For results that the caller may leave out.
    pub fn put_if_wanted(self, value: T) {
        if let Some(place) = self.0 {
            place.write(value);
        }
    }

    /// Writes `values` to the array that starts here.
    ///
    /// # Safety
    /// The array has room for all of them.
    pub unsafe fn put_all(self, values: impl IntoIterator<Item = T>) -> Outcome {
        let Some(place) = self.0 else { return fail(CUresult::INVALID_VALUE, "a pointer for a result is null") };
        let first = place.as_mut_ptr();
        for (i, value) in values.into_iter().enumerate() {
            // SAFETY: the caller vouches for the length of the array.
            unsafe { first.add(i).write(value) };
        }
        Ok(())
    }
}

impl<'a, T> From<&'a mut T> for Out<'a, T> {
    fn from(place: &'a mut T) -> Self {
        // SAFETY: `Out` only ever writes whole values of `T` there.
        Self(Some(unsafe { &mut *std::ptr::from_mut(place).cast() }))
    }
}

/// A pointer to one argument or to an array of them, or null.
#[repr(transparent)]
pub struct In<'a, T>(Option<&'a T>);

impl<T> Clone for In<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for In<'_, T> {}

impl<'a, T> In<'a, T> {
    pub const fn null() -> Self {
        Self(None)
    }

    pub fn is_null(&self) -> bool {
        self.0.is_none()
    }

    /// # Errors
    /// `CUDA_ERROR_INVALID_VALUE` for a null pointer.
    pub fn get(self) -> Outcome<&'a T> {
        self.0.map_or_else(|| fail(CUresult::INVALID_VALUE, "a pointer to an argument is null"), Ok)
    }

    /// The first `count` elements; null is allowed where there are none.
    ///
    /// # Safety
    /// The array has that many.
    pub unsafe fn slice(self, count: usize) -> Outcome<&'a [T]> {
        if count == 0 {
            return Ok(&[]);
        }
        // SAFETY: the caller vouches for the length of the array.
        Ok(unsafe { std::slice::from_raw_parts(self.get()?, count) })
    }
}

impl<'a, T> From<&'a T> for In<'a, T> {
    fn from(place: &'a T) -> Self {
        Self(Some(place))
    }
}

impl<'a, T> From<&'a [T]> for In<'a, T> {
    fn from(places: &'a [T]) -> Self {
        Self(places.first())
    }
}

/// A NUL-terminated string, or null.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Text<'a>(*const c_char, PhantomData<&'a CStr>);

impl<'a> Text<'a> {
    /// # Errors
    /// `CUDA_ERROR_INVALID_VALUE` for a null pointer or text that is not UTF-8.
    pub fn get(self) -> Outcome<&'a str> {
        if self.0.is_null() {
            return fail(CUresult::INVALID_VALUE, "a string is null");
        }
        // SAFETY: made from a `CStr`, or by a C caller that passes a NUL-terminated string as the API asks.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str().or_else(|_| fail(CUresult::INVALID_VALUE, "a string is not UTF-8"))
    }
}

impl<'a> From<&'a CStr> for Text<'a> {
    fn from(text: &'a CStr) -> Self {
        Self(text.as_ptr(), PhantomData)
    }
}

/// An address of the host program, possibly read or written later by a stream.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HostPtr(pub usize);

impl HostPtr {
    pub const NULL: HostPtr = HostPtr(0);

    pub fn is_null(self) -> bool {
        self.0 == 0
    }

    pub fn offset(self, bytes: usize) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// # Safety
    /// `count` bytes there are readable, and nobody writes them meanwhile.
    pub unsafe fn bytes<'a>(self, count: usize) -> &'a [u8] {
        if count == 0 {
            return &[];
        }
        // SAFETY: the caller vouches for the range.
        unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(self.0), count) }
    }

    /// # Safety
    /// `count` bytes there are writable, and nobody else uses them meanwhile.
    pub unsafe fn bytes_mut<'a>(self, count: usize) -> &'a mut [u8] {
        if count == 0 {
            return &mut [];
        }
        // SAFETY: the caller vouches for the range.
        unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(self.0), count) }
    }
}

impl<T: ?Sized> From<*const T> for HostPtr {
    fn from(pointer: *const T) -> Self {
        Self(pointer.cast::<c_void>().expose_provenance())
    }
}

impl<T: ?Sized> From<*mut T> for HostPtr {
    fn from(pointer: *mut T) -> Self {
        Self(pointer.cast::<c_void>().expose_provenance())
    }
}
