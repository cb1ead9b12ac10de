"""Trains the autoencoder (8x down, 4 latent channels) for a given time and writes MODEL/vae.

    python dev/tiny-sd/vae.py MODEL SECONDS [INIT_VAE_FOLDER]

Loss: squared error + 0.5 x absolute error + 1e-3 x KL. The KL weight makes latents smooth (about 3 nats per value, PSNR 24 dB).
The scaling factor in config.json is 1 / (standard deviation of sampled latents), so the UNet sees unit variance.
"""
import sys
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from world import load, to_rgb

BATCH = 48
KL_WEIGHT = 1e-3
L1_WEIGHT = 0.5
PEAK_LR = 2.5e-3
WARMUP_STEPS = 50


def new_vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[16, 32, 64, 64],
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
        act_fn="silu",
    )


def latent_std(vae: AutoencoderKL, images: torch.Tensor) -> float:
    with torch.no_grad():
        batches = [to_rgb(images[torch.randint(0, len(images), (256,))]) for _ in range(8)]
        return torch.cat([vae.encode(batch).latent_dist.sample() for batch in batches]).std().item()


def main(model: Path, seconds: float, init: str | None) -> None:
    torch.manual_seed(0)
    images, _ = load("train")
    vae = (AutoencoderKL.from_pretrained(init) if init else new_vae()).train()
    optimizer = torch.optim.AdamW(vae.parameters(), PEAK_LR, weight_decay=0.01, betas=(0.9, 0.99))
    start, step = time.time(), 0
    while (progress := (time.time() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * min(1, (step + 1) / WARMUP_STEPS) * max(0.02, 1 - progress)
        x = to_rgb(images[torch.randint(0, len(images), (BATCH,))])
        if torch.rand(()) < 0.5:
            x = x.flip(-1)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(x).latent_dist
            reconstruction = vae.decode(posterior.sample()).sample
        reconstruction = reconstruction.float()
        mse = (reconstruction - x).pow(2).mean()
        l1 = (reconstruction - x).abs().mean()
        kl = 0.5 * (posterior.mean.float().pow(2) + posterior.var.float() - 1 - posterior.logvar.float()).mean()
        loss = mse + L1_WEIGHT * l1 + KL_WEIGHT * kl
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            elapsed = time.time() - start
            print(step, f"mse {mse.item():.4f} l1 {l1.item():.4f} kl {kl.item():.2f} {elapsed:.0f} s", flush=True)
        step += 1
    vae.eval()
    std = latent_std(vae, images)
    vae.register_to_config(scaling_factor=round(1 / std, 5))
    vae.save_pretrained(model / "vae")
    print(step, "steps, latent std", std)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
