"""Ten AdamW steps of a fine-tuned classifier: timm's ViT, mixed and smoothed labels, rates that fall from layer to
layer.

    python dev/golden/finetune.py

Pixels / 255 with ImageNet's mean and standard deviation. Cases: the mean of the patch tokens behind `fc_norm`, the class
token behind `norm`, and the mean where given images leave given branches out. Layers are MAE's: embedding 0, block i
i + 1, all behind the blocks the same one; where the mean is pooled timm's own `param_groups_layer_decay` agrees.
"""
import torch
from timm.data.mixup import mixup_target
from timm.loss import SoftTargetCrossEntropy
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_layer_decay

from common import save_tensors, setup
from encoder import IMAGENET_MEAN, IMAGENET_STD, learning_rate, roughen

SIZES = dict(image=32, patch=8, width=24, depth=2, heads=3, classes=7)
BATCH, STEPS, WARMUP = 6, 10, 3
OPTIMIZER = dict(lr=4e-3, last=1e-6, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.05, layer_decay=0.65)
SMOOTHING = 0.1
DROP = 0.4  # of the last block's branches


def model(pool: str) -> VisionTransformer:
    return VisionTransformer(
        img_size=SIZES["image"],
        patch_size=SIZES["patch"],
        embed_dim=SIZES["width"],
        depth=SIZES["depth"],
        num_heads=SIZES["heads"],
        num_classes=SIZES["classes"],
        global_pool=pool,
    ).train()


def layer_of(name: str) -> int:
    if name in ("cls_token", "pos_embed") or name.startswith("patch_embed"):
        return 0
    return int(name.split(".")[1]) + 1 if name.startswith("blocks.") else SIZES["depth"] + 1


def groups(net: VisionTransformer) -> list[dict]:
    """One for each tensor."""
    out = []
    for name, parameter in net.named_parameters():
        decay = 0.0 if parameter.ndim < 2 or name in ("cls_token", "pos_embed") else OPTIMIZER["weight_decay"]
        scale = OPTIMIZER["layer_decay"] ** (SIZES["depth"] + 1 - layer_of(name))
        out.append({"params": [parameter], "weight_decay": decay, "lr_scale": scale})
    return out


def agrees_with_timm(net: VisionTransformer, ours: list[dict]) -> None:
    theirs = param_groups_layer_decay(
        net,
        OPTIMIZER["weight_decay"],
        no_weight_decay_list=("cls_token", "pos_embed"),
        layer_decay=OPTIMIZER["layer_decay"],
    )
    settings = {id(p): (g["weight_decay"], g["lr_scale"]) for g in theirs for p in g["params"]}
    for group in ours:
        decay, scale = settings[id(group["params"][0])]
        assert decay == group["weight_decay"] and abs(scale - group["lr_scale"]) < 1e-12


class Given(torch.nn.Module):
    """timm's DropPath where it is given which images keep the branch."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate, self.keep = rate, None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.keep.view(-1, 1, 1) / (1 - self.rate)


def dropping(net: VisionTransformer) -> list[Given]:
    """Attention and MLP of every block but the first, whose rate is 0."""
    given = []
    for i, block in enumerate(net.blocks):
        if i > 0:
            block.drop_path1, block.drop_path2 = (Given(DROP * i / (SIZES["depth"] - 1)) for _ in range(2))
            given += [block.drop_path1, block.drop_path2]
    return given


def run(
    net: VisionTransformer,
    images: torch.Tensor,
    labels: torch.Tensor,
    shares: list[float],
    keep: torch.Tensor | None = None,
) -> dict:
    own = groups(net)
    if hasattr(net, "fc_norm") and not isinstance(net.fc_norm, torch.nn.Identity):
        agrees_with_timm(net, own)
    betas = (OPTIMIZER["beta1"], OPTIMIZER["beta2"])
    optimizer = torch.optim.AdamW(own, lr=0.0, betas=betas, eps=OPTIMIZER["eps"], foreach=False)
    losses, norms, rates = [], [], []
    given = dropping(net) if keep is not None else []
    for step, share in enumerate(shares):
        rate = learning_rate(step, 1, STEPS, WARMUP, OPTIMIZER["lr"], OPTIMIZER["last"])
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        optimizer.zero_grad()
        for i, module in enumerate(given):
            module.keep = keep[step, i]
        target = mixup_target(labels, SIZES["classes"], share, SMOOTHING)
        loss = SoftTargetCrossEntropy()(net(images), target)
        loss.backward()
        norms.append(torch.stack([p.grad.double().pow(2).sum() for p in net.parameters()]).sum().sqrt().item())
        optimizer.step()
        losses.append(loss.item())
        rates.append(rate)
    return {"loss": losses, "grad_norm": norms, "rate": rates}


def main() -> None:
    setup(31)
    nets = {"mean": model("avg"), "class": model("token"), "drop": model("avg")}
    for net in nets.values():
        roughen(net, 0.1)
    # What both have is the same.
    shared = {k: v for k, v in nets["mean"].state_dict().items() if k in nets["class"].state_dict()}
    nets["class"].load_state_dict(nets["class"].state_dict() | shared)
    nets["drop"].load_state_dict(nets["mean"].state_dict())
    state = nets["class"].state_dict() | nets["mean"].state_dict()
    pixels = torch.randint(0, 256, (BATCH, 3, SIZES["image"], SIZES["image"]), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    labels = torch.tensor([3, 0, 6, 6, 1, 3])
    shares = [1.0, 0.25, 0.9, 0.5, 0.7, 1.0, 0.1, 0.625, 0.33, 0.8]
    ours = lambda name: name if name.startswith(("head.", "fc_norm.")) else f"visual.{name}"
    tensors = {"pixels": pixels.permute(0, 2, 3, 1).float()}
    tensors |= {f"param.{ours(name)}": value.clone() for name, value in state.items()}
    images = (pixels / 255 - mean) / std
    tensors["keep"] = (torch.rand(STEPS, 2 * (SIZES["depth"] - 1), BATCH) >= DROP).float()
    keep = {"drop": tensors["keep"]}
    cases = {name: run(net, images, labels, shares, keep.get(name)) for name, net in nets.items()}
    print({name: case["loss"] for name, case in cases.items()})
    metadata = SIZES | OPTIMIZER | {"smoothing": SMOOTHING, "drop": DROP, "warmup": WARMUP}
    metadata |= {"labels": labels.tolist(), "shares": shares}
    save_tensors("finetune.safetensors", tensors, metadata | cases)


if __name__ == "__main__":
    main()
