"""Runs our end-to-end benchmarks and PyTorch's in turn, on the same machine with the same threads, and prints the ratios.

    python benches/peers/compare.py [--rounds 3] [--seconds 10] [--threads 2] [--only generate,train_demo] [--save FILE.json]

Ours is `cargo bench --bench end_to_end -- NAME --seconds S --threads T`, which prints JSON lines as the peers do. The peer's best counts: of its
variants, and of one thread and all (on small tensors PyTorch's threads can cost more than they give).
One round is ours, then the peer; medians over the rounds are compared, so that a machine that slows down meanwhile slows both.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PEERS = {
    "generate": ["generate.py"],
    "train_vit_s": ["train.py", "--model", "vit_s"],
    "train_demo": ["train.py", "--model", "demo"],
    "loss": ["loss.py"],
}


def measurements(command: list[str]) -> list[dict]:
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with exit code {done.returncode}:\n{done.stderr[-3000:]}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        sys.exit(f"{' '.join(command)} printed no measurement:\n{done.stdout[-3000:]}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help="benchmarks, separated by commas")
    parser.add_argument("--save", type=Path, help="every raw measurement, as JSON")
    given = parser.parse_args()
    names = given.only.split(",") if given.only else list(PEERS)
    limits = ["--seconds", str(given.seconds), "--threads", str(given.threads)]
    subprocess.run(["cargo", "bench", "--quiet", "--bench", "end_to_end", "--no-run"], cwd=ROOT, check=True)

    raw = []
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} before the start (another program's work falsifies the ratios)")
    print(f"{'benchmark':<14} {'ours':>12} {'PyTorch':>12} {'ratio':>7}   images per second, {given.threads} threads")
    for name in names:
        ours, theirs = [], []
        for _ in range(given.rounds):
            mine = measurements(["cargo", "bench", "--quiet", "--bench", "end_to_end", "--", name, *limits])
            peer = [
                line
                for threads in sorted({1, given.threads})
                for line in measurements(
                    [sys.executable, str(HERE / PEERS[name][0]), *PEERS[name][1:], "--seconds", str(given.seconds), "--threads", str(threads)]
                )
            ]
            raw += mine + peer
            ours.append(max(line["images_per_s"] for line in mine))
            theirs.append(max(line["images_per_s"] for line in peer))
        a, b = statistics.median(ours), statistics.median(theirs)
        print(f"{name:<14} {a:>12.2f} {b:>12.2f} {a / b:>6.2f}x   rounds {[round(x / y, 2) for x, y in zip(ours, theirs)]}", flush=True)
    if given.save:
        given.save.write_text(json.dumps(raw, indent=1) + "\n")


if __name__ == "__main__":
    main()
