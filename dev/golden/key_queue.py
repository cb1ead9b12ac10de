"""The multi-positive loss with a queue in PyTorch: ten steps, the momentum copy and the queue behind them.

    python dev/golden/key_queue.py

momentum/queue.safetensors        initial weights
momentum/queue_steps.safetensors  gradients of step 2, and behind the last step the copy in part and the keys of the queue; losses, gradient
                                  norms, learning rates, and labels of the steps and of the queue in the header

Images are those of momentum.py. The queue has no room for two steps, is no multiple of one, and begins empty. Labels come again after a few
steps, so that an image finds those of earlier steps; one is in no step twice, and its images have positives in the queue alone, or none.
Batch norm per view slot.
"""
import torch

from common import save_tensors, setup
from encoder import Projector, learning_rate, parameter_groups, roughen, vit
from momentum import CAPTIONS, PEAK, STEPS, VIT, WARMUP, follow, images, momentum

HIDDEN, OUT = 24, 12
VIEWS, SLOTS, BASE = 2, 27, 0.9
TEMPERATURE = 0.1
EMPTY = -1


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = vit(**VIT)
        self.image_mlp = Projector(VIT["width"], HIDDEN, OUT)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self.image_mlp(self.visual(x), VIEWS), dim=1)


def labels(step: int) -> torch.Tensor:
    """Of the rows of a step, view-major. The last caption's two images are of two texts."""
    captions = [(5 * step + i) % 13 for i in range(CAPTIONS - 1)]
    return torch.tensor(captions + [100 + step % 2] + captions + [200 + step])


def loss_of(z: torch.Tensor, own: torch.Tensor, keys: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """Of rows against the others and the filled slots, a mean over all rows; a row without positives counts 0."""
    filled = slots != EMPTY
    keys, slots = keys[filled], slots[filled]
    itself = torch.cat([torch.eye(len(z), dtype=torch.bool), torch.zeros(len(z), len(keys), dtype=torch.bool)], dim=1)
    logits = (z @ torch.cat([z, keys]).T / TEMPERATURE).masked_fill(itself, float("-inf"))
    log_q = torch.log_softmax(logits, dim=1).masked_fill(itself, 0.0)
    positive = ((own[:, None] == torch.cat([own, slots])[None, :]) & ~itself).to(z.dtype)
    p = positive / positive.sum(1, keepdim=True).clamp(min=1)
    return -(p * log_q).sum(1).mean()


def train(initial: dict, dtype) -> tuple[dict, dict]:
    online, slow = Network().to(dtype).train(), Network().to(dtype).train()
    online.load_state_dict(initial)
    slow.load_state_dict(initial)
    groups = parameter_groups(online.named_parameters(), 0.1)
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8, foreach=False)
    keys, slots = torch.zeros(SLOTS, OUT, dtype=dtype), torch.full((SLOTS,), EMPTY)
    record, tensors = {"loss": [], "grad_norm": [], "lr": []}, {}
    for step in range(STEPS):
        rate = learning_rate(step, 1, STEPS, WARMUP, PEAK)
        for group in optimizer.param_groups:
            group["lr"] = rate
        x, own = images(step, dtype), labels(step)
        with torch.no_grad():
            new = slow(x)
        loss = loss_of(online(x), own, keys, slots)
        for row in range(len(new)):
            slot = (step * len(new) + row) % SLOTS
            keys[slot], slots[slot] = new[row], own[row]
        optimizer.zero_grad()
        loss.backward()
        if step == 2:
            tensors |= {f"grad.{name}": p.grad.clone() for name, p in online.named_parameters()}
        norm = torch.stack([p.grad.double().pow(2).sum() for p in online.parameters()]).sum().sqrt()
        optimizer.step()
        follow(slow, online, momentum(BASE, step / STEPS))
        record["loss"].append(loss.item())
        record["grad_norm"].append(norm.item())
        record["lr"].append(rate)
    kept = ("visual.blocks.1.attn.qkv.weight", "visual.cls_token", "visual.pos_embed", "image_mlp.layer3.weight")
    state = {k: v for k, v in slow.state_dict().items() if k in kept or "running" in k}
    tensors |= {f"after.momentum.{k}": v for k, v in state.items()}
    return record | {"slots": slots.tolist()}, tensors | {"after.queue.keys": keys}


def main() -> None:
    setup(41)
    model = Network()
    roughen(model, 0.2)
    initial = {k: v.clone() for k, v in model.state_dict().items()}
    record, tensors = train(initial, torch.float32)
    exact, _ = train({k: v.double() if v.is_floating_point() else v for k, v in initial.items()}, torch.float64)
    drifts = [abs(a / b - 1) for a, b in zip(record["loss"], exact["loss"])]
    print([round(loss, 4) for loss in record["loss"]], f"f32 against f64: {max(drifts):.1e}")
    weights = {k: v for k, v in initial.items() if not k.endswith("num_batches_tracked")}
    about = {"vit": VIT, "hidden": HIDDEN, "out": OUT, "captions": CAPTIONS, "warmup": WARMUP, "peak": PEAK, "base": BASE}
    about |= {"temperature": TEMPERATURE, "labels": [labels(step).tolist() for step in range(STEPS)]}
    header = about | record | {"loss_f64": exact["loss"]}
    save_tensors("momentum/queue.safetensors", weights, about)
    save_tensors("momentum/queue_steps.safetensors", {k: v.float() for k, v in tensors.items()}, header)


if __name__ == "__main__":
    main()
