#!/usr/bin/env bash
# All tests. Fetches NVRTC first where none is found, so that the CUDA kernels are compiled, and executed on the
# simulated driver. Arguments go to cargo test.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${CUDA_HOME:-}${CUDA_PATH:-}" ] && [ ! -e /usr/local/cuda/lib64/libnvrtc.so.12 ] && ! bash dev/cuda-toolchain.sh; then
    echo "test: no NVRTC (reason above): the CUDA kernels are neither compiled nor executed, and tests/cuda does nothing" >&2
fi
exec cargo test --release --workspace "$@"
