"""Ours and PyTorch on one GPU, in one table: drawing images (diffusers) and a training step (timm).

    python dev/golden/full_sd15.py /tmp/sd15                       # a full-size model with random weights, once
    python benches/peers/compare_gpu.py --model /tmp/sd15/model [--binary target/release/stablerep] [--only generate,train] \\
        [--batches 1,16,32] [--train vit_b:128x4] [--rounds 3] [--save FILE.json]
    python benches/peers/compare_gpu.py --dry-run                   # tiny sizes on the CPU: does everything run?

Every peer in eager PyTorch, with channels-last convolutions and compiled; the best counts. One round is ours, then the peers; medians over the rounds
are compared. Ours is timed from outside: `generate` over two amounts of images, whose difference leaves start-up out; `train` by the rates of its
metrics.jsonl after the first third. Kernels by themselves: `stablerep bench kernels --json`, then kernels.py.
"""
import argparse
import io
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NAMES = {"vit_s": "vit_small", "vit_b": "vit_base", "vit_l": "vit_large"}


def run(command: list, cwd: Path = ROOT) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {done.returncode}: {done.stderr[-1500:]}")
    return done.stdout


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


class Ours:
    def __init__(self, given, folder: Path):
        self.given, self.folder, self.shards = given, folder, None

    def device(self) -> list[str]:
        return [] if self.given.dry_run else ["--device", "cuda"]

    def generate_seconds(self, captions: int, batch: int) -> float:
        given, name = self.given, f"{captions}-{time.monotonic_ns()}"
        file = self.folder / f"{name}.txt"
        file.write_text("".join(f"a photo of the number {i}\n" for i in range(captions)))
        command = [given.binary, "generate", *self.device(), "--model", given.model, "--captions", file, "--output", self.folder / name]
        command += ["--batch", batch, "--steps", given.steps, "--guidance-scale", given.guidance_scale, "--format", "jpg"]
        begin = time.perf_counter()
        run(command)
        return time.perf_counter() - begin

    def generate(self, batch: int) -> float:
        """Images per second."""
        few, many = batch, batch * (1 + max(1, round(self.given.images / batch)))
        return (many - few) / (self.generate_seconds(many, batch) - self.generate_seconds(few, batch))

    def write_shards(self, captions: int, views: int) -> Path:
        """Pictures of 256² with noise of several scales, as compressible as photographs."""
        import torch
        from PIL import Image

        if self.shards is None:
            self.shards = self.folder / "shards"
            self.shards.mkdir()
            torch.manual_seed(0)
            with tarfile.open(self.shards / "00000.tar", "w") as tar:
                for caption in range(captions):
                    for view in range(views):
                        noise = sum(
                            torch.nn.functional.interpolate(torch.randn(1, 3, side, side), 256, mode="bilinear") * 160 / side**0.5
                            for side in (4, 16, 64)
                        )
                        pixels = (noise[0].permute(1, 2, 0) + 128).clamp(0, 255).byte().numpy()
                        picture = io.BytesIO()
                        Image.fromarray(pixels).save(picture, "JPEG", quality=95)
                        for extension, data in [("jpg", picture.getvalue()), ("txt", f"the number {caption}".encode())]:
                            member = tarfile.TarInfo(f"{caption:09}-{view:03}.{extension}")
                            member.size = len(data)
                            tar.addfile(member, io.BytesIO(data))
        return self.shards

    def train(self, model: str, captions: int, views: int) -> float:
        """Images per second."""
        steps = 6 if self.given.dry_run else 30
        output = self.folder / f"train-{time.monotonic_ns()}"
        command = [self.given.binary, "train", *self.device(), "--data", self.write_shards(captions * 2, views), "--output", output]
        command += ["--batch", captions, "--images-per-caption", views, "--steps", steps, "--warmup-steps", 1]
        if model == "demo":
            command += ["--model", "custom", "--image-size", 32, "--patch-size", 8, "--width", 128, "--depth", 4, "--heads", 2]
            command += ["--head-dims", "512,64"]
        else:
            command += ["--model", NAMES[model]]
        run(command)
        rates = [entry["images_per_second"] for entry in lines((output / "metrics.jsonl").read_text())]
        return statistics.median(rates[len(rates) // 3 :])


class Peers:
    def __init__(self, given):
        self.given = given

    def script(self, name: str, *arguments) -> list[dict]:
        given = self.given
        command = [sys.executable, HERE / name, "--seconds", given.seconds, "--threads", given.threads, *arguments]
        if given.compile:
            command.append("--compile")
        return lines(run(command))

    def generate(self, batch: int) -> dict[str, float | str]:
        given = self.given
        where = ["--dry-run"] if given.dry_run else ["--device", "cuda", "--model", given.model]
        shape = ["--batches", batch, "--steps", given.steps, "--guidance-scale", given.guidance_scale]
        return self.rates(line for line in self.script("sd15.py", *shape, *where) if line["batch"] == batch)

    def train(self, model: str, captions: int, views: int) -> dict[str, float | str]:
        device = "cpu" if self.given.dry_run else "cuda"
        return self.rates(self.script("train.py", "--model", model, "--captions", captions, "--views", views, "--device", device))

    @staticmethod
    def rates(measured) -> dict[str, float | str]:
        return {line["variant"]: line.get("images_per_s", line.get("error")) for line in measured}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/stablerep")
    parser.add_argument("--model", type=Path, help="diffusers folder to draw with")
    parser.add_argument("--only", default="generate,train")
    parser.add_argument("--batches", default="1,16,32")
    parser.add_argument("--images", type=int, default=64, help="images that ours draws, about, for one measurement")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance-scale", type=float, default=2.0)
    parser.add_argument("--train", default="vit_s:256x4,vit_b:128x4,vit_l:64x4", help="model:captions×views, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="time budget of one measurement of a peer")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave torch.compile out")
    parser.add_argument("--save", type=Path, help="every measurement, as JSON")
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    if given.dry_run:
        given.model, given.batches, given.steps, given.images = ROOT / "assets/tiny-sd", "2", 2, 2
        given.train, given.rounds, given.seconds, given.threads, given.compile = "demo:4x2", 1, 0.5, 1, False
    if given.model is None and "generate" in given.only:
        parser.error("--model DIR (dev/golden/full_sd15.py makes one), --only train, or --dry-run")

    jobs = []
    if "generate" in given.only:
        jobs += [(f"generate, batch {batch}", "generate", (int(batch),)) for batch in given.batches.split(",")]
    if "train" in given.only:
        for item in given.train.split(","):
            model, _, shape = item.partition(":")
            captions, views = map(int, shape.split("x"))
            jobs.append((f"train {model}, {captions}×{views}", "train", (model, captions, views)))
    variants = ["eager", "channels_last", "compile"]
    print("| images per second | ours | " + " | ".join(f"PyTorch {v}" for v in variants) + " | ours / best | rounds |")
    print("|---|--:|--:|--:|--:|--:|---|")
    record = []
    with tempfile.TemporaryDirectory() as folder:
        ours, peers = Ours(given, Path(folder)), Peers(given)
        for title, what, arguments in jobs:
            mine, theirs, failed = [], [], []
            for _ in range(given.rounds):
                for engine, into in ((ours, mine), (peers, theirs)):
                    try:
                        into.append(getattr(engine, what)(*arguments))
                    except (RuntimeError, ZeroDivisionError) as error:
                        failed.append(str(error))
            rate = statistics.median(mine) if mine else None
            of = {v: [x[v] for x in theirs if isinstance(x.get(v), float)] for v in variants}
            medians = {v: statistics.median(rates) for v, rates in of.items() if rates}
            cells = [f"{medians[v]:.2f}" if v in medians else "–" for v in variants]
            ratio = f"{rate / max(medians.values()):.2f}×" if rate and medians else "–"
            best = [max(r for r in x.values() if isinstance(r, float)) for x in theirs if any(isinstance(r, float) for r in x.values())]
            rounds = ", ".join(f"{a / b:.2f}" for a, b in zip(mine, best))
            print(f"| {title} | {'–' if rate is None else f'{rate:.2f}'} | {' | '.join(cells)} | {ratio} | {rounds} |", flush=True)
            for text in failed + [str(x[v]) for x in theirs for v in x if isinstance(x[v], str)]:
                print(f"  {title}: {text}", file=sys.stderr)
            record.append({"what": title, "ours": mine, "peers": theirs, "failed": failed})
    if given.save:
        given.save.write_text(json.dumps(record, indent=1) + "\n")
    if any(not item["ours"] for item in record):
        sys.exit(1)


if __name__ == "__main__":
    main()
