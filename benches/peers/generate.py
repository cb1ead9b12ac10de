"""Generation with the bundled tiny Stable Diffusion in diffusers, f32: captions to 8-bit images.

    python benches/peers/generate.py [--steps 25] [--captions 4] [--images-per-caption 4] [--guidance-scale 2]

One line for eager PyTorch as it comes, one for channels-last convolutions. Text is encoded once per caption, as diffusers does with
`num_images_per_prompt`.
"""
import argparse
from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from measure import arguments, measure

MODEL = Path(__file__).resolve().parent.parent.parent / "assets" / "tiny-sd"
CAPTIONS = [
    "a photo of a dark patterned slim dress",
    "a photo of a light plain wide ankle boot",
    "a photo of a gray patterned wide bag",
    "a photo of a dark plain slim sneaker",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--captions", type=int, default=4)
    parser.add_argument("--images-per-caption", type=int, default=4)
    parser.add_argument("--guidance-scale", type=float, default=2.0)
    given = arguments(parser)

    pipe = StableDiffusionPipeline.from_pretrained(MODEL, dtype=torch.float32, safety_checker=None)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    prompts = [CAPTIONS[i % len(CAPTIONS)] for i in range(given.captions)]

    def work():
        pipe(
            prompts,
            num_images_per_prompt=given.images_per_caption,
            num_inference_steps=given.steps,
            guidance_scale=given.guidance_scale,
            height=32,
            width=32,
            output_type="pil",
        )

    images = given.captions * given.images_per_caption
    shape = dict(steps=given.steps, batch=images, guidance_scale=given.guidance_scale)
    measure("generate", images, work, given.seconds, variant="eager", **shape)
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)
    measure("generate", images, work, given.seconds, variant="channels_last", **shape)


if __name__ == "__main__":
    main()
