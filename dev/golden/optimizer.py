"""AdamW with the paper's parameter groups and LARS over ten steps, and learning rates of the schedule.

    python dev/golden/optimizer.py
"""
import torch

from common import save_json, save_tensors, setup
from encoder import learning_rate, parameter_groups

STEPS = 10
SETTINGS = dict(peak=3.2e-3, beta1=0.9, beta2=0.98, eps=1e-8, weight_decay=0.1)
SHAPES = {
    "cls_token": (1, 1, 8),
    "pos_embed": (1, 5, 8),
    "patch_embed.proj.weight": (8, 3, 2, 2),
    "patch_embed.proj.bias": (8,),
    "blocks.0.norm1.weight": (8,),
    "blocks.0.attn.qkv.weight": (24, 8),
    "relative_bias_table": (3, 5),
    "ln_projection": (4, 4),
    "image_mlp.layer1.weight": (6, 8),
    "image_mlp.bn1.weight": (6,),
    "logit_scale": (),
}


def lars(parameters: dict, gradients: dict, rates: list[float], scaled: list[str]) -> None:
    """BYOL's and MoCo v3's LARS on the same tensors; only `scaled` ones are decayed and scaled. In f64, as a formula: no library has it."""
    settings = dict(momentum=0.9, weight_decay=0.01, trust=1e-3)
    values = {name: p.double() for name, p in parameters.items()}
    velocity = {name: torch.zeros_like(p) for name, p in values.items()}
    out = {}
    for step, rate in enumerate(rates):
        for name, p in values.items():
            d = gradients[name][step].double()
            if name in scaled:
                d = d + settings["weight_decay"] * p
                d = d * settings["trust"] * p.norm() / d.norm()
            velocity[name] = settings["momentum"] * velocity[name] + d
            values[name] = p - rate * velocity[name]
        if step in (1, STEPS - 1):
            out |= {f"after_{step + 1}.{name}": p.clone() for name, p in values.items()}
    out |= {f"m.{name}": m for name, m in velocity.items()}
    save_tensors("lars.safetensors", {name: value.float() for name, value in out.items()}, settings | {"lr": rates})


def main() -> None:
    setup(8)
    parameters = {name: torch.randn(shape).requires_grad_() for name, shape in SHAPES.items()}
    groups = parameter_groups(parameters.items(), SETTINGS["weight_decay"])
    optimizer = torch.optim.AdamW(
        groups, lr=0.0, betas=(SETTINGS["beta1"], SETTINGS["beta2"]), eps=SETTINGS["eps"], foreach=False
    )
    out = {f"param.{name}": p for name, p in parameters.items()}
    out = {name: p.detach().clone() for name, p in out.items()}
    gradients = {name: torch.randn(STEPS, *shape) * 10.0 ** torch.randint(-4, 2, (1,)) for name, shape in SHAPES.items()}
    rates = [learning_rate(step, 4, 2.5, 0.75, SETTINGS["peak"]) for step in range(STEPS)]
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        for name, p in parameters.items():
            p.grad = gradients[name][step].clone()
        optimizer.step()
        if step in (1, STEPS - 1):
            out |= {f"after_{step + 1}.{name}": p.detach().clone() for name, p in parameters.items()}
    out |= {f"grads.{name}": g for name, g in gradients.items()}
    for name, p in parameters.items():
        out[f"m.{name}"] = optimizer.state[p]["exp_avg"]
        out[f"v.{name}"] = optimizer.state[p]["exp_avg_sq"]
    decayed = {id(p) for p in groups[0]["params"]}
    metadata = SETTINGS | {"lr": rates, "decayed": [name for name, p in parameters.items() if id(p) in decayed]}
    save_tensors("adamw.safetensors", out, metadata)
    begun = {name: out[f"param.{name}"] for name in parameters}
    lars(begun, gradients, [400 * rate for rate in rates], metadata["decayed"])

    schedules = []
    for steps_per_epoch, epochs, warmup, peak, last in (
        (10, 5, 1, 3.2e-3, 0.0),
        (7, 3, 0.5, 1e-3, 1e-5),
        (13, 2, 0, 2e-4, 0.0),
        (100, 15, 0.5, 3.225e-3, 1e-6),
    ):
        total = int(steps_per_epoch * epochs)
        steps = list(range(total)) if total < 100 else [0, 1, 49, 50, 51, 750, 1498, 1499]
        rates = [learning_rate(step, steps_per_epoch, epochs, warmup, peak, last) for step in steps]
        settings = dict(steps_per_epoch=steps_per_epoch, epochs=epochs, warmup_epochs=warmup, peak=peak, last=last)
        schedules.append(settings | {"steps": steps, "lr": rates})
    save_json("lr_schedules.json", schedules)


if __name__ == "__main__":
    main()
