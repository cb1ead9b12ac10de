"""Each change of timm's `rand-m9-mstd0.5-inc1` by timm and Pillow, at given magnitudes, to both sides.

    python dev/golden/rand_augment.py
"""
import numpy as np
import torch
from PIL import Image
from timm.data import auto_augment

from common import save_tensors, setup

FILL = (124, 116, 104)  # ImageNet's mean, as timm's create_transform rounds it
MAGNITUDES = (2.3, 6.0, 9.4)


def picture(width: int, height: int) -> Image.Image:
    """Smooth, with noise, and a channel that leaves the ends of its range empty."""
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([200 * x / width, 120 + 100 * np.sin(y / 3), 60 + 5 * x + 3 * y], axis=2)
    noisy = base + np.random.default_rng(3).integers(-20, 21, base.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def main() -> None:
    setup(0)
    # Equalising takes 255 pixels at least.
    source = picture(23, 17)
    tensors = {"source": torch.from_numpy(np.asarray(source).copy())}
    hparams = dict(img_mean=FILL, interpolation=Image.Resampling.BICUBIC)
    for kind, name in enumerate(auto_augment._RAND_INCREASING_TRANSFORMS):
        level = auto_augment.LEVEL_TO_ARG[name]
        for magnitude in MAGNITUDES if level is not None else MAGNITUDES[:1]:
            results = []
            for negative in (False, True):
                auto_augment._randomly_negate = lambda value: -value if negative else value
                out = auto_augment.AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=hparams)(source)
                results.append(np.asarray(out).copy())
            for negative, result in enumerate(results):
                if negative == 0 or (result != results[0]).any():
                    tensors[f"{kind}.{magnitude}.{negative}"] = torch.from_numpy(result)
    save_tensors("rand_augment.safetensors", tensors, {"names": list(auto_augment._RAND_INCREASING_TRANSFORMS)})


if __name__ == "__main__":
    main()
