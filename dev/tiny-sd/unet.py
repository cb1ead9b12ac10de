"""Trains the UNet and the text encoder together for a given time and writes MODEL/{unet,text_encoder,scheduler,model_index.json}.

    python dev/tiny-sd/unet.py MODEL SECONDS             stage 1: from scratch, plain noise prediction
    python dev/tiny-sd/unet.py MODEL SECONDS --stage2    stage 2: goes on from MODEL, weights the loss toward the noisy steps

Needs MODEL/tokenizer and MODEL/vae. Latents of all 60,000 training images are encoded once (every second block of 500
mirrored). One caption in ten is replaced by the empty one, for classifier-free guidance. What is saved are exponential
moving averages of the weights.
"""
import argparse
import copy
import json
import math
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from world import CLASSES, CUTS, STYLE_WEIGHTS, STYLES, TEXTURES, TONES, all_attributes, attributes, caption, load, to_rgb

BATCH = 128
TOKENS = 77
EMPTY_PROBABILITY = 0.1
WARMUP_STEPS = 100
# Stable Diffusion 1.5's noise schedule.
SCHEDULE = dict(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000, steps_offset=1
)


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=1,
            max_position_embeddings=TOKENS,
            hidden_act="quick_gelu",
            projection_dim=64,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )


def new_unet() -> UNet2DConditionModel:
    # attention_head_dim = 2 means two heads (diffusers' naming): head sizes 40 and 80, as in SD 1.5.
    return UNet2DConditionModel(
        sample_size=4,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(80, 160),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=2,
        norm_num_groups=8,
    )


def encode_images(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """Scaled posterior means f32 [N,4,4,4]."""
    blocks = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(images), 500):
            x = to_rgb(images[start : start + 500])
            if (start // 500) % 2 == 0:
                x = x.flip(-1)
            blocks.append(vae.encode(x).latent_dist.mean.float() * vae.config.scaling_factor)
    return torch.cat(blocks)


def caption_ids(tokenizer: CLIPTokenizer) -> torch.Tensor:
    """Token ids i64 [garment, tone, texture, cut, style, 77] of every caption of the world."""
    table = torch.zeros(len(CLASSES), len(TONES), len(TEXTURES), len(CUTS), len(STYLES), TOKENS, dtype=torch.long)
    for where in all_attributes():
        texts = [caption(*where, style) for style in range(len(STYLES))]
        encoded = tokenizer(texts, padding="max_length", max_length=TOKENS, truncation=True)
        table[where] = torch.tensor(encoded["input_ids"])
    return table


def save(model: Path, unet: UNet2DConditionModel, text: CLIPTextModel) -> None:
    unet.save_pretrained(model / "unet")
    text.save_pretrained(model / "text_encoder")
    scheduler = PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=False, **SCHEDULE)
    # PNDM has no such setting, but DDIM reads it from this file and would clip the predicted x0 without it.
    scheduler.register_to_config(clip_sample=False)
    scheduler.save_pretrained(model / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (model / "model_index.json").write_text(json.dumps(index, indent=2))


def main(model: Path, seconds: float, stage2: bool) -> None:
    torch.manual_seed(3 if stage2 else 1)
    peak_lr = 8e-4 if stage2 else 1e-3
    longest_average = 0.995 if stage2 else 0.9985

    vae = AutoencoderKL.from_pretrained(model / "vae").eval()
    tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
    if stage2:
        text = CLIPTextModel.from_pretrained(model / "text_encoder").train()
        unet = UNet2DConditionModel.from_pretrained(model / "unet").train()
    else:
        text, unet = new_text_encoder(tokenizer).train(), new_unet().train()

    images, labels = load("train")
    measured = attributes(images, labels)
    latents = encode_images(vae, images)
    print("latents", tuple(latents.shape), "std", latents.std().item(), flush=True)
    ids_of = caption_ids(tokenizer)
    empty = torch.tensor(tokenizer("", padding="max_length", max_length=TOKENS)["input_ids"])
    alphas = DDPMScheduler(clip_sample=False, **SCHEDULE).alphas_cumprod

    parameters = list(unet.parameters()) + list(text.parameters())
    optimizer = torch.optim.AdamW(parameters, peak_lr, weight_decay=0.01, betas=(0.9, 0.99))
    averaged_unet, averaged_text = copy.deepcopy(unet), copy.deepcopy(text)
    start, step, running = time.time(), 0, 1.0
    while (progress := (time.time() - start) / seconds) < 1:
        cosine = 0.5 * (1 + math.cos(math.pi * progress)) * 0.98 + 0.02
        for group in optimizer.param_groups:
            group["lr"] = peak_lr * min(1, (step + 1) / WARMUP_STEPS) * cosine

        j = torch.randint(0, len(latents), (BATCH,))
        style = torch.multinomial(torch.tensor(STYLE_WEIGHTS), BATCH, True)
        ids = ids_of[labels[j], measured[j, 0], measured[j, 1], measured[j, 2], style]
        ids = torch.where((torch.rand(BATCH) < EMPTY_PROBABILITY)[:, None], empty[None], ids)

        clean = latents[j]
        t = torch.randint(0, 1000, (BATCH,))
        noise = torch.randn_like(clean)
        alpha = alphas[t][:, None, None, None]
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        with torch.autocast("cpu", torch.bfloat16):
            predicted = unet(noisy, t, text(ids)[0]).sample
        error = (predicted.float() - noise) ** 2
        if stage2:
            weight = ((1 - alphas[t]) / alphas[t]).clamp(0.25, 8)[:, None, None, None]
            loss = (weight * error).mean() / 2
        else:
            loss = error.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

        decay = min(longest_average, (1 + step) / (20 + step))
        with torch.no_grad():
            for average, live in ((averaged_unet, unet), (averaged_text, text)):
                torch._foreach_lerp_(list(average.parameters()), list(live.parameters()), 1 - decay)
        running = 0.98 * running + 0.02 * loss.item()
        if step % 200 == 0:
            print(step, f"loss {running:.4f} {time.time() - start:.0f} s", flush=True)
        step += 1
        if step % 1000 == 0:
            save(model, averaged_unet, averaged_text)
    save(model, averaged_unet, averaged_text)
    print(step, "steps")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=Path)
    arguments.add_argument("seconds", type=float)
    arguments.add_argument("--stage2", action="store_true")
    given = arguments.parse_args()
    main(given.model, given.seconds, given.stage2)
