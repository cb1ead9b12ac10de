"""DINO in PyTorch: loss and gradients of a first step, ten steps after it, teacher and centre behind them; without local crops, and with two
of each image.

    python dev/golden/dino.py

momentum/{dino,dino_crops}.safetensors              initial weights
momentum/{dino_steps,dino_crops_steps}.safetensors  gradients of step 0 before they are cut, teacher and centre after the last step;
                                                    losses, gradient norms (before cutting) and learning rates in the header

Images are those of momentum.py; local crops are its rows behind the global ones. An epoch has three steps, in the first of which the last layer learns nothing; norms are cut so low that
most tensors are.
"""
import copy
import math

import torch

from common import save_tensors, setup
from encoder import learning_rate, roughen, vit
from momentum import CAPTIONS, PEAK, STEPS, VIT, WARMUP, follow, images, momentum

HIDDEN, BOTTLENECK, CLASSES = 24, 256, 40
EPOCH, CLIP, BASE = 3, 0.05, 0.9
STUDENT, TEACHER = 0.1, 0.04
DECAY, DECAY_END = 0.04, 0.4
# With local crops: 4×4 patches, of which they have 2×2.
LARGE, LOCAL = 32, 16


class Head(torch.nn.Module):
    def __init__(self):
        super().__init__()
        sizes = [VIT["width"], HIDDEN, HIDDEN, BOTTLENECK]
        layers = [torch.nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])]
        self.mlp = torch.nn.Sequential(layers[0], torch.nn.GELU(), layers[1], torch.nn.GELU(), layers[2])
        self.last_layer = torch.nn.Module()
        self.last_layer.weight_v = torch.nn.Parameter(torch.nn.Linear(BOTTLENECK, CLASSES, bias=False).weight.detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # A weight norm with gain 1.
        unit = torch.nn.functional.normalize
        return unit(self.mlp(x), dim=1) @ unit(self.last_layer.weight_v, dim=1).T


class Network(torch.nn.Module):
    def __init__(self, side: int):
        super().__init__()
        self.visual = vit(**VIT | {"image": side})
        self.head = Head()

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Of images of any size: positions by the bicubic filter, by size."""
        visual = self.visual
        tokens = visual.patch_embed.proj(x)
        grid, size = math.isqrt(visual.pos_embed.shape[1] - 1), tuple(tokens.shape[2:])
        tokens = tokens.flatten(2).transpose(1, 2)
        places = visual.pos_embed[:, 1:].reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
        if size != (grid, grid):
            places = torch.nn.functional.interpolate(places, size=size, mode="bicubic", align_corners=False)
        positions = torch.cat([visual.pos_embed[:, :1], places.flatten(2).transpose(1, 2)], dim=1)
        tokens = torch.cat([visual.cls_token.expand(len(x), -1, -1), tokens], dim=1) + positions
        return visual.norm(visual.blocks(tokens))[:, 0]

    def forward(self, *crops: torch.Tensor) -> torch.Tensor:
        """Crops of one size in a batch, the head once on everything."""
        return self.head(torch.cat([self.features(x) for x in crops]))


def train(initial: dict, side: int, local: int | None, dtype) -> tuple[dict, dict]:
    student = Network(side).to(dtype).train()
    student.load_state_dict(initial)
    teacher = copy.deepcopy(student)
    decayed = [p for n, p in student.named_parameters() if p.ndim > 1 and not n.endswith(".bias")]
    free = [p for n, p in student.named_parameters() if not (p.ndim > 1 and not n.endswith(".bias"))]
    groups = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8, foreach=False)
    centre = torch.zeros(1, CLASSES, dtype=dtype)
    record, tensors = {"loss": [], "grad_norm": [], "lr": []}, {}
    for step in range(STEPS):
        rate = learning_rate(step, 1, STEPS, WARMUP, PEAK)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.param_groups[0]["weight_decay"] = DECAY_END + 0.5 * (DECAY - DECAY_END) * (1 + math.cos(math.pi * step / STEPS))
        crops = [images(step, dtype, side)] + ([images(step, dtype, local, 2 * CAPTIONS)] if local else [])
        with torch.no_grad():
            targets = teacher(crops[0]).chunk(2)
        logits = student(*crops).chunk(2 * len(crops))
        loss, terms = 0, [(a, b) for a in range(2) for b in range(len(logits)) if a != b]
        for a, b in terms:
            p = torch.softmax((targets[a] - centre) / TEACHER, dim=-1)
            loss = loss - (p * torch.log_softmax(logits[b] / STUDENT, dim=-1)).sum(-1).mean() / len(terms)
        centre = 0.9 * centre + 0.1 * torch.cat(targets).mean(0, keepdim=True)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            tensors |= {f"grad.{name}": p.grad.clone() for name, p in student.named_parameters()}
        norm = torch.stack([p.grad.double().pow(2).sum() for p in student.parameters()]).sum().sqrt()
        for parameter in student.parameters():
            factor = CLIP / (parameter.grad.norm() + 1e-6)
            if factor < 1:
                parameter.grad.mul_(factor)
        if step < EPOCH:
            student.head.last_layer.weight_v.grad = None
        optimizer.step()
        follow(teacher, student, momentum(BASE, step / STEPS))
        record["loss"].append(loss.item())
        record["grad_norm"].append(norm.item())
        record["lr"].append(rate)
    kept = ("visual.blocks.1.attn.qkv.weight", "visual.pos_embed", "head.mlp.4.bias", "head.last_layer.weight_v")
    tensors |= {f"after.{k}": v for k, v in teacher.state_dict().items() if k in kept}
    return record, tensors | {"after.centre": centre}


def run(name: str, seed: int, side: int, local: int | None) -> None:
    setup(seed)
    model = Network(side)
    roughen(model, 0.2)
    initial = {k: v.clone() for k, v in model.state_dict().items()}
    record, tensors = train(initial, side, local, torch.float32)
    exact, _ = train({k: v.double() for k, v in initial.items()}, side, local, torch.float64)
    drifts = [abs(a / b - 1) for a, b in zip(record["loss"], exact["loss"])]
    print(name, [round(loss, 4) for loss in record["loss"]], f"f32 against f64: {max(drifts):.1e}")
    about = {"vit": VIT | {"image": side}, "hidden": HIDDEN, "classes": CLASSES, "captions": CAPTIONS, "warmup": WARMUP, "peak": PEAK, "base": BASE}
    about |= {"epoch": EPOCH, "clip": CLIP, "temperature": STUDENT, "weight_decay": [DECAY, DECAY_END]}
    header = about | record | {"loss_f64": exact["loss"]}
    if local:
        about, header = (values | {"local": local} for values in (about, header))
    save_tensors(f"momentum/{name}.safetensors", initial, about)
    save_tensors(f"momentum/{name}_steps.safetensors", {k: v.float() for k, v in tensors.items()}, header)


def main() -> None:
    run("dino", 31, VIT["image"], None)
    run("dino_crops", 32, LARGE, LOCAL)


if __name__ == "__main__":
    main()
