//! Kernel launches: the limits that the real driver enforces, parameters copied at the call, execution in stream order.

use std::ffi::{c_int, c_uint};
use std::sync::Arc;

use super::context::Context;
use super::errors::{CUresult, Outcome, call, fail, not_modelled};
use super::ffi::{HostPtr, In};
use super::function::{CUfunction, FUNCTIONS, Function};
use super::state::driver;
use super::stream::{CUstream, resolve};
use super::work::Op;
use crate::check::{Finding, Kind};
use crate::device::DeviceModel;
use crate::exec;

/// Everything that a kernel node or a queued launch holds.
#[derive(Clone)]
pub struct Launch {
    pub function: Arc<Function>,
    pub handle: CUfunction,
    pub shape: Shape,
    pub params: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// `[1, 1, 1]` without clusters.
    pub cluster: [u32; 3],
    pub dynamic_shared: u32,
}

/// Blocks of a cluster that `NON_PORTABLE_CLUSTER_SIZE_ALLOWED` permits on Hopper.
const MAX_NON_PORTABLE: u32 = 16;

/// Ids of `CUlaunchAttribute`.
mod attribute {
    pub const COOPERATIVE: i32 = 2;
    pub const CLUSTER_DIMENSION: i32 = 4;
    pub const CLUSTER_SCHEDULING: i32 = 5;
    pub const PROGRAMMATIC_STREAM_SERIALIZATION: i32 = 6;
    pub const PROGRAMMATIC_EVENT: i32 = 7;
    pub const PREFERRED_CLUSTER_DIMENSION: i32 = 11;
    pub const LAUNCH_COMPLETION_EVENT: i32 = 12;
    pub const DEVICE_UPDATABLE_NODE: i32 = 13;
}

/// `CUlaunchAttribute`: the values used here are integers at the start of its union.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CUlaunchAttribute {
    pub id: c_int,
    pub pad: [u8; 4],
    pub value: [u32; 16],
}

/// `CUlaunchConfig`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CUlaunchConfig {
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub dynamic_shared: c_uint,
    pub stream: CUstream,
    pub attributes: HostPtr,
    pub attribute_count: c_uint,
}

/// The arguments of a launch as C passes them: an array of pointers to each, or a packed block in `extra`.
#[derive(Clone, Copy)]
pub struct Arguments {
    pub each: HostPtr,
    pub extra: HostPtr,
}

impl Launch {
    /// Checks everything that the real driver checks at the call.
    ///
    /// # Errors
    /// As the real driver's, with the limit in the text.
    pub fn new(handle: CUfunction, shape: Shape, arguments: Arguments, model: &DeviceModel) -> Outcome<Launch> {
        let function = FUNCTIONS.get(handle)?;
        let shape = fit(&function, shape, model)?;
        let params = pack(&function, arguments)?;
        Ok(Launch { function, handle, shape, params })
    }

    pub fn name(&self) -> &str {
        &self.function.kernel().name
    }

    pub fn run(&self, context: &Context) -> Result<(), Box<Finding>> {
        let driver = driver().map_err(|error| Finding::host(Kind::InvalidLaunch, error.text))?;
        let stats = exec::launch(&exec::Launch {
            kernel: self.function.kernel(),
            grid: self.shape.grid,
            block: self.shape.block,
            cluster: self.shape.cluster,
            dynamic_shared: self.shape.dynamic_shared,
            params: &self.params,
            memory: &context.device.memory,
            device: &context.device.model,
            options: &driver.settings.options,
        })?;
        driver.record(|| self.json(&stats));
        Ok(())
    }

    /// One line of `CUDA_SIM_STATS`.
    fn json(&self, stats: &exec::Stats) -> String {
        let Shape { grid, block, cluster, dynamic_shared } = self.shape;
        format!(
            concat!(
                r#"{{"kernel":"{}","grid":{:?},"block":{:?},"cluster":{:?},"static_shared":{},"dynamic_shared":{},"#,
                r#""blocks":{},"warp_instructions":{},"lane_instructions":{},"#,
                r#""global_read_bytes":{},"global_write_bytes":{},"global_sectors":{},"#,
                r#""shared_read_bytes":{},"shared_write_bytes":{},"bank_conflicts":{},"#,
                r#""mma":{},"wgmma":{},"bulk_bytes":{}}}"#,
                "\n"
            ),
            self.name(),
            grid,
            block,
            cluster,
            self.function.kernel().static_shared,
            dynamic_shared,
            stats.blocks,
            stats.warp_instructions,
            stats.lane_instructions,
            stats.global_read_bytes,
            stats.global_write_bytes,
            stats.global_sectors,
            stats.shared_read_bytes,
            stats.shared_write_bytes,
            stats.bank_conflicts,
            stats.mma,
            stats.wgmma,
            stats.bulk_bytes,
        )
    }
}

/// The shape with its cluster settled, if kernel and device allow it.
fn fit(function: &Function, mut shape: Shape, model: &DeviceModel) -> Outcome<Shape> {
    let kernel = function.kernel();
    let name = &kernel.name;
    let settings = function.settings();
    let refuse = |code, text: String| fail(code, format!("{name}: {text}"));
    let ([gx, gy, gz], [bx, by, bz]) = (shape.grid, shape.block);
    if gx == 0 || gy == 0 || gz == 0 || gx > i32::MAX as u32 || gy > 65535 || gz > 65535 {
        return refuse(CUresult::INVALID_VALUE, format!("a grid of {gx} x {gy} x {gz} blocks"));
    }
    let threads = u64::from(bx) * u64::from(by) * u64::from(bz);
    let most = function.max_threads(model);
    if threads == 0 || bx > 1024 || by > 1024 || bz > 64 || threads > u64::from(most) {
        return refuse(CUresult::INVALID_VALUE, format!("blocks of {bx} x {by} x {bz} threads, {most} are possible"));
    }
    if let Some(required) = kernel.required_threads
        && required != shape.block
    {
        return refuse(
            CUresult::INVALID_VALUE,
            format!("blocks of {:?} threads, its code needs {required:?}", shape.block),
        );
    }
    let registers = threads.next_multiple_of(32) * u64::from(function.registers);
    if registers > u64::from(model.registers_per_sm) {
        let text = format!("{threads} threads of {} registers", function.registers);
        return refuse(CUresult::LAUNCH_OUT_OF_RESOURCES, text);
    }
    if shape.dynamic_shared > settings.max_dynamic_shared {
        let text = format!(
            "{} bytes of dynamic shared memory, {} are allowed by CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES",
            shape.dynamic_shared, settings.max_dynamic_shared
        );
        return refuse(CUresult::INVALID_VALUE, text);
    }
    shape.cluster = cluster(function, shape, model)?;
    Ok(shape)
}

fn cluster(function: &Function, shape: Shape, model: &DeviceModel) -> Outcome<[u32; 3]> {
    let kernel = function.kernel();
    let settings = function.settings();
    let refuse = |text: String| fail(CUresult::INVALID_CLUSTER_SIZE, format!("{}: {text}", kernel.name));
    let required = settings.required_cluster;
    let cluster = match shape.cluster {
        [0, 0, 0] | [1, 1, 1] if required != [0; 3] => required,
        [0, 0, 0] => [1; 3],
        asked => asked,
    };
    if required != [0; 3] && cluster != required {
        return refuse(format!("clusters of {cluster:?} blocks, the kernel needs {required:?}"));
    }
    let blocks = cluster.iter().map(|&n| u64::from(n)).product::<u64>();
    if blocks == 1 {
        return Ok(cluster);
    }
    if model.max_cluster == 1 {
        return fail(CUresult::NOT_SUPPORTED, format!("{}: {} has no clusters", kernel.name, model.name));
    }
    let most = if settings.non_portable_cluster { MAX_NON_PORTABLE } else { model.max_cluster };
    let most = kernel.max_cluster.map_or(most, |rank| rank.min(most));
    if blocks == 0 || blocks > u64::from(most) {
        return refuse(format!("clusters of {cluster:?} blocks, {most} in all are possible"));
    }
    if shape.grid.iter().zip(cluster).any(|(&blocks, per)| blocks % per != 0) {
        return refuse(format!("a grid of {:?} blocks is no multiple of its clusters of {cluster:?}", shape.grid));
    }
    Ok(cluster)
}

/// The parameter block.
fn pack(function: &Function, arguments: Arguments) -> Outcome<Vec<u8>> {
    let kernel = function.kernel();
    if !arguments.extra.is_null() {
        return packed(function, arguments.extra);
    }
    if kernel.params.is_empty() {
        return Ok(Vec::new());
    }
    let refuse = |text: String| fail(CUresult::INVALID_VALUE, format!("{}: {text}", kernel.name));
    if arguments.each.is_null() {
        return refuse(format!("{} parameters are needed, none are given", kernel.params.len()));
    }
    let mut block = vec![0; kernel.param_bytes];
    for (i, param) in kernel.params.iter().enumerate() {
        // SAFETY: the API asks for as many pointers as the kernel has parameters.
        let pointer = unsafe { word(arguments.each, i) };
        if pointer == 0 {
            return refuse(format!("the pointer to parameter {i} ({}) is null", param.name));
        }
        // SAFETY: and for each to point to a value of the parameter's size.
        let value = unsafe { HostPtr(pointer).bytes(param.size) };
        block[param.offset..param.offset + param.size].copy_from_slice(value);
    }
    Ok(block)
}

/// The block that `CU_LAUNCH_PARAM_BUFFER_POINTER` and `…_SIZE` describe.
fn packed(function: &Function, extra: HostPtr) -> Outcome<Vec<u8>> {
    const END: usize = 0;
    const POINTER: usize = 1;
    const SIZE: usize = 2;
    let kernel = function.kernel();
    let refuse = |text: String| fail(CUresult::INVALID_VALUE, format!("{}: {text}", kernel.name));
    let (mut buffer, mut size) = (0, None);
    for i in (0..).step_by(2) {
        // SAFETY: the API asks for pairs of a key and a value that END ends.
        let key = unsafe { word(extra, i) };
        if key == END {
            break;
        }
        // SAFETY: as above.
        let value = unsafe { word(extra, i + 1) };
        match key {
            POINTER => buffer = value,
            // SAFETY: this key's value points to a size_t.
            SIZE if value != 0 => size = Some(unsafe { word(HostPtr(value), 0) }),
            _ => return refuse(format!("unknown key {key} in `extra`")),
        }
    }
    match size {
        Some(size) if size != kernel.param_bytes => {
            refuse(format!("a parameter block of {size} bytes is given, the kernel has {}", kernel.param_bytes))
        }
        Some(0) => Ok(Vec::new()),
        // SAFETY: the buffer is of the size that comes with it.
        Some(size) if buffer != 0 => Ok(unsafe { HostPtr(buffer).bytes(size) }.to_vec()),
        _ => refuse("`extra` lacks the buffer or its size".to_owned()),
    }
}

/// # Safety
/// `array` has more than `index` pointer-sized elements.
unsafe fn word(array: HostPtr, index: usize) -> usize {
    let place = array.offset(index * size_of::<usize>());
    // SAFETY: the caller vouches for the element.
    unsafe { std::ptr::with_exposed_provenance::<usize>(place.0).read() }
}

fn submit(function: CUfunction, shape: Shape, stream: CUstream, arguments: Arguments) -> Outcome {
    let stream = resolve(stream)?;
    let context = stream.context()?;
    let launch = Launch::new(function, shape, arguments, &context.device.model)?;
    if launch.function.module.upgrade().is_none_or(|module| !stream_shares(&context, &module.context)) {
        return fail(CUresult::INVALID_HANDLE, "kernel and stream are of different contexts");
    }
    stream.submit(Op::Launch(Arc::new(launch)))
}

fn stream_shares(context: &Context, owner: &std::sync::Weak<Context>) -> bool {
    std::ptr::eq(owner.as_ptr(), context)
}

// --- The C functions ------------------------------------------------------------------------------------------------

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)] // the API's own list
pub extern "C" fn cuLaunchKernel(
    function: CUfunction,
    gx: c_uint,
    gy: c_uint,
    gz: c_uint,
    bx: c_uint,
    by: c_uint,
    bz: c_uint,
    dynamic_shared: c_uint,
    stream: CUstream,
    each: HostPtr,
    extra: HostPtr,
) -> CUresult {
    call("cuLaunchKernel", || {
        let shape = Shape { grid: [gx, gy, gz], block: [bx, by, bz], cluster: [0; 3], dynamic_shared };
        submit(function, shape, stream, Arguments { each, extra })
    })
}

/// The cluster that a launch's attributes ask for.
///
/// # Errors
/// Attributes whose effect is not modelled.
pub fn cluster_of(config: &CUlaunchConfig) -> Outcome<[u32; 3]> {
    let mut cluster = [0; 3];
    for i in 0..config.attribute_count as usize {
        let place = config.attributes.offset(i * size_of::<CUlaunchAttribute>());
        if config.attributes.is_null() {
            return fail(CUresult::INVALID_VALUE, "the attributes are null");
        }
        // SAFETY: the API asks for an array of as many attributes; integers hold any bytes.
        let given = unsafe { std::ptr::with_exposed_provenance::<CUlaunchAttribute>(place.0).read_unaligned() };
        match given.id {
            attribute::CLUSTER_DIMENSION => {
                cluster = [given.value[0], given.value[1], given.value[2]];
                if cluster.contains(&0) {
                    return fail(CUresult::INVALID_VALUE, format!("clusters of {cluster:?} blocks"));
                }
            }
            attribute::COOPERATIVE if given.value[0] != 0 => return not_modelled("cooperative launches"),
            attribute::PROGRAMMATIC_EVENT | attribute::LAUNCH_COMPLETION_EVENT => {
                return not_modelled("events fired by a launch");
            }
            attribute::PREFERRED_CLUSTER_DIMENSION => return not_modelled("preferred cluster dimensions"),
            attribute::DEVICE_UPDATABLE_NODE if given.value[0] != 0 => return not_modelled("device-updatable nodes"),
            // Programmatic serialisation lets a kernel start before the one ahead of it ends; starting after is
            // allowed.
            attribute::PROGRAMMATIC_STREAM_SERIALIZATION | attribute::CLUSTER_SCHEDULING => {}
            0..=16 => {} // hints
            id => return fail(CUresult::INVALID_VALUE, format!("launch attribute {id}")),
        }
    }
    Ok(cluster)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchKernelEx(
    config: In<CUlaunchConfig>,
    function: CUfunction,
    each: HostPtr,
    extra: HostPtr,
) -> CUresult {
    call("cuLaunchKernelEx", || {
        let config = config.get()?;
        let shape = Shape {
            grid: config.grid,
            block: config.block,
            cluster: cluster_of(config)?,
            dynamic_shared: config.dynamic_shared,
        };
        submit(function, shape, config.stream, Arguments { each, extra })
    })
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)] // the API's own list
pub extern "C" fn cuLaunchCooperativeKernel(
    _function: CUfunction,
    _gx: c_uint,
    _gy: c_uint,
    _gz: c_uint,
    _bx: c_uint,
    _by: c_uint,
    _bz: c_uint,
    _dynamic_shared: c_uint,
    _stream: CUstream,
    _each: HostPtr,
) -> CUresult {
    call("cuLaunchCooperativeKernel", || not_modelled("cooperative launches"))
}
