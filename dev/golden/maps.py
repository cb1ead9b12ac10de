"""Layers of feature maps and their gradients by PyTorch in f64: convolutions 3x3 and transposed ones, bilinear
resizing, pooling, batch norm by running statistics, and the cross-entropy of enlarged logits.

    python dev/golden/maps.py

Writes maps.safetensors. Inputs are values of f32; maps are stored [N, S, S, C], weights as the layers of the engine
have them: [O, 3, 3, C] and, transposed, [2, 2, C, I].
"""
import torch
import torch.nn.functional as F

from common import save_tensors, setup

IGNORED = 255
WEIGHT = 0.4


def draw(*shape: int) -> torch.Tensor:
    """Values of f32 in f64, of which a gradient is wanted."""
    return torch.randn(*shape).double().requires_grad_()


def last(x: torch.Tensor) -> torch.Tensor:
    """NCHW -> NHWC."""
    return x.permute(0, 2, 3, 1)


def layer(y: torch.Tensor, **inputs: torch.Tensor) -> dict:
    """Its result, a gradient drawn for it, and those of its inputs; maps are turned."""
    dy = draw(*y.shape).detach()
    y.backward(dy)
    turn = lambda t: last(t) if t.ndim == 4 else t
    out = {"y": turn(y), "dy": turn(dy)}
    for name, value in inputs.items():
        out |= {name: turn(value), f"d{name}": turn(value.grad)}
    return out


def convolution(side: int) -> dict:
    x, w = draw(2, 4, side, side), draw(3, 4, 3, 3)
    return layer(F.conv2d(x, w, padding=1), x=x, w=w)


def transposed(side: int) -> dict:
    x, w, b = draw(2, 4, side, side), draw(4, 5, 2, 2), draw(5)
    out = layer(F.conv_transpose2d(x, w, b, stride=2), x=x, w=w, b=b)
    return out | {"w": w.permute(2, 3, 1, 0), "dw": w.grad.permute(2, 3, 1, 0)}


def resized(side: int, to: int) -> dict:
    x = draw(2, 3, side, side)
    return layer(F.interpolate(x, size=(to, to), mode="bilinear", align_corners=False), x=x)


def pooled(side: int, bins: int) -> dict:
    x = draw(2, 3, side, side)
    return layer(F.adaptive_avg_pool2d(x, bins), x=x)


def largest(side: int) -> dict:
    """Few different values: many windows have several largest ones."""
    x = torch.randint(-1, 2, (2, 3, side, side)).double().requires_grad_()
    return layer(F.max_pool2d(x, 2), x=x)


def normed() -> dict:
    x, w, b = draw(2, 4, 3, 3), draw(4), draw(4)
    mean, var = draw(4).detach(), draw(4).detach().square()
    out = layer(F.batch_norm(x, mean, var, w, b, training=False), x=x, w=w, b=b)
    return {name: out[name] for name in ("x", "w", "b", "y")} | {"mean": mean, "var": var, "relu": out["y"].relu()}


def loss(side: int, to: int, classes: int) -> dict:
    """Of two of a step's three images: sums over lines of pixels, and the gradient of a mean over all pixels of the
    step, ignored ones among them."""
    x = draw(2, classes, side, side)
    labels = torch.randint(0, classes + 1, (2, to, to))
    labels[labels == classes] = IGNORED
    z = F.interpolate(x, size=(to, to), mode="bilinear", align_corners=False)
    losses = WEIGHT * F.cross_entropy(z, labels, ignore_index=IGNORED, reduction="none")
    (losses.sum() / (3 * to * to)).backward()
    return {
        "x": last(x),
        "labels": labels.int(),
        "losses": losses.mean(dim=2),
        "lse": z.logsumexp(dim=1),
        "dx": last(x.grad),
    }


def main() -> None:
    setup(31)
    cases = {f"convolution.{side}": convolution(side) for side in (1, 2, 5)}
    cases |= {f"transposed.{side}": transposed(side) for side in (1, 3)}
    cases |= {f"resized.{side}.{to}": resized(side, to) for side, to in ((1, 4), (2, 3), (3, 8), (5, 5), (2, 16))}
    cases |= {f"pooled.{side}.{bins}": pooled(side, bins) for side in (5, 8) for bins in (1, 2, 3, 6)}
    cases |= {f"largest.{side}": largest(side) for side in (2, 5, 6)}
    cases |= {"normed": normed()}
    cases |= {f"loss.{side}.{to}": loss(side, to, classes) for side, to, classes in ((1, 2, 3), (3, 8, 5), (4, 16, 2))}
    tensors = {f"{case}.{name}": value for case, tensors in cases.items() for name, value in tensors.items()}
    save_tensors("maps.safetensors", tensors, {"weight": WEIGHT})


if __name__ == "__main__":
    main()
