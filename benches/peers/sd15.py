"""Stable Diffusion 1.5 in diffusers on a GPU, f16: captions to 8-bit images, DDIM with guidance.

    python benches/peers/sd15.py --model DIR [--batches 1,16,32] [--steps 50] [--guidance-scale 2] [--compile] [--dry-run]

DIR is a diffusers folder (dev/golden/full_sd15.py makes one with random weights). One line per batch for eager PyTorch, for channels-last
convolutions, and with --compile for torch.compile of UNet and decoder on top. --dry-run: the bundled tiny model, 2 steps, on the CPU, f32.
"""
import argparse
from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from measure import arguments, try_measure

TINY = Path(__file__).resolve().parent.parent.parent / "assets" / "tiny-sd"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--batches", default="1,16,32", help="captions per call, separated by commas")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance-scale", type=float, default=2.0)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    given = arguments(parser)
    if given.dry_run:
        given.model, given.device, given.steps, given.batches = TINY, "cpu", 2, "1,2"
    if given.model is None:
        parser.error("--model DIR, or --dry-run")
    device = given.device
    dtype = torch.float32 if device == "cpu" else torch.float16
    if device != "cpu":
        torch.backends.cudnn.benchmark = True

    pipe = StableDiffusionPipeline.from_pretrained(given.model, dtype=dtype, safety_checker=None).to(device)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)

    def measure_all(variant: str) -> None:
        for batch in map(int, given.batches.split(",")):
            prompts = [f"a photo of the number {i}" for i in range(batch)]

            def work():
                pipe(prompts, num_inference_steps=given.steps, guidance_scale=given.guidance_scale, output_type="pil")

            shape = dict(batch=batch, steps=given.steps, guidance_scale=given.guidance_scale)
            try_measure("generate_sd15", batch, work, given.seconds, device, variant=variant, **shape)

    measure_all("eager")
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)
    measure_all("channels_last")
    if given.compile:
        # Graphs and tuned kernels; a new batch compiles anew.
        mode = "default" if device == "cpu" else "max-autotune"
        pipe.unet = torch.compile(pipe.unet, mode=mode, dynamic=False)
        pipe.vae.decode = torch.compile(pipe.vae.decode, mode=mode, dynamic=False)
        measure_all("compile")


if __name__ == "__main__":
    main()
