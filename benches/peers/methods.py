"""A training step of every method, ours and PyTorch's in turn on the same CPU threads, and the ratios.

    python benches/peers/methods.py [--binary target/release/stablerep] [--rounds 3] [--seconds 5] [--threads 2] [--only clip,mae] [--save FILE.json]

The demo's ViT (32², patch 8, width 128, 4 blocks) on 256 images a step. Ours is `stablerep bench train --device cpu`, less its augmentation; PyTorch's is
the same step in eager f32 as its users write it (timm's ViT, fused attention and AdamW, momentum copies by foreach), on images in memory. One round is
ours, then PyTorch's; medians over the rounds are compared.
"""
import argparse
import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import nn

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGES, SIDE, PATCH, WIDTH, DEPTH, HEADS, HIDDEN, OUT, CLASSES = 256, 32, 8, 128, 4, 2, 512, 64, 1024
CONTEXT, VOCABULARY, TEXT_WIDTH, EMBED = 24, 49408, 64, 64
VIT = f"--model custom --image-size {SIDE} --patch-size {PATCH} --width {WIDTH} --depth {DEPTH} --heads {HEADS} --augmentation none"
TEXT = f"--context-length {CONTEXT} --text-width {TEXT_WIDTH} --text-depth 2 --text-heads 2 --embed-dim {EMBED}"
HEAD = f"--head-dims {HIDDEN},{OUT}"
FLAGS = {
    "stablerep": f"--batch 64 --images-per-caption 4 {HEAD}",
    "simclr": f"--batch 128 {HEAD}",
    "stablerep+": f"--batch 64 --images-per-caption 4 {HEAD} {TEXT}",
    "clip": f"--batch 256 {TEXT}",
    "slip": f"--batch 85 {HEAD} {TEXT}",
    "mae": "--batch 256 --decoder-width 64 --decoder-depth 2 --decoder-heads 2",
    "mocov3": f"--batch 128 {HEAD} --temperature 0.2",
    "byol": f"--batch 128 {HEAD}",
    "dino": f"--batch 128 --head-dims {HIDDEN},{CLASSES} --clip-gradient 3",
}


def vit() -> VisionTransformer:
    return VisionTransformer(img_size=SIDE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=0)


def head(sizes: list[int], last_norm: bool = False) -> nn.Module:
    layers = []
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        last = i + 2 == len(sizes)
        layers.append(nn.Linear(inputs, outputs, bias=not last_norm))
        if not last:
            layers += [nn.BatchNorm1d(outputs), nn.ReLU()]
        elif last_norm:
            layers.append(nn.BatchNorm1d(outputs, affine=False))
    return nn.Sequential(*layers)


class Block(nn.Module):
    """A pre-norm block of CLIP's text tower."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(n, t, d))
        hidden = self.fc1(self.norm2(x))
        return x + self.fc2(hidden * torch.sigmoid(1.702 * hidden))


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.position = nn.Embedding(VOCABULARY, TEXT_WIDTH), nn.Parameter(0.01 * torch.randn(CONTEXT, TEXT_WIDTH))
        self.blocks, self.norm = nn.Sequential(Block(TEXT_WIDTH, 2), Block(TEXT_WIDTH, 2)), nn.LayerNorm(TEXT_WIDTH)
        self.project = nn.Linear(TEXT_WIDTH, EMBED, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.blocks(self.token(ids) + self.position))
        return self.project(x[torch.arange(len(ids)), ids.argmax(1)])


def multi_positive(raw: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    z = F.normalize(raw, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool)
    logits = (z @ z.T / 0.1).masked_fill(itself, -1e9)
    p = ((labels[:, None] == labels[None, :]) & ~itself).float()
    return -(p / p.sum(1, keepdim=True).clamp(min=1) * torch.log_softmax(logits, dim=1)).sum(1).mean()


class Contrastive(nn.Module):
    """StableRep, SimCLR; with texts CLIP, SLIP and StableRep+."""

    def __init__(self, captions: int, views: int, texts: bool, own: slice | None, beside: slice):
        super().__init__()
        self.captions, self.own, self.beside = captions, own, beside
        self.visual, self.views = vit(), views
        self.head = head([WIDTH, HIDDEN, HIDDEN, OUT]) if own else None
        self.tower = Tower() if texts else None
        if texts:
            self.project, self.scale = nn.Linear(WIDTH, EMBED, bias=False), nn.Parameter(torch.tensor(1 / 0.07).log())
            self.ids = torch.randint(0, VOCABULARY - 1, (captions, CONTEXT))
        self.labels = torch.arange(captions)

    def loss(self, images: torch.Tensor) -> torch.Tensor:
        features = self.visual(images)
        slots = features.view(self.views, self.captions, -1)
        loss = 0
        if self.own:
            rows = slots[self.own]
            loss = multi_positive(torch.cat([self.head(slot) for slot in rows]), self.labels.repeat(len(rows)))
        if self.tower:
            rows = slots[self.beside]
            image = F.normalize(self.project(rows.reshape(-1, WIDTH)), dim=1)
            logits = self.scale.exp() * image @ F.normalize(self.tower(self.ids), dim=1).T
            there = F.cross_entropy(logits, self.labels.repeat(len(rows)))
            back = -(torch.log_softmax(logits.T, dim=1).view(self.captions, len(rows), -1)).diagonal(dim1=0, dim2=2).mean()
            loss = loss + (there + back) / 2
        return loss


class Momentum(nn.Module):
    """MoCo v3, BYOL."""

    def __init__(self, contrast: bool):
        super().__init__()
        self.contrast = contrast
        self.online = nn.Sequential(vit(), head([WIDTH, HIDDEN, HIDDEN, OUT], True))
        self.predictor = head([OUT, HIDDEN, OUT], True)
        self.copy = copy.deepcopy(self.online).requires_grad_(False)

    def loss(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            keys = F.normalize(self.copy(images), dim=1).chunk(2)
        rows = F.normalize(self.predictor(self.online(images)), dim=1).chunk(2)
        if not self.contrast:
            return sum(2 - 2 * (q * k).sum(1).mean() for q, k in zip(rows, keys[::-1]))
        own = torch.arange(len(images) // 2)
        return sum(2 * 0.2 * F.cross_entropy(q @ k.T / 0.2, own) for q, k in zip(rows, keys[::-1]))

    def follow(self) -> None:
        with torch.no_grad():
            torch._foreach_lerp_(list(self.copy.parameters()), list(self.online.parameters()), 0.01)


class DinoHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 256))
        self.last = nn.Parameter(0.02 * torch.randn(CLASSES, 256))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.mlp(x), dim=1) @ F.normalize(self.last, dim=1).T


class Dino(nn.Module):
    def __init__(self):
        super().__init__()
        self.online = nn.Sequential(vit(), DinoHead())
        self.copy = copy.deepcopy(self.online).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(1, CLASSES))

    def loss(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            teacher = self.copy(images)
            targets = torch.softmax((teacher - self.centre) / 0.04, dim=1).chunk(2)
            self.centre.lerp_(teacher.mean(0, keepdim=True), 0.1)
        student = torch.log_softmax(self.online(images) / 0.1, dim=1).chunk(2)
        return sum(-(t * s).sum(1).mean() for t, s in zip(targets, student[::-1])) / 2

    def follow(self) -> None:
        with torch.no_grad():
            torch._foreach_lerp_(list(self.copy.parameters()), list(self.online.parameters()), 0.01)


class Mae(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual, patches = vit(), (SIDE // PATCH) ** 2
        self.kept, self.embed, self.mask = patches // 4, nn.Linear(WIDTH, 64), nn.Parameter(torch.zeros(1, 1, 64))
        self.positions = nn.Parameter(torch.randn(1, patches + 1, 64), requires_grad=False)
        like = VisionTransformer(img_size=SIDE, patch_size=PATCH, embed_dim=64, depth=2, num_heads=2, num_classes=0)
        self.decoder = nn.Sequential(*like.blocks, like.norm, nn.Linear(64, 3 * PATCH * PATCH))

    def loss(self, images: torch.Tensor) -> torch.Tensor:
        n, v = len(images), self.visual
        x = v.patch_embed(images) + v.pos_embed[:, 1:]
        order = torch.rand(x.shape[:2]).argsort(1)
        kept, back = order[:, : self.kept], order.argsort(1)
        x = x.gather(1, kept[:, :, None].expand(-1, -1, WIDTH))
        x = v.norm(v.blocks(torch.cat([(v.cls_token + v.pos_embed[:, :1]).expand(n, -1, -1), x], 1)))
        x = self.embed(x)
        rest = torch.cat([x[:, 1:], self.mask.expand(n, order.shape[1] - self.kept, -1)], 1)
        rest = rest.gather(1, back[:, :, None].expand(-1, -1, 64))
        drawn = self.decoder(torch.cat([x[:, :1], rest], 1) + self.positions)[:, 1:]
        side = SIDE // PATCH
        target = images.view(n, 3, side, PATCH, side, PATCH).permute(0, 2, 4, 3, 5, 1).reshape(n, side * side, -1)
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        removed = (back >= self.kept).float()
        return (((drawn - target) ** 2).mean(-1) * removed).sum() / removed.sum()


def model(method: str) -> tuple[nn.Module, int]:
    """And how many images a step has."""
    every = slice(None)
    return {
        "stablerep": lambda: (Contrastive(64, 4, False, every, every), 256),
        "simclr": lambda: (Contrastive(128, 2, False, every, every), 256),
        "stablerep+": lambda: (Contrastive(64, 4, True, every, every), 256),
        "clip": lambda: (Contrastive(256, 1, True, None, every), 256),
        "slip": lambda: (Contrastive(85, 3, True, slice(1, 3), slice(0, 1)), 255),
        "mae": lambda: (Mae(), 256),
        "mocov3": lambda: (Momentum(True), 256),
        "byol": lambda: (Momentum(False), 256),
        "dino": lambda: (Dino(), 256),
    }[method]()


def theirs(method: str, seconds: float, threads: int) -> float:
    """Milliseconds of a step, the median."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network, count = model(method)
    network.train()
    learned = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-7, betas=(0.9, 0.98), weight_decay=0.1, fused=True)
    images = torch.randn(count, 3, SIDE, SIDE)
    rounds, start = [], None
    while start is None or time.perf_counter() - start < seconds or len(rounds) < 3:
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        network.loss(images).backward()
        if method == "dino":
            norms = torch._foreach_norm([p.grad for p in learned])
            torch._foreach_mul_([p.grad for p in learned], [float((3 / (norm + 1e-6)).clamp(max=1)) for norm in norms])
        optimizer.step()
        if hasattr(network, "follow"):
            network.follow()
        if start is None:
            start = time.perf_counter()
        else:
            rounds.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(rounds)


def ours(binary: Path, method: str, seconds: float, threads: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        words = f"--threads {threads} bench train --device cpu --method {method} {VIT} {FLAGS[method]} --seconds {seconds} --json {file}"
        done = subprocess.run([binary, *words.split()], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"{binary} {words}: exit code {done.returncode}\n{done.stderr[-2000:]}")
        report = json.loads(file.read_text())
    return report["median_ms"] - next(part["ms"] for part in report["stages"] if part["stage"] == "augmentation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/stablerep")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help="methods, separated by commas")
    parser.add_argument("--save", type=Path, help="every measurement, as JSON")
    given = parser.parse_args()
    raw = {}
    print(f"PyTorch {torch.__version__}, {given.threads} threads; milliseconds of a step of 256 images, medians of {given.rounds} rounds in turn")
    print(f"{'method':<12} {'ours':>9} {'PyTorch':>9} {'ratio':>7}", flush=True)
    for method in given.only.split(",") if given.only else FLAGS:
        pairs = []
        for _ in range(given.rounds):
            pairs.append((ours(given.binary, method, given.seconds, given.threads), theirs(method, given.seconds, given.threads)))
        a, b = (statistics.median(side) for side in zip(*pairs))
        raw[method] = pairs
        print(f"{method:<12} {a:>9.1f} {b:>9.1f} {b / a:>6.2f}x   rounds {[round(y / x, 2) for x, y in pairs]}", flush=True)
    if given.save:
        given.save.write_text(json.dumps({"torch": torch.__version__, "threads": given.threads, "ms": raw}, indent=1) + "\n")


if __name__ == "__main__":
    main()
