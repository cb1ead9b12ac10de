"""DDIM schedules and single scheduler steps by diffusers.

    python dev/golden/ddim.py

ddim_schedules.json: for each number of steps, spacing and set_alpha_to_one, the time steps in the order visited and the coefficients of
x' = a x + b eps (eta 0, eps prediction, nothing clipped), computed in f64 from f64 betas.
ddim_steps.safetensors: alphas_cumprod as diffusers has it (f32) and in f64; scheduler steps of every prediction type on random input.
"""
import numpy as np
import torch
from diffusers import DDIMScheduler

from common import SD_SCHEDULE, save_json, save_tensors, setup


def alphas_f64() -> np.ndarray:
    return np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=np.float64) ** 2)


def schedule(steps: int, spacing: str, to_one: bool) -> dict:
    settings = SD_SCHEDULE | {"timestep_spacing": spacing, "set_alpha_to_one": to_one}
    scheduler = DDIMScheduler(**settings)
    scheduler.set_timesteps(steps)
    alphas = alphas_f64()
    final = 1.0 if to_one else alphas[0]
    timesteps = [int(t) for t in scheduler.timesteps]
    a, b = [], []
    for t in timesteps:
        previous = t - 1000 // steps
        now = alphas[t]
        then = alphas[previous] if previous >= 0 else final
        # x0 = (x - sqrt(1 - now) eps) / sqrt(now);  x' = sqrt(then) x0 + sqrt(1 - then) eps
        a.append(float(np.sqrt(then / now)))
        b.append(float(np.sqrt(1 - then) - np.sqrt(then / now) * np.sqrt(1 - now)))
    # The coefficients are the scheduler's own: compare one step each.
    x, eps = torch.randn(16), torch.randn(16)
    for i, t in enumerate(timesteps):
        theirs = scheduler.step(eps, t, x).prev_sample
        assert torch.allclose(theirs, a[i] * x + b[i] * eps, rtol=1e-4, atol=2e-4), (steps, spacing, to_one, t)
    return {"steps": steps, "spacing": spacing, "set_alpha_to_one": to_one, "timesteps": timesteps, "a": a, "b": b}


def main() -> None:
    setup(3)
    rows = [
        schedule(steps, spacing, to_one)
        for spacing in ("leading", "trailing", "linspace")
        for to_one in (False, True)
        for steps in (50, 25, 7, 1)
    ]
    save_json("ddim_schedules.json", rows)

    out = {
        "alphas_cumprod_f32": DDIMScheduler(**SD_SCHEDULE).alphas_cumprod,
        "alphas_cumprod_f64": torch.from_numpy(alphas_f64()),
        "x": torch.randn(2, 4, 3, 5),
        "model_output": torch.randn(2, 4, 3, 5),
    }
    for prediction in ("epsilon", "v_prediction", "sample"):
        for clip in (False, True):
            scheduler = DDIMScheduler(**(SD_SCHEDULE | {"prediction_type": prediction, "clip_sample": clip}))
            scheduler.set_timesteps(25)
            for t in (961, 481, 1):
                step = scheduler.step(out["model_output"], t, out["x"]).prev_sample
                out[f"{prediction}.{'clipped' if clip else 'free'}.t{t}"] = step
    save_tensors("ddim_steps.safetensors", out, {"steps": 25, "spacing": "leading", "set_alpha_to_one": False})


if __name__ == "__main__":
    main()
