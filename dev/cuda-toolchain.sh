#!/usr/bin/env bash
# Fetches nvcc 13.0 from PyPI (271 MB, no GPU and no root needed) into .cuda/, where build.rs finds it.
# Needs python3 with pip, and gcc for nvcc's host side. CUDA 13.0: code from a newer one would not load on a 13.0 driver.
set -euo pipefail
cd "$(dirname "$0")/.."

nvcc=.cuda/nvidia/cu13/bin/nvcc
if [ -x "$nvcc" ] && [ -e .cuda/complete ]; then
    exit 0
fi
command -v gcc >/dev/null || { echo "cuda-toolchain: gcc is missing (Debian: apt install gcc)" >&2; exit 1; }
python3 -m pip --version >/dev/null 2>&1 || { echo "cuda-toolchain: python3 with pip is missing (Debian: apt install python3-pip)" >&2; exit 1; }
rm -rf .cuda
python3 -m pip install --quiet --disable-pip-version-check --no-compile --target .cuda \
    nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
"$nvcc" --version >/dev/null
touch .cuda/complete
