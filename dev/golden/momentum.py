"""MoCo v3 and BYOL in PyTorch: loss and gradients of a first step, ten steps after it, the momentum copy behind them.

    python dev/golden/momentum.py

momentum/{mocov3,byol}.safetensors  initial weights, gradients of step 0, the copy after the last step; losses,
                                    gradient norms and learning rates in the header

Images are a formula (`images`), so that they need no room. Views are normalised on their own by the heads' batch norms.
"""
import math

import torch

from common import save_tensors, setup
from encoder import learning_rate, roughen, vit

VIT = dict(image=16, patch=8, width=16, depth=2, heads=2)
HIDDEN, OUT = 24, 12
CAPTIONS, STEPS, WARMUP, PEAK = 8, 10, 2, 1e-3
TEMPERATURE = 0.2
BASE = {"mocov3": 0.99, "byol": 0.9}


class Head(torch.nn.Module):
    """Linear layers without bias; batch norm and ReLU between them, a batch norm without gain and shift at the end."""

    def __init__(self, sizes: list[int]):
        super().__init__()
        self.count = len(sizes) - 1
        for i in range(self.count):
            self.add_module(f"layer{i + 1}", torch.nn.Linear(sizes[i], sizes[i + 1], bias=False))
            last = i + 1 == self.count
            self.add_module(f"bn{i + 1}", torch.nn.BatchNorm1d(sizes[i + 1], affine=not last))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i in range(1, self.count + 1):
            x = getattr(self, f"bn{i}")(getattr(self, f"layer{i}")(x))
            x = torch.relu(x) if i < self.count else x
        return x


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = vit(**VIT)
        self.projector = Head([VIT["width"], HIDDEN, HIDDEN, OUT])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.projector(self.visual(x))


class Online(Encoder):
    def __init__(self):
        super().__init__()
        self.predictor = Head([OUT, HIDDEN, OUT])


def images(step: int, dtype, side: int = VIT["image"], first: int = 0) -> torch.Tensor:
    """[2·captions, 3, side, side], rows `first` and following; value k of row r in the order (row, column, channel) is
    sin(1.3 r + 0.7 step + 0.011 k (r mod 5 + 1))."""
    r = torch.arange(first, first + 2 * CAPTIONS, dtype=torch.float64)[:, None]
    k = torch.arange(side * side * 3, dtype=torch.float64)[None, :]
    x = torch.sin(1.3 * r + 0.7 * step + 0.011 * k * (r % 5 + 1)).float()
    return x.reshape(-1, side, side, 3).permute(0, 3, 1, 2).to(dtype)


def contrast(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """MoCo v3's: 2τ times the cross-entropy of each row among all keys."""
    q, k = (torch.nn.functional.normalize(x, dim=1) for x in (q, k))
    return 2 * TEMPERATURE * torch.nn.functional.cross_entropy(q @ k.T / TEMPERATURE, torch.arange(len(q)))


def cosine(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return (2 - 2 * torch.nn.functional.cosine_similarity(q, k, dim=1)).mean()


def momentum(base: float, share: float) -> float:
    return 1 - 0.5 * (1 + math.cos(math.pi * share)) * (1 - base)


@torch.no_grad()
def follow(slow: torch.nn.Module, fast: torch.nn.Module, m: float) -> None:
    of = dict(fast.named_parameters())
    for name, parameter in slow.named_parameters():
        parameter.copy_(parameter * m + of[name] * (1 - m))


def train(method: str, initial: dict, dtype) -> tuple[dict, dict]:
    torch.set_default_dtype(dtype)
    online, slow = Online().train(), Encoder().train()
    torch.set_default_dtype(torch.float32)
    online.load_state_dict(initial)
    slow.load_state_dict({k: v for k, v in initial.items() if not k.startswith("predictor.")})
    online.visual.pos_embed.requires_grad_(False)
    for parameter in online.visual.patch_embed.parameters():
        parameter.requires_grad_(False)
    learned = {name: p for name, p in online.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(learned.values(), lr=0.0, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1, foreach=False)
    record, tensors = {"loss": [], "grad_norm": [], "lr": []}, {}
    loss_of = {"mocov3": contrast, "byol": cosine}[method]
    for step in range(STEPS):
        if method == "mocov3":
            follow(slow, online, momentum(BASE[method], step / STEPS))
        rate = learning_rate(step, 1, STEPS, WARMUP, PEAK)
        optimizer.param_groups[0]["lr"] = rate
        views = images(step, dtype).chunk(2)
        with torch.no_grad():
            keys = [slow(view) for view in views]
        rows = [online.predictor(online(view)) for view in views]
        loss = loss_of(rows[0], keys[1]) + loss_of(rows[1], keys[0])
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            tensors |= {f"grad.{name}": p.grad for name, p in learned.items()}
        norm = torch.stack([p.grad.double().pow(2).sum() for p in learned.values()]).sum().sqrt()
        optimizer.step()
        if method == "byol":
            follow(slow, online, momentum(BASE[method], step / STEPS))
        record["loss"].append(loss.item())
        record["grad_norm"].append(norm.item())
        record["lr"].append(rate)
    state = {k: v for k, v in slow.state_dict().items() if not k.endswith("num_batches_tracked")}
    kept = ("visual.blocks.1.attn.qkv.weight", "visual.cls_token", "visual.pos_embed", "projector.layer3.weight")
    tensors |= {f"after.{k}": v for k, v in state.items() if k in kept or "running" in k}
    return record, tensors


def main() -> None:
    for seed, method in enumerate(BASE):
        setup(20 + seed)
        model = Online()
        roughen(model, 0.2)
        # A copy that the predictor does not change says other things than it: else gradients would be near 0.
        initial = {k: v.clone() for k, v in model.state_dict().items()}
        record, tensors = train(method, initial, torch.float32)
        exact, _ = train(method, {k: v.double() if v.is_floating_point() else v for k, v in initial.items()}, torch.float64)
        drifts = [abs(a / b - 1) for a, b in zip(record["loss"], exact["loss"])]
        print(method, [round(loss, 4) for loss in record["loss"]], f"f32 against f64: {max(drifts):.1e}")
        weights = {k: v for k, v in initial.items() if not k.endswith("num_batches_tracked")}
        about = {"vit": VIT, "hidden": HIDDEN, "out": OUT, "captions": CAPTIONS, "warmup": WARMUP, "peak": PEAK, "base": BASE[method]}
        header = about | {"temperature": TEMPERATURE} | record | {"loss_f64": exact["loss"]}
        save_tensors(f"momentum/{method}.safetensors", weights | {k: v.float() for k, v in tensors.items()}, header)


if __name__ == "__main__":
    main()
