"""Micro ViTs by timm: weights, images, features, and the gradient of sum(features * upstream) for every parameter.

    python dev/golden/vit.py
"""
import torch

from common import save_tensors, setup
from encoder import roughen, vit

CASES = {
    "vit_32_patch8": dict(image=32, patch=8, width=24, depth=2, heads=3),
    "vit_48_patch16": dict(image=48, patch=16, width=16, depth=1, heads=2, mlp_ratio=2.0),
    "vit_24_patch8_qk_norm": dict(image=24, patch=8, width=16, depth=2, heads=2, qk_norm=True),
}
BATCH = 2


def main() -> None:
    setup(5)
    for name, settings in CASES.items():
        model = vit(**settings).train()
        roughen(model)
        images = torch.randn(BATCH, 3, settings["image"], settings["image"])
        upstream = torch.randn(BATCH, settings["width"])
        features = model(images)
        (features * upstream).sum().backward()
        out = {"images": images, "upstream": upstream, "features": features}
        out |= {f"param.{key}": value for key, value in model.named_parameters()}
        out |= {f"grad.{key}": value.grad for key, value in model.named_parameters()}
        save_tensors(f"{name}.safetensors", out, settings)


if __name__ == "__main__":
    main()
