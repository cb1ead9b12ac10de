"""Pictures in many formats and what Pillow makes of them: decoded to RGB, and resized with each filter."""
import io
import struct
import zlib

import numpy as np
import torch
from PIL import Image

from common import FIXTURES, report, save_tensors, setup


def scene(width: int, height: int) -> np.ndarray:
    """A picture with smooth shading, hard edges, a fine grating and some noise, u8 [height, width, 3]."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    shade = np.stack([255 * x / width, 255 * y / height, 128 + 90 * np.sin(x / 7) * np.cos(y / 5)], axis=-1)
    disc = (x - 0.35 * width) ** 2 + (y - 0.4 * height) ** 2 < (0.22 * height) ** 2
    shade[disc] = [250, 240, 10]
    shade[int(0.7 * height) :, int(0.6 * width) :] = ((x + y) % 2 * 255)[int(0.7 * height) :, int(0.6 * width) :, None]
    shade += np.random.default_rng(7).normal(0, 6, shade.shape)
    return shade.clip(0, 255).astype(np.uint8)


def png16(pixels: np.ndarray) -> bytes:
    """A 16-bit RGB PNG, which Pillow cannot write: [height, width, 3] u16."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def encoded(image: Image.Image, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, **options)
    return out.getvalue()


def main() -> None:
    setup()
    pixels = scene(37, 29)
    image = Image.fromarray(pixels)
    smooth = Image.fromarray(scene(48, 40)[:27])  # without the grating, which chroma subsampling blurs
    alpha = Image.fromarray(np.linspace(0, 255, 37 * 29).reshape(29, 37).astype(np.uint8))
    rgba = image.copy()
    rgba.putalpha(alpha)
    gray_alpha = image.convert("LA")
    gray_alpha.putalpha(alpha)
    palette = image.quantize(17)
    files = {
        "rgb.png": encoded(image, format="PNG"),
        "gray.png": encoded(image.convert("L"), format="PNG"),
        "bilevel.png": encoded(image.convert("1"), format="PNG"),
        "palette.png": encoded(palette, format="PNG"),
        "palette_transparent.png": encoded(palette, format="PNG", transparency=3),
        "rgba.png": encoded(rgba, format="PNG"),
        "gray_alpha.png": encoded(gray_alpha, format="PNG"),
        "rgb16.png": png16(pixels.astype(np.uint16) * 256 + 77),
        "full_chroma.jpg": encoded(smooth, format="JPEG", quality=95, subsampling=0),
        "half_chroma.jpg": encoded(smooth, format="JPEG", quality=90, subsampling=2),
        "progressive.jpg": encoded(smooth, format="JPEG", quality=90, subsampling=0, progressive=True),
        "gray.jpg": encoded(smooth.convert("L"), format="JPEG", quality=90),
        "restart.jpg": encoded(smooth, format="JPEG", quality=90, subsampling=0, restart_marker_blocks=3),
    }
    tensors = {}
    for name, data in files.items():
        path = FIXTURES / "image" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        report(path)
        # Pillow reads 16-bit RGB by its high byte, as the crate does.
        tensors[f"decoded.{name}"] = torch.from_numpy(np.array(Image.open(io.BytesIO(data)).convert("RGB")))

    filters = {
        "box": Image.Resampling.BOX,
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "lanczos": Image.Resampling.LANCZOS,
    }
    cases = [
        (24, 24, None),
        (18, 14, None),
        (74, 61, None),
        (37, 11, None),
        (16, 16, (3, 5, 30, 23)),
        (40, 23, (20, 1, 29, 28)),
        (21, 17, (2.25, 1.5, 20.75, 26.125)),
    ]
    for name, kernel in filters.items():
        for width, height, box in cases:
            part = "whole" if box is None else "_".join(str(v) for v in box)
            out = image.resize((width, height), kernel, box=box)
            tensors[f"resized.{name}.{width}x{height}.{part}"] = torch.from_numpy(np.array(out))
    save_tensors("image/expected.safetensors", tensors)


if __name__ == "__main__":
    main()
