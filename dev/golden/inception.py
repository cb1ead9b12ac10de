"""pytorch-fid's Inception with weights of a formula (the real ones are 95 MB, and so would random ones be), on pictures as pytorch-fid and
clean-fid resize them.

    python dev/golden/inception.py
"""
import warnings

import numpy as np
import torch
from cleanfid.resize import make_resizer
from pytorch_fid import inception
from torch.nn.functional import interpolate

from common import save_tensors, setup

warnings.filterwarnings("ignore")
# Rows and columns of the resized pictures that are kept.
STEP = 13
# Width and height.
PICTURES = [(37, 29), (420, 310), (100, 1)]


def hashed(name: str, count: int) -> np.ndarray:
    """-1 to 1 by the name (FNV-1a) and the place, with integers alone, so that any language has the same bits."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = (seed ^ byte) * 0x01000193 % 2**32
    h = (np.arange(count, dtype=np.uint64) * 0x9E3779B1 + seed).astype(np.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
    return (h >> np.uint32(8)).astype(np.float64) / 2**23 - 1


def weights(shapes: dict) -> dict:
    """Convolutions of variance 2 / fan-in; norms that scale, shift and have statistics."""
    out = {}
    for name, shape in shapes.items():
        u = hashed(name, int(np.prod(shape)))
        if name.endswith("conv.weight"):
            u = u * np.sqrt(6 / np.prod(shape[1:]))
        elif name.endswith(("bn.weight", "running_var")):
            u = 1 + 0.5 * u
        else:
            u = 0.2 * u
        out[name] = torch.from_numpy(u.reshape(shape).astype(np.float32))
    return out


def picture(i: int, width: int, height: int) -> np.ndarray:
    values = (hashed(f"picture {i}", height * width * 3) + 1) * 128
    return values.astype(np.uint8).reshape(height, width, 3)


def main() -> None:
    setup(0)
    inception.load_state_dict_from_url = lambda *_, **__: {}
    network = inception.torchvision.models.inception_v3
    taken = {}
    load = torch.nn.Module.load_state_dict

    def fill(self, _):
        shapes = {n: tuple(t.shape) for n, t in self.state_dict().items() if not n.endswith("num_batches_tracked") and not n.startswith("fc.")}
        taken.update(shapes)
        return load(self, weights(shapes), strict=False)

    network_class = type(network(weights=None, init_weights=False))
    network_class.load_state_dict = fill
    model = inception.InceptionV3(resize_input=False, normalize_input=False).eval()
    clean = make_resizer("PIL", False, "bicubic", (299, 299))
    tensors = {}
    for i, (width, height) in enumerate(PICTURES):
        image = picture(i, width, height)
        unit = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        resized = {
            "pytorch-fid": 2 * interpolate(unit, size=(299, 299), mode="bilinear", align_corners=False) - 1,
            "clean-fid": (torch.from_numpy(clean(image)).permute(2, 0, 1)[None] - 128) / 128,
        }
        for name, x in resized.items():
            tensors[f"{name}.{i}"] = x[0].permute(1, 2, 0)[::STEP, ::STEP]
            if i < 2:
                with torch.no_grad():
                    tensors[f"{name}.features.{i}"] = model(x)[0].flatten()
    metadata = {"shapes": [[n, list(s)] for n, s in taken.items()], "pictures": PICTURES, "step": STEP}
    save_tensors("inception.safetensors", tensors, metadata)


if __name__ == "__main__":
    main()
