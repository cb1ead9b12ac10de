"""How every peer measures: one warm-up, then rounds until a time budget is spent; one JSON line per measurement."""
import json
import statistics
import time

import torch


def arguments(parser):
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="time budget of one measurement")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    return given


def finish(device: str) -> None:
    """Waits for what the device still has to do."""
    if device != "cpu":
        torch.cuda.synchronize()


def measure(bench: str, images: int, work, seconds: float, device: str = "cpu", **details) -> None:
    """Runs `work()` repeatedly and prints images per second from the median round (and from the fastest)."""
    work()
    finish(device)
    rounds, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds or len(rounds) < 3:
        begin = time.perf_counter()
        work()
        finish(device)
        rounds.append(time.perf_counter() - begin)
    line = {
        "bench": bench,
        "engine": "pytorch",
        "device": device,
        "images_per_s": images / statistics.median(rounds),
        "best_images_per_s": images / min(rounds),
        "seconds_per_round": statistics.median(rounds),
        "rounds": len(rounds),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(line | details), flush=True)


def try_measure(bench: str, images: int, work, seconds: float, device: str = "cpu", **details) -> None:
    """As `measure`; what does not fit the device or does not compile becomes a line that says so, and the rest goes on."""
    try:
        measure(bench, images, work, seconds, device, **details)
    except Exception as error:  # torch.compile fails in many ways
        if device != "cpu":
            torch.cuda.empty_cache()
        text = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        print(json.dumps({"bench": bench, "engine": "pytorch", "device": device, "error": text} | details), flush=True)
