"""Everything to find out about one GPU in ten minutes: are we right there, how fast is each kernel, how fast is the whole, beside PyTorch.

    python benches/card.py train    --out DIR [--binary target/release/stablerep] [--minutes 9.5] [--only selftest,step]
    python benches/card.py generate --out DIR …
    python benches/card.py train --out DIR --dry-run        # small sizes, on whatever driver answers: does every step run?

Steps run in the order of the table below, each with a limit of its own, until the minutes are spent; what fails or is left out is said at the end,
and the rest goes on. DIR gets log.txt (all that the steps printed), results.json (commands, seconds, exit codes, and every JSON they wrote) and
recorded.txt: copy the first two to benches/runs/<date>-<gpu>/, the third to tests/cuda-sim/tests/recorded/<gpu>.txt. Needs PyTorch and timm; `generate` also transformers and diffusers. Of us it needs the binary alone.
"""
import argparse
import json
import os
import platform
import shutil
import site
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "assets/tiny-sd"
TRAIN_OPS = ["augment", "batchnorm", "contrastive", "cross_entropy", "gemm", "l2norm", "layernorm", "linear", "optimizer", "patch_embed", "reduce", "self_attention"]
# First what no document vouches for: how wgmma reads V at 40, 80 and 160 columns.
GENERATE_OPS = ["attention, V", "attention", "conv", "e4m3", "embed", "groupnorm", "layernorm", "pixels", "reduce", "sampler_step"]


@dataclass
class Step:
    name: str
    commands: list[list]
    seconds: float
    """Files that the commands write and that belong to the results."""
    files: list[Path] = field(default_factory=list)
    """Names of steps that must have gone well."""
    after: list[str] = field(default_factory=list)


def machine() -> dict:
    """What ran and where."""
    def said(*command) -> str:
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT).stdout.strip()
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)

    query = "name,driver_version,memory.total,power.limit,clocks.max.sm,clocks.max.mem"
    versions = "import json, importlib.metadata as m; print(json.dumps({n: m.version(n) for n in ['torch', 'timm', 'transformers', 'diffusers', 'triton'] if any(d.metadata['Name'].lower() == n for d in m.distributions())}))"
    return {
        "gpu": said("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"),
        "versions": said(sys.executable, "-c", versions),
        "python": platform.python_version(),
        "processor": f"{os.cpu_count()} × {platform.machine()}",
        "commit": said("git", "rev-parse", "HEAD"),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def find_vendor_library(folder: Path) -> None:
    """PyTorch's cuBLASLt under the name that our binary looks for, whatever its version."""
    names = [name for root in {*site.getsitepackages(), sysconfig.get_paths()["purelib"]} for name in Path(root).glob("nvidia/*/lib/libcublasLt.so.*")]
    if names:
        folder.mkdir(exist_ok=True)
        (folder / "libcublasLt.so").unlink(missing_ok=True)
        (folder / "libcublasLt.so").symlink_to(names[0])
        os.environ["LD_LIBRARY_PATH"] = ":".join(filter(None, [str(folder), os.environ.get("LD_LIBRARY_PATH")]))


def sanitizer(given, ops: list[str]) -> list[list]:
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    return [[tool, "--error-exitcode", "9", given.binary, "selftest", op, "--quick"] for op in ops]


def kernels(given) -> list[Step]:
    ours, peers = given.out / "kernels.json", given.out / "kernel-peers.json"
    bench = [given.binary, "bench", "kernels", "--json", ours] + (["--filter", "embed"] if given.dry_run else [])
    beside = [sys.executable, ROOT / "benches/peers/kernels.py"] + (["--dry-run"] if given.dry_run else ["--ours", ours])
    return [
        Step("kernels", [bench], 150, [ours]),
        Step("kernel-peers", [beside + ["--save", peers]], 120, [peers], [] if given.dry_run else ["kernels"]),
    ]


def record(given) -> Step:
    """For the simulator's tests."""
    return Step("record", [[sys.executable, ROOT / "dev/golden/card.py", "--out", given.out / "recorded.txt"]], 30)


def train(given) -> list[Step]:
    dry = given.dry_run
    compare, save = [sys.executable, ROOT / "benches/peers/compare_gpu.py", "--binary", given.binary, "--only", "train"], given.out / "step.json"
    shapes = ["--dry-run"] if dry else ["--train", "vit_b:128x4,vit_b:1376x6" if given.large else "vit_b:128x4", "--rounds", 1, "--seconds", 5]
    return [
        Step("selftest", [[given.binary, "selftest", op] + (["--quick"] if dry else []) for op in (["embed"] if dry else TRAIN_OPS)], 150),
        Step("step", [compare + shapes + ["--save", save]], 200, [save]),
        *kernels(given),
        record(given),
        Step("sanitizer", sanitizer(given, ["embed"] if dry else TRAIN_OPS), 90),
    ]


def generate(given) -> list[Step]:
    dry, out = given.dry_run, given.out
    model = TINY if dry else out.parent / "sd15/model"
    made = model.is_dir()
    same, rates = out / "same-images.json", out / "rates.json"
    compare = [sys.executable, ROOT / "benches/peers/compare_gpu.py", "--binary", given.binary, "--only", "generate"]
    batches = "2" if dry else "1,8,16,32"
    ours = [given.binary, "bench", "generate", "--model", model, "--batches", batches, "--device", "cuda"] + (["--steps", 2] if dry else [])
    benches = [(w, out / f"generate-w{w}.json") for w in ([2] if dry else [7.5, 2])]
    beside = ["--dry-run"] if dry else ["--model", model, "--batches", "1,16,32", "--rounds", 1, "--seconds", 8, "--guidance-scale", 7.5]
    images = [sys.executable, ROOT / "benches/peers/same_images.py", "--binary", given.binary, "--model", model, "--save", same]
    return [
        Step("selftest", [[given.binary, "selftest", op] + (["--quick"] if dry else []) for op in (["embed"] if dry else GENERATE_OPS)], 120),
        Step("tiny", [[sys.executable, ROOT / "benches/peers/same_images.py", "--binary", given.binary, "--bits"] + (["--dry-run"] if dry else [])], 60),
        Step("model", [] if made else [[sys.executable, ROOT / "dev/golden/full_sd15.py", out.parent / "sd15", "--threads", os.cpu_count(), "--no-reference"]], 90),
        Step("same-images", [images + (["--dry-run"] if dry else [])], 90, [same], ["model"]),
        Step("rates", [ours + ["--guidance-scale", w, "--json", file] for w, file in benches], 120, [file for _, file in benches], ["model"]),
        Step("rate-peers", [compare + beside + ([] if given.compile else ["--no-compile"]) + ["--save", rates]], 240, [rates], ["model"]),
        *kernels(given),
        record(given),
        Step("sanitizer", sanitizer(given, ["embed"] if dry else GENERATE_OPS), 90),
    ]


def run(step: Step, limit: float, log) -> dict:
    """Runs the commands one after the other within `limit` seconds."""
    begin, codes = time.monotonic(), []
    for command in step.commands:
        words = [str(word) for word in command]
        left = limit - (time.monotonic() - begin)
        log.write(f"\n== {step.name}: {' '.join(words)}\n")
        log.flush()
        if left <= 0:
            codes.append("no time left")
            continue
        try:
            codes.append(subprocess.run(words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, timeout=left).returncode)
        except subprocess.TimeoutExpired:
            codes.append(f"stopped after {left:.0f} s")
        except OSError as error:
            codes.append(str(error))
    results = {}
    for file in step.files:
        if file.exists():
            results[file.name] = json.loads(file.read_text())
    good = all(code == 0 for code in codes) and len(results) == len(step.files)
    commands = [" ".join(map(str, command)) for command in step.commands]
    return {"step": step.name, "good": good, "seconds": time.monotonic() - begin, "codes": codes, "commands": commands, "results": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "generate"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/stablerep")
    parser.add_argument("--minutes", type=float, default=9.5)
    parser.add_argument("--only", help="steps, separated by commas")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave torch.compile out of the images' rates")
    parser.add_argument("--large", action="store_true", help="train: also the paper's batch of 1,376 captions × 6 images")
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    given.out, given.binary = given.out.resolve(), given.binary.resolve()
    given.out.mkdir(parents=True, exist_ok=True)
    find_vendor_library(given.out / "lib")
    steps = {"train": train, "generate": generate}[given.what](given)
    wanted = given.only.split(",") if given.only else [step.name for step in steps]
    if unknown := set(wanted) - {step.name for step in steps}:
        parser.error(f"--only {', '.join(unknown)}: the steps are {', '.join(step.name for step in steps)}")

    end = time.monotonic() + 60 * given.minutes
    record = {"what": given.what, "machine": machine(), "steps": []}
    bad = set()
    print(f"{record['machine']['gpu']}\n\n| step | seconds | result |\n|---|--:|---|", flush=True)
    with open(given.out / "log.txt", "w") as log:
        for step in steps:
            left = end - time.monotonic()
            if step.name not in wanted:
                continue
            if missing := [name for name in step.after if name in bad]:
                outcome = {"step": step.name, "good": False, "seconds": 0.0, "codes": [f"without {', '.join(missing)}"]}
            elif left < 5:
                outcome = {"step": step.name, "good": False, "seconds": 0.0, "codes": ["no time left"]}
            else:
                outcome = run(step, min(left, step.seconds), log)
            record["steps"].append(outcome)
            if not outcome["good"]:
                bad.add(step.name)
            said = "good" if outcome["good"] else f"**{', '.join(str(code) for code in outcome['codes'] if code != 0) or 'a file is missing'}**"
            print(f"| {step.name} | {outcome['seconds']:.0f} | {said} |", flush=True)
            # What there is stays if the next step takes the machine down.
            (given.out / "results.json").write_text(json.dumps(record, indent=1) + "\n")
    print("\n" + (given.out / "log.txt").read_text()[-8000:])
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
