"""The world of the tiny Stable Diffusion: Fashion-MNIST garments and captions made of the class and three measured attributes.

Images are 28x28, padded to 32x32, gray on black, shown as RGB in [-1, 1].
"""
import gzip
import itertools
from pathlib import Path

import numpy as np
import torch

SOURCE = Path("/usr/share/datasets/fashion-mnist")  # Debian: apt-get install dataset-fashion-mnist

CLASSES = [
    "t-shirt", "pair of trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
]  # fmt: skip
TONES = ["dark", "gray", "light"]
TEXTURES = ["plain", "patterned"]
CUTS = ["slim", "wide"]

# Caption styles, from full to short, and how often training draws each.
STYLES = [
    "a photo of a {tone} {texture} {cut} {garment}",
    "a {tone} {texture} {cut} {garment}",
    "a photo of a {garment}",
    "a photo of a {tone} {garment}",
    "a photo of a {texture} {cut} {garment}",
]
STYLE_WEIGHTS = [0.35, 0.35, 0.1, 0.1, 0.1]


def load(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images u8 [N,28,28] and labels i64 [N] of the split `train` or `test`."""
    stem = {"train": "train", "test": "t10k"}[split]
    images = gzip.decompress((SOURCE / f"{stem}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((SOURCE / f"{stem}-labels-idx1-ubyte.gz").read_bytes())
    images = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(labels, np.uint8, offset=8)
    return torch.from_numpy(images.copy()), torch.from_numpy(labels.copy()).long()


def to_rgb(images: torch.Tensor) -> torch.Tensor:
    """u8 [N,28,28] -> f32 [N,3,32,32] in [-1, 1]."""
    padded = torch.nn.functional.pad(images.float() / 255, (2, 2, 2, 2))
    return (padded * 2 - 1)[:, None].repeat(1, 3, 1, 1)


def caption(garment: int, tone: int, texture: int, cut: int, style: int = 0) -> str:
    return STYLES[style].format(
        tone=TONES[tone], texture=TEXTURES[texture], cut=CUTS[cut], garment=CLASSES[garment]
    )


def all_attributes():
    """Every (garment, tone, texture, cut): 10 x 3 x 2 x 2 = 120."""
    return itertools.product(range(len(CLASSES)), range(len(TONES)), range(len(TEXTURES)), range(len(CUTS)))


def attributes(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Measured attributes i64 [N,3] of u8 images: tone (0..2), texture (0..1), cut (0..1).

    The garment is where a pixel exceeds 8 % of white. Tone is the mean brightness of the garment, texture the mean absolute
    difference of horizontal neighbours on it, cut its area. Thresholds are quantiles *per class*: terciles for the tone,
    the median for the others.
    """
    brightness = images.float() / 255
    mask = (brightness > 0.08).float()
    area = mask.sum((1, 2)).clamp(min=1)
    tone = (brightness * mask).sum((1, 2)) / area
    both = mask[:, :, 1:] * mask[:, :, :-1]
    roughness = ((brightness[:, :, 1:] - brightness[:, :, :-1]).abs() * both).sum((1, 2)) / area
    result = torch.zeros(len(images), 3, dtype=torch.long)
    for c in range(len(CLASSES)):
        members = labels == c
        terciles = torch.quantile(tone[members], torch.tensor([1 / 3, 2 / 3]))
        result[members, 0] = (tone[members][:, None] > terciles).sum(1)
        result[members, 1] = (roughness[members] > roughness[members].median()).long()
        result[members, 2] = (area[members] > area[members].median()).long()
    return result
