"""The multi-positive loss, forward and backward, in PyTorch eager, f32.

    python benches/peers/loss.py [--captions 256] [--views 4] [--width 256]
"""
import argparse

import torch

from measure import arguments, measure
from train import multi_positive_loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=256)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    given = arguments(parser)
    torch.manual_seed(0)
    raw = torch.randn(given.captions * given.views, given.width, requires_grad=True)
    labels = torch.arange(given.captions).repeat(given.views)

    def work():
        raw.grad = None
        multi_positive_loss(raw, labels).backward()

    shape = dict(captions=given.captions, views=given.views, width=given.width)
    measure("loss", len(raw), work, given.seconds, **shape)


if __name__ == "__main__":
    main()
