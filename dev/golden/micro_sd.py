"""Complete diffusers folders with the full structure of SD 1.x (four levels, two layers per block, attention in the autoencoder's
middle) but a few channels and random weights, and what diffusers computes with them in f32.

    python dev/golden/micro_sd.py

micro_sd/a  bf16, single files; `attention_head_dim` an int, 1x1 convolutions around the transformers, quick-GELU text
micro_sd/b  f32, UNet sharded with an index; `attention_head_dim` a list, linear projections (as SD 2.x), GELU text, v-prediction
micro_sd/c  f16 as runwayml's SD 1.5 folder stores it: old short configs, `text_model.` names and `position_ids` in the text encoder, `query/key/value/
            proj_attn` names in the autoencoder's attention
micro_sd/x.safetensors  inputs and outputs of folder x; NCHW, weights read as f32
"""
import json
import shutil

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from common import FIXTURES, SD_SCHEDULE, TINY_SD, save_tensors, setup

DOWN = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
UP = ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")
VOCAB, START, END = 588, 586, 587
TEXT_WIDTH = 16


def unet(channels, head_dim, linear: bool) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=DOWN,
        up_block_types=UP,
        block_out_channels=channels,
        layers_per_block=2,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=head_dim,
        use_linear_projection=linear,
        norm_num_groups=4,
    )


def vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[4, 8, 8, 8],
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
    )


def text(activation: str) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCAB,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            hidden_act=activation,
            projection_dim=TEXT_WIDTH,
            bos_token_id=START,
            eos_token_id=END,
            pad_token_id=END,
        )
    )


def roughen(module: torch.nn.Module) -> None:
    """Norm weights and biases away from 1 and 0, so that a forgotten one shows."""
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1:
            parameter.data += 0.2 * torch.randn_like(parameter)


def rename(tensors: dict, pairs: list[tuple[str, str]]) -> dict:
    def new(name: str) -> str:
        for old, replacement in pairs:
            name = name.replace(old, replacement)
        return name

    return {new(name): tensor for name, tensor in tensors.items()}


def drop_keys(path, keep: list[str]) -> None:
    config = json.loads(path.read_text())
    path.write_text(json.dumps({k: config[k] for k in keep if k in config}, indent=2) + "\n")


def age(folder) -> None:
    """Turns a folder of today's diffusers into what the SD 1.5 folders of 2022 hold."""
    path = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    tensors = {f"text_model.{name}": tensor for name, tensor in tensors.items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, path, {"format": "pt"})

    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    pairs = [(".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn.")]
    save_file(rename(load_file(path), pairs), path, {"format": "pt"})

    common = ["_class_name", "_diffusers_version", "act_fn", "block_out_channels", "in_channels", "layers_per_block"]
    common += ["norm_num_groups", "out_channels", "sample_size", "down_block_types", "up_block_types"]
    unet_keys = ["attention_head_dim", "center_input_sample", "cross_attention_dim", "downsample_padding"]
    unet_keys += ["flip_sin_to_cos", "freq_shift", "mid_block_scale_factor", "norm_eps"]
    drop_keys(folder / "unet" / "config.json", common + unet_keys)
    drop_keys(folder / "vae" / "config.json", common + ["latent_channels"])
    scheduler = ["_class_name", "_diffusers_version", "beta_end", "beta_schedule", "beta_start", "num_train_timesteps"]
    scheduler += ["set_alpha_to_one", "skip_prk_steps", "steps_offset", "trained_betas", "clip_sample"]
    drop_keys(folder / "scheduler" / "scheduler_config.json", scheduler)


def write(name: str, channels, head_dim, linear: bool, activation: str, dtype, prediction: str, shard: bool, old: bool) -> None:
    folder = FIXTURES / "micro_sd" / name
    shutil.rmtree(folder, ignore_errors=True)
    models = {"unet": unet(channels, head_dim, linear), "vae": vae(), "text_encoder": text(activation)}
    for part, model in models.items():
        roughen(model)
        limit = {"max_shard_size": "100KB"} if shard and part == "unet" else {}
        model.to(dtype).save_pretrained(folder / part, **limit)
    scheduler = DDIMScheduler(**(SD_SCHEDULE | {"prediction_type": prediction}))
    scheduler.save_pretrained(folder / "scheduler")
    shutil.copytree(TINY_SD / "tokenizer", folder / "tokenizer")
    shutil.copy(TINY_SD / "model_index.json", folder / "model_index.json")
    if old:
        age(folder)

    # Read back what was written, in f32: this is what another reader must reproduce.
    loaded = {
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet", dtype=torch.float32).eval(),
        "vae": AutoencoderKL.from_pretrained(folder / "vae", dtype=torch.float32).eval(),
        "text": CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval(),
    }
    for part, original in (("unet", models["unet"]), ("vae", models["vae"]), ("text", models["text_encoder"])):
        for key, tensor in loaded[part].state_dict().items():
            assert torch.equal(tensor, original.state_dict()[key].float()), (name, part, key)

    ids = torch.randint(0, VOCAB - 2, (2, 77))
    ids[:, 0] = START
    ids[0, 9:] = END
    ids[1, 76] = END
    out = {"text.ids": ids.int(), "text.hidden": loaded["text"](ids)[0]}
    context = torch.randn(2, 77, TEXT_WIDTH)
    out |= {"unet.context": context, "unet.square.x": torch.randn(2, 4, 8, 8), "unet.wide.x": torch.randn(2, 4, 8, 16)}
    # A size that halves unevenly (9 -> 5 -> 3 -> 2), with a generator of its own.
    out["unet.odd.x"] = torch.randn(2, 4, 5, 9, generator=torch.Generator().manual_seed(59))
    for shape in ("square", "wide", "odd"):
        for t in (981, 1):
            out[f"unet.{shape}.eps_t{t}"] = loaded["unet"](out[f"unet.{shape}.x"], t, context).sample
    out["vae.latents"] = torch.randn(1, 4, 4, 6)
    out["vae.image"] = loaded["vae"].decode(out["vae.latents"]).sample
    metadata = {"scaling_factor": loaded["vae"].config.scaling_factor, "prediction_type": prediction}
    save_tensors(f"micro_sd/{name}.safetensors", out, metadata)
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(name, f"{size / 1e3:.0f} kB,", sum(p.numel() for p in models["unet"].parameters()), "UNet parameters")


@torch.no_grad()
def main() -> None:
    setup(4)
    write("a", (8, 8, 16, 16), 2, False, "quick_gelu", torch.bfloat16, "epsilon", shard=False, old=False)
    write("b", (4, 8, 8, 8), [1, 2, 2, 4], True, "gelu", torch.float32, "v_prediction", shard=True, old=False)
    write("c", (8, 8, 16, 16), 2, False, "quick_gelu", torch.float16, "epsilon", shard=False, old=True)


if __name__ == "__main__":
    main()
