"""The first steps of train_run.py again, with linear layers that multiply bf16: `train --precision bf16` on the CPU.

    python dev/golden/train_bf16.py

train_run/bf16.json            losses and gradient norms of the first STEPS steps

Shards and initial weights are those that train_run.py left. Every product of a linear layer, forward and both gradients, rounds its
two operands to bf16 and sums in f64; all else is f64. SimCLR alone: in the run of StableRep some value lies so near to a tie that
f32 and f64 round it to different sides, and its losses differ by 1e-3.
"""
import io
import tarfile

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

import train_run
from common import FIXTURES, save_json, setup

METHOD, STEPS = "simclr", 3


def rounded(x: torch.Tensor) -> torch.Tensor:
    return x.float().bfloat16().to(x.dtype)


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return rounded(x) @ rounded(weight).T

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        rows, columns = dy.reshape(-1, dy.shape[-1]), x.reshape(-1, x.shape[-1])
        return rounded(dy) @ rounded(weight), rounded(rows).T @ rounded(columns)


def linear(self: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
    y = Product.apply(x, self.weight)
    return y if self.bias is None else y + self.bias


def shard() -> tuple[list[str], np.ndarray]:
    """Captions, and their images."""
    with tarfile.open(FIXTURES / "train_run" / METHOD / "00000.tar") as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]
    images = [np.asarray(Image.open(io.BytesIO(data))) for name, data in members if name.endswith(".png")]
    return [data.decode() for name, data in members if name.endswith(".txt")], np.stack(images)


def main() -> None:
    setup(9)
    torch.nn.Linear.forward = linear
    train_run.STEPS = STEPS
    texts, images = shard()
    runs = {}
    for dtype in (torch.float32, torch.float64):
        model = train_run.Encoder()
        weights = load_file(FIXTURES / "train_run" / "init.safetensors")
        model.load_state_dict({n if n.startswith("image_mlp.") else f"backbone.{n}": v for n, v in weights.items()})
        runs[dtype] = train_run.train(model, METHOD, texts, images, dtype)
    record = {key: runs[torch.float64][key] for key in ("loss", "grad_norm")}
    for key, values in record.items():
        drift = max(abs(a / b - 1) for a, b in zip(runs[torch.float32][key], values))
        print(f"largest relative difference of a {key}, f32 against f64: {drift:.1e}")
        # A tenth of what the test allows: ties must not decide.
        assert drift < 1e-5, (key, drift)
    save_json("train_run/bf16.json", record)


if __name__ == "__main__":
    main()
