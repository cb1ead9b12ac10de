"""The encoder in PyTorch, as docs/method.md gives it: timm's ViT, the projection head, the multi-positive loss,
parameter groups, schedule.

Shared by the golden scripts vit.py, head.py, loss.py, optimizer.py, train_run.py, momentum.py, dino.py and key_queue.py.
"""
import math

import torch
from timm.models.vision_transformer import VisionTransformer

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def vit(image: int, patch: int, width: int, depth: int, heads: int, mlp_ratio: float = 4.0, **more) -> VisionTransformer:
    """timm's ViT without a classifier; its output is the class token after the last layer norm (eps 1e-6)."""
    return VisionTransformer(
        img_size=image,
        patch_size=patch,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=mlp_ratio,
        num_classes=0,
        **more,
    )


def roughen(module: torch.nn.Module, scale: float = 0.1) -> None:
    """Moves every parameter off its initial value, so that zeros, ones and tiny weights hide no mistake."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += scale * torch.randn_like(parameter)


class Projector(torch.nn.Module):
    """Linear, batch norm, ReLU, twice; then Linear. Names as in the official checkpoints (under `image_mlp.`)."""

    def __init__(self, width: int, hidden: int, out: int):
        super().__init__()
        self.layer1 = torch.nn.Linear(width, hidden)
        self.bn1 = torch.nn.BatchNorm1d(hidden)
        self.layer2 = torch.nn.Linear(hidden, hidden)
        self.bn2 = torch.nn.BatchNorm1d(hidden)
        self.layer3 = torch.nn.Linear(hidden, out)

    def slot(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.layer1(x)))
        x = torch.relu(self.bn2(self.layer2(x)))
        return self.layer3(x)

    def forward(self, x: torch.Tensor, views: int) -> torch.Tensor:
        """`x` [M*N, D] view-major; each of the M slots is normalised on its own (views = 1: over all)."""
        return torch.cat([self.slot(part) for part in x.chunk(views)])


def multi_positive_loss(raw: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """Per anchor losses [K] of raw features [K, D]; positives are the other rows with the same label."""
    z = torch.nn.functional.normalize(raw, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool)
    logits = (z @ z.T / temperature).masked_fill(itself, float("-inf"))
    log_q = torch.log_softmax(logits, dim=1).masked_fill(itself, 0.0)
    positive = ((labels[:, None] == labels[None, :]) & ~itself).to(raw.dtype)
    p = positive / positive.sum(1, keepdim=True).clamp(min=1)
    return -(p * log_q).sum(1)


def parameter_groups(named_parameters, weight_decay: float) -> list[dict]:
    """No decay for tensors of fewer than two dimensions and for names with `bias`, `ln` or `bn`."""
    decayed, free = [], []
    for name, parameter in named_parameters:
        exempt = parameter.ndim < 2 or any(part in name for part in ("bias", "ln", "bn"))
        (free if exempt else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def learning_rate(
    step: int, steps_per_epoch: int, epochs: float, warmup_epochs: float, peak: float, last: float = 0.0
) -> float:
    """Linear from 0 over the warm-up, then half a cosine to `last`; `step` counts iterations from 0, epochs may be fractions."""
    epoch = step / steps_per_epoch
    if epoch < warmup_epochs:
        return peak * epoch / warmup_epochs
    share = (epoch - warmup_epochs) / (epochs - warmup_epochs)
    return last + (peak - last) * 0.5 * (1 + math.cos(math.pi * share))
