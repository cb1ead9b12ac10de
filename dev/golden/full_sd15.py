"""A full-size Stable Diffusion 1.5 folder with random weights, and what diffusers computes with it: too large to commit, made on demand.

    python dev/golden/full_sd15.py FOLDER [--threads N] [--no-reference]

Writes FOLDER/model (a diffusers folder with SD 1.5's configs and the real CLIP vocabulary; f16, 2.1 GB: 859.5 M parameters of UNet, 123.1 M of text
encoder, 83.7 M of autoencoder) and FOLDER/reference.safetensors (f32 arithmetic on the f16 weights):

    text.ids i32 [2,77], text.hidden [2,77,768]
    unet.x [2,4,64,64], unet.context [2,77,768], unet.eps_t981 [2,4,64,64]
    vae.latents [1,4,64,64] (as the decoder takes them), vae.image [1,3,512,512]

Takes 6 GB of memory and some minutes on two cores.
"""
import argparse
import gc
import json
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from common import FIXTURES, SD_SCHEDULE, TINY_SD
from tokenizer import END, START, vocabulary


def unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=64,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(320, 640, 1280, 1280),
        layers_per_block=2,
        cross_attention_dim=768,
        attention_head_dim=8,
    )


def vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[128, 256, 512, 512],
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
        scaling_factor=0.18215,
    )


def text() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=77,
            hidden_act="quick_gelu",
            projection_dim=768,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=1,
        )
    )


def write_tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    merges = (FIXTURES / "clip_tokenizer" / "merges.txt").read_text(encoding="utf-8")
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(vocabulary(merges), ensure_ascii=False), encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = special | {"model_max_length": 77, "do_lower_case": True, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1))


def store(make, folder: Path):
    """Makes a model, stores it in f16 and returns it in f32 with exactly the stored values."""
    model = make().half()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            # Norms and biases away from 1 and 0, so that a forgotten one shows.
            parameter.data += 0.1 * torch.randn(parameter.shape).half()
    model.save_pretrained(folder)
    return model.float().eval()


@torch.no_grad()
def main(folder: Path, threads: int, reference: bool) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(15)
    model, out = folder / "model", {}
    write_tokenizer(model / "tokenizer")
    settings = {k: v for k, v in SD_SCHEDULE.items() if k != "clip_sample"}
    scheduler = PNDMScheduler(skip_prk_steps=True, **settings)
    scheduler.register_to_config(clip_sample=False)  # PNDM has no such setting, SD 1.5's file has it for DDIM's sake
    scheduler.save_pretrained(model / "scheduler")
    (model / "model_index.json").write_text((TINY_SD / "model_index.json").read_text())

    encoder = store(text, model / "text_encoder")
    ids = torch.randint(0, 49406, (2, 77))
    ids[:, 0] = 49406
    ids[0, 12:] = 49407
    ids[1, 76] = 49407
    if reference:
        out["text.ids"], out["text.hidden"] = ids.int(), encoder(ids)[0]
    del encoder

    decoder = store(vae, model / "vae")
    if reference:
        out["vae.latents"] = torch.randn(1, 4, 64, 64)
        start = time.time()
        out["vae.image"] = decoder.decode(out["vae.latents"]).sample
        print(f"VAE decode: {time.time() - start:.1f} s, std {out['vae.image'].std():.4f}", flush=True)
    del decoder
    gc.collect()

    network = store(unet, model / "unet")
    print(f"UNet: {sum(p.numel() for p in network.parameters()) / 1e6:.1f} M parameters", flush=True)
    if not reference:
        return
    out["unet.x"], out["unet.context"] = torch.randn(2, 4, 64, 64), torch.randn(2, 77, 768)
    start = time.time()
    out["unet.eps_t981"] = network(out["unet.x"], 981, out["unet.context"]).sample
    print(f"UNet call, batch 2: {time.time() - start:.1f} s, std {out['unet.eps_t981'].std():.4f}", flush=True)
    save_file({k: v.contiguous() for k, v in out.items()}, folder / "reference.safetensors")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--no-reference", dest="reference", action="store_false", help="the model alone")
    given = arguments.parse_args()
    main(given.folder, given.threads, given.reference)
