"""Encoders of other authors in the files they publish, small and with random weights, and what their own libraries compute.

    python dev/golden/encoders.py

encoders/NAME.safetensors, encoders/NAME/   weights (f16) by the names of NAME's authors, with the configs that lie beside them
encoders/expected.safetensors               `pictures.SIZE` u8 [3, S, S, 3]; per case `NAME.features` [3, D]; of those with texts `NAME.pictures` and
                                            `NAME.texts`, unit rows of the pictures and of the sentences in the metadata

References: timm (whose reader of checkpoints knows DINOv2's own names) and open_clip; the projection heads of StableRep+ in PyTorch.
"""
import json
import shutil

import numpy as np
import open_clip
import timm
import torch
from open_clip.model import CLIP
from timm.models._hub import save_for_hf
from timm.models.vision_transformer import checkpoint_filter_fn

from common import FIXTURES, save_tensors, setup
from encoder import IMAGENET_MEAN, IMAGENET_STD, Projector, roughen, vit
from language import TEXT, text_transformer, tokens

FOLDER = FIXTURES / "encoders"
SMALL = dict(image=16, patch=8, width=16, depth=2, heads=2)
DINO_V2 = dict(img_size=28, embed_dim=16, depth=2, num_heads=2)
CLIP_ARGS = dict(img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=12)
OPENAI_MEAN, OPENAI_STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
SENTENCES = ["a bag", "a dress on a table", "a photo of the dark coat"]

expected, pictures = {}, {}


def rounded(module: torch.nn.Module, scale: float = 0.1) -> torch.nn.Module:
    """Moved off its initial values, and of weights that f16 holds."""
    roughen(module, scale)
    with torch.no_grad():
        for value in [*module.parameters(), *module.buffers()]:
            if value.is_floating_point():
                value.copy_(value.half().float())
    return module.eval()


def half(tensors: dict) -> dict:
    return {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}


def seen(size: int, mean=IMAGENET_MEAN, std=IMAGENET_STD) -> torch.Tensor:
    """Three pictures as a network takes them."""
    if size not in pictures:
        generator = np.random.default_rng(size)
        pictures[size] = torch.from_numpy(generator.integers(0, 256, (3, size, size, 3), dtype=np.uint8))
    return ((pictures[size] / 255 - torch.tensor(mean)) / torch.tensor(std)).permute(0, 3, 1, 2)


def prefixed(state: dict, prefix: str) -> dict:
    return {f"{prefix}{name}": value for name, value in state.items()}


def official_layouts() -> None:
    """timm's ViT under the names of those who trained with it."""

    def backbone(name: str) -> dict:
        model = rounded(vit(**SMALL))
        expected[f"{name}.features"] = model(seen(16))
        return model.state_dict()

    head = {"layer1.weight": torch.randn(4, 16), "bn1.running_mean": torch.randn(4)}
    layouts = {
        "stablerep": prefixed(backbone("stablerep"), "module.visual.") | prefixed(head, "module.image_mlp."),
        "synclr": prefixed(backbone("synclr"), "teacher.backbone.")
        | prefixed(backbone("synclr.student") | {"mask_token": torch.randn(1, 1, 16)}, "student.backbone.")
        | prefixed(head, "student.proj."),
        "moco_v3": prefixed(backbone("moco_v3") | {"head.0.weight": torch.randn(4, 16)}, "module.base_encoder.")
        | prefixed(backbone("moco_v3.teacher") | {"head.0.weight": torch.randn(4, 16)}, "module.momentum_encoder.")
        | {"module.predictor.0.weight": torch.randn(4, 4)},
        "dino": prefixed(backbone("dino"), "teacher.backbone.")
        | prefixed(backbone("dino.student"), "student.module.backbone.")
        | {"teacher.head.mlp.0.weight": torch.randn(4, 16), "dino_loss.center": torch.randn(1, 4)},
        "mae": backbone("mae")
        | {"mask_token": torch.randn(1, 1, 8), "decoder_pos_embed": torch.randn(1, 5, 8), "decoder_embed.weight": torch.randn(8, 16)},
    }
    for name, tensors in layouts.items():
        save_tensors(f"encoders/{name}.safetensors", half(tensors))


def timm_folder(name: str, architecture: str, args: dict, sizes: list[int], mean, std) -> None:
    """A folder as timm saves it, and features at its own size and at others, to which timm resamples positions."""
    model = rounded(timm.create_model(architecture, **args))
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    model.pretrained_cfg = dict(model.pretrained_cfg) | {"input_size": (3, args["img_size"], args["img_size"])}
    save_for_hf(model, folder, model_args=args, safe_serialization=True)
    save_tensors(f"encoders/{name}/model.safetensors", half(model.state_dict()))
    for size in sizes:
        other = timm.create_model(architecture, **args | {"img_size": size, "num_classes": 0}).eval()
        state = checkpoint_filter_fn(model.state_dict(), other)
        other.load_state_dict({k: v for k, v in state.items() if not k.startswith("head.")})
        expected[f"{name}.{size}.features"] = other(seen(size, mean, std))


def dino_v2() -> None:
    for name, architecture in [("dinov2_timm", "vit_small_patch14_dinov2"), ("dinov2_reg_timm", "vit_small_patch14_reg4_dinov2")]:
        timm_folder(name, architecture, DINO_V2, [28, 42], IMAGENET_MEAN, IMAGENET_STD)
    # By the authors' names, read by timm: registers lie under another name, and the class token has a position.
    model = timm.create_model("vit_small_patch14_reg4_dinov2", **DINO_V2).eval()
    official = rounded(timm.create_model("vit_small_patch14_dinov2", **DINO_V2)).state_dict()
    official |= {"register_tokens": torch.randn(1, 4, 16).half().float(), "mask_token": torch.randn(1, 16)}
    save_tensors("encoders/dinov2_reg.safetensors", half(official))
    model.load_state_dict(checkpoint_filter_fn(official, model))
    expected["dinov2_reg.features"] = model(seen(28))


def write_config(name: str, model: dict, preprocess: dict) -> None:
    config = {"model_cfg": model, "preprocess_cfg": preprocess}
    (FOLDER / name / "open_clip_config.json").write_text(json.dumps(config, indent=4) + "\n")


def compared(name: str, image: torch.Tensor, text: torch.Tensor) -> None:
    expected[f"{name}.pictures"] = torch.nn.functional.normalize(image, dim=1)
    expected[f"{name}.texts"] = torch.nn.functional.normalize(text, dim=1)


def clip() -> None:
    timm_folder("clip_timm", "vit_base_patch16_clip_224", CLIP_ARGS, [16], OPENAI_MEAN, OPENAI_STD)
    timm_folder("clip_quick_timm", "vit_base_patch16_clip_quickgelu_224", CLIP_ARGS, [16, 24], OPENAI_MEAN, OPENAI_STD)
    vision = dict(image_size=16, layers=2, width=16, head_width=8, patch_size=8, ls_init_value=0.5)
    text = dict(context_length=TEXT["context"], vocab_size=TEXT["vocabulary"], width=16, heads=2, layers=2)
    config = dict(embed_dim=12, vision_cfg=vision, text_cfg=text)
    for name, model, ids in [("open_clip", config, 0), ("open_clip_quick", config | {"quick_gelu": True}, 1)]:
        if ids:
            model = model | {"vision_cfg": {k: v for k, v in vision.items() if k != "ls_init_value"}}
        network = rounded(CLIP(**model))
        mean, std = (OPENAI_MEAN, OPENAI_STD) if ids else ((0.5, 0.4, 0.3), (0.25, 0.5, 0.4))
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
        save_tensors(f"encoders/{name}/open_clip_model.safetensors", half(network.state_dict()))
        write_config(name, model, {"size": [16, 16], "mode": "RGB", "mean": mean, "std": std, "interpolation": "bicubic", "resize_mode": "squash"})
        x = seen(16, mean, std)
        compared(name, network.encode_image(x), network.encode_text(tokens(SENTENCES)))
        network.visual.proj = None
        expected[f"{name}.features"] = network.visual(x)
    # OpenAI's own: heads of 64 values, and numbers beside the weights that tell whose it is. Without its text tower.
    model = rounded(CLIP(8, dict(image_size=16, layers=1, width=64, patch_size=8), text | {"layers": 1, "width": 8}, quick_gelu=True))
    state = {k: v for k, v in model.state_dict().items() if k.startswith("visual.")}
    state |= {k: torch.tensor(v) for k, v in {"input_resolution": 16, "context_length": 16, "vocab_size": 588}.items()}
    save_tensors("encoders/openai.safetensors", half(state))
    model.visual.proj = None
    expected["openai.features"] = model.visual(seen(16, OPENAI_MEAN, OPENAI_STD))


def heads() -> None:
    """StableRep+ with heads in the place of projections, by its authors' names."""
    visual, own = rounded(vit(**SMALL)), text_transformer(**TEXT, out=8)
    own.text_projection = None
    text = rounded(own)
    image_projection, text_projection = (rounded(Projector(width, 12, 8)) for width in (16, TEXT["width"]))
    for head in (image_projection, text_projection):
        for norm in (head.bn1, head.bn2):
            norm.running_mean.copy_(0.3 * torch.randn(12).half())
            norm.running_var.copy_((0.5 + torch.rand(12)).half())
    state = prefixed(visual.state_dict(), "visual.") | {k: v for k, v in text.state_dict().items() if k != "attn_mask"}
    state |= prefixed(image_projection.state_dict(), "image_projection.") | prefixed(text_projection.state_dict(), "text_projection.")
    save_tensors("encoders/stablerep_plus.safetensors", half(state))
    expected["stablerep_plus.features"] = visual(seen(16))
    compared("stablerep_plus", image_projection(visual(seen(16)), 1), text_projection(text(tokens(SENTENCES)), 1))


@torch.no_grad()
def main() -> None:
    setup(11)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for make in (official_layouts, dino_v2, clip, heads):
        make()
    shown = {f"pictures.{size}": values for size, values in pictures.items()}
    save_tensors("encoders/expected.safetensors", expected | shown, {"sentences": SENTENCES})


if __name__ == "__main__":
    main()
