"""Resizing and augmentation at fixed parameters by Pillow and torchvision, on 8-bit images.

    python dev/golden/augment.py

augment.safetensors: sources `src.NAME` u8 [H,W,3]; results under the names listed in the metadata `cases`, a JSON list of
{"out", "src", "op", parameters}. Results are u8 [H,W,3], the `chain` cases' final ones f32 [3,H,W] (normalised).
"""
import numpy as np
import torch
from PIL import Image, ImageFilter
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from common import save_tensors, setup
from encoder import IMAGENET_MEAN, IMAGENET_STD

FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
BILINEAR = InterpolationMode.BILINEAR
JITTER = ["brightness", "contrast", "saturation", "hue"]


def scene(width: int, height: int) -> Image.Image:
    """Smooth colours, hard edges at full black and white, a little noise: what a photograph has."""
    small = np.random.randint(0, 256, (5, 6, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)).astype(np.int32)
    smooth[height // 4 : height // 2, width // 3 : width // 2] = 255
    smooth[height // 2 : height // 2 + 4, width // 5 : width // 2] = 0
    smooth[-height // 5 :, -width // 4 :] = (200, 30, 60)
    smooth += np.random.randint(-6, 7, smooth.shape)
    return Image.fromarray(smooth.clip(0, 255).astype(np.uint8))


def jitter(image: Image.Image, what: str, factor: float) -> Image.Image:
    return getattr(F, f"adjust_{what}")(image, factor)


def downsample(image: Image.Image, low: int, high: int) -> Image.Image:
    """Short side down to `low`, then up to `high`."""
    return F.resize(F.resize(image, low, BILINEAR), high, BILINEAR)


class Cases:
    def __init__(self, sources: dict[str, Image.Image]):
        self.sources, self.rows = sources, []
        self.tensors = {f"src.{name}": torch.from_numpy(np.array(image)) for name, image in sources.items()}

    def add(self, src: str, op: str, result, **parameters) -> None:
        out = f"out.{len(self.rows):03}"
        if isinstance(result, Image.Image):
            result = torch.from_numpy(np.array(result.convert("RGB")))
        self.tensors[out] = result
        self.rows.append({"out": out, "src": src, "op": op} | parameters)


def resizes(cases: Cases) -> None:
    photo = cases.sources["photo"]
    sizes = [(18, 14), (20, 20), (9, 31), (50, 40), (37, 12), (1, 1), (5, 29), (37, 29)]
    for name, kind in FILTERS.items():
        for w, h in sizes:
            cases.add("photo", "resize", photo.resize((w, h), kind), w=w, h=h, filter=name, box=None)
        box = (3.25, 1.5, 30.75, 26.125)
        cases.add("photo", "resize", photo.resize((16, 12), kind, box=box), w=16, h=12, filter=name, box=list(box))
    square = cases.sources["square"]
    # Pillow's default filter is bicubic: what turns 512 into 256 in the paper's generator.
    cases.add("square", "resize", square.resize((24, 24)), w=24, h=24, filter="bicubic", box=None)
    for size in (16, 24, 33):
        for name, mode in (("bilinear", BILINEAR), ("bicubic", InterpolationMode.BICUBIC)):
            image = F.resize(photo, size, mode)
            cases.add("photo", "short_side", image, size=size, filter=name)
            cases.add("photo", "short_side_center_crop", F.center_crop(image, 15), size=size, filter=name, crop=15)


def crops(cases: Cases) -> None:
    photo = cases.sources["photo"]
    for top, left, h, w, out in [(0, 0, 29, 37, 24), (3, 5, 20, 24, 24), (10, 30, 7, 5, 24), (2, 1, 26, 35, 16), (28, 36, 1, 1, 8), (0, 9, 29, 22, 29)]:
        image = F.resized_crop(photo, top, left, h, w, [out, out], BILINEAR)
        cases.add("photo", "resized_crop", image, top=top, left=left, h=h, w=w, size=out)


def colours(cases: Cases) -> None:
    factors = {
        "brightness": [0.6, 0.83, 1.0, 1.17, 1.4],
        "contrast": [0.6, 0.83, 1.0, 1.17, 1.4],
        "saturation": [0.6, 0.83, 1.0, 1.17, 1.4, 0.0],
        "hue": [-0.1, -0.037, 0.0, 0.004, 0.061, 0.1],
    }
    for src in ("photo", "noise"):
        image = cases.sources[src]
        for what, values in factors.items():
            for factor in values:
                cases.add(src, what, jitter(image, what, factor), factor=factor)
        cases.add(src, "grayscale", F.to_grayscale(image, 3))
        cases.add(src, "hflip", F.hflip(image))
        for sigma in (0.1, 0.2, 0.35, 0.5, 0.73, 1.0, 1.3, 1.618, 2.0):
            cases.add(src, "gaussian_blur", image.filter(ImageFilter.GaussianBlur(sigma)), sigma=sigma)
    # Narrower than the blur's reach.
    sliver = cases.sources["sliver"]
    cases.add("sliver", "gaussian_blur", sliver.filter(ImageFilter.GaussianBlur(2.0)), sigma=2.0)


def chains(cases: Cases) -> None:
    """Everything in the order of training; `order` lists the jitter steps as they are applied."""
    rows = [
        dict(src="photo", down=[8, 32], crop=[4, 2, 21, 27], order=[2, 0, 3, 1], factors=[1.3, 0.7, 1.25, -0.08], gray=False, sigma=1.37, flip=True),
        dict(src="photo", down=None, crop=[1, 6, 24, 19], order=[0, 1, 2, 3], factors=[0.65, 1.35, 0.62, 0.095], gray=True, sigma=None, flip=False),
        dict(src="square", down=[16, 32], crop=[3, 0, 28, 30], order=[3, 2, 1, 0], factors=[0.9, 1.1, 1.39, 0.05], gray=False, sigma=0.42, flip=False),
        dict(src="noise", down=None, crop=[0, 0, 23, 41], order=[1, 3, 0, 2], factors=[1.4, 0.6, 0.6, -0.1], gray=False, sigma=2.0, flip=True),
        dict(src="photo", down=None, crop=[5, 5, 16, 16], order=None, factors=None, gray=False, sigma=None, flip=True),
    ]  # fmt: skip
    for row in rows:
        image = cases.sources[row["src"]]
        if row["down"]:
            image = downsample(image, *row["down"])
            cases.add(row["src"], "downsample", image, low=row["down"][0], high=row["down"][1])
        top, left, h, w = row["crop"]
        image = F.resized_crop(image, top, left, h, w, [24, 24], BILINEAR)
        for step in row["order"] or []:
            image = jitter(image, JITTER[step], row["factors"][step])
        if row["gray"]:
            image = F.to_grayscale(image, 3)
        if row["sigma"] is not None:
            image = image.filter(ImageFilter.GaussianBlur(row["sigma"]))
        if row["flip"]:
            image = F.hflip(image)
        parameters = {k: v for k, v in row.items() if k != "src"} | {"size": 24}
        cases.add(row["src"], "chain_u8", image, **parameters)
        normalised = F.normalize(F.to_tensor(image), IMAGENET_MEAN, IMAGENET_STD)
        cases.add(row["src"], "chain", normalised, **parameters)


def main() -> None:
    setup(10)
    sources = {
        "photo": scene(37, 29),
        "square": scene(48, 48),
        "noise": Image.fromarray(np.random.randint(0, 256, (23, 41, 3), np.uint8)),
        "sliver": Image.fromarray(np.random.randint(0, 256, (3, 17, 3), np.uint8)),
    }
    cases = Cases(sources)
    resizes(cases)
    crops(cases)
    colours(cases)
    chains(cases)
    save_tensors("augment.safetensors", cases.tensors, {"cases": cases.rows})
    print(len(cases.rows), "cases")


if __name__ == "__main__":
    main()
