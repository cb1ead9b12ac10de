"""Our pictures beside diffusers', from the same noise; and ours beside ours, over batches and devices.

    python benches/peers/same_images.py --model DIR [--binary target/release/stablerep] [--steps 50] [--save FILE.json] [--dry-run]
    python benches/peers/same_images.py --bits [--dry-run]

Of two captions, f16 on the GPU: latents after one call of the UNet, latents and 8-bit pictures after all steps. Random weights make noise of the
pictures, which does not matter here, and differences grow from step to step, as they do between any two f16 programs: diffusers in f16 against
diffusers in f32 stands beside ours as the measure. --bits: the bundled model, our GPU against our CPU (8-bit values), and the shards of batches
of 1, 3 and 8 byte for byte. --dry-run: the bundled model, 2 steps; diffusers on the CPU.
"""
import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = ROOT / "assets/tiny-sd"
CAPTIONS = ["a photo of a dark plain slim dress", "a photo of a light patterned wide bag"]


def draw(given, folder: Path, name: str, *options) -> Path:
    captions, output = folder / "captions.txt", folder / name
    captions.write_text("".join(f"{caption}\n" for caption in CAPTIONS))
    command = [given.binary, "generate", "--model", given.model, "--captions", captions, "--output", output, *options]
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}: {done.stderr[-2000:]}")
    return output


def pictures(folder: Path) -> np.ndarray:
    with tarfile.open(folder / "00000.tar") as tar:
        found = [Image.open(io.BytesIO(tar.extractfile(member).read())) for member in tar if member.name.endswith(".png")]
        return np.stack([np.asarray(picture).astype(np.float32) for picture in found])


def apart(a: np.ndarray, b: np.ndarray) -> dict:
    """Of 8-bit values."""
    difference = np.abs(a - b)
    return {"mean": float(difference.mean()), "beyond_2": float((difference > 2).mean()), "largest": float(difference.max())}


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def bits(given) -> bool:
    given.model, steps = TINY, 2 if given.dry_run else 25
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = ["--steps", steps, "-w", 7.5, "-m", 4]
        cpu = pictures(draw(given, folder, "cpu", *options))
        tars = {}
        for batch in (8, 1, 3):
            tars[batch] = (draw(given, folder, f"batch-{batch}", *options, "--device", "cuda", "--batch", batch) / "00000.tar").read_bytes()
        difference = apart(pictures(folder / "batch-8"), cpu)
    same = all(tar == tars[8] for tar in tars.values())
    print(json.dumps({"gpu_against_cpu": difference, "same_bytes_for_batches_1_3_8": same}))
    return same and difference["mean"] <= 1 and difference["beyond_2"] <= 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/stablerep")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance-scale", type=float, default=7.5)
    parser.add_argument("--bits", action="store_true")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    if given.bits:
        sys.exit(0 if bits(given) else 1)
    if given.dry_run:
        given.model, given.steps = TINY, 2
    if given.model is None:
        parser.error("--model DIR, --bits or --dry-run")

    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from safetensors.torch import load_file, save_file

    device = "cpu" if given.dry_run else "cuda"
    side = json.loads((given.model / "unet/config.json").read_text())["sample_size"]
    torch.manual_seed(0)
    noise = torch.randn(len(CAPTIONS), 4, side, side)

    def theirs(dtype, steps: int) -> tuple[np.ndarray, np.ndarray]:
        pipe = StableDiffusionPipeline.from_pretrained(given.model, dtype=dtype, safety_checker=None).to(device)
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
        pipe.set_progress_bar_config(disable=True)
        settings = dict(num_inference_steps=steps, guidance_scale=given.guidance_scale, latents=noise.to(device, dtype))
        latents = pipe(CAPTIONS, output_type="latent", **settings).images
        images = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
        # Truncated, as ours are.
        images = ((images / 2 + 0.5).clamp(0, 1) * 255).floor().permute(0, 2, 3, 1)
        return latents.float().cpu().numpy(), images.detach().float().cpu().numpy()

    record = {"model": str(given.model), "guidance_scale": given.guidance_scale}
    good = True
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        folder = Path(name)
        save_file({"noise": noise}, folder / "noise.safetensors")
        for steps in (1, given.steps):
            options = ["--steps", steps, "-w", given.guidance_scale, "--initial-noise", folder / "noise.safetensors", "--save-latents", "--device", "cuda"]
            ours = draw(given, folder, f"steps-{steps}", *options)
            latents = load_file(ours / "latents/00000.safetensors")["latents"].numpy()
            wide = theirs(torch.float32, steps)
            half = theirs(torch.float32 if given.dry_run else torch.float16, steps)
            line = {
                "steps": steps,
                "ours": {"latents": relative(latents, wide[0]), "pictures": apart(pictures(ours), wide[1])},
                "diffusers_f16": {"latents": relative(half[0], wide[0]), "pictures": apart(half[1], wide[1])},
            }
            print(json.dumps(line), flush=True)
            record[f"steps_{steps}"] = line
            # As near to f32 as diffusers' own f16, within a factor, or within rounding of 16-bit storage over a few
            # calls.
            good &= line["ours"]["latents"] <= max(3 * line["diffusers_f16"]["latents"], 0.01)
    if given.save:
        given.save.write_text(json.dumps(record, indent=1) + "\n")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
