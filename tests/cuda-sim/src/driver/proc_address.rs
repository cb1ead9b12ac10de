//! `cuGetProcAddress`: every function by name.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_ulonglong, c_void};
use std::sync::OnceLock;

use super::errors::{CUresult, Outcome, call, fail, not_modelled};
use super::ffi::{HostPtr, Out, Text};
use super::{
    attributes, capture, context, copy, errors, event, fill, function, graph, graph_exec, graph_node, host, launch,
    memory, module, occupancy, pool, proc_address, refused, stream, tensor_map,
};

macro_rules! modelled {
    ($($module:ident: $($name:ident)*;)*) => {
        /// Names and addresses of the functions that do something.
        fn modelled() -> impl Iterator<Item = (&'static str, *const c_void)> {
            [$($((stringify!($name), $module::$name as *const c_void)),*),*].into_iter()
        }
    };
}

modelled! {
    attributes:
        cuDeviceGetAttribute cuDeviceGetCount cuDeviceGet cuDeviceGetName cuDeviceGetPCIBusId
        cuDeviceGetByPCIBusId cuDeviceGetUuid cuDeviceGetUuid_v2 cuDeviceTotalMem_v2
        cuDeviceComputeCapability cuDeviceCanAccessPeer cuDeviceGetProperties
        cuDeviceGetTexture1DLinearMaxWidth cuPointerSetAttribute;
    capture:
        cuStreamBeginCapture_v2 cuStreamBeginCaptureToGraph cuStreamEndCapture cuStreamIsCapturing
        cuStreamGetCaptureInfo_v2 cuStreamGetCaptureInfo_v3 cuStreamUpdateCaptureDependencies
        cuStreamUpdateCaptureDependencies_v2 cuThreadExchangeStreamCaptureMode;
    context:
        cuInit cuDriverGetVersion cuProfilerStart cuProfilerStop cuDevicePrimaryCtxRetain
        cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxReset_v2 cuDevicePrimaryCtxSetFlags_v2
        cuDevicePrimaryCtxGetState cuCtxCreate_v2 cuCtxCreate_v4 cuCtxDestroy_v2 cuCtxSetCurrent
        cuCtxGetCurrent cuCtxPushCurrent_v2 cuCtxPopCurrent_v2 cuCtxGetDevice cuCtxGetDevice_v2
        cuCtxGetFlags cuCtxSetFlags cuCtxGetId cuCtxGetApiVersion cuCtxSynchronize cuCtxSynchronize_v2
        cuCtxGetLimit cuCtxSetLimit cuCtxGetCacheConfig cuCtxSetCacheConfig cuCtxResetPersistingL2Cache
        cuCtxGetStreamPriorityRange;
    copy:
        cuMemcpyHtoD_v2 cuMemcpyDtoH_v2 cuMemcpyDtoD_v2 cuMemcpy cuMemcpyHtoDAsync_v2 cuMemcpyDtoHAsync_v2
        cuMemcpyDtoDAsync_v2 cuMemcpyAsync cuMemcpyPeer cuMemcpyPeerAsync cuMemcpy2D_v2
        cuMemcpy2DUnaligned_v2 cuMemcpy2DAsync_v2 cuMemcpy3D_v2 cuMemcpy3DAsync_v2;
    fill:
        cuMemsetD8_v2 cuMemsetD8Async cuMemsetD2D8_v2 cuMemsetD2D8Async cuMemsetD16_v2 cuMemsetD16Async
        cuMemsetD2D16_v2 cuMemsetD2D16Async cuMemsetD32_v2 cuMemsetD32Async cuMemsetD2D32_v2
        cuMemsetD2D32Async;
    errors:
        cuGetErrorName cuGetErrorString;
    event:
        cuEventCreate cuEventDestroy_v2 cuEventRecord cuEventRecordWithFlags cuStreamWaitEvent cuEventQuery
        cuEventSynchronize cuEventElapsedTime cuEventElapsedTime_v2;
    function:
        cuFuncGetAttribute cuFuncSetAttribute cuKernelGetAttribute cuKernelSetAttribute cuFuncSetCacheConfig
        cuKernelSetCacheConfig cuKernelGetFunction cuFuncGetModule cuKernelGetLibrary cuFuncGetName
        cuKernelGetName cuFuncGetParamInfo cuKernelGetParamInfo cuFuncIsLoaded cuFuncLoad;
    graph:
        cuGraphCreate cuGraphDestroy cuGraphClone cuGraphNodeFindInClone cuGraphDestroyNode cuGraphGetNodes
        cuGraphGetRootNodes cuGraphGetEdges_v2 cuGraphAddDependencies_v2 cuGraphRemoveDependencies_v2
        cuGraphNodeGetDependencies_v2 cuGraphNodeGetDependentNodes_v2 cuGraphNodeGetType
        cuGraphDebugDotPrint;
    graph_exec:
        cuGraphInstantiateWithFlags cuGraphInstantiateWithParams cuGraphExecDestroy cuGraphExecGetFlags
        cuGraphUpload cuGraphLaunch cuGraphExecKernelNodeSetParams_v2 cuGraphExecMemcpyNodeSetParams
        cuGraphExecMemsetNodeSetParams cuGraphExecHostNodeSetParams cuGraphNodeSetEnabled
        cuGraphNodeGetEnabled cuGraphExecUpdate_v2;
    graph_node:
        cuGraphAddKernelNode_v2 cuGraphAddMemcpyNode cuGraphAddMemsetNode cuGraphAddHostNode
        cuGraphAddEmptyNode cuGraphAddChildGraphNode cuGraphKernelNodeGetParams_v2
        cuGraphKernelNodeSetParams_v2 cuGraphMemcpyNodeSetParams cuGraphMemsetNodeSetParams
        cuGraphHostNodeSetParams;
    host:
        cuMemHostAlloc cuMemAllocHost_v2 cuMemFreeHost cuMemHostRegister_v2 cuMemHostUnregister
        cuMemHostGetFlags cuMemHostGetDevicePointer_v2;
    launch:
        cuLaunchKernel cuLaunchKernelEx cuLaunchCooperativeKernel;
    memory:
        cuMemGetInfo_v2 cuMemAlloc_v2 cuMemAllocPitch_v2 cuMemFree_v2 cuMemAllocAsync
        cuMemAllocFromPoolAsync cuMemFreeAsync cuMemGetAddressRange_v2 cuPointerGetAttribute
        cuPointerGetAttributes;
    module:
        cuModuleLoad cuModuleLoadData cuModuleLoadFatBinary cuModuleLoadDataEx cuModuleUnload
        cuModuleGetFunction cuModuleGetFunctionCount cuModuleEnumerateFunctions cuModuleGetGlobal_v2
        cuModuleGetLoadingMode cuLibraryLoadData cuLibraryLoadFromFile cuLibraryUnload cuLibraryGetKernel
        cuLibraryGetKernelCount cuLibraryEnumerateKernels cuLibraryGetModule cuLibraryGetGlobal
        cuLibraryGetManaged;
    occupancy:
        cuOccupancyMaxActiveBlocksPerMultiprocessor cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags
        cuOccupancyMaxPotentialBlockSize cuOccupancyMaxPotentialBlockSizeWithFlags
        cuOccupancyAvailableDynamicSMemPerBlock cuOccupancyMaxActiveClusters
        cuOccupancyMaxPotentialClusterSize;
    pool:
        cuDeviceGetDefaultMemPool cuDeviceGetMemPool cuDeviceSetMemPool cuMemPoolCreate cuMemPoolDestroy
        cuMemPoolTrimTo cuMemPoolGetAttribute cuMemPoolSetAttribute;
    stream:
        cuStreamCreate cuStreamCreateWithPriority cuStreamDestroy_v2 cuStreamSynchronize cuStreamQuery
        cuLaunchHostFunc cuStreamAddCallback cuStreamGetPriority cuStreamGetFlags cuStreamGetId
        cuStreamGetDevice cuStreamGetCtx cuStreamCopyAttributes cuStreamSetAttribute;
    tensor_map:
        cuTensorMapEncodeTiled cuTensorMapEncodeIm2col cuTensorMapReplaceAddress;
    proc_address:
        cuGetProcAddress cuGetProcAddress_v2;
}

/// Flags that ask for one flavour of the default stream.
const LEGACY_STREAM: c_ulonglong = 1;
const PER_THREAD_STREAM: c_ulonglong = 2;

/// `CUdriverProcAddressQueryResult`.
const FOUND: c_int = 0;
const NOT_FOUND: c_int = 1;

/// The address of a function. A plain name means its newest version, as for a program built for this driver's.
pub fn find(name: &str) -> Option<HostPtr> {
    static TABLE: OnceLock<BTreeMap<&'static str, HostPtr>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let refused = refused::table().map(|(name, address)| (name, HostPtr::from(address)));
        refused.chain(modelled().map(|(name, address)| (name, HostPtr::from(address)))).collect()
    });
    let known = |name: &str| table.get(name).copied();
    let newest = || ["_v4", "_v3", "_v2"].iter().find_map(|version| known(&format!("{name}{version}")));
    if name.contains("_v") { known(name) } else { newest().or_else(|| known(name)) }
}

fn resolve(name: Text, address: Out<HostPtr>, flags: c_ulonglong, status: Out<c_int>) -> Outcome {
    if flags & PER_THREAD_STREAM != 0 {
        return not_modelled("functions whose null stream is the thread's own");
    }
    if flags & !LEGACY_STREAM != 0 {
        return fail(CUresult::INVALID_VALUE, format!("flags {flags:#x}"));
    }
    let name = name.get()?;
    match find(name) {
        Some(found) => {
            status.put_if_wanted(FOUND);
            address.put(found)
        }
        None => {
            status.put_if_wanted(NOT_FOUND);
            address.put(HostPtr::NULL)?;
            fail(CUresult::NOT_FOUND, format!("no function {name}"))
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetProcAddress(name: Text, address: Out<HostPtr>, _version: c_int, flags: c_ulonglong) -> CUresult {
    call("cuGetProcAddress", || resolve(name, address, flags, Out::null()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetProcAddress_v2(
    name: Text,
    address: Out<HostPtr>,
    _version: c_int,
    flags: c_ulonglong,
    status: Out<c_int>,
) -> CUresult {
    call("cuGetProcAddress_v2", || resolve(name, address, flags, status))
}
