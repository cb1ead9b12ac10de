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


# First column, first row, steps of Adam7's seven passes.
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(pixels: np.ndarray, depth: int, colour: int, extra: bytes = b"", interlaced: bool = False) -> bytes:
    """A PNG of a kind that Pillow does not write: samples [height, width] or [height, width, channels] as they are stored. `extra` are
    chunks before the pixels."""
    height, width = pixels.shape[:2]
    samples = pixels.reshape(height, width, -1)

    def rows(part: np.ndarray) -> bytes:
        if part.size == 0:
            return b""
        part = part.reshape(part.shape[0], -1)
        if depth == 16:
            return b"".join(b"\0" + row.astype(">u2").tobytes() for row in part)
        bits = ((part[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1).reshape(part.shape[0], -1)
        return b"".join(b"\0" + np.packbits(row.astype(np.uint8)).tobytes() for row in bits)

    passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [samples]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    data = zlib.compress(b"".join(rows(part) for part in passes))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


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
    cmyk = encoded(Image.merge("CMYK", (*smooth.split(), smooth.convert("L"))), format="JPEG", quality=90)
    turned = Image.Exif()
    turned[0x0112] = 6
    # An EXIF block without tags, and behind it a whole JPEG with an end marker of its own.
    small = encoded(smooth.resize((8, 8)), format="JPEG")
    thumbnail = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + small
    files = {
        "rgb.png": encoded(image, format="PNG"),
        "gray.png": encoded(image.convert("L"), format="PNG"),
        "bilevel.png": encoded(image.convert("1"), format="PNG"),
        "palette.png": encoded(palette, format="PNG"),
        "palette_transparent.png": encoded(palette, format="PNG", transparency=3),
        "rgba.png": encoded(rgba, format="PNG"),
        "gray_alpha.png": encoded(gray_alpha, format="PNG"),
        "rgb16.png": png(pixels.astype(np.uint16) * 256 + 77, 16, 2),
        "gray_alpha16.png": png(np.dstack([pixels[:, :, 0], pixels[:, :, 1]]).astype(np.uint16) * 256 + 200, 16, 4),
        "gray2.png": png(pixels[:, :, 1] >> 6, 2, 0),
        "gray4_transparent.png": png(pixels[:, :, 1] >> 4, 4, 0, chunk(b"tRNS", b"\0\x05")),
        "palette4.png": png(pixels[:, :, 0] >> 4, 4, 3, chunk(b"PLTE", bytes(range(48)))),
        "rgb_transparent.png": png(pixels, 8, 2, chunk(b"tRNS", struct.pack(">HHH", 250, 240, 10))),
        "interlaced.png": png(pixels, 8, 2, interlaced=True),
        "interlaced_gray1.png": png(pixels[:, :, 0] >> 7, 1, 0, interlaced=True),
        "full_chroma.jpg": encoded(smooth, format="JPEG", quality=95, subsampling=0),
        "half_chroma.jpg": encoded(smooth, format="JPEG", quality=90, subsampling=2),
        "progressive.jpg": encoded(smooth, format="JPEG", quality=90, subsampling=0, progressive=True),
        "gray.jpg": encoded(smooth.convert("L"), format="JPEG", quality=90),
        "restart.jpg": encoded(smooth, format="JPEG", quality=90, subsampling=0, restart_marker_blocks=3),
        "wide_chroma.jpg": encoded(smooth, format="JPEG", quality=90, subsampling=1),
        # Adobe's marker says that the three components are no YCbCr.
        "adobe_rgb.jpg": encoded(smooth, format="JPEG", quality=90, keep_rgb=True),
        "cmyk.jpg": cmyk,
        # The same components, read as YCbCr and black.
        "ycck.jpg": cmyk.replace(b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0\2"),
        "turned.jpg": encoded(smooth, format="JPEG", quality=90, subsampling=0, exif=turned),
        "thumbnail.jpg": encoded(smooth, format="JPEG", quality=90, subsampling=0, exif=thumbnail),
    }
    tensors = {}
    for name, data in files.items():
        path = FIXTURES / "image" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        report(path)
        # Pillow reads 16-bit RGB by its high byte, as the crate does. (It clips 16-bit gray to white, which the crate
        # does not.)
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
