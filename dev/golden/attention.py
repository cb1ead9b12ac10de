"""What the class token of timm's ViTs attends to, by head of the last block, and the attention rollout of Abnar and Zuidema (2020) over all blocks
by products of whole matrices in f64.

    python dev/golden/attention.py

Reads the weights and images of vit_32_patch8.safetensors and vit_24_patch8_qk_norm.safetensors (vit.py).
"""
import numpy as np
import torch
from safetensors import safe_open

from common import FIXTURES, save_tensors, setup
from encoder import vit
from vit import CASES

OF = ("vit_32_patch8", "vit_24_patch8_qk_norm")


def attentions(name: str) -> list[torch.Tensor]:
    """[N, heads, T, T] of every block."""
    with safe_open(FIXTURES / f"{name}.safetensors", "pt") as file:
        weights = {key.removeprefix("param."): file.get_tensor(key) for key in file.keys() if key.startswith("param.")}
        images = file.get_tensor("images")
    model = vit(**CASES[name]).eval()
    model.load_state_dict(weights)
    seen = []
    for block in model.blocks:
        block.attn.fused_attn = False
        # It is given the probabilities, and drops none of them.
        block.attn.attn_drop.register_forward_hook(lambda _, given, __: seen.append(given[0].detach()))
    with torch.no_grad():
        model(images)
    assert len(seen) == len(model.blocks)
    return seen


def rollout(blocks: list[torch.Tensor]) -> np.ndarray:
    """[N, patches]"""
    means = [block.double().mean(1).numpy() for block in blocks]
    tokens = means[0].shape[-1]
    passed = np.eye(tokens)
    for mean in means:
        passed = (mean + np.eye(tokens)) / 2 @ passed
    return passed[:, 0, 1:]


def main() -> None:
    setup()
    out = {}
    for name in OF:
        blocks = attentions(name)
        out[f"{name}.heads"] = blocks[-1][:, :, 0, 1:]
        out[f"{name}.rollout"] = torch.from_numpy(rollout(blocks)).float()
    save_tensors("attention.safetensors", out)


if __name__ == "__main__":
    main()
