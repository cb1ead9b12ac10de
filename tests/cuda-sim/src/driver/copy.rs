//! Copies: 1-D to 3-D, between host and device in every direction, in stream order.

use std::ffi::{c_int, c_uint};
use std::sync::Arc;

use super::capture;
use super::context::{CUcontext, Context, current, of_handle};
use super::errors::{CUresult, Outcome, call, fail, not_modelled};
use super::ffi::{DevicePtr, HostPtr, In};
use super::host;
use super::stream::{CUstream, Stream, resolve};
use super::work::Op;
use crate::check::Finding;
use crate::memory::DeviceMemory;

/// Where rows start.
#[derive(Clone)]
pub enum Place {
    Device(DevicePtr),
    Host(HostPtr),
    /// Taken from the program's memory when the call was made.
    Staged(Arc<[u8]>),
}

/// One end of a copy. Row `(y, z)` starts `y * pitch + z * slice` bytes further.
#[derive(Clone)]
pub struct Side {
    pub place: Place,
    pub pitch: usize,
    pub slice: usize,
}

#[derive(Clone)]
pub struct Copy {
    pub call: &'static str,
    pub from: Side,
    pub to: Side,
    /// Bytes of a row, rows, slices.
    pub extent: [usize; 3],
}

type Ran = Result<(), Box<Finding>>;

impl Side {
    fn flat(place: Place) -> Self {
        Self { place, pitch: 0, slice: 0 }
    }

    /// Bytes from the first to the last one touched.
    fn span(&self, [width, height, depth]: [usize; 3]) -> usize {
        width + self.pitch * (height - 1) + self.slice * (depth - 1)
    }

    fn device(&self) -> Option<DevicePtr> {
        if let Place::Device(address) = self.place { Some(address) } else { None }
    }
}

impl Copy {
    fn is_empty(&self) -> bool {
        self.extent.contains(&0)
    }

    /// Runs of bytes that are contiguous at both ends: length, and how many rows and slices of them.
    fn runs(&self) -> [usize; 3] {
        let [width, height, depth] = self.extent;
        let joined = |side: &Side| side.pitch == width;
        if height > 1 && joined(&self.from) && joined(&self.to) {
            return [width * height, 1, depth];
        }
        [width, height, depth]
    }

    pub fn run(&self, memory: &DeviceMemory) -> Ran {
        if self.is_empty() {
            return Ok(());
        }
        let [width, height, depth] = self.runs();
        for z in 0..depth {
            for y in 0..height {
                let from = y * self.from.pitch + z * self.from.slice;
                let to = y * self.to.pitch + z * self.to.slice;
                self.row(memory, from, to, width).map_err(|mut finding| {
                    finding.kernel = self.call.to_owned();
                    finding
                })?;
            }
        }
        Ok(())
    }

    fn row(&self, memory: &DeviceMemory, from: usize, to: usize, width: usize) -> Ran {
        match (&self.from.place, &self.to.place) {
            (Place::Device(src), Place::Device(dst)) => memory.copy(dst + to as u64, src + from as u64, width),
            (Place::Device(src), Place::Host(dst)) => {
                // SAFETY: the program gave this range for the result, and must leave it alone until it has waited.
                memory.read(src + from as u64, unsafe { dst.offset(to).bytes_mut(width) })
            }
            (Place::Host(src), Place::Device(dst)) => {
                // SAFETY: the program gave this range to read from, and must leave it alone until it has waited.
                memory.write(dst + to as u64, unsafe { src.offset(from).bytes(width) })
            }
            (Place::Staged(bytes), Place::Device(dst)) => memory.write(dst + to as u64, &bytes[from..from + width]),
            (Place::Host(src), Place::Host(dst)) => {
                // SAFETY: both ranges are the program's, as above; `copy` lets them overlap.
                unsafe { std::ptr::copy(src.offset(from).bytes(width).as_ptr(), host_place(dst.offset(to)), width) };
                Ok(())
            }
            (Place::Staged(bytes), Place::Host(dst)) => {
                // SAFETY: as for results from the device.
                unsafe { dst.offset(to).bytes_mut(width) }.copy_from_slice(&bytes[from..from + width]);
                Ok(())
            }
            (_, Place::Staged(_)) => Ok(()), // never made: only sources are staged
        }
    }

    /// Takes the source from the program's memory now.
    fn stage(&mut self) {
        if let Place::Host(source) = self.from.place {
            let span = self.from.span(self.extent);
            // SAFETY: the program gave this range to read from, for the duration of the call.
            self.from.place = Place::Staged(unsafe { source.bytes(span) }.into());
        }
    }
}

fn host_place(pointer: HostPtr) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(pointer.0)
}

/// `bytes` from `address` are in one allocation, or in none because it is freed: that is for the turn of the operation
/// to find out.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` with the nearest allocation named.
pub fn check_range(context: &Context, address: DevicePtr, bytes: usize) -> Outcome {
    let what = format!("{bytes} bytes at {address:#x}");
    match context.allocations.find(address) {
        Some((start, allocation)) => {
            let end = start + allocation.bytes as u64;
            if address.checked_add(bytes as u64).is_none_or(|last| last > end) {
                let text = format!("{what} pass the end of the allocation of {} bytes at {start:#x}", allocation.bytes);
                return fail(CUresult::INVALID_VALUE, text);
            }
            Ok(())
        }
        None => fail(CUresult::INVALID_VALUE, format!("{what} are in no allocation")),
    }
}

/// When the host gets control back.
#[derive(Clone, std::marker::Copy, PartialEq, Eq)]
pub enum Return {
    /// The plain functions: done, unless both ends are on the device.
    WhenDone,
    /// The `…Async` functions.
    AtOnce,
}

/// Checks a copy and submits it.
pub fn submit(stream: &Arc<Stream>, mut copy: Copy, when: Return) -> Outcome {
    let context = stream.context()?;
    if copy.is_empty() {
        return Ok(());
    }
    for side in [&mut copy.from, &mut copy.to] {
        // With unified addresses a pointer says itself what it is.
        if let Place::Host(pointer) = side.place
            && context.allocations.find(pointer.0 as u64).is_some()
        {
            side.place = Place::Device(pointer.0 as u64);
        }
        if let Place::Host(pointer) = side.place
            && pointer.is_null()
        {
            return fail(CUresult::INVALID_VALUE, "a host pointer is null");
        }
        if let Some(address) = side.device() {
            check_range(&context, address, side.span(copy.extent))?;
        }
    }
    let pageable =
        |side: &Side| matches!(side.place, Place::Host(pointer) if !host::is_pinned(pointer, side.span(copy.extent)));
    let on_device = copy.from.device().is_some() && copy.to.device().is_some();
    let waits = (when == Return::WhenDone && !on_device) || pageable(&copy.to);
    if !stream.is_capturing() && pageable(&copy.from) {
        copy.stage();
    }
    let op = Op::Copy(Arc::new(copy));
    if waits { stream.submit_and_wait(op) } else { stream.submit(op) }
}

fn flat(call: &'static str, to: Place, from: Place, bytes: usize) -> Copy {
    Copy { call, from: Side::flat(from), to: Side::flat(to), extent: [bytes, 1, 1] }
}

/// The plain functions work in the null stream, and count as unsafe while something is captured.
fn plain(copy: Copy) -> Outcome {
    let context = current()?;
    capture::refuse_unsafe(&context)?;
    submit(&context.legacy, copy, Return::WhenDone)
}

fn queued(copy: Copy, stream: CUstream) -> Outcome {
    submit(&resolve(stream)?, copy, Return::AtOnce)
}

// --- Copies of one row ----------------------------------------------------------------------------------------------

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoD_v2(to: DevicePtr, from: HostPtr, bytes: usize) -> CUresult {
    call("cuMemcpyHtoD", || plain(flat("cuMemcpyHtoD", Place::Device(to), Place::Host(from), bytes)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoH_v2(to: HostPtr, from: DevicePtr, bytes: usize) -> CUresult {
    call("cuMemcpyDtoH", || plain(flat("cuMemcpyDtoH", Place::Host(to), Place::Device(from), bytes)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoD_v2(to: DevicePtr, from: DevicePtr, bytes: usize) -> CUresult {
    call("cuMemcpyDtoD", || plain(flat("cuMemcpyDtoD", Place::Device(to), Place::Device(from), bytes)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy(to: DevicePtr, from: DevicePtr, bytes: usize) -> CUresult {
    call("cuMemcpy", || plain(flat("cuMemcpy", unified(to), unified(from), bytes)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoDAsync_v2(to: DevicePtr, from: HostPtr, bytes: usize, stream: CUstream) -> CUresult {
    call("cuMemcpyHtoDAsync", || queued(flat("cuMemcpyHtoDAsync", Place::Device(to), Place::Host(from), bytes), stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoHAsync_v2(to: HostPtr, from: DevicePtr, bytes: usize, stream: CUstream) -> CUresult {
    call("cuMemcpyDtoHAsync", || queued(flat("cuMemcpyDtoHAsync", Place::Host(to), Place::Device(from), bytes), stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoDAsync_v2(to: DevicePtr, from: DevicePtr, bytes: usize, stream: CUstream) -> CUresult {
    call("cuMemcpyDtoDAsync", || {
        queued(flat("cuMemcpyDtoDAsync", Place::Device(to), Place::Device(from), bytes), stream)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyAsync(to: DevicePtr, from: DevicePtr, bytes: usize, stream: CUstream) -> CUresult {
    call("cuMemcpyAsync", || queued(flat("cuMemcpyAsync", unified(to), unified(from), bytes), stream))
}

/// An address that may be of either kind: `submit` finds out.
fn unified(address: DevicePtr) -> Place {
    Place::Host(HostPtr(address as usize))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyPeer(
    to: DevicePtr,
    to_context: CUcontext,
    from: DevicePtr,
    from_context: CUcontext,
    bytes: usize,
) -> CUresult {
    call("cuMemcpyPeer", || {
        of_handle(to_context).and_then(|_| of_handle(from_context))?; // one device: both see all of its memory
        plain(flat("cuMemcpyPeer", Place::Device(to), Place::Device(from), bytes))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyPeerAsync(
    to: DevicePtr,
    to_context: CUcontext,
    from: DevicePtr,
    from_context: CUcontext,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    call("cuMemcpyPeerAsync", || {
        of_handle(to_context).and_then(|_| of_handle(from_context))?;
        queued(flat("cuMemcpyPeerAsync", Place::Device(to), Place::Device(from), bytes), stream)
    })
}

// --- Copies of several rows -----------------------------------------------------------------------------------------

/// `CUDA_MEMCPY2D`.
#[repr(C)]
#[derive(Clone, std::marker::Copy)]
pub struct CUDA_MEMCPY2D {
    pub src_x: usize,
    pub src_y: usize,
    pub src_type: c_uint,
    pub src_host: HostPtr,
    pub src_device: DevicePtr,
    pub src_array: usize,
    pub src_pitch: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_type: c_uint,
    pub dst_host: HostPtr,
    pub dst_device: DevicePtr,
    pub dst_array: usize,
    pub dst_pitch: usize,
    pub width: usize,
    pub height: usize,
}

/// `CUDA_MEMCPY3D`.
#[repr(C)]
#[derive(Clone, std::marker::Copy)]
pub struct CUDA_MEMCPY3D {
    pub src_x: usize,
    pub src_y: usize,
    pub src_z: usize,
    pub src_lod: usize,
    pub src_type: c_uint,
    pub src_host: HostPtr,
    pub src_device: DevicePtr,
    pub src_array: usize,
    pub reserved0: usize,
    pub src_pitch: usize,
    pub src_height: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_z: usize,
    pub dst_lod: usize,
    pub dst_type: c_uint,
    pub dst_host: HostPtr,
    pub dst_device: DevicePtr,
    pub dst_array: usize,
    pub reserved1: usize,
    pub dst_pitch: usize,
    pub dst_height: usize,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
}

/// The end of a pitched copy: first byte at column `x` of row `y` of slice `z`.
struct End {
    kind: c_uint,
    host: HostPtr,
    device: DevicePtr,
    pitch: usize,
    rows: usize,
    at: [usize; 3],
}

impl End {
    fn side(self, [width, height, depth]: [usize; 3]) -> Outcome<Side> {
        let [x, y, z] = self.at;
        let pitch = if self.pitch == 0 { x + width } else { self.pitch };
        if pitch < x + width && (height > 1 || depth > 1) {
            return fail(CUresult::INVALID_VALUE, format!("rows of {width} bytes at {x} in a pitch of {pitch}"));
        }
        if depth > 1 && self.rows < y + height {
            return fail(CUresult::INVALID_VALUE, format!("{height} rows from {y} in slices of {}", self.rows));
        }
        let slice = pitch * self.rows;
        let offset = x + y * pitch + z * slice;
        let place = match self.kind {
            1 => Place::Host(self.host.offset(offset)),
            2 => Place::Device(self.device.wrapping_add(offset as u64)),
            4 => unified(self.device.wrapping_add(offset as u64)),
            3 => return not_modelled("arrays"),
            kind => return fail(CUresult::INVALID_VALUE, format!("memory type {kind}")),
        };
        Ok(Side { place, pitch, slice })
    }
}

impl CUDA_MEMCPY3D {
    /// # Errors
    /// Arrays, or rows that do not fit their pitch.
    pub fn copy(&self, call: &'static str) -> Outcome<Copy> {
        let extent = [self.width, self.height, self.depth];
        let from = End {
            kind: self.src_type,
            host: self.src_host,
            device: self.src_device,
            pitch: self.src_pitch,
            rows: self.src_height,
            at: [self.src_x, self.src_y, self.src_z],
        };
        let to = End {
            kind: self.dst_type,
            host: self.dst_host,
            device: self.dst_device,
            pitch: self.dst_pitch,
            rows: self.dst_height,
            at: [self.dst_x, self.dst_y, self.dst_z],
        };
        Ok(Copy { call, from: from.side(extent)?, to: to.side(extent)?, extent })
    }
}

impl CUDA_MEMCPY2D {
    fn copy(&self, call: &'static str) -> Outcome<Copy> {
        let solid = CUDA_MEMCPY3D {
            src_x: self.src_x,
            src_y: self.src_y,
            src_z: 0,
            src_lod: 0,
            src_type: self.src_type,
            src_host: self.src_host,
            src_device: self.src_device,
            src_array: self.src_array,
            reserved0: 0,
            src_pitch: self.src_pitch,
            src_height: 0,
            dst_x: self.dst_x,
            dst_y: self.dst_y,
            dst_z: 0,
            dst_lod: 0,
            dst_type: self.dst_type,
            dst_host: self.dst_host,
            dst_device: self.dst_device,
            dst_array: self.dst_array,
            reserved1: 0,
            dst_pitch: self.dst_pitch,
            dst_height: 0,
            width: self.width,
            height: self.height,
            depth: 1,
        };
        solid.copy(call)
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy2D_v2(copy: In<CUDA_MEMCPY2D>) -> CUresult {
    call("cuMemcpy2D", || plain(copy.get()?.copy("cuMemcpy2D")?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy2DUnaligned_v2(copy: In<CUDA_MEMCPY2D>) -> CUresult {
    call("cuMemcpy2DUnaligned", || plain(copy.get()?.copy("cuMemcpy2DUnaligned")?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy2DAsync_v2(copy: In<CUDA_MEMCPY2D>, stream: CUstream) -> CUresult {
    call("cuMemcpy2DAsync", || queued(copy.get()?.copy("cuMemcpy2DAsync")?, stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy3D_v2(copy: In<CUDA_MEMCPY3D>) -> CUresult {
    call("cuMemcpy3D", || plain(copy.get()?.copy("cuMemcpy3D")?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy3DAsync_v2(copy: In<CUDA_MEMCPY3D>, stream: CUstream) -> CUresult {
    call("cuMemcpy3DAsync", || queued(copy.get()?.copy("cuMemcpy3DAsync")?, stream))
}

/// `CUmemorytype` of a place, for pointer attributes.
pub const HOST_TYPE: c_int = 1;
pub const DEVICE_TYPE: c_int = 2;
