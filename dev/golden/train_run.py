"""Twenty training steps in PyTorch on a small shard, StableRep and SimCLR: data, initial weights, losses.

    python dev/golden/train_run.py

train_run/{stablerep,simclr}/  webdataset shards of images drawn by the bundled tiny Stable Diffusion
train_run/init.safetensors     initial weights: backbone in timm's names, head under `image_mlp.`
train_run/run.json             settings and, per method, losses, gradient norms and learning rates of the 20 steps

No augmentation: pixels / 255, ImageNet mean and standard deviation. No shuffling: captions in order, the batch view-major (all first
images, then all second ones ...). StableRep: 8 captions x 4 images per step, positives = same caption text (captions 0 and 3, and 9
and 13, share theirs). SimCLR: 16 images per step x 2 identical views, positives = same image. Batch norm per view slot.
"""
import io
import itertools
import json
import tarfile

import numpy as np
import torch
from PIL import Image

from common import FIXTURES, report, save_json, save_tensors, setup, to_u8_truncated
from encoder import IMAGENET_MEAN, IMAGENET_STD, Projector, learning_rate, multi_positive_loss, parameter_groups, roughen, vit
from generation import Reference

STEPS = 20
VIT = dict(image=32, patch=8, width=24, depth=2, heads=3)
HEAD = dict(hidden=32, out=16)
OPTIMIZER = dict(beta1=0.9, beta2=0.98, eps=1e-8, weight_decay=0.1)
EPOCHS, STEPS_PER_EPOCH, WARMUP_EPOCHS = 10, 2, 2.5
TEMPERATURE = 0.1
# At twice the rate gradient norms of two runs in f32 whose initial weights are one rounding apart differ by 2e-4, as those of f32 and
# f64 then may too: nothing could be compared to 1e-4.
METHODS = {
    "stablerep": dict(captions=16, images_per_caption=4, captions_per_step=8, views=4, peak_lr=1e-3),
    "simclr": dict(captions=32, images_per_caption=1, captions_per_step=16, views=2, peak_lr=5e-4),
}


def caption_texts() -> list[str]:
    garments = ["t-shirt", "dress", "coat", "sandal", "sneaker", "bag", "pullover", "ankle boot"]
    looks = [("dark", "plain", "slim"), ("light", "patterned", "wide"), ("gray", "plain", "wide"), ("light", "plain", "slim")]
    return [f"a photo of a {t} {x} {c} {g}" for (t, x, c), g in itertools.product(looks, garments)]


@torch.no_grad()
def draw(texts: list[str]) -> np.ndarray:
    """u8 images [N,32,32,3], guidance 2, 10 steps."""
    reference = Reference()
    noise = torch.randn(len(texts), 4, 4, 4)
    latents = reference.ddim(noise, texts, w=2, steps=10)[-1]
    return to_u8_truncated(reference.decode(latents)).numpy()


def write_shard(name: str, texts: list[str], images: np.ndarray, per_caption: int) -> None:
    folder = FIXTURES / "train_run" / name
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "00000.tar", "w", format=tarfile.USTAR_FORMAT) as shard:

        def add(member: str, data: bytes) -> None:
            info = tarfile.TarInfo(member)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))

        for i, pixels in enumerate(images):
            caption_id, image_index = divmod(i, per_caption)
            key = f"{caption_id:08}_{image_index:03}"
            png = io.BytesIO()
            Image.fromarray(pixels).save(png, "PNG", optimize=True)
            about = {"key": key, "caption_id": caption_id, "image_index": image_index, "caption": texts[caption_id]}
            add(f"{key}.png", png.getvalue())
            add(f"{key}.txt", texts[caption_id].encode())
            add(f"{key}.json", json.dumps(about).encode())
    (folder / "sizes.json").write_text(json.dumps({"00000.tar": len(images)}) + "\n")
    report(folder / "00000.tar")


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = vit(**VIT)
        self.image_mlp = Projector(VIT["width"], **HEAD)

    def named(self):
        """Parameters with the names that the official checkpoints use, the backbone's without `visual.`"""
        for name, parameter in self.named_parameters():
            yield name.removeprefix("backbone."), parameter

    def forward(self, images: torch.Tensor, views: int) -> torch.Tensor:
        return self.image_mlp(self.backbone(images), views)


def train(model: Encoder, method: str, texts: list[str], images: np.ndarray, dtype) -> dict:
    settings = METHODS[method]
    model = model.to(dtype).train()
    mean = torch.tensor(IMAGENET_MEAN, dtype=dtype)
    std = torch.tensor(IMAGENET_STD, dtype=dtype)
    x = ((torch.from_numpy(images).to(dtype) / 255 - mean) / std).permute(0, 3, 1, 2)
    x = x.reshape(settings["captions"], settings["images_per_caption"], *x.shape[1:])
    identity = [texts.index(text) for text in texts]

    groups = parameter_groups(model.named(), OPTIMIZER["weight_decay"])
    betas = (OPTIMIZER["beta1"], OPTIMIZER["beta2"])
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=OPTIMIZER["eps"], foreach=False)
    record = {"loss": [], "grad_norm": [], "lr": []}
    for step in range(STEPS):
        n = settings["captions_per_step"]
        first = step % STEPS_PER_EPOCH * n
        chosen = list(range(first, first + n))
        views = [x[chosen, v % settings["images_per_caption"]] for v in range(settings["views"])]
        labels = torch.tensor([identity[c] for c in chosen] * settings["views"])
        rate = learning_rate(step, STEPS_PER_EPOCH, EPOCHS, WARMUP_EPOCHS, settings["peak_lr"])
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = multi_positive_loss(model(torch.cat(views), settings["views"]), labels, TEMPERATURE).mean()
        loss.backward()
        norm = torch.stack([p.grad.double().pow(2).sum() for p in model.parameters()]).sum().sqrt()
        optimizer.step()
        record["loss"].append(loss.item())
        record["grad_norm"].append(norm.item())
        record["lr"].append(rate)
    return record


def main() -> None:
    setup(9)
    texts = caption_texts()
    stablerep_texts = texts[:16]
    stablerep_texts[3], stablerep_texts[13] = stablerep_texts[0], stablerep_texts[9]
    data = {}
    for method, own in (("stablerep", stablerep_texts), ("simclr", texts)):
        per_caption = METHODS[method]["images_per_caption"]
        images = draw([text for text in own for _ in range(per_caption)])
        write_shard(method, own, images, per_caption)
        data[method] = (own, images)

    # timm's initial weights let a ViT this narrow tell images apart by rounding errors only, which batch norm then
    # amplifies.
    model = Encoder()
    roughen(model, 0.2)
    initial = {k: v.clone() for k, v in model.state_dict().items()}
    save_tensors("train_run/init.safetensors", {k.removeprefix("backbone."): v for k, v in initial.items()}, VIT | HEAD)
    result = {
        "vit": VIT,
        "head": HEAD,
        "optimizer": OPTIMIZER,
        "temperature": TEMPERATURE,
        "epochs": EPOCHS,
        "steps_per_epoch": STEPS_PER_EPOCH,
        "warmup_epochs": WARMUP_EPOCHS,
    }
    for method, (own, images) in data.items():
        runs = {}
        for name, dtype in (("f32", torch.float32), ("f64", torch.float64)):
            model.load_state_dict(initial)
            runs[name] = train(model, method, own, images, dtype)
        print(method, [round(loss, 4) for loss in runs["f32"]["loss"]])
        for key in ("loss", "grad_norm"):
            drift = max(abs(a / b - 1) for a, b in zip(runs["f32"][key], runs["f64"][key]))
            print(f"largest relative difference of a {key}, f32 against f64: {drift:.1e}")
            # A fifth of what the tests allow: the recipe must not decide.
            assert drift < 2e-5, (method, key, drift)
        result[method] = METHODS[method] | runs["f32"] | {f"{key}_f64": runs["f64"][key] for key in ("loss", "grad_norm")}
    save_json("train_run/run.json", result)


if __name__ == "__main__":
    main()
