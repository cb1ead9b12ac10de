"""The 45 logistic regressions of transfer, ours and scikit-learn's in turn on the same threads, and their ratio.

    python benches/peers/logistic.py [--binary target/release/examples/logistic_sweep] [--rounds 3] [--threads 2]
        [--images 5000] [--width 384] [--classes 10] [--save FILE.json]

Features correlate as an encoder's do (their spectrum falls as 1/i), and tell the classes in part. Ours is
`examples/logistic_sweep.rs`, built with `cargo build --release --example logistic_sweep`; scikit-learn's is
LogisticRegression(solver="lbfgs", tol=1e-12, max_iter=1000), each strength begun where the one before ended. Both
times include standardising; objectives are compared too, where scikit-learn converged.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default=str(ROOT / "target/release/examples/logistic_sweep"))
    for name, value in [("rounds", 3), ("threads", 2), ("images", 5000), ("width", 384), ("classes", 10)]:
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--save")
    args = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    import numpy as np
    from scipy.special import logsumexp
    from sklearn.linear_model import LogisticRegression

    warnings.simplefilter("ignore")
    draw = np.random.default_rng(0)
    n, d, k = args.images, args.width, args.classes
    mix = draw.normal(size=(d, d)) / np.arange(1, d + 1)[:, None]
    labels = draw.integers(0, k, n).astype(np.uint32)
    features = ((draw.normal(size=(n, d)) + 0.4 * draw.normal(size=(k, d))[labels]) @ mix).astype(np.float32)
    strengths = 10.0 ** (-5 + 11 * np.arange(45) / 44)

    def theirs() -> tuple[float, list[float], list[int]]:
        begin = time.perf_counter()
        x = features.astype(np.float64)
        x = (x - x.mean(0)) / x.std(0)
        model = LogisticRegression(solver="lbfgs", tol=1e-12, max_iter=1000, warm_start=True)
        objectives, iterations = [], []
        for strength in strengths:
            model.set_params(C=strength).fit(x, labels)
            scores = x @ model.coef_.T + model.intercept_
            loss = (logsumexp(scores, axis=1) - scores[np.arange(n), labels]).sum()
            objectives.append(0.5 * (model.coef_**2).sum() + strength * loss)
            iterations.append(int(model.n_iter_[0]))
        return time.perf_counter() - begin, objectives, iterations

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features"
        path.write_bytes(features.tobytes() + labels.tobytes())

        def ours() -> tuple[float, list[float], list[int]]:
            command = [args.binary, str(path), str(n), str(d), str(k)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            return found["seconds"], found["objectives"], found["iterations"]

        rounds = []
        for number in range(args.rounds):
            (mine, objectives, steps), (other, wanted, others) = ours(), theirs()
            apart = max(abs(a / b - 1) for a, b, i in zip(objectives, wanted, others) if i < 1000)
            lower = sum(a < b * (1 - 1e-9) for a, b in zip(objectives, wanted))
            rounds.append({"ours": mine, "scikit-learn": other, "ratio": other / mine, "apart": apart, "lower": lower})
            print(f"round {number + 1}: ours {mine:.2f} s, scikit-learn {other:.2f} s, ratio {other / mine:.1f}; "
                  f"{sum(steps)} and {sum(others)} iterations; objectives within {apart:.1e} where scikit-learn "
                  f"converged, ours lower at {lower} others", flush=True)
    print(f"ratio {statistics.median(r['ratio'] for r in rounds):.1f}")
    if args.save:
        found = {"images": n, "width": d, "classes": k, "rounds": rounds}
        Path(args.save).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
