"""PyTorch's float8_e4m3fn: what every pattern means, and what numbers round to once held to ±448.

    python dev/golden/e4m3.py
"""
import torch

from common import save_tensors, setup


def encoded(values: torch.Tensor) -> torch.Tensor:
    """Saturating: PyTorch alone makes NaN of what is beyond 448."""
    return values.clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8)


def main() -> None:
    setup()
    patterns = torch.arange(256, dtype=torch.uint8)
    decoded = patterns.view(torch.float8_e4m3fn).float()
    numbers = decoded[:127]
    # Every number, every midpoint, and the f32 on either side of both; beyond the largest; random sizes down to below
    # the smallest.
    exact = torch.cat([numbers, (numbers[1:] + numbers[:-1]) / 2])
    near = torch.cat([torch.nextafter(exact, torch.tensor(side)) for side in (-1e30, 1e30)])
    beyond = torch.tensor([448.1, 463.9, 464.0, 465.0, 1e30, float("inf")])
    random = torch.randn(512) * torch.exp2(torch.randint(-14, 9, (512,)).float())
    values = torch.cat([exact, near, beyond])
    values = torch.cat([values, -values, random])
    save_tensors("e4m3.safetensors", {"decoded": decoded, "values": values, "encoded": encoded(values)})


if __name__ == "__main__":
    main()
