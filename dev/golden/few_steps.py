"""The bundled model drawn by diffusers in few calls of the network, and in its other ways.

    python dev/golden/few_steps.py

few_steps.safetensors, from the first four rows of tiny_sd.safetensors' `ddim.noise` (captions 0, 0, 1, 1), `NAME.latents_CALLS` [4,4,4,4] and
`NAME.u8_truncated` as there:

unipc     8 steps, w = 3
turbo     one step of Euler from the noisiest training step (`timestep_spacing` trailing), w = 0
trailing  DDIM, 4 steps, the same spacing, w = 3
interval  DDIM, 7 steps, w = 3 in calls 1 to 3 of 0 to 6, else the caption alone
cached    DDIM, 7 steps, w = 3; calls 0, 3 and 6 of the UNet are whole, the others have the last of these calls' map before the last block (DeepCache,
          by a hook)
cached.interval   DDIM, 7 steps, w = 3 in calls 2 to 4; calls 0, 2, 4 and 6 are whole
sd2       as Stable Diffusion 2.x: the UNet predicts v, texts are padded with "!"; DDIM, 7 steps, w = 3
lcm.w1, lcm.w8   a UNet that is told w (`time_cond_proj_dim` 16, `lcm.cond_proj` [C,16] its weight), by diffusers' pipeline of latent
          consistency in one step, which draws no noise
lora, lora.half   with the layers of lora_kohya.safetensors (`lora_unet_…`, `lora_te_…`, alpha) and lora_diffusers.safetensors (the same deltas
          as `unet.….lora_A.weight`) at 1, and at 0.5; DDIM, 7 steps, w = 3

Both LoRA files hold rank 2 for a few layers of every kind.
"""
import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)
from safetensors.torch import load_file

from common import FIXTURES, TINY_SD, save_tensors, setup, to_u8_truncated
from generation import CAPTIONS, Reference

PROMPTS = [CAPTIONS[0]] * 2 + [CAPTIONS[1]] * 2
SETTINGS = dict(height=32, width=32, output_type="latent")
RANK, ALPHA = 2, 1.5
UNET = "unet.down_blocks.0.attentions.0"
LAYERS = [
    "unet.down_blocks.0.resnets.0.conv1",
    "unet.mid_block.resnets.0.time_emb_proj",
    f"{UNET}.proj_in",
    f"{UNET}.transformer_blocks.0.attn1.to_q",
    f"{UNET}.transformer_blocks.0.attn2.to_k",
    f"{UNET}.transformer_blocks.0.attn2.to_out.0",
    f"{UNET}.transformer_blocks.0.ff.net.0.proj",
    "text_encoder.encoder.layers.0.self_attn.q_proj",
    "text_encoder.encoder.layers.1.mlp.fc1",
]


def pipeline(cls=StableDiffusionPipeline, **parts):
    pipe = cls.from_pretrained(TINY_SD, dtype=torch.float32, safety_checker=None, feature_extractor=None, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


class Out:
    def __init__(self):
        self.tensors = {}

    def add(self, name: str, latents: torch.Tensor, calls: int, vae) -> None:
        self.tensors[f"{name}.latents_{calls}"] = latents
        self.tensors[f"{name}.u8_truncated"] = to_u8_truncated(vae.decode(latents / vae.config.scaling_factor).sample)


class Reuse:
    """The map that the last block of the way up reads, of the last whole call, in the calls that are not whole."""

    def __init__(self, unet):
        self.whole, self.kept, block = True, {}, unet.up_blocks[-1].resnets[-1]
        self.width, self.branch = unet.up_blocks[-1].resnets[-2].out_channels, "caption"
        block.register_forward_pre_hook(self.look)

    def look(self, _, given):
        x = given[0]
        if self.whole:
            self.kept[self.branch] = x[:, : self.width].clone()
            return given
        return (torch.cat([self.kept[self.branch], x[:, self.width :]], 1), *given[1:])


def interval(reference: Reference, noise: torch.Tensor, guided: range, whole: range | None = None) -> torch.Tensor:
    reuse = Reuse(reference.unet) if whole else None
    scheduler = DDIMScheduler.from_config(reference.scheduler_config, clip_sample=False)
    scheduler.set_timesteps(7)
    conditional, unconditional = reference.encode(PROMPTS), reference.encode([""] * len(PROMPTS))
    x = noise.clone()
    for call, t in enumerate(scheduler.timesteps):
        if reuse:
            reuse.whole, reuse.branch = call in whole, "caption"
        eps = reference.unet(x, t, conditional).sample
        if call in guided:
            if reuse:
                reuse.branch = "none"
            other = reference.unet(x, t, unconditional).sample
            eps = other + 3.0 * (eps - other)
        x = scheduler.step(eps, t, x).prev_sample
    return x


def module(pipe, name: str) -> torch.nn.Module:
    part, _, rest = name.partition(".")
    return getattr(pipe, part).get_submodule(rest)


def low_rank(pipe) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Down and up of each layer."""
    found = {}
    for name in LAYERS:
        weight = module(pipe, name).weight
        window = weight.shape[2:]
        down = torch.randn(RANK, weight.shape[1], *window) * weight.std() * 0.7
        up = torch.randn(weight.shape[0], RANK, *[1] * len(window)) * 0.7
        found[name] = (down, up)
    return found


def fold(pipe, layers: dict, scale: float) -> None:
    for name, (down, up) in layers.items():
        weight = module(pipe, name).weight
        weight.data += scale * ALPHA / RANK * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)


def save_lora(layers: dict) -> None:
    kohya, named = {}, {}
    for name, (down, up) in layers.items():
        part, _, rest = name.partition(".")
        key = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_"}[part] + rest.replace(".", "_")
        kohya |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(ALPHA)}
        prefix = {"unet": "unet.", "text_encoder": "text_encoder.text_model."}[part] + rest
        named |= {f"{prefix}.lora_A.weight": down, f"{prefix}.lora_B.weight": up * (ALPHA / RANK)}
    save_tensors("lora_kohya.safetensors", kohya)
    save_tensors("lora_diffusers.safetensors", named)


@torch.no_grad()
def main() -> None:
    setup(12)
    noise = load_file(FIXTURES / "tiny_sd.safetensors")["ddim.noise"][:4]
    reference, out, pipe = Reference(), Out(), pipeline()
    config = pipe.scheduler.config

    def draw(name: str, scheduler, steps: int, w: float, pipe=pipe) -> None:
        pipe.scheduler = scheduler
        latents = pipe(PROMPTS, latents=noise, num_inference_steps=steps, guidance_scale=w, **SETTINGS).images
        out.add(name, latents, steps, pipe.vae)

    draw("unipc", UniPCMultistepScheduler.from_config(config), 8, 3.0)
    draw("turbo", EulerDiscreteScheduler.from_config(config, timestep_spacing="trailing"), 1, 0.0)
    draw("trailing", DDIMScheduler.from_config(config, timestep_spacing="trailing"), 4, 3.0)
    out.add("interval", interval(reference, noise, range(1, 4)), 7, pipe.vae)

    out.add("cached", interval(Reference(), noise, range(7), range(0, 7, 3)), 7, pipe.vae)
    out.add("cached.interval", interval(Reference(), noise, range(2, 5), range(0, 7, 2)), 7, pipe.vae)

    sd2 = pipeline()
    sd2.tokenizer.pad_token = "!"
    assert sd2.tokenizer([""], padding="max_length", max_length=77)["input_ids"][0][2:] == [0] * 75
    draw("sd2", DDIMScheduler.from_config(config, prediction_type="v_prediction"), 7, 3.0, sd2)

    told = pipeline(LatentConsistencyModelPipeline, scheduler=LCMScheduler.from_config(config, clip_sample=False))
    weight = torch.randn(told.unet.config.block_out_channels[0], 16) * 0.5
    told.unet.register_to_config(time_cond_proj_dim=16)
    told.unet.time_embedding.cond_proj = torch.nn.Linear(16, weight.shape[0], bias=False)
    told.unet.time_embedding.cond_proj.weight.data = weight
    out.tensors["lcm.cond_proj"] = weight
    for w in (1, 8):
        draw(f"lcm.w{w}", told.scheduler, 1, float(w), told)

    layers = low_rank(pipe)
    save_lora(layers)
    for name, scale in (("lora", 1.0), ("lora.half", 0.5)):
        folded = pipeline()
        fold(folded, layers, scale)
        draw(name, DDIMScheduler.from_config(config), 7, 3.0, folded)
        # diffusers' own loader does the same; of kohya's text encoder it renames the attention as an older transformers had it, and loses it.
        for file in ("lora_kohya", "lora_diffusers"):
            theirs = pipeline()
            theirs.load_lora_weights(load_file(FIXTURES / f"{file}.safetensors"))
            theirs.fuse_lora(lora_scale=scale)
            theirs.unload_lora_weights()
            for layer in LAYERS:
                same = torch.allclose(module(theirs, layer).weight, module(folded, layer).weight, atol=1e-6)
                assert same or (file == "lora_kohya" and "self_attn" in layer), (name, file, layer)
    save_tensors("few_steps.safetensors", out.tensors)


if __name__ == "__main__":
    main()
