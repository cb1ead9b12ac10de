"""Text encoder, UNet, autoencoder and whole DDIM trajectories of the bundled tiny Stable Diffusion, by diffusers in f32.

    python dev/golden/generation.py

Writes tiny_sd.safetensors (see tests/fixtures/README.md for the names). Tensors are NCHW as PyTorch has them. All weights are
the bundled f16 values read as f32.
"""
import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from common import TINY_SD, save_tensors, setup, to_u8_rounded, to_u8_truncated

CAPTIONS = [
    "a photo of a dark patterned slim dress",
    "a photo of a light plain wide ankle boot",
    "a gray patterned wide bag",
    "Café № 7: a photo of a pair of trousers 😀",
]
NEGATIVE = "a photo of a sandal"
IMAGES_PER_CAPTION = 2


class Reference:
    def __init__(self):
        f32 = {"dtype": torch.float32}
        self.tokenizer = CLIPTokenizer.from_pretrained(TINY_SD / "tokenizer")
        self.text = CLIPTextModel.from_pretrained(TINY_SD / "text_encoder", dtype=torch.float32).eval()
        self.unet = UNet2DConditionModel.from_pretrained(TINY_SD / "unet", **f32).eval()
        self.vae = AutoencoderKL.from_pretrained(TINY_SD / "vae", **f32).eval()
        self.scheduler_config = DDIMScheduler.load_config(TINY_SD / "scheduler")

    def ids(self, texts: list[str]) -> torch.Tensor:
        encoded = self.tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        return encoded["input_ids"]

    def encode(self, texts: list[str]) -> torch.Tensor:
        return self.text(self.ids(texts))[0]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(latents / self.vae.config.scaling_factor).sample

    def ddim(self, noise, prompts, w, steps, negative="", clip_sample=False):
        """The latents after every step, [steps][N,4,h,w]."""
        scheduler = DDIMScheduler.from_config(self.scheduler_config, clip_sample=clip_sample)
        scheduler.set_timesteps(steps)
        conditional = self.encode(prompts)
        unconditional = self.encode([negative] * len(prompts))
        x, trace = noise.clone(), []
        for t in scheduler.timesteps:
            if w == 1:
                eps = self.unet(x, t, conditional).sample
            else:
                both = self.unet(torch.cat([x, x]), t, torch.cat([unconditional, conditional])).sample
                eps_uncond, eps_cond = both.chunk(2)
                eps = eps_uncond + w * (eps_cond - eps_uncond)
            x = scheduler.step(eps, t, x).prev_sample
            trace.append(x)
        return trace


def check_against_pipeline(reference: Reference, noise, prompts, latents) -> None:
    """The loop above is diffusers' own pipeline, spelled out."""
    pipe = StableDiffusionPipeline.from_pretrained(TINY_SD, dtype=torch.float32, safety_checker=None)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        prompts, num_inference_steps=50, guidance_scale=2.0, latents=noise, output_type="latent", height=32, width=32
    ).images
    difference = (theirs - latents).abs().max().item()
    assert difference < 1e-4, difference


@torch.no_grad()
def main() -> None:
    setup(2)
    reference = Reference()
    out = {"text.ids": reference.ids(CAPTIONS).int(), "text.hidden": reference.encode(CAPTIONS)}
    out["text.empty_hidden"] = reference.encode([""])

    context = reference.encode(CAPTIONS[:2])
    for name, shape in {"square": (2, 4, 4, 4), "wide": (2, 4, 4, 6)}.items():
        x = torch.randn(shape)
        out[f"unet.{name}.x"] = x
        for t in (981, 21):
            out[f"unet.{name}.eps_t{t}"] = reference.unet(x, t, context).sample
    out["unet.context"] = context

    # `latents` is what the decoder is given: already divided by the scaling factor.
    out["vae.latents"] = torch.randn(2, 4, 4, 6)
    out["vae.image"] = reference.vae.decode(out["vae.latents"]).sample

    prompts = [caption for caption in CAPTIONS for _ in range(IMAGES_PER_CAPTION)]
    noise = torch.randn(len(prompts), 4, 4, 4)
    out["ddim.noise"] = noise
    for w in (2, 8):
        trace = reference.ddim(noise, prompts, w, 50)
        if w == 2:
            check_against_pipeline(reference, noise, prompts, trace[-1])
        for step in (1, 10, 25, 49, 50):
            out[f"ddim50.w{w}.latents_{step}"] = trace[step - 1]
        image = reference.decode(trace[-1])
        out[f"ddim50.w{w}.image"] = image
        out[f"ddim50.w{w}.u8_truncated"] = to_u8_truncated(image)
        out[f"ddim50.w{w}.u8_rounded"] = to_u8_rounded(image)

    few, few_noise = prompts[:4], noise[:4]
    variants = {
        "w1": dict(w=1),
        "w3": dict(w=3),
        "w3_clip_sample": dict(w=3, clip_sample=True),
        "w3_negative": dict(w=3, negative=NEGATIVE),
    }
    for name, settings in variants.items():
        trace = reference.ddim(few_noise, few, steps=7, **settings)
        out[f"ddim7.{name}.latents_1"] = trace[0]
        out[f"ddim7.{name}.latents_7"] = trace[-1]
        out[f"ddim7.{name}.u8_truncated"] = to_u8_truncated(reference.decode(trace[-1]))

    metadata = {
        "captions": CAPTIONS,
        "negative_prompt": NEGATIVE,
        "images_per_caption": IMAGES_PER_CAPTION,
        "scaling_factor": float(reference.vae.config.scaling_factor),
        "timesteps_50": [int(t) for t in np.arange(50)[::-1] * 20 + 1],
    }
    save_tensors("tiny_sd.safetensors", out, metadata)


if __name__ == "__main__":
    main()
