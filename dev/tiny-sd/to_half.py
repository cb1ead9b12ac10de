"""Rewrites every safetensors file of a diffusers folder in f16 (the bundled model is stored so).

    python dev/tiny-sd/to_half.py MODEL
"""
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

for path in sorted(Path(sys.argv[1]).glob("*/*.safetensors")):
    tensors = {k: v.half() if v.dtype == torch.float32 else v for k, v in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})
    print(path, f"{path.stat().st_size / 1e6:.1f} MB")
