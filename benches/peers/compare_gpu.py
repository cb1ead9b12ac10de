"""Ours and PyTorch on one GPU, in one table: drawing images (diffusers) and a training step (timm).

    python dev/golden/full_sd15.py /tmp/sd15                       # a full-size model with random weights, once
    python benches/peers/compare_gpu.py --model /tmp/sd15/model [--binary target/release/stablerep] [--only generate,train] \\
        [--batches 1,16,32] [--train vit_b:128x4] [--rounds 3] [--save FILE.json]
    python benches/peers/compare_gpu.py --dry-run                   # tiny sizes on the CPU: does everything run?

Every peer in eager PyTorch, with channels-last convolutions and compiled; the best counts. One round is ours, then the peers; medians over the rounds
are compared. Ours says itself how fast it is: `bench generate`, encoding included, and `bench train`, whose step begins with augmentation as the peers'
does not. One more row is a whole run of `generate` timed from outside, over two amounts of images, whose difference leaves start-up out. Kernels by
themselves: `stablerep bench kernels --json`, then kernels.py.
"""
import argparse
import json
import statistics
import subprocess
import sys
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
        self.given, self.folder = given, folder
        self.device = ["--device", "cpu" if given.dry_run else "cuda"]

    def bench(self, *words) -> dict:
        """What `stablerep bench WORDS` reports."""
        file = self.folder / f"{time.monotonic_ns()}.json"
        run([self.given.binary, "bench", *words, *self.device, "--json", file])
        return json.loads(file.read_text())

    def drawing(self) -> list:
        return ["--model", self.given.model, "--steps", self.given.steps, "--guidance-scale", self.given.guidance_scale, "--format", "jpg"]

    def generate(self, batch: int) -> dict:
        report = self.bench("generate", *self.drawing(), "--batches", batch, "--seconds", self.given.seconds)
        return report["batches"][0] | {"start_up": report["start_up"]}

    def end_to_end(self, batch: int) -> dict:
        """A whole run of `generate`."""
        few, many = batch, batch * (1 + max(1, round(self.given.images / batch)))
        seconds = self.generate_seconds(many, batch) - self.generate_seconds(few, batch)
        return {"images_per_s": (many - few) / seconds}

    def generate_seconds(self, captions: int, batch: int) -> float:
        name = f"{captions}-{time.monotonic_ns()}"
        file = self.folder / f"{name}.txt"
        file.write_text("".join(f"a photo of the number {i}\n" for i in range(captions)))
        command = [self.given.binary, "generate", *self.device, *self.drawing(), "--captions", file, "--output", self.folder / name, "--batch", batch]
        begin = time.perf_counter()
        run(command)
        return time.perf_counter() - begin

    def train(self, model: str, captions: int, views: int) -> dict:
        words = ["--batch", captions, "--images-per-caption", views, "--seconds", self.given.seconds]
        if model == "demo":
            words += ["--model", "custom", "--image-size", 32, "--patch-size", 8, "--width", 128, "--depth", 4, "--heads", 2]
            words += ["--head-dims", "512,64"]
        else:
            words += ["--model", NAMES[model]]
        return self.bench("train", *words)


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

    def end_to_end(self, batch: int) -> dict[str, float | str]:
        """A pipeline of theirs that writes files would be of our making."""
        return {}

    @staticmethod
    def rates(measured) -> dict[str, float | str]:
        return {line["variant"]: line.get("images_per_s", line.get("error")) for line in measured}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/stablerep")
    parser.add_argument("--model", type=Path, help="diffusers folder to draw with")
    parser.add_argument("--only", default="generate,train")
    parser.add_argument("--batches", default="1,16,32")
    parser.add_argument("--images", type=int, default=64, help="images of the whole run of generate, about")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance-scale", type=float, default=2.0)
    parser.add_argument("--train", default="vit_s:256x4,vit_b:128x4,vit_l:64x4", help="model:captions×views, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="time budget of one measurement")
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
        batches = [int(batch) for batch in given.batches.split(",")]
        jobs += [(f"generate, batch {batch}", "generate", (batch,)) for batch in batches]
        jobs.append((f"a run of generate, batch {max(batches)}", "end_to_end", (max(batches),)))
    if "train" in given.only:
        for item in given.train.split(","):
            model, _, shape = item.partition(":")
            captions, views = map(int, shape.split("x"))
            jobs.append((f"train {model}, {captions}×{views}", "train", (model, captions, views)))
    variants = ["eager", "channels_last", "compile"]
    print("| images per second | ours | MFU | " + " | ".join(f"PyTorch {v}" for v in variants) + " | ours / best | rounds |")
    print("|---|--:|--:|--:|--:|--:|--:|---|")
    record = []
    with tempfile.TemporaryDirectory() as folder:
        ours, peers = Ours(given, Path(folder)), Peers(given)
        for title, what, arguments in jobs:
            mine, theirs, failed = [], [], []
            for _ in range(given.rounds):
                for engine, into in ((ours, mine), (peers, theirs)):
                    try:
                        into.append(getattr(engine, what)(*arguments))
                    except (RuntimeError, ZeroDivisionError, KeyError) as error:
                        failed.append(str(error))
            rates = [measured["images_per_s"] for measured in mine]
            rate = statistics.median(rates) if rates else None
            shares = [measured["mfu"] for measured in mine if measured.get("mfu") is not None]
            mfu = f"{100 * statistics.median(shares):.1f} %" if shares else "–"
            of = {v: [x[v] for x in theirs if isinstance(x.get(v), float)] for v in variants}
            medians = {v: statistics.median(numbers) for v, numbers in of.items() if numbers}
            cells = [f"{medians[v]:.2f}" if v in medians else "–" for v in variants]
            ratio = f"{rate / max(medians.values()):.2f}×" if rate and medians else "–"
            best = [max(r for r in x.values() if isinstance(r, float)) for x in theirs if any(isinstance(r, float) for r in x.values())]
            rounds = ", ".join(f"{a / b:.2f}" for a, b in zip(rates, best))
            print(f"| {title} | {'–' if rate is None else f'{rate:.2f}'} | {mfu} | {' | '.join(cells)} | {ratio} | {rounds} |", flush=True)
            for text in failed + [str(x[v]) for x in theirs for v in x if isinstance(x[v], str)]:
                print(f"  {title}: {text}", file=sys.stderr)
            record.append({"what": title, "ours": mine, "peers": theirs, "failed": failed})
    if given.save:
        given.save.write_text(json.dumps(record, indent=1) + "\n")
    if any(not item["ours"] for item in record):
        sys.exit(1)


if __name__ == "__main__":
    main()
