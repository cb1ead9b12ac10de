"""`generate --fp8` beside e4m3 emulated in PyTorch: do the scales mean what they should?

    stablerep calibrate --model DIR --captions captions.txt --output fp8.json …
    python dev/check/fp8.py --model DIR --captions captions.txt --fp8 fp8.json [--binary target/release/stablerep] [--steps 3]

diffusers draws the captions in f32, then with weights and inputs of the calibrated layers rounded to e4m3 by PyTorch; we draw them in f16 and with
--fp8, from the same noise. e4m3 should take our pictures as far from wide ones as PyTorch's (within a factor of 1.5), and in the same direction:
which values fall on which side of a tie differs, so the errors are alike, not equal. Needs a GPU with e4m3, or the simulated driver.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benches/peers"))
from same_images import pictures  # noqa: E402

LARGEST = 448.0


def round_e4m3(x: torch.Tensor, scale) -> torch.Tensor:
    return (x / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn).float() * scale


def quantize(unet: torch.nn.Module, ranges: dict[str, float]) -> None:
    modules = dict(unet.named_modules())
    for name, largest in ranges.items():
        # Queries, keys and values of self-attention read the same and go by the first's name.
        same = [name.replace("to_q", part) for part in ("to_q", "to_k", "to_v")] if name.endswith("attn1.to_q") else [name]
        for module in (modules[name] for name in same):
            weight = module.weight.data
            rows = weight.flatten(1).abs().amax(1).clamp(min=1e-30) / LARGEST
            module.weight.data = round_e4m3(weight, rows.view(-1, *[1] * (weight.dim() - 1)))
            module.register_forward_pre_hook(lambda _, inputs, scale=largest / LARGEST: (round_e4m3(inputs[0], scale), *inputs[1:]))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "assets/tiny-sd")
    parser.add_argument("--captions", type=Path, required=True)
    parser.add_argument("--fp8", type=Path, required=True)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/stablerep")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--guidance-scale", type=float, default=2.0)
    given = parser.parse_args()
    captions = given.captions.read_text().splitlines()
    side = json.loads((given.model / "unet/config.json").read_text())["sample_size"]
    noise = torch.randn(len(captions), 4, side, side, generator=torch.Generator().manual_seed(1))

    pipe = StableDiffusionPipeline.from_pretrained(given.model, dtype=torch.float32, safety_checker=None)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)

    def theirs() -> np.ndarray:
        settings = dict(num_inference_steps=given.steps, guidance_scale=given.guidance_scale, latents=noise.clone(), output_type="latent")
        latents = pipe(captions, **settings).images
        images = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
        return ((images / 2 + 0.5).clamp(0, 1) * 255).floor().permute(0, 2, 3, 1).numpy()

    wide = theirs()
    quantize(pipe.unet, json.loads(given.fp8.read_text())["ranges"])
    narrow = theirs()
    with tempfile.TemporaryDirectory() as folder:
        save_file({"noise": noise}, f"{folder}/noise.safetensors")

        def ours(name: str, *options) -> np.ndarray:
            command = [given.binary, "generate", "--model", given.model, "--captions", given.captions, "--output", f"{folder}/{name}", "--device", "cuda"]
            command += ["--steps", given.steps, "-w", given.guidance_scale, "--initial-noise", f"{folder}/noise.safetensors", *options]
            subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return pictures(Path(folder) / name)

        ours_wide, ours_narrow = ours("wide"), ours("narrow", "--fp8", given.fp8)
    moved, theirs_moved = ours_narrow - ours_wide, narrow - wide
    apart, theirs_apart = np.abs(moved).mean(), np.abs(theirs_moved).mean()
    alike = np.corrcoef(moved.ravel(), theirs_moved.ravel())[0, 1]
    print(f"wide: ours from diffusers {np.abs(ours_wide - wide).mean():.3f}")
    print(f"e4m3 moves ours by {apart:.3f}, PyTorch's by {theirs_apart:.3f}; the two movements correlate by {alike:.2f}")
    sys.exit(0 if 1 / 1.5 < apart / theirs_apart < 1.5 and alike > 0.3 else 1)


if __name__ == "__main__":
    main()
