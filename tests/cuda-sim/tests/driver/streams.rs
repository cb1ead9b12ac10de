//! Streams run behind the host, in the order that the program asked for and no other.

use std::ffi::c_void;
use std::sync::{Condvar, Mutex};
use std::thread::sleep;
use std::time::Duration;

use cuda_sim::driver::context::{cuCtxGetId, cuCtxSetCurrent};
use cuda_sim::driver::copy::{cuMemcpyDtoHAsync_v2, cuMemcpyHtoDAsync_v2};
use cuda_sim::driver::errors::CUresult;
use cuda_sim::driver::event::{
    cuEventCreate, cuEventDestroy_v2, cuEventElapsedTime, cuEventQuery, cuEventRecord, cuEventSynchronize,
    cuStreamWaitEvent,
};
use cuda_sim::driver::ffi::{HostPtr, Out};
use cuda_sim::driver::fill::cuMemsetD32Async;
use cuda_sim::driver::handles::Handle;
use cuda_sim::driver::host::cuMemHostAlloc;
use cuda_sim::driver::stream::{CUstream, cuLaunchHostFunc, cuStreamDestroy_v2, cuStreamQuery, cuStreamSynchronize};

use crate::support::{Context, NULL_STREAM, OK, address, alloc, blocking_stream, download, stream, synchronize};

/// What host functions of a test did, in order, and a gate that some of them wait at.
struct Log {
    done: Mutex<Vec<u32>>,
    open: Mutex<bool>,
    changed: Condvar,
}

/// What a host function does before it enters its value.
enum Before {
    Nothing,
    /// Makes it likely that what does not wait for it overtakes it.
    Nap,
    /// Holds its stream until the test opens the gate, however long that takes.
    Gate,
}

/// One entry for a log.
struct Entry<'a> {
    log: &'a Log,
    value: u32,
    before: Before,
}

const NAP: Duration = Duration::from_millis(60);

unsafe extern "C" fn write_entry(data: *mut c_void) {
    // SAFETY: `enqueue` passes an entry that its caller keeps until the stream is done.
    let entry = unsafe { &*data.cast::<Entry>() };
    match entry.before {
        Before::Nothing => {}
        Before::Nap => sleep(NAP),
        Before::Gate => {
            drop(entry.log.changed.wait_while(entry.log.open.lock().unwrap(), |open| !*open).unwrap());
        }
    }
    entry.log.done.lock().unwrap().push(entry.value);
    entry.log.changed.notify_all();
}

impl Log {
    fn new() -> Self {
        Self { done: Mutex::default(), open: Mutex::new(false), changed: Condvar::new() }
    }

    fn entry(&self, value: u32) -> Entry<'_> {
        Entry { log: self, value, before: Before::Nothing }
    }

    fn slow(&self, value: u32) -> Entry<'_> {
        Entry { log: self, value, before: Before::Nap }
    }

    fn gated(&self, value: u32) -> Entry<'_> {
        Entry { log: self, value, before: Before::Gate }
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn seen(&self) -> Vec<u32> {
        self.done.lock().unwrap().clone()
    }

    /// Returns once there are `count` entries.
    fn wait_for(&self, count: usize) {
        drop(self.changed.wait_while(self.done.lock().unwrap(), |done| done.len() < count).unwrap());
    }
}

fn enqueue(stream: CUstream, entry: &Entry) {
    let data = std::ptr::from_ref(entry).cast_mut().cast();
    assert_eq!(cuLaunchHostFunc(stream, Some(write_entry), data), OK);
}

fn event(flags: u32) -> cuda_sim::driver::event::CUevent {
    let mut event = Handle::NULL;
    assert_eq!(cuEventCreate(Out::from(&mut event), flags), OK);
    event
}

#[test]
fn host_is_not_held_up() {
    let _context = Context::new();
    let (stream, log) = (stream(), Log::new());
    let held = log.gated(1);
    enqueue(stream, &held);
    assert_eq!(cuStreamQuery(stream), CUresult::NOT_READY);
    assert_eq!(log.seen(), []);
    log.open();
    assert_eq!(cuStreamSynchronize(stream), OK);
    assert_eq!(log.seen(), [1]);
    assert_eq!(cuStreamQuery(stream), OK);
}

#[test]
fn work_goes_on_though_nobody_waits() {
    let _context = Context::new();
    let (stream, log) = (stream(), Log::new());
    let entry = log.entry(1);
    enqueue(stream, &entry);
    log.wait_for(1);
    assert_eq!(log.seen(), [1]);
}

/// The source of a copy is page-locked memory that the host overwrites too early: the copy carries the later value,
/// every time. Of ordinary memory the value at the call counts.
#[test]
fn buffers_reused_too_early_show() {
    let _context = Context::new();
    let (stream, pointer, log) = (stream(), alloc(8), Log::new());
    let held = log.gated(1);
    enqueue(stream, &held);
    let mut pinned = HostPtr::NULL;
    assert_eq!(cuMemHostAlloc(Out::from(&mut pinned), 4, 0), OK);
    // SAFETY: four bytes of page-locked memory, just allocated.
    let write = |value: u32| unsafe { pinned.bytes_mut(4) }.copy_from_slice(&value.to_le_bytes());
    write(5);
    assert_eq!(cuMemcpyHtoDAsync_v2(pointer, pinned, 4, stream), OK);
    write(6);
    let mut ordinary = [7u32];
    assert_eq!(cuMemcpyHtoDAsync_v2(pointer + 4, address(&ordinary), 4, stream), OK);
    ordinary[0] = 8;
    log.open();
    assert_eq!(cuStreamSynchronize(stream), OK);
    assert_eq!(download(pointer, 2), [6, 7]);
    assert_eq!(ordinary, [8]);
}

#[test]
fn results_in_page_locked_memory_come_late() {
    let _context = Context::new();
    let (stream, pointer, log) = (stream(), crate::support::upload(&[9]), Log::new());
    let held = log.gated(1);
    enqueue(stream, &held);
    let mut pinned = HostPtr::NULL;
    assert_eq!(cuMemHostAlloc(Out::from(&mut pinned), 4, 0), OK);
    assert_eq!(cuMemcpyDtoHAsync_v2(pinned, pointer, 4, stream), OK);
    // SAFETY: four bytes of page-locked memory; the stream is held at the gate, so it has not written them.
    assert_eq!(unsafe { pinned.bytes(4) }, [0; 4]);
    log.open();
    assert_eq!(cuStreamSynchronize(stream), OK);
    // SAFETY: as above, and the stream is done.
    assert_eq!(unsafe { pinned.bytes(4) }, [9, 0, 0, 0]);
}

#[test]
fn events_order_streams() {
    let _context = Context::new();
    let (a, b, log) = (stream(), stream(), Log::new());
    let (first, second, done) = (log.gated(1), log.entry(2), event(2));
    enqueue(a, &first);
    assert_eq!(cuEventRecord(done, a), OK);
    assert_eq!(cuStreamWaitEvent(b, done, 0), OK);
    enqueue(b, &second);
    assert_eq!(cuEventQuery(done), CUresult::NOT_READY);
    assert_eq!(log.seen(), []);
    log.open();
    assert_eq!(cuStreamSynchronize(b), OK);
    assert_eq!(log.seen(), [1, 2]);
    assert_eq!(cuEventQuery(done), OK);
}

#[test]
fn without_an_event_streams_are_not_ordered() {
    let _context = Context::new();
    let (a, b, log) = (stream(), stream(), Log::new());
    let (first, second) = (log.gated(1), log.entry(2));
    enqueue(a, &first);
    enqueue(b, &second);
    assert_eq!(cuStreamSynchronize(b), OK);
    assert_eq!(log.seen(), [2]);
    log.open();
    assert_eq!(synchronize(), OK);
    assert_eq!(log.seen(), [2, 1]);
}

#[test]
fn null_stream_and_blocking_streams_wait_for_each_other() {
    let _context = Context::new();
    let (a, b, log) = (blocking_stream(), blocking_stream(), Log::new());
    let (one, two, three) = (log.slow(1), log.slow(2), log.entry(3));
    enqueue(a, &one);
    enqueue(NULL_STREAM, &two);
    enqueue(b, &three);
    assert_eq!(cuStreamSynchronize(b), OK);
    assert_eq!(log.seen(), [1, 2, 3]);
}

#[test]
fn times_of_events() {
    let _context = Context::new();
    let (stream, log) = (stream(), Log::new());
    let (start, end, untimed, unused, nap) = (event(0), event(0), event(2), event(0), log.slow(1));
    let held = log.gated(2);
    let mut time = 0.0;
    assert_eq!(cuEventRecord(start, stream), OK);
    enqueue(stream, &nap);
    enqueue(stream, &held);
    assert_eq!(cuEventRecord(end, stream), OK);
    assert_eq!(cuEventElapsedTime(Out::from(&mut time), start, end), CUresult::NOT_READY);
    log.open();
    assert_eq!(cuEventSynchronize(end), OK);
    assert_eq!(cuEventElapsedTime(Out::from(&mut time), start, end), OK);
    // At least the nap; how much more, the load decides.
    assert!(f64::from(time) >= 1e3 * NAP.as_secs_f64() && time.is_finite(), "{time} ms");
    assert_eq!(cuEventElapsedTime(Out::from(&mut time), start, untimed), CUresult::INVALID_HANDLE);
    assert_eq!(cuEventElapsedTime(Out::from(&mut time), start, unused), CUresult::INVALID_HANDLE);
    assert_eq!(cuEventQuery(unused), OK); // never recorded: nothing to wait for
    assert_eq!(cuEventDestroy_v2(end), OK);
    assert_eq!(cuEventQuery(end), CUresult::INVALID_HANDLE);
}

unsafe extern "C" fn call_the_driver(data: *mut c_void) {
    let mut id = 0;
    let answer = cuCtxGetId(Handle::NULL, Out::from(&mut id));
    // SAFETY: the test passes a place for one answer and waits for it.
    unsafe { data.cast::<CUresult>().write(answer) };
}

#[test]
fn host_functions_may_not_call_the_driver() {
    let _context = Context::new();
    let mut answer = OK;
    assert_eq!(cuLaunchHostFunc(NULL_STREAM, Some(call_the_driver), std::ptr::from_mut(&mut answer).cast()), OK);
    assert_eq!(synchronize(), OK);
    assert_eq!(answer, CUresult::NOT_PERMITTED);
}

#[test]
fn destroyed_streams_finish_their_work() {
    let _context = Context::new();
    let (stream, log) = (stream(), Log::new());
    let slow = log.slow(1);
    enqueue(stream, &slow);
    assert_eq!(cuStreamDestroy_v2(stream), OK);
    assert_eq!(cuStreamSynchronize(stream), CUresult::INVALID_HANDLE);
    assert_eq!(synchronize(), OK);
    assert_eq!(log.seen(), [1]);
}

/// Many threads, each with a stream of its own, and a null stream that they all wait for now and then.
#[test]
fn threads() {
    let context = Context::new();
    let handle = context.0;
    std::thread::scope(|scope| {
        for thread in 0..8u32 {
            scope.spawn(move || {
                assert_eq!(cuCtxSetCurrent(handle), OK);
                let (mine, blocking, pointer) = (stream(), blocking_stream(), crate::support::upload(&[0; 64]));
                for round in 0..40 {
                    let value = thread * 1000 + round;
                    assert_eq!(cuMemsetD32Async(pointer, value, 64, mine), OK);
                    assert_eq!(cuStreamSynchronize(mine), OK);
                    assert_eq!(cuMemsetD32Async(pointer, value + 1, 32, blocking), OK);
                    let got = download(pointer, 64); // in the null stream, which waits for the blocking one
                    assert_eq!((got[0], got[31], got[32], got[63]), (value + 1, value + 1, value, value));
                }
                assert_eq!(cuStreamDestroy_v2(mine), OK);
            });
        }
    });
}
