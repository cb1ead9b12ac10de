"""The projection head by PyTorch: train mode with batch norm per view slot and over all, gradients, running statistics, eval mode.

    python dev/golden/head.py
"""
import copy

import torch

from common import save_tensors, setup
from encoder import Projector, roughen

WIDTH, HIDDEN, OUT = 12, 20, 8
VIEWS, PER_VIEW = 3, 7


def run(head: Projector, views: int, x: torch.Tensor, upstream: torch.Tensor, prefix: str) -> dict:
    head = copy.deepcopy(head).train()
    x = x.clone().requires_grad_()
    y = head(x, views)
    (y * upstream).sum().backward()
    out = {"y": y, "dx": x.grad}
    out |= {f"grad.{key}": value.grad for key, value in head.named_parameters()}
    # Running statistics and the eval-mode output after this one training step (which updated them once per slot).
    out |= {f"after.{key}": value for key, value in head.named_buffers()}
    out["y_eval"] = head.eval()(x.detach(), 1)
    return {f"{prefix}.{key}": value for key, value in out.items()}


def main() -> None:
    setup(6)
    head = Projector(WIDTH, HIDDEN, OUT)
    roughen(head, 0.2)
    head.bn1.running_mean += 0.3 * torch.randn(HIDDEN)
    head.bn2.running_var *= 1 + torch.rand(HIDDEN)
    # Slots with different means, so that normalising them together gives something else.
    x = torch.randn(VIEWS * PER_VIEW, WIDTH) + torch.arange(VIEWS).repeat_interleave(PER_VIEW)[:, None]
    upstream = torch.randn(VIEWS * PER_VIEW, OUT)
    out = {"x": x, "upstream": upstream}
    out |= {f"param.{key}": value for key, value in head.state_dict().items()}
    out |= run(head, VIEWS, x, upstream, "per_slot")
    out |= run(head, 1, x, upstream, "global")
    metadata = dict(width=WIDTH, hidden=HIDDEN, out=OUT, views=VIEWS, per_view=PER_VIEW, eps=1e-5, momentum=0.1)
    save_tensors("head.safetensors", out, metadata)


if __name__ == "__main__":
    main()
