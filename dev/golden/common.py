"""What the golden scripts share: where files go, how tensors and tables are stored, one thread, versions."""
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

ROOT = Path(__file__).resolve().parent.parent.parent
FIXTURES = ROOT / "tests" / "fixtures"
TINY_SD = ROOT / "assets" / "tiny-sd"

# SD 1.5's noise schedule.
SD_SCHEDULE = dict(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    num_train_timesteps=1000,
    steps_offset=1,
    clip_sample=False,
    set_alpha_to_one=False,
)


def setup(seed: int = 0) -> None:
    """One thread and a fixed seed, so that a rerun writes the same values."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    np.random.seed(seed)


def save_tensors(name: str, tensors: dict, metadata: dict | None = None) -> None:
    """Writes FIXTURES/name; metadata values are strings in safetensors, so others are stored as JSON."""
    path = FIXTURES / name
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {k: v.detach().contiguous().clone() for k, v in tensors.items()}
    text = {k: v if isinstance(v, str) else json.dumps(v) for k, v in (metadata or {}).items()}
    data = save(plain, text)
    # The library writes metadata in the order of a hash table; sorted, a rerun gives the same bytes.
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data[8 + length :])
    report(path)


def save_json(name: str, value) -> None:
    """Writes FIXTURES/name with one line per entry of the outermost container."""
    path = FIXTURES / name
    path.parent.mkdir(parents=True, exist_ok=True)
    dump = lambda v: json.dumps(v, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, dict):
        lines = [f"{dump(k)}:{dump(v)}" for k, v in value.items()]
        text = "{\n" + ",\n".join(lines) + "\n}\n"
    else:
        text = "[\n" + ",\n".join(dump(v) for v in value) + "\n]\n"
    path.write_text(text, encoding="utf-8")
    report(path)


def report(path: Path) -> None:
    print(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1e3:.1f} kB", file=sys.stderr)


def to_u8_truncated(image: torch.Tensor) -> torch.Tensor:
    """[-1,1] NCHW -> u8 NHWC as the paper's generator stores images: clamp((x+1)/2) * 255, fraction dropped."""
    return ((image + 1) / 2).clamp(0, 1).mul(255).permute(0, 2, 3, 1).to(torch.uint8)


def to_u8_rounded(image: torch.Tensor) -> torch.Tensor:
    """[-1,1] NCHW -> u8 NHWC as diffusers does it: clamp(x/2 + 0.5) * 255, rounded half to even."""
    return (image / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).mul(255).round().to(torch.uint8)
