"""One training step of StableRep in PyTorch eager, f32: timm's ViT, batch-norm head per view slot, multi-positive loss, AdamW.

    python benches/peers/train.py --model vit_s [--captions 2 --views 4]
    python benches/peers/train.py --model demo  [--captions 32 --views 4]

No data loading and no augmentation: the images are in memory, normalised.
"""
import argparse

import torch
from timm.models.vision_transformer import VisionTransformer

from measure import arguments, measure

# image, patch, width, depth, heads; head's hidden and output width; default captions per step
MODELS = {
    "vit_s": ((224, 16, 384, 12, 6), (4096, 256), 4),
    "demo": ((32, 8, 128, 4, 2), (512, 64), 64),
}
TEMPERATURE = 0.1


def projector(width: int, hidden: int, out: int) -> torch.nn.Module:
    layers = []
    for inputs in (width, hidden):
        layers += [torch.nn.Linear(inputs, hidden), torch.nn.BatchNorm1d(hidden), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(hidden, out))


def multi_positive_loss(raw: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    z = torch.nn.functional.normalize(raw, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool)
    logits = (z @ z.T / TEMPERATURE).masked_fill(itself, -1e9)
    positive = ((labels[:, None] == labels[None, :]) & ~itself).float()
    p = positive / positive.sum(1, keepdim=True).clamp(min=1)
    return -(p * torch.log_softmax(logits, dim=1)).sum(1).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="vit_s")
    parser.add_argument("--captions", type=int, help="captions per step")
    parser.add_argument("--views", type=int, default=4, help="images per caption")
    for name in ("image-size", "patch-size", "width", "depth", "heads", "hidden", "out"):
        parser.add_argument(f"--{name}", type=int, help="in place of the model's own")
    given = arguments(parser)
    vit, head, captions = MODELS[given.model]
    own = [given.image_size, given.patch_size, given.width, given.depth, given.heads]
    image, patch, width, depth, heads = [ours or default for ours, default in zip(own, vit)]
    hidden, out = given.hidden or head[0], given.out or head[1]
    captions = given.captions or captions

    torch.manual_seed(0)
    backbone = VisionTransformer(
        img_size=image, patch_size=patch, embed_dim=width, depth=depth, num_heads=heads, num_classes=0
    )
    mlp = projector(width, hidden, out)
    parameters = [*backbone.parameters(), *mlp.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.98), fused=True)
    images = torch.randn(given.views * captions, 3, image, image)
    labels = torch.arange(captions).repeat(given.views)

    def work():
        optimizer.zero_grad(set_to_none=True)
        features = backbone(images)
        projected = torch.cat([mlp(slot) for slot in features.chunk(given.views)])
        multi_positive_loss(projected, labels).backward()
        optimizer.step()

    shape = dict(image=image, patch=patch, width=width, depth=depth, heads=heads, hidden=hidden, out=out)
    bench = f"train_{given.model}"
    measure(bench, len(images), work, given.seconds, captions=captions, views=given.views, **shape)


if __name__ == "__main__":
    main()
