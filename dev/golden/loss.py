"""The multi-positive loss from its formula, in f64: per-anchor losses, their mean, and the mean's gradient for the raw features.

    python dev/golden/loss.py
"""
import torch

from common import save_tensors, setup
from encoder import multi_positive_loss


def cases() -> dict:
    """name -> (raw features, labels, temperature)"""
    result = {}
    method = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 1], [1, 0, 1], [0, 2, -1]], dtype=torch.float64)
    result["method"] = (method, [0, 1, 0, 1, 0, 1], 0.1)
    # 5 captions x 4 views, view-major; captions 0 and 3 have the same text, so each of their images has 7 positives.
    result["duplicate_captions"] = (torch.randn(20, 16), [0, 1, 2, 0, 4] * 4, 0.1)
    # Anchors 1 and 4 have no positive: their rows count 0, the mean still divides by all anchors.
    result["lonely_anchors"] = (torch.randn(7, 8), [3, 9, 3, 5, 8, 5, 3], 0.1)
    result["two_views"] = (torch.randn(24, 32), list(range(12)) * 2, 0.1)
    result["one_caption"] = (torch.randn(6, 8), [2] * 6, 0.5)
    result["no_positives"] = (torch.randn(5, 8), [0, 1, 2, 3, 4], 0.1)
    # Long and short rows, nearly parallel positives, a sharp temperature: softmax must subtract its maximum.
    raw = torch.randn(4, 8).repeat(3, 1) * torch.logspace(-3, 3, 12)[:, None] + 1e-4 * torch.randn(12, 8)
    result["sharp"] = (raw, [0, 1, 2, 3] * 3, 0.01)
    result["wide"] = (torch.randn(96, 64), [i % 30 for i in range(96)], 0.1)
    return result


def main() -> None:
    setup(7)
    out, means, temperatures = {}, {}, {}
    for name, (raw, labels, temperature) in cases().items():
        # What is stored is f32; the reference starts from exactly those values.
        stored = raw.float()
        x = stored.double().requires_grad_()
        rows = multi_positive_loss(x, torch.tensor(labels), temperature)
        rows.mean().backward()
        out |= {f"{name}.raw": stored, f"{name}.labels": torch.tensor(labels, dtype=torch.int32)}
        out |= {f"{name}.rows": rows, f"{name}.grad": x.grad}
        means[name], temperatures[name] = rows.mean().item(), temperature
    expected = [0.694420, 1.204736, 2.038413, 2.195784, 1.261065, 2.964287]
    assert torch.allclose(out["method.rows"], torch.tensor(expected, dtype=torch.float64), atol=1e-6)
    assert abs(means["method"] - 1.726451) < 1e-6
    save_tensors("loss.safetensors", out, {"mean": means, "temperature": temperatures})


if __name__ == "__main__":
    main()
