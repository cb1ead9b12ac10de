"""The rows of cpu.py: what each computes, as PyTorch and as ours are given it. Inputs are random and the same for all engines."""
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextModel
from transformers.utils import logging

from train import MODELS, StableRep

logging.set_verbosity_error()
logging.disable_progress_bar()

TINY = Path(__file__).resolve().parent.parent.parent / "assets" / "tiny-sd"
# Tokens of a text, and where the noise has most of its way before it.
TOKENS, TIMESTEP = 77, 981
# Captions and views of a training step on full-size images, and images that become features at once.
CAPTIONS, VIEWS, FEATURES = 4, 4, 8


@dataclass
class Row:
    """Ours is the network of that name (benches/end_to_end/networks.rs) with weights from a path and these tensors, images NHWC."""

    module: nn.Module
    inputs: tuple[torch.Tensor, ...]
    network: str
    weights: Path
    tensors: dict[str, torch.Tensor]
    trains: bool = False
    # The module in bf16, once it was asked for.
    rounded: nn.Module | None = None


def nhwc(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 2, 3, 1).contiguous()


def channels_last(images: torch.Tensor) -> torch.Tensor:
    return images.contiguous(memory_format=torch.channels_last)


class UNet(nn.Module):
    def __init__(self, folder: Path):
        super().__init__()
        self.net = UNet2DConditionModel.from_pretrained(folder / "unet", dtype=torch.float32, low_cpu_mem_usage=False)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return self.net(sample, timestep, text, return_dict=False)[0]


class Decoder(nn.Module):
    def __init__(self, folder: Path):
        super().__init__()
        self.net = AutoencoderKL.from_pretrained(folder / "vae", dtype=torch.float32, low_cpu_mem_usage=False)
        self.net.encoder = None

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.net.decode(latents, return_dict=False)[0]


class Text(nn.Module):
    def __init__(self, folder: Path):
        super().__init__()
        self.net = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.net(ids).last_hidden_state


def ready(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def unet(folder: Path, side: int, captions: int, each: int) -> Row:
    """Both guidance branches of `each` images of every caption. PyTorch is given every image twice, as diffusers does; ours knows that
    they are the same, and has the keys and values of the texts and the embedding of the timestep from an earlier call of the same run."""
    module = ready(UNet(folder))
    config = module.net.config
    sample = torch.randn(captions * each, config.in_channels, side, side)
    text = torch.randn(captions + 1, TOKENS, config.cross_attention_dim)
    rows = torch.cat([text[:-1].repeat_interleave(each, 0), text[-1:].expand(captions * each, -1, -1)])
    inputs = (channels_last(sample.repeat(2, 1, 1, 1)), torch.tensor(TIMESTEP), rows)
    return Row(module, inputs, "unet", folder, {"sample": nhwc(sample), "text": text, "timestep": torch.tensor([float(TIMESTEP)])})


def decode(folder: Path, side: int, images: int) -> Row:
    module = ready(Decoder(folder))
    latents = torch.randn(images, module.net.config.latent_channels, side, side)
    return Row(module, (channels_last(latents),), "decoder", folder, {"latents": nhwc(latents)})


def text(folder: Path) -> Row:
    module = ready(Text(folder))
    config = module.net.config
    ids = torch.randint(0, min(config.bos_token_id, config.vocab_size), (1, TOKENS))
    return Row(module, (ids,), "text_encoder", folder, {"ids": ids.int()})


def features(scratch: Path) -> Row:
    """The class token after the last norm, from normalised images."""
    name = "vit_small_patch16_224"
    module = ready(timm.create_model(name, num_classes=0))
    weights = scratch / "timm"
    weights.mkdir()
    save_file({key: value.contiguous() for key, value in module.state_dict().items()}, weights / "model.safetensors")
    (weights / "config.json").write_text(json.dumps({"architecture": name, "num_classes": 0}))
    images = torch.randn(FEATURES, 3, 224, 224)
    return Row(module, (channels_last(images),), "features", weights, {"pixels": nhwc(images)})


def train(scratch: Path, model: str) -> Row:
    """An update of StableRep on images in memory; the weights begin as PyTorch's."""
    sizes, head, captions = MODELS[model]
    captions = captions if model == "demo" else CAPTIONS
    module, weights = StableRep(sizes, head, captions, VIEWS, bf16=False), scratch / "init.safetensors"
    save_file(module.state_dict(), weights)
    images = torch.randn(captions * VIEWS, 3, sizes[0], sizes[0])
    return Row(module, (images,), f"train_{model}", weights, {"pixels": nhwc(images)}, trains=True)


# By name: what it is, and what makes it of the full-size model's folder and of a folder for its files. Those of FULL need a model.
ROWS: dict[str, tuple[str, Callable[[Path, Path], Row]]] = {
    "unet-256": ("SD 1.5 UNet, 256², guidance", lambda model, _: unet(model, 32, 1, 1)),
    "unet-512": ("SD 1.5 UNet, 512², guidance", lambda model, _: unet(model, 64, 1, 1)),
    "decode-256": ("SD 1.5 VAE decode, 256²", lambda model, _: decode(model, 32, 1)),
    "decode-512": ("SD 1.5 VAE decode, 512²", lambda model, _: decode(model, 64, 1)),
    "text": ("SD 1.5 text encoder, one text", lambda model, _: text(model)),
    "bundled-unet": ("bundled UNet, 16 × 32², guidance", lambda *_: unet(TINY, 4, 4, 4)),
    "bundled-decode": ("bundled VAE decode, 16 × 32²", lambda *_: decode(TINY, 4, 16)),
    "train-vit-ti": ("train ViT-Ti/16, 16 × 224²", lambda _, scratch: train(scratch, "vit_ti")),
    "train-vit-s": ("train ViT-S/16, 16 × 224²", lambda _, scratch: train(scratch, "vit_s")),
    "train-vit-b": ("train ViT-B/16, 16 × 224²", lambda _, scratch: train(scratch, "vit_b")),
    "train-demo": ("train the demo's ViT, 256 × 32²", lambda _, scratch: train(scratch, "demo")),
    "features": ("features of ViT-S/16, 8 × 224²", lambda _, scratch: features(scratch)),
}
FULL = ("unet-256", "unet-512", "decode-256", "decode-512", "text")
# Not measured unless asked for by name.
LARGE = ("decode-512",)
