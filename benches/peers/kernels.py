"""PyTorch's kernels (cuDNN, flash attention, cuBLAS) beside ours, shape by shape.

    stablerep bench kernels --json ours.json
    python benches/peers/kernels.py --ours ours.json [--filter conv] [--save FILE.json]
    python benches/peers/kernels.py --dry-run

Takes the shapes from our table, so that every row is the same work; rows without a peer are left out. A peer gets the epilogue as PyTorch has it
(separate kernels after the product: what our fused ones are to be compared with), NHWC convolutions, cuDNN's own choice of algorithm, and for
attention the fastest of the backends that take the shape. Cold L2, random data, CUDA events, median. --dry-run: small shapes on the CPU.
"""
import argparse
import json
import re
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
# What --dry-run runs: one row of each kind, as `bench kernels --json` writes them.
SAMPLES = [
    ("conv", "3×3 f16", "[2, 8×8, 16 → 24]"),
    ("conv", "3×3 + residual f16", "[2, 8×8, 16 → 16]"),
    ("conv", "3×3 + shortcut f16", "[2, 8×8, 16+8+24 → 16]"),
    ("conv", "3×3 stride 2 f16", "[2, 8×8, 16 → 16]"),
    ("conv", "3×3 enlarged f16", "[2, 4×4, 16 → 16]"),
    ("conv", "conv_out f16", "[2, 8×8, 16 → 4]"),
    ("conv", "qkv f16", "[2, 64, 16 → 48]"),
    ("conv", "projection + residual f16", "[2, 64, 16 → 16]"),
    ("conv", "GEGLU f16", "[2, 64, 16 → 128]"),
    ("conv", "quick GELU, text f16", "[2, 77, 16 → 64]"),
    ("attention", "self f16", "[2, 64→64, 2×40]"),
    ("attention", "cross f16", "[2, 64→77, 2×40]"),
    ("attention", "causal f16", "[2, 77→77, 2×64]"),
    ("self-attention", "forward bf16", "[2, 17, 2×64]"),
    ("self-attention", "backward bf16", "[2, 17, 2×64]"),
    ("groupnorm", "apply, SiLU f16", "[2, 64, 64]"),
    ("groupnorm", "apply, SiLU, joined f16", "[2, 64, [64, 32]]"),
    ("layernorm", "forward bf16", "[34, 64]"),
    ("layernorm", "backward bf16", "[34, 64]"),
    ("layernorm", "inference f16", "[34, 64]"),
    ("linear", "forward bf16", "[34, 64 → 192]"),
    ("linear", "forward + GELU bf16", "[34, 64 → 256]"),
    ("linear", "gradient of w bf16", "[34, 64 → 192]"),
    ("optimizer", "AdamW", "[4096]"),
]


class Clock:
    """Microseconds of a call: CUDA events and a cold L2 on a GPU, the host's clock on the CPU."""

    def __init__(self, device: str):
        self.device = device
        # More than any L2; overwritten before every call.
        self.flush = torch.empty(256 << 20, dtype=torch.uint8, device=device) if device != "cpu" else None

    def once(self, work) -> float:
        if self.device == "cpu":
            begin = time.perf_counter()
            work()
            return (time.perf_counter() - begin) * 1e6
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flush.zero_()
        begin.record()
        work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e3

    def median(self, work) -> float:
        first = [self.once(work) for _ in range(3)][-1]
        count = max(5, min(50, int(2e5 / max(first, 1.0))))
        return statistics.median(self.once(work) for _ in range(count))


def numbers(shape: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", shape)]


class Peers:
    """For a row of our table, the calls of PyTorch that do the same; the fastest counts."""

    def __init__(self, device: str):
        self.device = device

    def normal(self, *shape: int, kernel: str, std: float = 1.0) -> torch.Tensor:
        # The CPU has no fast half precision.
        dtype = torch.float32 if self.device == "cpu" else torch.bfloat16 if kernel.endswith("bf16") else torch.float16
        return torch.randn(shape, device=self.device).mul_(std).to(dtype)

    def image(self, n: int, c: int, h: int, w: int, kernel: str) -> torch.Tensor:
        return self.normal(n, c, h, w, kernel=kernel).contiguous(memory_format=torch.channels_last)

    def conv(self, kernel: str, shape: str):
        if not kernel.startswith(("3", "conv_")):
            return self.matmul(kernel, shape)
        n, h, w, *segments, outputs = numbers(shape)
        c, shortcut = segments[0], segments[1:]
        x = self.image(n, c, h, w, kernel)
        weight = self.normal(outputs, c, 3, 3, kernel=kernel, std=0.05).contiguous(memory_format=torch.channels_last)
        bias = self.normal(outputs, kernel=kernel)
        stride = 2 if "stride 2" in kernel else 1
        sides = [self.image(n, s, h, w, kernel) for s in shortcut]
        one = self.normal(outputs, sum(shortcut), 1, 1, kernel=kernel, std=0.05) if shortcut else None
        residual = self.image(n, outputs, h, w, kernel) if "residual" in kernel else None

        def work():
            source = F.interpolate(x, scale_factor=2, mode="nearest") if "enlarged" in kernel else x
            y = F.conv2d(source, weight, bias, stride=stride, padding=1)
            if one is not None:
                y = y + F.conv2d(torch.cat(sides, 1), one)
            if residual is not None:
                y = y + residual

        return [work]

    def matmul(self, kernel: str, shape: str):
        n, tokens, c, outputs = numbers(shape)
        return [self.layer(kernel, n * tokens, c, outputs)]

    def layer(self, kernel: str, rows: int, c: int, outputs: int):
        x, weight = self.normal(rows, c, kernel=kernel), self.normal(outputs, c, kernel=kernel, std=0.05)
        bias = self.normal(outputs, kernel=kernel)
        residual = self.normal(rows, outputs, kernel=kernel) if "residual" in kernel else None

        def work():
            y = F.linear(x, weight, bias)
            if "GEGLU" in kernel:
                value, gate = y.chunk(2, dim=-1)
                y = value * F.gelu(gate)
            elif "quick GELU" in kernel:
                y = y * torch.sigmoid(1.702 * y)
            elif "GELU" in kernel:
                y = F.gelu(y)
            if residual is not None:
                y = y + residual

        return work

    def attention(self, kernel: str, shape: str):
        n, queries, keys, heads, d = numbers(shape)
        q = self.normal(n, heads, queries, d, kernel=kernel)
        k, v = (self.normal(n, heads, keys, d, kernel=kernel) for _ in range(2))
        return [self.sdpa(backend, q, k, v, "causal" in kernel) for backend in BACKENDS]

    @staticmethod
    def sdpa(backend, q, k, v, causal: bool):
        def work():
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

        return work

    def self_attention(self, kernel: str, shape: str):
        n, tokens, heads, d = numbers(shape)
        q, k, v = (self.normal(n, heads, tokens, d, kernel=kernel) for _ in range(3))
        if "forward" in kernel:
            return [self.sdpa(backend, q, k, v, False) for backend in BACKENDS]
        dout = self.normal(n, heads, tokens, d, kernel=kernel)
        inputs = [x.requires_grad_() for x in (q, k, v)]

        def backward(backend):
            out = None

            def work():
                # The forward is not what is measured: it is kept between calls.
                nonlocal out
                if out is None:
                    out = self.sdpa(backend, *inputs, False)()
                torch.autograd.grad(out, inputs, dout, retain_graph=True)

            return work

        return [backward(backend) for backend in BACKENDS]

    def groupnorm(self, kernel: str, shape: str):
        if not kernel.startswith("apply"):
            return None
        n, pixels, *channels = numbers(shape)
        groups = 32 if sum(channels) % 32 == 0 else 8
        side = int(pixels**0.5)
        parts = [self.image(n, c, side, pixels // side, kernel) for c in channels]
        gamma, beta = (self.normal(sum(channels), kernel=kernel) for _ in range(2))

        def work():
            x = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
            F.silu(F.group_norm(x, groups, gamma, beta))

        return [work]

    def layernorm(self, kernel: str, shape: str):
        rows, d = numbers(shape)
        x = self.normal(rows, d, kernel=kernel)
        gamma, beta = (self.normal(d, kernel=kernel) for _ in range(2))
        if "sum" in kernel:
            other = self.normal(rows, d, kernel=kernel)
            return [lambda: F.layer_norm(x + other, (d,), gamma, beta)]
        if "backward" not in kernel:
            return [lambda: F.layer_norm(x, (d,), gamma, beta)]
        inputs = [t.requires_grad_() for t in (x, gamma, beta)]
        y, dy = F.layer_norm(x, (d,), gamma, beta), self.normal(rows, d, kernel=kernel)
        return [lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)]

    def linear(self, kernel: str, shape: str):
        rows, c, outputs = numbers(shape)
        if kernel.startswith("forward"):
            return [self.layer(kernel, rows, c, outputs)]
        dy, w = self.normal(rows, outputs, kernel=kernel), self.normal(outputs, c, kernel=kernel, std=0.05)
        x = self.normal(rows, c, kernel=kernel)
        if "of w" in kernel:
            return [lambda: (dy.T @ x, dy.sum(0))]
        if "GELU" in kernel:
            return [lambda: torch.ops.aten.gelu_backward(dy @ w, x)]
        return [lambda: dy @ w]

    def optimizer(self, kernel: str, shape: str):
        (length,) = numbers(shape)
        weight = torch.nn.Parameter(torch.randn(length, device=self.device))
        weight.grad = torch.randn(length, device=self.device) * 1e-3
        update = torch.optim.AdamW([weight], lr=1e-3, fused=True)
        return [update.step]

    def of(self, op: str, kernel: str, shape: str):
        make = getattr(self, op.replace("-", "_"), None)
        return make(kernel, shape) if make and op in OPS else None


OPS = {"conv", "attention", "self-attention", "groupnorm", "layernorm", "linear", "optimizer"}


def fastest(clock: Clock, works) -> float | None:
    """Of the calls that run at all: attention's backends refuse some shapes."""
    times = []
    for work in works:
        try:
            times.append(clock.median(work))
        except RuntimeError as error:
            print(f"  (left out: {str(error).splitlines()[0][:120]})", file=sys.stderr)
            if clock.device != "cpu":
                torch.cuda.empty_cache()
    return min(times, default=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", type=Path, help="what `stablerep bench kernels --json` wrote")
    parser.add_argument("--filter", default="")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    if given.dry_run:
        cases = [dict(op=op, kernel=kernel, shape=shape) for op, kernel, shape in SAMPLES]
    elif given.ours:
        ours = json.loads(given.ours.read_text())
        if ours["simulated"]:
            sys.exit(f"{given.ours}: counts of the simulated driver, which has no times")
        cases = ours["cases"]
        name = torch.cuda.get_device_name()
        if name != ours["device"]:
            sys.exit(f"{given.ours}: measured on {ours['device']}, this is {name}")
    else:
        parser.error("--ours FILE.json, or --dry-run")
    device = "cpu" if given.dry_run else "cuda"
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    clock, peers, rows = Clock(device), Peers(device), []
    if device != "cpu":
        print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}\n")
    print("| op | kernel | shape | ours µs | PyTorch µs | ours faster |\n|---|---|---|--:|--:|--:|")
    for case in cases:
        if given.filter not in f"{case['op']} {case['kernel']} {case['shape']}":
            continue
        try:
            works = peers.of(case["op"], case["kernel"], case["shape"])
        except torch.cuda.OutOfMemoryError:
            works = []
        if works is None:
            continue
        theirs, mine = fastest(clock, works), case.get("median_us")
        del works
        number = lambda x: "–" if x is None else f"{x:.1f}"
        ratio = "–" if mine is None or theirs is None else f"{theirs / mine:.2f}×"
        print(f"| {case['op']} | {case['kernel']} | {case['shape']} | {number(mine)} | {number(theirs)} | {ratio} |", flush=True)
        rows.append(case | {"pytorch_us": theirs})
    if given.save:
        given.save.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
