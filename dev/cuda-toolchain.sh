#!/usr/bin/env bash
# Fetches NVRTC 12.9, NVIDIA's compiler of CUDA C++ as a library, from PyPI (244 MB, no GPU, no root, no compiler for
# the host) into .cuda/, where build.rs finds it. Needs python3 with pip. CUDA 12: its machine code loads on drivers
# from 525 on, that of 13 from 580 on.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -e .cuda/nvrtc-12.9.86 ]; then
    exit 0
fi
python3 -m pip --version >/dev/null 2>&1 || { echo "cuda-toolchain: python3 with pip is missing (Debian: apt install python3-pip)" >&2; exit 1; }
rm -rf .cuda
python3 -m pip install --quiet --disable-pip-version-check --no-compile --target .cuda \
    nvidia-cuda-nvrtc-cu12==12.9.86 nvidia-cuda-runtime-cu12==12.9.79 nvidia-cuda-cccl-cu12==12.9.27
touch .cuda/nvrtc-12.9.86
