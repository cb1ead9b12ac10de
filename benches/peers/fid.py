"""The statistics of FID: means, covariances and the Fréchet distance of two sets of features, ours and what pytorch-fid and
torch-fidelity compute (numpy's mean and cov, scipy's sqrtm of the product) in turn on the same threads, and the ratio.

    python benches/peers/fid.py [--binary target/release/examples/frechet_speed] [--rounds 3] [--threads 2]
        [--images 10000] [--width 2048] [--save FILE.json]

Features are positive and correlate, as Inception's do. Ours is `examples/frechet_speed.rs`, built with
`cargo build --release --example frechet_speed`.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default=str(ROOT / "target/release/examples/frechet_speed"))
    for name, value in [("rounds", 3), ("threads", 2), ("images", 10000), ("width", 2048)]:
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--save")
    args = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    import numpy as np
    from scipy.linalg import sqrtm

    draw = np.random.default_rng(0)
    n, d = args.images, args.width
    mix = (draw.normal(size=(d, d)) / np.sqrt(np.arange(1, d + 1))[:, None]).astype(np.float32)
    sets = [
        np.maximum(draw.normal(size=(n, d)).astype(np.float32) @ mix + shift, 0).astype(np.float32) for shift in (0.1, 0.2)
    ]

    def theirs() -> tuple[float, float]:
        begin = time.perf_counter()
        (m1, s1), (m2, s2) = ((np.mean(x, axis=0), np.cov(x, rowvar=False)) for x in sets)
        root = sqrtm(s1.dot(s2)).real
        between = m1 - m2
        distance = between.dot(between) + np.trace(s1) + np.trace(s2) - 2 * np.trace(root)
        return time.perf_counter() - begin, float(distance)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features"
        path.write_bytes(b"".join(x.tobytes() for x in sets))

        def ours() -> tuple[float, float]:
            command = [args.binary, str(path), str(n), str(d)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            return found["seconds"], found["distance"]

        rounds = []
        for number in range(args.rounds):
            (mine, distance), (other, wanted) = ours(), theirs()
            apart = abs(distance / wanted - 1)
            rounds.append({"ours": mine, "scipy": other, "ratio": other / mine, "apart": apart})
            print(f"round {number + 1}: ours {mine:.2f} s, numpy and scipy {other:.2f} s, ratio {other / mine:.1f}; "
                  f"distances {distance:.6f} and {wanted:.6f}", flush=True)
    print(f"ratio {statistics.median(r['ratio'] for r in rounds):.1f}")
    if args.save:
        found = {"images": n, "width": d, "threads": args.threads, "rounds": rounds}
        Path(args.save).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
