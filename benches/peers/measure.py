"""How every peer measures: one warm-up, then rounds until a time budget is spent; one JSON line per measurement."""
import json
import statistics
import time

import torch


def arguments(parser):
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="time budget of one measurement")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    return given


def measure(bench: str, images: int, work, seconds: float, **details) -> None:
    """Runs `work()` repeatedly and prints images per second from the median round (and from the fastest)."""
    work()
    rounds, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds or len(rounds) < 3:
        begin = time.perf_counter()
        work()
        rounds.append(time.perf_counter() - begin)
    line = {
        "bench": bench,
        "engine": "pytorch",
        "images_per_s": images / statistics.median(rounds),
        "best_images_per_s": images / min(rounds),
        "seconds_per_round": statistics.median(rounds),
        "rounds": len(rounds),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(line | details), flush=True)
