#!/usr/bin/env bash
# All tests. Fetches nvcc first where none is found, so that the CUDA kernels are compiled, and executed on the simulated driver.
# Arguments go to cargo test.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${NVCC:-}${CUDA_HOME:-}${CUDA_PATH:-}" ] && ! command -v nvcc >/dev/null && ! bash dev/cuda-toolchain.sh; then
    echo "test: no nvcc (reason above): the CUDA kernels are neither compiled nor executed, and tests/cuda does nothing" >&2
fi
exec cargo test --release --workspace "$@"
