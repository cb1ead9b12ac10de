"""One training step of StableRep in PyTorch: timm's ViT, batch-norm head per view slot, multi-positive loss, AdamW.

    python benches/peers/train.py --model vit_s [--captions 2 --views 4]
    python benches/peers/train.py --model demo  [--captions 32 --views 4]
    python benches/peers/train.py --model vit_b --device cuda --compile

On the CPU f32; on a GPU bf16 by autocast over f32 weights, the loss in f32 as ours. One line for eager PyTorch; with --compile one
for torch.compile too. No data loading and no augmentation: the images are in memory, normalised.
"""
import argparse
from collections import OrderedDict

import torch
from timm.models.vision_transformer import VisionTransformer

from measure import arguments, try_measure

# image, patch, width, depth, heads; head's hidden and output width; default captions per step
MODELS = {
    "vit_ti": ((224, 16, 192, 12, 3), (4096, 256), 4),
    "vit_s": ((224, 16, 384, 12, 6), (4096, 256), 4),
    "vit_b": ((224, 16, 768, 12, 12), (4096, 256), 128),
    "vit_l": ((224, 16, 1024, 24, 16), (4096, 256), 64),
    "demo": ((32, 8, 128, 4, 2), (512, 64), 64),
}
TEMPERATURE = 0.1


def projector(width: int, hidden: int, out: int) -> torch.nn.Sequential:
    layers = OrderedDict()
    for number, inputs in enumerate((width, hidden), 1):
        layers |= {f"layer{number}": torch.nn.Linear(inputs, hidden), f"bn{number}": torch.nn.BatchNorm1d(hidden), f"relu{number}": torch.nn.ReLU()}
    return torch.nn.Sequential(layers | {"layer3": torch.nn.Linear(hidden, out)})


def multi_positive_loss(raw: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    z = torch.nn.functional.normalize(raw, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    logits = (z @ z.T / TEMPERATURE).masked_fill(itself, -1e9)
    positive = ((labels[:, None] == labels[None, :]) & ~itself).float()
    p = positive / positive.sum(1, keepdim=True).clamp(min=1)
    return -(p * torch.log_softmax(logits, dim=1)).sum(1).mean()


class StableRep(torch.nn.Module):
    """The loss of normalised images [views · captions, 3, S, S], view-major, whose features are computed in bf16 by autocast or not.
    Parameters have the names that `stablerep train --init-from` reads."""

    def __init__(self, sizes: tuple[int, ...], head: tuple[int, int], captions: int, views: int, bf16: bool):
        super().__init__()
        image, patch, width, depth, heads = sizes
        self.visual = VisionTransformer(img_size=image, patch_size=patch, embed_dim=width, depth=depth, num_heads=heads, num_classes=0)
        self.image_mlp = projector(width, *head)
        self.register_buffer("labels", torch.arange(captions).repeat(views), persistent=False)
        self.views, self.bf16 = views, bf16

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            features = self.visual(images)
            projected = torch.cat([self.image_mlp(slot) for slot in features.chunk(self.views)])
        return multi_positive_loss(projected.float(), self.labels)


def adamw(network: torch.nn.Module) -> torch.optim.AdamW:
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.98), fused=True)


def update(loss_of, optimizer: torch.optim.Optimizer, images: torch.Tensor) -> torch.Tensor:
    optimizer.zero_grad(set_to_none=True)
    loss = loss_of(images)
    loss.backward()
    optimizer.step()
    return loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="vit_s")
    parser.add_argument("--captions", type=int, help="captions per step")
    parser.add_argument("--views", type=int, default=4, help="images per caption")
    for name in ("image-size", "patch-size", "width", "depth", "heads", "hidden", "out"):
        parser.add_argument(f"--{name}", type=int, help="in place of the model's own")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile")
    given = arguments(parser)
    vit, head, captions = MODELS[given.model]
    own = [given.image_size, given.patch_size, given.width, given.depth, given.heads]
    image, patch, width, depth, heads = [ours or default for ours, default in zip(own, vit)]
    hidden, out = given.hidden or head[0], given.out or head[1]
    captions = given.captions or captions

    device = given.device
    torch.manual_seed(0)
    network = StableRep((image, patch, width, depth, heads), (hidden, out), captions, given.views, device != "cpu").to(device)
    optimizer = adamw(network)
    images = torch.randn(given.views * captions, 3, image, image, device=device)

    if device != "cpu":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    shape = dict(image=image, patch=patch, width=width, depth=depth, heads=heads, hidden=hidden, out=out)
    shape |= dict(captions=captions, views=given.views)
    bench = f"train_{given.model}"
    try_measure(bench, len(images), lambda: update(network, optimizer, images), given.seconds, device, variant="eager", **shape)
    if given.compile:
        compiled = torch.compile(network, mode="max-autotune" if device != "cpu" else "default")
        try_measure(bench, len(images), lambda: update(compiled, optimizer, images), given.seconds, device, variant="compile", **shape)


if __name__ == "__main__":
    main()
