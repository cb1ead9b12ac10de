"""A training step of every method, ours and PyTorch's in turn on the same CPU threads, and the ratios.

    python benches/peers/methods.py [--binary target/release/stablerep] [--rounds 3] [--seconds 5] [--threads 2] [--only clip,mae] [--save FILE.json]

The demo's ViT (32², patch 8, width 128, 4 blocks) on 256 images a step. Ours is `stablerep bench train --device cpu`, less its augmentation; PyTorch's is
the same step in eager f32 as its users write it (timm's ViT, fused attention and AdamW, momentum copies by foreach), on images in memory. `dino/crops` has
512 crops of 16² beside the 256 images, `stablerep/queue` room for 1024 keys; `finetune` is the update alone, without RandAugment, erasing, mixup and
CutMix. First the losses of both are compared: of random weights, images and texts, so that they agree as far as chance lets them. One round is ours, then
PyTorch's; medians over the rounds are compared.
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
from timm.optim import param_groups_layer_decay
from torch import nn

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGES, SIDE, PATCH, WIDTH, DEPTH, HEADS, HIDDEN, OUT, CLASSES = 256, 32, 8, 128, 4, 2, 512, 64, 1024
CONTEXT, VOCABULARY, TEXT_WIDTH, EMBED = 24, 49408, 64, 64
SLOTS, SMALL, LABELS = 1024, 16, 1000
VIT = f"--model custom --image-size {SIDE} --patch-size {PATCH} --width {WIDTH} --depth {DEPTH} --heads {HEADS}"
TEXT = f"--context-length {CONTEXT} --text-width {TEXT_WIDTH} --text-depth 2 --text-heads 2 --embed-dim {EMBED}"
HEAD = f"--head-dims {HIDDEN},{OUT}"
# Rows: a method, and perhaps what it has beside the usual.
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
    "dino/crops": f"--batch 128 --head-dims {HIDDEN},{CLASSES} --clip-gradient 3 --local-crops 4 --local-size {SMALL} --augmentation byol",
    "stablerep/queue": f"--batch 64 --images-per-caption 4 {HEAD} --queue {SLOTS}",
    "finetune": f"--batch 256 --classes {LABELS}",
}
# Crops of each picture, where there are several: without augmentation they are equal.
CROPS = {"simclr": 2, "slip": 3, "mocov3": 2, "byol": 2, "dino": 2, "dino/crops": 2}
# So low that parameters hardly move; and the fewest steps.
RATE, FEWEST = 1e-7, 3
# How far the losses may be apart, relatively: what random weights make of random images differs from seed to seed.
APART = 0.1


def vit(classes: int = 0, **more) -> VisionTransformer:
    return VisionTransformer(img_size=SIDE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=classes, **more)


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
        nn.init.normal_(self.token.weight, std=0.02)

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


class Queue(nn.Module):
    """StableRep against keys of earlier steps too. As ours repeats its first update, every step's keys take the first slots, the rest stays empty."""

    def __init__(self, captions: int, views: int):
        super().__init__()
        self.views = views
        self.online = nn.ModuleList([vit(), head([WIDTH, HIDDEN, HIDDEN, OUT])])
        self.copy = copy.deepcopy(self.online).requires_grad_(False)
        self.labels = torch.arange(captions).repeat(views)
        self.keys, self.of = torch.zeros(SLOTS, OUT), torch.full((SLOTS,), -1)

    def rows(self, network: nn.ModuleList, images: torch.Tensor) -> torch.Tensor:
        return F.normalize(torch.cat([network[1](slot) for slot in network[0](images).chunk(self.views)]), dim=1)

    def loss(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.fresh = self.rows(self.copy, images)
        z, n = self.rows(self.online, images), len(images)
        others = torch.cat([self.labels, self.of])
        never = torch.cat([torch.eye(n, dtype=torch.bool), (self.of < 0).expand(n, -1)], 1)
        logits = (torch.cat([z @ z.T, z @ self.keys.T], 1) / 0.1).masked_fill(never, -1e9)
        p = ((self.labels[:, None] == others[None, :]) & ~never).float()
        return -(p / p.sum(1, keepdim=True).clamp(min=1) * torch.log_softmax(logits, dim=1)).sum(1).mean()

    def follow(self) -> None:
        with torch.no_grad():
            torch._foreach_lerp_(list(self.copy.parameters()), list(self.online.parameters()), 0.006)
        self.keys[: len(self.fresh)], self.of[: len(self.fresh)] = self.fresh, self.labels


class FineTune(nn.Module):
    """The mean of the patches, a norm and a linear classifier; stochastic depth, smoothed labels."""

    def __init__(self):
        super().__init__()
        self.visual = vit(LABELS, global_pool="avg", drop_path_rate=0.1)
        nn.init.trunc_normal_(self.visual.head.weight, std=2e-5)

    def loss(self, images: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self.visual(images), torch.arange(len(images)) % LABELS, label_smoothing=0.1)

    def groups(self) -> list[dict]:
        groups = param_groups_layer_decay(self.visual, weight_decay=0.05, layer_decay=0.65)
        return [{"params": g["params"], "weight_decay": g["weight_decay"], "lr": RATE * g["lr_scale"]} for g in groups]


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


def small(visual: VisionTransformer, images: torch.Tensor) -> torch.Tensor:
    """Features of images of another side, for which positions are resampled at every step, as DINO's code does."""
    side, places = images.shape[-1] // PATCH, SIDE // PATCH
    grid = visual.pos_embed[:, 1:].reshape(1, places, places, WIDTH).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic").permute(0, 2, 3, 1).reshape(1, side * side, WIDTH)
    x = visual.patch_embed.proj(images).flatten(2).transpose(1, 2) + grid
    x = torch.cat([(visual.cls_token + visual.pos_embed[:, :1]).expand(len(x), -1, -1), x], 1)
    return visual.norm(visual.blocks(x))[:, 0]


class Dino(nn.Module):
    def __init__(self, crops: int = 0):
        super().__init__()
        self.online = nn.Sequential(vit(), DinoHead())
        self.small = torch.randn(IMAGES // 2 * crops, 3, SMALL, SMALL)
        self.copy = copy.deepcopy(self.online).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(1, CLASSES))

    def loss(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            teacher = self.copy(images)
            targets = torch.softmax((teacher - self.centre) / 0.04, dim=1).chunk(2)
            self.centre.lerp_(teacher.mean(0, keepdim=True), 0.1)
        visual, head = self.online
        features = [visual(images)] + ([small(visual, self.small)] if len(self.small) else [])
        student = torch.log_softmax(head(torch.cat(features)) / 0.1, dim=1).split(len(images) // 2)
        pairs = [(t, s) for i, t in enumerate(targets) for j, s in enumerate(student) if i != j]
        return sum(-(t * s).sum(1).mean() for t, s in pairs) / len(pairs)

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
        for linear in (module for module in self.modules() if isinstance(module, nn.Linear)):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

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
        "dino/crops": lambda: (Dino(4), 256),
        "stablerep/queue": lambda: (Queue(64, 4), 256),
        "finetune": lambda: (FineTune(), 256),
    }[method]()


def pictures(images: int, crops: int) -> torch.Tensor:
    """Ours: noise an eighth larger, resized; every picture `crops` times, view-major."""
    noise = F.interpolate(torch.rand(images // crops, 3, SIDE * 8 // 7, SIDE * 8 // 7), size=SIDE, mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return ((noise - mean) / std).repeat(crops, 1, 1, 1)


def theirs(method: str, seconds: float, threads: int) -> tuple[float, float]:
    """Milliseconds of a step, the median over about so many seconds or a few steps, and the loss of the last."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network, count = model(method)
    network.train()
    learned = [p for p in network.parameters() if p.requires_grad]
    groups = network.groups() if hasattr(network, "groups") else [{"params": learned}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98), weight_decay=0.1, fused=True)
    images = pictures(count, CROPS.get(method, 1))
    rounds, start = [], None
    while start is None or time.perf_counter() - start < seconds or len(rounds) < FEWEST:
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = network.loss(images)
        loss.backward()
        if isinstance(network, Dino):
            norms = torch._foreach_norm([p.grad for p in learned])
            torch._foreach_mul_([p.grad for p in learned], [float((3 / (norm + 1e-6)).clamp(max=1)) for norm in norms])
        optimizer.step()
        if hasattr(network, "follow"):
            network.follow()
        if start is None:
            start = time.perf_counter()
        else:
            rounds.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(rounds), loss.item()


def ours(binary: Path, method: str, seconds: float, threads: int) -> tuple[float, float]:
    """The same."""
    views = "" if "--augmentation" in FLAGS[method] else "--augmentation none"
    long = f"--seconds {seconds}" if seconds else f"--steps {FEWEST}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        words = f"--threads {threads} bench train --device cpu --method {method.partition('/')[0]} {VIT} {views} {FLAGS[method]} {long} --json {file}"
        done = subprocess.run([binary, *words.split()], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"{binary} {words}: exit code {done.returncode}\n{done.stderr[-2000:]}")
        report = json.loads(file.read_text())
    return report["median_ms"] - next(part["ms"] for part in report["stages"] if part["stage"] == "augmentation"), report["loss"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/stablerep")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help="methods, separated by commas")
    parser.add_argument("--save", type=Path, help="every measurement, as JSON")
    given = parser.parse_args()
    methods = given.only.split(",") if given.only else list(FLAGS)
    for method in methods:
        (_, a), (_, b) = ours(given.binary, method, 0, given.threads), theirs(method, 0, given.threads)
        print(f"loss of {method}: ours {a:.4f}, PyTorch's {b:.4f}", flush=True)
        if abs(a - b) > APART * b:
            sys.exit(f"{method}: the losses differ by more than {APART:.0%}: not the same step")
    raw = {}
    print(f"PyTorch {torch.__version__}, {given.threads} threads; milliseconds of a step of 256 images, medians of {given.rounds} rounds in turn")
    print(f"{'method':<15} {'ours':>9} {'PyTorch':>9} {'ratio':>7}", flush=True)
    for method in methods:
        pairs = []
        for _ in range(given.rounds):
            a, _ = ours(given.binary, method, given.seconds, given.threads)
            pairs.append((a, theirs(method, given.seconds, given.threads)[0]))
        a, b = (statistics.median(side) for side in zip(*pairs))
        raw[method] = pairs
        print(f"{method:<15} {a:>9.1f} {b:>9.1f} {b / a:>6.2f}x   rounds {[round(y / x, 2) for x, y in pairs]}", flush=True)
    if given.save:
        given.save.write_text(json.dumps({"torch": torch.__version__, "threads": given.threads, "ms": raw}, indent=1) + "\n")


if __name__ == "__main__":
    main()
