#!/bin/sh
# Compiles corpus.cu to the PTX that the tests run (nvcc 13.0): sh corpus.sh [path of nvcc]
cd "$(dirname "$0")" || exit 1
nvcc=${1:-nvcc}
for mistake in 0 1 2 3 4 5 6 7; do
  "$nvcc" -ptx -arch=sm_80 -O3 -lineinfo -std=c++17 -DMISTAKE=$mistake corpus.cu -o corpus_$mistake.ptx || exit 1
  # Paths of the machine that compiled it say nothing to others.
  sed -i -E 's|^(\s*\.file\s+[0-9]+\s+)"[^"]*/([^"/]+)".*|\1"\2"|' corpus_$mistake.ptx
done
