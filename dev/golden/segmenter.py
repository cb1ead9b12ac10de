"""Ten AdamW steps of segmentation networks in plain PyTorch: UperNet with its neck and auxiliary head on timm's ViT as
mmsegmentation's `upernet_mae` has them, and a linear layer behind a batch norm over a frozen ViT; then logits by running
statistics.

    python dev/golden/segmenter.py

Pixels / 255 with ImageNet's mean and standard deviation; the cross-entropy is the mean over all pixels, ignored ones
among them. Which channels are left out in front of the classifiers is given. Convolutions are stored [out, row, column,
in], transposed ones [row, column, out, in]. Computed in f64.
"""
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from common import save_tensors, setup
from encoder import IMAGENET_MEAN, IMAGENET_STD, roughen, vit

SIZES = dict(image=48, patch=4, width=16, depth=3, heads=2, classes=5)
BATCH, STEPS, WARMUP = 2, 10, 3
OPTIMIZER = dict(lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.05, layer_decay=0.65)
AUXILIARY, DROP = 0.4, 0.25  # of the auxiliary loss, and of channels
BINS = (1, 2, 3, 6)
IGNORED = 255


def taps(depth: int) -> list[int]:
    """Blocks behind which maps are taken: 4, 6, 8 and 12 of 12."""
    return [-(-depth * share // of) for share, of in ((1, 3), (1, 2), (2, 3), (1, 1))]


class ConvModule(nn.Module):
    def __init__(self, inputs: int, outputs: int, window: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, window, padding=window // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


def enlarge(x: torch.Tensor, size) -> torch.Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class Neck(nn.Module):
    def __init__(self, d: int):
        super().__init__()
        up = lambda: nn.ConvTranspose2d(d, d, 2, 2)
        self.fpn1 = nn.Sequential(up(), nn.BatchNorm2d(d), nn.GELU(), up())
        self.fpn2 = nn.Sequential(up())

    def forward(self, maps):
        return [self.fpn1(maps[0]), self.fpn2(maps[1]), maps[2], F.max_pool2d(maps[3], 2, 2)]


class UperHead(nn.Module):
    def __init__(self, d: int, classes: int):
        super().__init__()
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), ConvModule(d, d, 1)) for size in BINS
        )
        self.bottleneck = ConvModule(d * (1 + len(BINS)), d, 3)
        self.lateral_convs = nn.ModuleList(ConvModule(d, d, 1) for _ in range(3))
        self.fpn_convs = nn.ModuleList(ConvModule(d, d, 3) for _ in range(3))
        self.fpn_bottleneck = ConvModule(4 * d, d, 3)
        self.conv_seg = nn.Conv2d(d, classes, 1)

    def features(self, levels):
        top = levels[3]
        pyramid = [top] + [enlarge(module(top), top.shape[2:]) for module in self.psp_modules]
        passed = [conv(level) for conv, level in zip(self.lateral_convs, levels)]
        passed.append(self.bottleneck(torch.cat(pyramid, 1)))
        for i in (2, 1, 0):
            passed[i] = passed[i] + enlarge(passed[i + 1], passed[i].shape[2:])
        outs = [conv(level) for conv, level in zip(self.fpn_convs, passed)] + [passed[3]]
        outs = [enlarge(out, outs[0].shape[2:]) for out in outs]
        return self.fpn_bottleneck(torch.cat(outs, 1))


class Auxiliary(nn.Module):
    def __init__(self, d: int, classes: int):
        super().__init__()
        self.convs = nn.ModuleList([ConvModule(d, min(d, 256), 3)])
        self.conv_seg = nn.Conv2d(min(d, 256), classes, 1)


class Linear(nn.Module):
    def __init__(self, d: int, classes: int):
        super().__init__()
        self.bn = nn.BatchNorm2d(d)
        self.conv_seg = nn.Conv2d(d, classes, 1)


class Network(nn.Module):
    def __init__(self, head: str):
        super().__init__()
        d, classes = SIZES["width"], SIZES["classes"]
        self.visual = vit(SIZES["image"], SIZES["patch"], d, SIZES["depth"], SIZES["heads"])
        if head == "uper":
            self.neck, self.auxiliary_head, self.decode_head = Neck(d), Auxiliary(d, classes), UperHead(d, classes)
        else:
            self.decode_head = Linear(d, classes)
        self.head = head

    def maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        net, wanted = self.visual, taps(SIZES["depth"])
        x = net.patch_embed(images)
        x = torch.cat([net.cls_token.expand(len(x), -1, -1), x], 1) + net.pos_embed
        behind = {}
        for i, block in enumerate(net.blocks):
            x = block(x)
            behind[i + 1] = x
        side = SIZES["image"] // SIZES["patch"]
        as_map = lambda x: x[:, 1:].transpose(1, 2).reshape(len(x), -1, side, side)
        return [as_map(behind[tap]) for tap in wanted]

    def forward(self, images: torch.Tensor, keep: list[torch.Tensor] | None) -> list[torch.Tensor]:
        """Logits of the head and, in training, of the auxiliary one, at their own sizes."""
        drop = lambda x, kept: x * kept[:, :, None, None] / (1 - DROP) if keep is not None else x
        kept = keep or [None, None]
        if self.head == "linear":
            with torch.no_grad():
                last = self.maps(images)[3]
            return [self.decode_head.conv_seg(drop(self.decode_head.bn(last), kept[0]))]
        maps = self.maps(images)
        logits = [self.decode_head.conv_seg(drop(self.decode_head.features(self.neck(maps)), kept[0]))]
        if keep is not None:
            auxiliary = self.auxiliary_head
            logits.append(auxiliary.conv_seg(drop(auxiliary.convs[0](maps[2]), kept[1])))
        return logits


def layer_of(name: str) -> int:
    name = name.removeprefix("visual.")
    if name in ("cls_token", "pos_embed") or name.startswith("patch_embed"):
        return 0
    return int(name.split(".")[1]) + 1 if name.startswith("blocks.") else SIZES["depth"] + 1


def groups(net: Network) -> list[dict]:
    out = []
    for name, parameter in net.named_parameters():
        if net.head == "linear" and name.startswith("visual."):
            continue
        scale = OPTIMIZER["layer_decay"] ** (SIZES["depth"] + 1 - layer_of(name))
        # Behind a product they are matrices there, and biases are not.
        decay = OPTIMIZER["weight_decay"] if parameter.ndim >= 2 else 0.0
        out.append({"params": [parameter], "weight_decay": decay, "lr_scale": scale})
    return out


def loss_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = enlarge(logits, labels.shape[1:])
    return F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none").mean()


def ours(name: str, value: torch.Tensor) -> torch.Tensor:
    if "fpn1.0.weight" in name or "fpn1.3.weight" in name or "fpn2.0.weight" in name:
        return value.permute(2, 3, 1, 0)
    if name.startswith("visual.") or value.ndim != 4:
        return value
    return value.permute(0, 2, 3, 1) if value.shape[2] > 1 else value[:, :, 0, 0]


def run(net: Network, images: torch.Tensor, labels: torch.Tensor, keep: torch.Tensor) -> dict:
    betas = (OPTIMIZER["beta1"], OPTIMIZER["beta2"])
    optimizer = torch.optim.AdamW(groups(net), lr=0.0, betas=betas, eps=OPTIMIZER["eps"], foreach=False)
    losses, norms = [], []
    for step in range(STEPS):
        # A straight line behind the warm-up.
        rate = OPTIMIZER["lr"] * (step / WARMUP if step < WARMUP else 1 - (step - WARMUP) / (STEPS - WARMUP))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        optimizer.zero_grad()
        logits = net(images, [keep[step, 0], keep[step, 1]])
        loss = loss_of(logits[0], labels)
        if len(logits) > 1:
            loss = loss + AUXILIARY * loss_of(logits[1], labels)
        loss.backward()
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        norms.append(torch.stack([g.pow(2).sum() for g in gradients]).sum().sqrt().item())
        optimizer.step()
        losses.append(loss.item())
    return {"loss": losses, "grad_norm": norms}


def slide(net: Network, mean: torch.Tensor, std: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A picture, numbers of its pixels of which 0 is none, and the classes that sliding windows give them:
    mmsegmentation's `slide_inference`, logits averaged and then resized to the picture."""
    side, stride, generator = SIZES["image"], SIZES["image"] * 2 // 3, torch.Generator().manual_seed(8)
    height, width = 37, 70
    smooth = enlarge(torch.rand(1, 3, 5, 7, generator=generator, dtype=torch.float64), (height, width))[0]
    picture = (smooth * 255).to(torch.uint8).permute(1, 2, 0)
    numbers = torch.randint(0, SIZES["classes"] + 1, (height, width), generator=generator)
    short = min(height, width)
    size = (int(width * side / short + 0.5), int(height * side / short + 0.5))
    resized = Image.fromarray(picture.numpy()).resize(size, Image.BILINEAR)
    image = (torch.tensor(np.array(resized)).permute(2, 0, 1)[None].double() / 255 - mean) / std
    count = torch.zeros(1, 1, size[1], size[0], dtype=torch.float64)
    sums = torch.zeros(1, SIZES["classes"], size[1], size[0], dtype=torch.float64)
    for i in range(max(size[1] - side + stride - 1, 0) // stride + 1):
        for j in range(max(size[0] - side + stride - 1, 0) // stride + 1):
            bottom, right = min(i * stride + side, size[1]), min(j * stride + side, size[0])
            top, left = max(bottom - side, 0), max(right - side, 0)
            window = image[:, :, top:bottom, left:right]
            sums[:, :, top:bottom, left:right] += enlarge(net(window, None)[0], window.shape[2:])
            count[:, :, top:bottom, left:right] += 1
    return picture, numbers, enlarge(sums / count, (height, width)).argmax(1)[0]


def main() -> None:
    setup(41)
    classes, side = SIZES["classes"], SIZES["image"]
    pixels = torch.randint(0, 256, (BATCH, 3, side, side), dtype=torch.uint8)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    images = (pixels.double() / 255 - mean) / std
    # Blobs of classes, and some pixels of none.
    labels = enlarge(torch.randn(BATCH, classes + 1, 6, 6, dtype=torch.float64), (side, side)).argmax(1)
    labels[labels == classes] = IGNORED
    keep = (torch.rand(STEPS, 2, BATCH, SIZES["width"], dtype=torch.float64) >= DROP).double()
    for head in ("uper", "linear"):
        net = Network(head)
        roughen(net, 0.1)
        net = net.double().train()
        for name, buffer in net.named_buffers():
            if name.endswith("running_mean"):
                buffer += 0.1 * torch.randn_like(buffer)
        # What is compared is what f32 holds.
        with torch.no_grad():
            for value in list(net.parameters()) + [b for b in net.buffers() if b.is_floating_point()]:
                value.copy_(value.float())
        tensors = {"pixels": pixels.permute(0, 2, 3, 1).float(), "labels": labels.float(), "keep": keep.float()}
        tensors |= {f"param.{name}": ours(name, value.detach()).float() for name, value in net.named_parameters()}
        statistics = lambda: {n: b.clone() for n, b in net.named_buffers() if "running" in n}
        tensors |= {f"stat.{name}": value.float() for name, value in statistics().items()}
        with torch.no_grad():
            logits = net.eval()(images, None)[0]
            tensors["logits"] = logits.permute(0, 2, 3, 1).float()
            picture, numbers, taken = slide(net, mean, std)
        tensors |= {"picture": picture.float(), "numbers": numbers.float(), "taken": taken.float()}
        case = run(net.train(), images, labels, keep)
        tensors |= {f"stat_after.{name}": value.float() for name, value in statistics().items()}
        print(head, case["loss"])
        metadata = SIZES | OPTIMIZER | {"auxiliary": AUXILIARY, "drop": DROP, "warmup": WARMUP, "steps": STEPS}
        save_tensors(f"segmenter_{head}.safetensors", tensors, metadata | case)


if __name__ == "__main__":
    main()
