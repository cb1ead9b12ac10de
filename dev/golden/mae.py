"""A masked autoencoder by transformers' ViTMAEForPreTraining on given noise, and ten AdamW steps of it.

    python dev/golden/mae.py

Pixels / 255 with ImageNet's mean and standard deviation; norm_pix_loss; biases and one-dimensional tensors do not decay.
"""
import numpy as np
import torch
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from common import save_tensors, setup
from encoder import IMAGENET_MEAN, IMAGENET_STD, learning_rate, roughen

SIZES = dict(image=32, patch=8, width=24, depth=2, heads=3, decoder_width=16, decoder_depth=1, decoder_heads=2, mask_ratio=0.75)
BATCH, STEPS, WARMUP = 6, 10, 3
OPTIMIZER = dict(lr=2e-3, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.05)


def model() -> ViTMAEForPreTraining:
    config = ViTMAEConfig(
        hidden_size=SIZES["width"],
        num_hidden_layers=SIZES["depth"],
        num_attention_heads=SIZES["heads"],
        intermediate_size=4 * SIZES["width"],
        image_size=SIZES["image"],
        patch_size=SIZES["patch"],
        layer_norm_eps=1e-6,
        decoder_hidden_size=SIZES["decoder_width"],
        decoder_num_hidden_layers=SIZES["decoder_depth"],
        decoder_num_attention_heads=SIZES["decoder_heads"],
        decoder_intermediate_size=4 * SIZES["decoder_width"],
        mask_ratio=SIZES["mask_ratio"],
        norm_pix_loss=True,
        attn_implementation="eager",
    )
    return ViTMAEForPreTraining(config).train()


def positions(width: int, grid: int) -> np.ndarray:
    """As util/pos_embed.py of the official code: np.meshgrid gives the column first."""

    def along(places: np.ndarray) -> np.ndarray:
        omega = 1.0 / 10000 ** (np.arange(width // 4, dtype=float) / (width / 4.0))
        out = np.einsum("m,d->md", places.reshape(-1), omega)
        return np.concatenate([np.sin(out), np.cos(out)], axis=1)

    column, row = np.meshgrid(np.arange(grid, dtype=np.float32), np.arange(grid, dtype=np.float32))
    table = np.concatenate([along(column), along(row)], axis=1)
    return np.concatenate([np.zeros([1, width]), table], axis=0)


def block(source: str, target: str, tensors: dict) -> dict:
    """timm's names, q, k and v as one."""
    out = {}
    for kind in ("weight", "bias"):
        find = lambda *ends: next(tensors[f"{source}.{end}.{kind}"] for end in ends if f"{source}.{end}.{kind}" in tensors)
        qkv = [find(f"attention.attention.{part}", f"attention.{long}") for part, long in
               (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"))]
        out[f"{target}.attn.qkv.{kind}"] = torch.cat(qkv)
        out[f"{target}.attn.proj.{kind}"] = find("attention.output.dense", "attention.o_proj")
        out[f"{target}.mlp.fc1.{kind}"] = find("intermediate.dense", "mlp.fc1")
        out[f"{target}.mlp.fc2.{kind}"] = find("output.dense", "mlp.fc2")
        out[f"{target}.norm1.{kind}"] = find("layernorm_before")
        out[f"{target}.norm2.{kind}"] = find("layernorm_after")
    return out


def named(tensors: dict) -> dict:
    """By the official code's names, the encoder under `visual.`"""
    out = {
        "visual.cls_token": tensors["vit.embeddings.cls_token"],
        "visual.pos_embed": tensors["vit.embeddings.position_embeddings"],
        "mask_token": tensors["decoder.mask_token"],
        "decoder_pos_embed": tensors["decoder.decoder_pos_embed"],
    }
    for kind in ("weight", "bias"):
        out[f"visual.patch_embed.proj.{kind}"] = tensors[f"vit.embeddings.patch_embeddings.projection.{kind}"]
        out[f"visual.norm.{kind}"] = tensors[f"vit.layernorm.{kind}"]
        out[f"decoder_embed.{kind}"] = tensors[f"decoder.decoder_embed.{kind}"]
        out[f"decoder_norm.{kind}"] = tensors[f"decoder.decoder_norm.{kind}"]
        out[f"decoder_pred.{kind}"] = tensors[f"decoder.decoder_pred.{kind}"]
    for i in range(SIZES["depth"]):
        prefix = next(p for p in (f"vit.encoder.layer.{i}", f"vit.layers.{i}") if any(k.startswith(p) for k in tensors))
        out |= block(prefix, f"visual.blocks.{i}", tensors)
    for i in range(SIZES["decoder_depth"]):
        out |= block(f"decoder.decoder_layers.{i}", f"decoder_blocks.{i}", tensors)
    return out


def main() -> None:
    setup(21)
    net = model()
    roughen(net, 0.1)
    # Positions are fixed; transformers 5 leaves them at 0 unless weights are loaded.
    for name, parameter in net.named_parameters():
        if "pos_embed" in name or "position_embeddings" in name:
            table = positions(parameter.shape[2], SIZES["image"] // SIZES["patch"])
            parameter.data.copy_(torch.from_numpy(table).float()[None])
    pixels = torch.randint(0, 256, (BATCH, 3, SIZES["image"], SIZES["image"]), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    images = (pixels / 255 - mean) / std
    patches = (SIZES["image"] // SIZES["patch"]) ** 2
    kept = int(patches * (1 - SIZES["mask_ratio"]))
    noise = torch.rand(STEPS, BATCH, patches)
    tensors = {
        "pixels": pixels.permute(0, 2, 3, 1).float(),
        "kept": torch.argsort(noise, dim=2)[:, :, :kept].float(),
    }
    tensors |= {f"param.{name}": value.detach().clone() for name, value in named(dict(net.named_parameters())).items()}
    decayed = [p for n, p in net.named_parameters() if p.ndim >= 2 and p.requires_grad]
    free = [p for n, p in net.named_parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": OPTIMIZER["weight_decay"]}, {"params": free, "weight_decay": 0.0}]
    betas = (OPTIMIZER["beta1"], OPTIMIZER["beta2"])
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=OPTIMIZER["eps"], foreach=False)
    losses, norms, rates = [], [], []
    for step in range(STEPS):
        rate = learning_rate(step, 1, STEPS, WARMUP, OPTIMIZER["lr"])
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        out = net(images, noise=noise[step])
        out.loss.backward()
        if step == 0:
            tensors["predictions"] = out.logits
            tensors["mask"] = out.mask
            grads = {n: p.grad.clone() if p.grad is not None else torch.zeros_like(p) for n, p in net.named_parameters()}
            tensors |= {f"grad.{name}": value for name, value in named(grads).items() if "pos_embed" not in name}
        norms.append(torch.stack([p.grad.double().pow(2).sum() for p in net.parameters() if p.grad is not None]).sum().sqrt().item())
        optimizer.step()
        losses.append(out.loss.item())
        rates.append(rate)
    print("losses", losses)
    metadata = SIZES | OPTIMIZER | {"steps": STEPS, "warmup": WARMUP, "loss": losses, "grad_norm": norms, "rate": rates}
    save_tensors("mae.safetensors", tensors, metadata)


if __name__ == "__main__":
    main()
