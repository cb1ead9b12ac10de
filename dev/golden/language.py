"""A text tower with its gradients, and ten training steps of CLIP, StableRep+ and SLIP in PyTorch.

    python dev/golden/language.py

text_tower.safetensors         open_clip's text transformer (quick GELU): parameters, token ids, features, and the gradients of all
                               parameters for a random gradient of the features
language_run/init.safetensors  initial weights: `visual.`, `image_mlp.` and, by OpenAI's names, the text side
language_run/run.json          settings and, per method, losses, gradient norms and logit scales of ten steps over the shards of
                               train_run/stablerep (captions 0 and 3, and 9 and 13, share their texts)

Reference for the loss of two rows each: open_clip.loss.ClipLoss; with texts that come twice its targets are replaced by equal shares of
all that have the text. No augmentation: pixels / 255, ImageNet mean and standard deviation; captions in order, batches view-major.
"""
import io
import json
import tarfile

import numpy as np
import torch
from open_clip.loss import ClipLoss
from open_clip.model import QuickGELU
from open_clip.transformer import TextTransformer
from PIL import Image
from transformers import CLIPTokenizer

from common import FIXTURES, TINY_SD, save_json, save_tensors, setup
from encoder import IMAGENET_MEAN, IMAGENET_STD, Projector, learning_rate, multi_positive_loss, parameter_groups, roughen, vit

STEPS, STEPS_PER_EPOCH, CAPTIONS = 10, 2, 8
VIT = dict(image=32, patch=8, width=24, depth=2, heads=3)
HEAD = dict(hidden=32, out=16)
TEXT = dict(context=16, vocabulary=588, width=16, depth=2, heads=2)
EMBED = 24
OPTIMIZER = dict(beta1=0.9, beta2=0.98, eps=1e-8, weight_decay=0.1)
TEMPERATURE, PEAK_LR, TEXT_WEIGHT = 0.1, 2e-3, 0.7
# Views of a caption: images of it, but for SLIP three times the same.
METHODS = {"clip": 1, "stablerep+": 4, "slip": 3}


def text_transformer(context: int, vocabulary: int, width: int, depth: int, heads: int, out: int) -> TextTransformer:
    return TextTransformer(
        context_length=context, vocab_size=vocabulary, width=width, heads=heads, layers=depth, output_dim=out, act_layer=QuickGELU
    )


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = vit(**VIT)
        self.image_mlp = Projector(VIT["width"], **HEAD)
        self.text = text_transformer(**TEXT, out=EMBED)
        self.image_projection = torch.nn.Parameter(torch.randn(VIT["width"], EMBED) * VIT["width"] ** -0.5)
        self.logit_scale = torch.nn.Parameter(torch.tensor(1 / 0.07).log())

    def named(self):
        for name, parameter in self.named_parameters():
            yield name.removeprefix("text."), parameter


def shard() -> tuple[list[str], np.ndarray]:
    """Captions and u8 images [captions, 4, 32, 32, 3] of train_run/stablerep."""
    with tarfile.open(FIXTURES / "train_run/stablerep/00000.tar") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    keys = sorted(name.removesuffix(".png") for name in members if name.endswith(".png"))
    images = np.stack([np.asarray(Image.open(io.BytesIO(members[f"{key}.png"])).convert("RGB")) for key in keys])
    texts = [members[f"{key}.txt"].decode() for key in keys[::4]]
    return texts, images.reshape(len(texts), 4, *images.shape[1:])


def tokens(texts: list[str]) -> torch.Tensor:
    tokenizer = CLIPTokenizer.from_pretrained(TINY_SD / "tokenizer")
    return torch.tensor(tokenizer(texts, padding="max_length", truncation=True, max_length=TEXT["context"])["input_ids"])


def image_text_loss(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    """`same` [images, texts]: which belong together."""
    logits = scale.exp() * torch.nn.functional.normalize(image, dim=1) @ torch.nn.functional.normalize(text, dim=1).T

    def one_way(logits: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
        p = same / same.sum(1, keepdim=True)
        return -(p * torch.log_softmax(logits, dim=1)).sum(1).mean()

    return (one_way(logits, same) + one_way(logits.T, same.T)) / 2


def train(model: Model, method: str, dtype) -> dict:
    texts, images = shard()
    ids, views = tokens(texts), METHODS[method]
    model = model.to(dtype).train()
    mean, std = (torch.tensor(values, dtype=dtype) for values in (IMAGENET_MEAN, IMAGENET_STD))
    x = ((torch.from_numpy(images).to(dtype) / 255 - mean) / std).permute(0, 1, 4, 2, 3)
    identity = torch.tensor([texts.index(text) for text in texts])
    used = [(name, p) for name, p in model.named() if method != "clip" or not name.startswith("image_mlp.")]
    betas = (OPTIMIZER["beta1"], OPTIMIZER["beta2"])
    optimizer = torch.optim.AdamW(parameter_groups(used, OPTIMIZER["weight_decay"]), lr=0.0, betas=betas, eps=OPTIMIZER["eps"], foreach=False)
    record = {"loss": [], "grad_norm": [], "logit_scale": []}
    for step in range(STEPS):
        chosen = list(range(step % STEPS_PER_EPOCH * CAPTIONS, (step % STEPS_PER_EPOCH + 1) * CAPTIONS))
        rate = learning_rate(step, STEPS_PER_EPOCH, STEPS / STEPS_PER_EPOCH, 1, PEAK_LR)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        features = model.visual(torch.cat([x[chosen, 0 if method == "slip" else v] for v in range(views)]))
        labels = identity[chosen]
        beside_texts = 1 if method == "slip" else views
        same = (labels.repeat(beside_texts)[:, None] == labels[None, :]).to(dtype)
        image, text = features[: beside_texts * CAPTIONS] @ model.image_projection, model.text(ids[chosen])
        loss = image_text_loss(image, text, model.logit_scale, same)
        if method != "clip":
            compared = features[CAPTIONS:] if method == "slip" else features
            slots = len(compared) // CAPTIONS
            alike = torch.arange(CAPTIONS) if method == "slip" else labels
            own = multi_positive_loss(model.image_mlp(compared, slots), alike.repeat(slots), TEMPERATURE).mean()
            loss = own + TEXT_WEIGHT * loss
        loss.backward()
        norm = torch.stack([p.grad.double().pow(2).sum() for _, p in used]).sum().sqrt()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, np.log(100))
        for key, value in (("loss", loss), ("grad_norm", norm), ("logit_scale", model.logit_scale)):
            record[key].append(value.item())
    return record


def tower() -> None:
    model = text_transformer(**TEXT, out=EMBED)
    # The tower ends before the projection.
    del model.text_projection
    model.text_projection = None
    roughen(model, 0.2)
    texts, _ = shard()
    ids = tokens(texts[:5] + ["", "a photo of a dark plain slim bag beside another bag beside a dress"])
    features = model(ids)
    gradient = torch.randn_like(features)
    features.backward(gradient)
    tensors = {"features": features, "d features": gradient, "ids": ids.float()}
    for name, parameter in model.named_parameters():
        tensors[name], tensors[f"d {name}"] = parameter, parameter.grad
    save_tensors("text_tower.safetensors", tensors, TEXT)


def compare_with_open_clip() -> None:
    image, text, scale = torch.randn(7, 9), torch.randn(7, 9), torch.tensor(2.5)
    unit = [torch.nn.functional.normalize(rows, dim=1) for rows in (image, text)]
    torch.testing.assert_close(image_text_loss(image, text, scale, torch.eye(7)), ClipLoss()(*unit, scale.exp()))


def main() -> None:
    setup(23)
    compare_with_open_clip()
    tower()
    model = Model()
    roughen(model.visual, 0.2), roughen(model.image_mlp, 0.2), roughen(model.text, 0.1)
    initial = {k: v.clone() for k, v in model.state_dict().items()}
    # open_clip's mask is no weight.
    weights = {k.removeprefix("text."): v for k, v in initial.items() if not k.endswith("attn_mask")}
    save_tensors("language_run/init.safetensors", weights, VIT | HEAD)
    result = {"text": TEXT, "embed_dim": EMBED, "peak_lr": PEAK_LR, "text_weight": TEXT_WEIGHT, "captions_per_step": CAPTIONS}
    for method in METHODS:
        runs = {}
        for name, dtype in (("f32", torch.float32), ("f64", torch.float64)):
            model.load_state_dict(initial)
            runs[name] = train(model, method, dtype)
        drifts = [abs(a / b - 1) for a, b in zip(runs["f32"]["loss"], runs["f64"]["loss"])]
        print(method, [round(loss, 4) for loss in runs["f32"]["loss"]], f"f32 against f64: {max(drifts):.1e}")
        result[method] = runs["f32"] | {"loss_f64": runs["f64"]["loss"]}
    save_json("language_run/run.json", result)


if __name__ == "__main__":
    main()
