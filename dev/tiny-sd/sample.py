"""Draws ten captions, one per garment, six images each: what the model can do, at a glance.

    python dev/tiny-sd/sample.py MODEL GUIDANCE_SCALE STEPS OUT.png
"""
import sys
import time

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torchvision.utils import save_image

from world import caption

SHOWN = [
    (7, 0, 0, 1), (9, 2, 1, 0), (0, 2, 1, 1), (3, 1, 0, 0), (8, 0, 1, 1),
    (1, 1, 0, 0), (5, 2, 1, 0), (2, 0, 1, 1), (4, 1, 0, 1), (6, 2, 0, 0),
]  # fmt: skip


def main(model: str, guidance_scale: float, steps: int, out: str) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    start = time.time()
    rows = []
    for where in SHOWN:
        drawn = pipe(
            [caption(*where)] * 6,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            generator=torch.Generator().manual_seed(1),
            output_type="pt",
            height=32,
            width=32,
        )
        rows.append(drawn.images)
    print(f"{time.time() - start:.1f} s")
    save_image(torch.nn.functional.interpolate(torch.cat(rows), scale_factor=3), out, nrow=12)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
