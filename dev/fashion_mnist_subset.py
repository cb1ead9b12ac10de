"""Writes assets/fashion-mnist/: the photographs on which the demo's linear probe is fitted and tested.

    apt-get install dataset-fashion-mnist
    python dev/fashion_mnist_subset.py

Both parts come from the *test* split of Fashion-MNIST, because the train split made the bundled tiny Stable Diffusion
(dev/tiny-sd): so neither the generator nor an encoder trained on its images has seen any of these photographs.
Per class, the first 200 of the split become the probe's train part and the next 200 its test part (2,000 images each, every
class equally often, order of the original kept). The files are gzipped IDX under the original names.
"""
import gzip
import struct
from pathlib import Path

import numpy as np

SOURCE = Path("/usr/share/datasets/fashion-mnist")
TARGET = Path(__file__).resolve().parent.parent / "assets" / "fashion-mnist"
PER_CLASS = 200


def read_idx(path: Path) -> np.ndarray:
    data = gzip.decompress(path.read_bytes())
    dims = data[3]
    shape = struct.unpack(f">{dims}I", data[4 : 4 + 4 * dims])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dims).reshape(shape)


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    # A fixed modification time makes the file the same on every run.
    path.write_bytes(gzip.compress(header + array.tobytes(), 9, mtime=0))


def main() -> None:
    images = read_idx(SOURCE / "t10k-images-idx3-ubyte.gz")
    labels = read_idx(SOURCE / "t10k-labels-idx1-ubyte.gz")
    rank_in_class = np.zeros(len(labels), np.int64)
    for c in range(10):
        members = np.flatnonzero(labels == c)
        rank_in_class[members] = np.arange(len(members))
    part = rank_in_class // PER_CLASS
    TARGET.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(["train", "t10k"]):
        chosen = part == index
        write_idx(TARGET / f"{name}-images-idx3-ubyte.gz", images[chosen])
        write_idx(TARGET / f"{name}-labels-idx1-ubyte.gz", labels[chosen])
        print(name, int(chosen.sum()), "images,", np.bincount(labels[chosen]).tolist(), "per class")


if __name__ == "__main__":
    main()
