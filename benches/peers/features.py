"""Features of a ViT in f32 on the CPU, ours and timm's in turn on the same threads, and their ratio.

    python benches/peers/features.py [--binary target/release/examples/feature_speed] [--rounds 3] [--threads 2]
        [--model vit_small] [--batch 32] [--seconds 10] [--save FILE.json]

Both begin from 8-bit images [N, 224, 224, 3], normalise them and give the class token after the last norm. Ours is
`examples/feature_speed.rs`, built with `cargo build --release --example feature_speed`; timm's is
vit_*_patch16_224 under torch.inference_mode, as it comes (fused attention). Figures are medians of rounds.
"""
import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default=str(ROOT / "target/release/examples/feature_speed"))
    for name, value in [("rounds", 3), ("threads", 2), ("batch", 32)]:
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--model", default="vit_small")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--save")
    args = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    import timm
    import torch

    torch.set_num_threads(args.threads)
    model = timm.create_model(f"{args.model}_patch16_224", num_classes=0).eval()
    images = torch.randint(0, 256, (args.batch, 224, 224, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(values) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def theirs() -> float:
        def work():
            with torch.inference_mode():
                model(((images / 255 - mean) / std).permute(0, 3, 1, 2))

        work()
        rounds, start = [], time.perf_counter()
        while time.perf_counter() - start < args.seconds or len(rounds) < 3:
            begin = time.perf_counter()
            work()
            rounds.append(time.perf_counter() - begin)
        return args.batch / statistics.median(rounds)

    def ours() -> float:
        command = [args.binary, args.model, str(args.batch), str(args.seconds)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return args.batch / statistics.median(found["rounds"])

    rounds = []
    for number in range(args.rounds):
        mine, other = ours(), theirs()
        rounds.append({"ours": mine, "timm": other, "ratio": mine / other})
        print(f"round {number + 1}: ours {mine:.2f} images/s, timm {other:.2f}, ratio {mine / other:.2f}", flush=True)
    print(f"ratio {statistics.median(r['ratio'] for r in rounds):.2f}")
    if args.save:
        found = {"model": args.model, "batch": args.batch, "threads": args.threads, "rounds": rounds}
        Path(args.save).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
