"""Micro ViTs by timm: weights, images, features, and the gradient of sum(features * upstream) for every parameter; one of them with stochastic
depth, whose masks are given. And positions that timm resamples when it reads weights into a model for images of another size.

    python dev/golden/vit.py
"""
from functools import partial

import torch
from timm.models.vision_transformer import checkpoint_filter_fn

from common import save_tensors, setup
from encoder import roughen, vit

CASES = {
    "vit_32_patch8": dict(image=32, patch=8, width=24, depth=2, heads=3),
    "vit_48_patch16": dict(image=48, patch=16, width=16, depth=1, heads=2, mlp_ratio=2.0),
    "vit_24_patch8_qk_norm": dict(image=24, patch=8, width=16, depth=2, heads=2, qk_norm=True),
    "vit_24_patch8_clip": dict(image=24, patch=8, width=16, depth=2, heads=2, pre_norm=True, act_layer="quick_gelu"),
}
BATCH = 2
DROPPED = dict(image=16, patch=8, width=16, depth=3, heads=2)
DROP_RATE, DROP_BATCH = 0.4, 5
# From images of one size to those of another.
RESAMPLED = {"up": (32, 48), "down": (48, 32), "apart": (8, 56)}


class Masked(torch.nn.Module):
    """timm's DropPath with the images that keep the branch given."""

    def __init__(self, kept: torch.Tensor, rate: float):
        super().__init__()
        self.kept, self.scale = kept, 1 / (1 - rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (self.kept.to(x.dtype) * self.scale)[:, None, None]


def dropped() -> tuple[torch.nn.Module, torch.Tensor]:
    """A ViT of which every block but the first drops branches, and which images keep which: [depth - 1, 2, N]."""
    model = vit(**DROPPED, drop_path_rate=DROP_RATE).train()
    depth = DROPPED["depth"]
    kept = (torch.rand(depth - 1, 2, DROP_BATCH) < 0.6).int()
    for i, block in enumerate(model.blocks):
        rates = [getattr(path, "drop_prob", 0.0) for path in (block.drop_path1, block.drop_path2)]
        assert all(abs(rate - DROP_RATE * i / (depth - 1)) < 1e-6 for rate in rates), rates
        if i > 0:
            block.drop_path1, block.drop_path2 = (Masked(kept[i - 1, j], rates[j]) for j in range(2))
    return model, kept


def resampled() -> dict:
    """`NAME.from` [1, 1 + from², 8] and `NAME.to` [1, 1 + to², 8]."""
    out = {}
    for name, sides in RESAMPLED.items():
        before, after = (vit(image=side, patch=8, width=8, depth=1, heads=2) for side in sides)
        roughen(before)
        after.load_state_dict(checkpoint_filter_fn(before.state_dict(), after))
        out |= {f"{name}.from": before.pos_embed, f"{name}.to": after.pos_embed}
    return out


def main() -> None:
    setup(5)
    for name, settings in CASES.items():
        # As timm has it in CLIP's image towers.
        norms = {"norm_layer": partial(torch.nn.LayerNorm, eps=1e-5)} if "pre_norm" in settings else {}
        save(name, vit(**settings, **norms).train(), settings, BATCH, {})
    setup(6)
    model, kept = dropped()
    save("vit_drop_path", model, DROPPED | {"rate": DROP_RATE}, DROP_BATCH, {"kept": kept})
    setup(7)
    save_tensors("positions.safetensors", resampled(), RESAMPLED)


def save(name: str, model: torch.nn.Module, settings: dict, batch: int, beside: dict) -> None:
    roughen(model)
    images = torch.randn(batch, 3, settings["image"], settings["image"])
    upstream = torch.randn(batch, settings["width"])
    features = model(images)
    (features * upstream).sum().backward()
    out = {"images": images, "upstream": upstream, "features": features} | beside
    out |= {f"param.{key}": value for key, value in model.named_parameters()}
    out |= {f"grad.{key}": value.grad for key, value in model.named_parameters()}
    save_tensors(f"{name}.safetensors", out, settings)


if __name__ == "__main__":
    main()
