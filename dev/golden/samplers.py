"""Trajectories of every sampler but DDIM by diffusers' schedulers, with a formula in the network's place.

    python dev/golden/samplers.py

samplers.safetensors: `start` [4,3,3] unit noise, `noise` [50,4,3,3] what a stochastic sampler draws after each call, and for every case of
the metadata `NAME` [calls,4,3,3], the latent after each call of the network. The "network" is tanh(0.8 u) + 0.2 sin(0.01 t + i) with u the
scaled latent, t the time step and i the value's index. Metadata `cases`: name, sampler, steps, the scheduler config's keys, `timesteps`
in the order visited, `initial` (what the unit noise is multiplied with).

tiny_sd_samplers.safetensors: the bundled model drawn by diffusers' pipeline, w = 3, 8 steps, from the first four rows of tiny_sd.safetensors'
`ddim.noise` (captions 0, 0, 1, 1): `SAMPLER.latents_CALLS` and `SAMPLER.u8_truncated`, as there.

The schedulers are given their cumulative products in f64: in f32 they know 1 - alpha at the last steps to 3e-5 only.
"""
import numpy as np
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from diffusers.schedulers import scheduling_euler_ancestral_discrete, scheduling_lcm, scheduling_tcd
from safetensors.torch import load_file

from common import FIXTURES, TINY_SD, save_tensors, setup, to_u8_truncated
from generation import CAPTIONS

SHAPE = (4, 3, 3)
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
SCHEDULERS = {
    "pndm": (PNDMScheduler, dict(skip_prk_steps=True)),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_a": (EulerAncestralDiscreteScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, dict(use_karras_sigmas=True)),
    "unipc": (UniPCMultistepScheduler, {}),
    "lcm": (LCMScheduler, {}),
    "tcd": (TCDScheduler, {}),
}
LEADING, LINSPACE, TRAILING = ({"timestep_spacing": name} for name in ("leading", "linspace", "trailing"))
V, SAMPLE = ({"prediction_type": name} for name in ("v_prediction", "sample"))
FREE = {"clip_sample": False}
# Sampler, steps, config.
CASES = [
    *(("pndm", steps, SD) for steps in (1, 2, 3, 4, 5, 30)),
    ("pndm", 10, SD | LINSPACE),
    ("pndm", 10, SD | TRAILING),
    ("pndm", 6, SD | {"set_alpha_to_one": True}),
    ("pndm", 7, SD | V),
    *(("euler", steps, SD | LEADING) for steps in (1, 5, 30)),
    ("euler", 7, SD),
    ("euler", 7, SD | TRAILING),
    ("euler", 7, SD | LEADING | V),
    ("euler", 7, SD | LEADING | SAMPLE),
    ("euler", 6, {}),
    ("euler_a", 10, SD | LEADING),
    ("euler_a", 7, SD),
    ("euler_a", 7, SD | TRAILING | V),
    *(("dpmpp_2m", steps, SD | LEADING) for steps in (1, 2, 3, 20)),
    ("dpmpp_2m", 10, SD),
    ("dpmpp_2m", 10, SD | TRAILING),
    ("dpmpp_2m", 10, SD | V),
    ("dpmpp_2m", 10, SD | SAMPLE),
    *(("dpmpp_2m_karras", steps, SD | LEADING) for steps in (1, 5, 20)),
    ("dpmpp_2m_karras", 10, SD | V),
    *(("unipc", steps, SD) for steps in (1, 2, 3, 4, 20)),
    ("unipc", 8, SD | LEADING),
    ("unipc", 8, SD | TRAILING | V),
    ("unipc", 5, SD | SAMPLE),
    *(("lcm", steps, SD | FREE) for steps in (1, 2, 4, 7, 50)),
    ("lcm", 4, SD | {"clip_sample": True}),
    ("lcm", 4, SD | FREE | V),
    ("lcm", 3, SD | FREE | SAMPLE | {"original_inference_steps": 40, "timestep_scaling": 7.0}),
    *(("tcd", steps, SD | FREE) for steps in (1, 2, 4, 7)),
    ("tcd", 4, SD | FREE | V),
    ("tcd", 5, SD | FREE | SAMPLE | {"original_inference_steps": 100}),
    ("euler", 1, SD | TRAILING),
    ("euler", 4, SD | TRAILING),
]


def network(u: torch.Tensor, t: float) -> torch.Tensor:
    index = torch.arange(u.numel(), dtype=torch.float64).reshape(u.shape)
    return torch.tanh(0.8 * u.double()) + 0.2 * torch.sin(0.01 * t + index)


def trajectory(kind: str, steps: int, config: dict, start, noise, exact: bool):
    cls, extra = SCHEDULERS[kind]
    scheduler = cls(**config, **extra)
    if exact:
        settings = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"} | config
        first, last = settings["beta_start"], settings["beta_end"]
        if settings["beta_schedule"] == "scaled_linear":
            betas = np.linspace(first**0.5, last**0.5, 1000) ** 2
        else:
            betas = np.linspace(first, last, 1000)
        scheduler.alphas_cumprod = torch.from_numpy(np.cumprod(1 - betas))
        if kind == "pndm":
            to_one = config.get("set_alpha_to_one", False)
            scheduler.final_alpha_cumprod = torch.tensor(1.0) if to_one else scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    draws = iter(noise)
    for drawing in (scheduling_euler_ancestral_discrete, scheduling_lcm, scheduling_tcd):
        drawing.randn_tensor = lambda *args, **kwargs: next(draws)
    x, trace = start.double() * scheduler.init_noise_sigma, []
    for t in scheduler.timesteps:
        x = scheduler.step(network(scheduler.scale_model_input(x, t), float(t)), t, x).prev_sample
        trace.append(x.double())
    return torch.stack(trace), scheduler.timesteps.tolist(), float(scheduler.init_noise_sigma)


def main() -> None:
    setup(9)
    out = {"start": torch.randn(SHAPE), "noise": torch.randn(50, *SHAPE)}
    cases = []
    for kind, steps, config in CASES:
        trace, timesteps, initial = trajectory(kind, steps, config, out["start"], out["noise"], exact=True)
        theirs, plain, _ = trajectory(kind, steps, config, out["start"], out["noise"], exact=False)
        assert plain == timesteps and torch.allclose(trace, theirs, rtol=1e-3, atol=1e-3), (kind, steps, config)
        name = f"{kind}.{len(cases)}"
        out[name] = trace.float()
        cases.append(dict(name=name, sampler=kind, steps=steps, config=config, timesteps=timesteps, initial=initial))
    save_tensors("samplers.safetensors", out, {"cases": cases})
    draw_tiny()


@torch.no_grad()
def draw_tiny() -> None:
    given = load_file(FIXTURES / "tiny_sd.safetensors")["ddim.noise"][:4]
    prompts = [CAPTIONS[0]] * 2 + [CAPTIONS[1]] * 2
    out = {}
    for kind in ("pndm", "euler", "dpmpp_2m_karras"):
        pipe = StableDiffusionPipeline.from_pretrained(TINY_SD, dtype=torch.float32, safety_checker=None)
        pipe.set_progress_bar_config(disable=True)
        cls, extra = SCHEDULERS[kind]
        pipe.scheduler = cls.from_config(pipe.scheduler.config, **extra)
        settings = dict(num_inference_steps=8, guidance_scale=3.0, height=32, width=32, output_type="latent")
        latents = pipe(prompts, latents=given, **settings).images
        calls = len(pipe.scheduler.timesteps)
        out[f"{kind}.latents_{calls}"] = latents
        image = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
        out[f"{kind}.u8_truncated"] = to_u8_truncated(image)
    save_tensors("tiny_sd_samplers.safetensors", out)


if __name__ == "__main__":
    main()
