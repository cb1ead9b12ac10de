"""The weights of FID's Inception as safetensors, for `stablerep eval fid --inception`.

    python dev/inception.py pt_inception-2015-12-05-6726825d.pth inception.safetensors

The first file is pytorch-fid's port of TensorFlow's network of 2015-12-05 (Apache-2.0), 95 MB:
https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth
Names stay PyTorch's; the classifier behind the features is left out. Takes torch and safetensors.
"""
import hashlib
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

# How the name of the file goes on is how its hash begins.
SHA256 = "6726825d"


def main(source: str, target: str) -> None:
    found = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    if not found.startswith(SHA256):
        sys.exit(f"{source}: its SHA-256 begins with {found[:8]}, expected {SHA256}: fetch it again")
    tensors = torch.load(source, map_location="cpu", weights_only=True)
    left_out = ("fc.", "AuxLogits.")
    kept = {n: t.float().contiguous() for n, t in tensors.items() if not n.startswith(left_out) and not n.endswith("num_batches_tracked")}
    save_file(kept, target, {"source": Path(source).name, "source_sha256": found})
    print(f"{target}: {len(kept)} tensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
