#!/usr/bin/env python3
"""Plants mistakes in the kernels and their launches, one at a time, and checks that the test suite catches each.

    python3 dev/mutation/run.py [--only TEXT]

`mutations.toml` lists them: file, what to find (exactly once) and put in its place, and the tests that must fail: names of `selftest`
groups, run on the simulated Hopper and Ampere devices, or `train` for the whole training run of tests/cuda. A mistake in a kernel is
compiled to PTX that the unchanged binary loads (STABLEREP_KERNELS); one in Rust is built in a copy of the sources. The result goes to
`results.md`. A mutation that survives fails the run, and so do one that does not compile and a test that fails without any. Needs nvcc, and
`cargo test --no-run` done; the first mistake in Rust builds the crate once more, under target/mutation.
"""
import argparse
import array
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
# Devices with their seeds, as in tests/cuda, and what kernels are compiled to for them.
MODELS = {"h200": ("1", "sm_90a"), "a100": ("2", "sm_80")}
# A deadlock is found by the simulator; a mutation that makes a kernel loop for ever is caught by this.
LIMIT = 300


def nvcc():
    for path in (os.environ.get("NVCC"), ROOT / ".cuda/nvidia/cu13/bin/nvcc", shutil.which("nvcc")):
        if path and pathlib.Path(path).is_file():
            return str(path)
    sys.exit("mutation: no nvcc; run dev/cuda-toolchain.sh")


def mutate(folder, mutation):
    path = folder / mutation["file"]
    text = path.read_text()
    count = text.count(mutation["find"])
    if count != mutation.get("count", 1):
        raise ValueError(f"{mutation['file']}: `{mutation['find']}` occurs {count} times")
    path.write_text(text.replace(mutation["find"], mutation["put"]))


def compile_kernel(folder, stem, target, out):
    """Compiles for one target, unless that has been done or the file is for another."""
    path = out / f"{stem}.{target}.ptx"
    if path.exists() or (stem.endswith("_sm90") and target != "sm_90a"):
        return
    command = [nvcc(), "-ptx", "-O3", "-std=c++17", "-lineinfo", "-arch", target, "-I", "kernels", f"kernels/{stem}.cu", "-o", path]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"does not compile:\n{done.stderr}")


def stems(folder, file):
    """The kernel files that a change of `file` touches."""
    path = pathlib.Path(file)
    if path.parent.name != "common":
        return [path.stem]
    name = path.name
    sources = {p.stem: p.read_text() for p in (folder / "kernels").glob("*.cu")}
    headers = {p.name: p.read_text() for p in (folder / "kernels/common").glob("*.cuh")}

    def uses(text, seen=()):
        return any(h == name or (h not in seen and uses(headers[h], (*seen, h)))
                   for h in headers if f'"common/{h}"' in text or f'"{h}"' in text)

    return [stem for stem, text in sources.items() if uses(text)]


def first_failure(binary, setup, environment, tests, prepare=lambda target: True):
    """Runs the tests where `prepare` says that the target is touched; the first line that says why one failed, or None if all passed."""
    for test in tests:
        for model, (seed, target) in MODELS.items():
            if not prepare(target):
                continue
            why = train_fails(binary, setup, environment, model) if test == "train" else selftest_fails(
                binary, setup, environment, test, model, seed)
            if why:
                return f"{test} on {model}: {why}"
    return None


def execute(binary, setup, environment, words):
    """Runs the binary on the simulated driver; why it failed, or None."""
    env = {**os.environ, "LD_LIBRARY_PATH": str(setup.driver), **environment}
    try:
        done = subprocess.run([binary, *words], capture_output=True, text=True, env=env, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return f"no end after {LIMIT} s"
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    why = [line for line in lines if "cuda-sim" in line or "expected" in line or "panicked" in line]
    why = why or [line for line in lines if line.startswith("error")] or lines or [f"exit code {done.returncode}"]
    return why[0].replace(f"{setup.folder}/sources/", "")[:200]


def selftest_fails(binary, setup, environment, group, model, seed):
    """The group as tests/cuda/main.rs runs it."""
    environment = {**environment, "CUDA_SIM_DEVICE": model, "CUDA_SIM_SEED": seed}
    return execute(binary, setup, environment, ["selftest", group, "--quick", "--seed", seed])


def train_fails(binary, setup, environment, model):
    """The run of `follows_the_cpu` in tests/cuda/train.rs: beside the CPU's, and twice with the same bits."""
    folders = [setup.scratch / f"{time.time_ns()}-{name}" for name in ("cuda", "again")]
    for folder, order in zip(folders, ({}, {"CUDA_SIM_SEED": "77"})):
        words = train_words(folder, "cuda", 6, "1e-4", 1) + ["--init-from", str(setup.init)]
        why = execute(binary, setup, {**environment, **order, "CUDA_SIM_DEVICE": model}, words)
        if why:
            return why
        if folder == folders[0]:
            why = runs_differ(setup.reference, folder)
            if why:
                return why
    one, two = ((folder / "checkpoint.safetensors").read_bytes() for folder in folders)
    return "two runs differ" if one != two else None


def train_words(output, device, steps, lr, warmup):
    """The command line of tests/cuda/train.rs."""
    return ["train", "--data", str(ROOT / "tests/fixtures/train_run/stablerep"), "--output", str(output), "--device", device,
            *("--model custom --image-size 32 --patch-size 8 --width 64 --depth 2 --heads 2 --head-dims 64,32 --batch 8 "
              f"--images-per-caption 4 --steps {steps} --warmup-steps {warmup} --lr {lr} --save-every 1000steps").split()]


class Setup:
    """A folder with the simulated driver, and, made when first asked for, what runs on a device are compared with."""

    def __init__(self, folder, binary, library):
        self.folder, self.binary = folder, binary
        self.driver, self.scratch = folder / "driver", folder / "runs"
        self.driver.mkdir()
        self.scratch.mkdir()
        for name in ("libcuda.so", "libcuda.so.1"):
            (self.driver / name).symlink_to(library)

    def cpu(self, words):
        why = execute(self.binary, self, {}, words)
        if why:
            sys.exit(f"mutation: the CPU's own run failed: {why}")

    @functools.cached_property
    def init(self):
        """Weights after 200 updates on the CPU: those of a new network do not tell the images apart."""
        self.cpu(train_words(self.scratch / "pretrained", "cpu", 200, "1e-3", 10))
        return self.scratch / "pretrained/checkpoint.safetensors"

    @functools.cached_property
    def reference(self):
        folder = self.scratch / "cpu"
        self.cpu(train_words(folder, "cpu", 6, "1e-4", 1) + ["--init-from", str(self.init)])
        return folder


def runs_differ(cpu, cuda):
    """The bounds of tests/cuda/train.rs on losses, gradient norms and trained weights."""
    lines = [[json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in (cpu, cuda)]
    if len(lines[0]) != len(lines[1]):
        return f"{len(lines[1])} updates, {len(lines[0])} on the CPU"
    for want, got in zip(*lines):
        for key, tolerance in (("loss", 0.003), ("grad_norm", 0.08), ("lr", 1e-12)):
            if not abs(want[key] - got[key]) <= tolerance * abs(want[key]):
                return f"step {want['step']}: {key} {got[key]:.6g}, on the CPU {want[key]:.6g}"
    wants, gots = (tensors(folder / "checkpoint.safetensors") for folder in (cpu, cuda))
    for name, want in wants.items():
        got = gots[name]
        squares = sum(a * a + b * b for a, b in zip(want, got))
        difference = 1 - 2 * sum(a * b for a, b in zip(want, got)) / squares if squares else 0.0
        if not difference < 5e-3:
            return f"{name}: difference {difference:.2e} of the CPU's"
    return None


def tensors(path):
    """The f32 tensors of a checkpoint but for the optimizer's."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    found = {}
    for name, info in json.loads(data[8:8 + length]).items():
        if name != "__metadata__" and info["dtype"] == "F32" and not name.startswith("adam."):
            start, end = (8 + length + at for at in info["data_offsets"])
            found[name] = array.array("f", data[start:end])
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="mutations whose file or text contains this; the others' results stay")
    parser.add_argument("--profile", default="release", help="folder of target/ that holds the binary and the simulator")
    options = parser.parse_args()
    built = ROOT / "target" / options.profile
    binary, library = built / "stablerep", built / "deps/libcuda_sim.so"
    for path in (binary, library):
        if not path.exists():
            sys.exit(f"mutation: {path} is missing; run cargo test --no-run (and --release) first")
    mutations = tomllib.loads((HERE / "mutations.toml").read_text())["mutation"]
    chosen = [m for m in mutations if options.only in m["file"] + m["what"]]
    rows, survived = [], 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        setup = Setup(folder, binary, library)
        # What fails without a mistake would be said to catch every mistake.
        for test in sorted({test for mutation in chosen for test in mutation["tests"]}):
            why = first_failure(binary, setup, {}, [test])
            if why:
                sys.exit(f"mutation: without any mistake, {why}")
        for mutation in chosen:
            started = time.time()
            try:
                caught = one(mutation, folder, binary, setup)
            except ValueError as error:
                sys.exit(f"mutation: {mutation['what']}: {error}")
            survived += caught is None
            rows.append((mutation, caught))
            print(f"{'caught  ' if caught else 'SURVIVED'} {time.time() - started:5.1f} s  {mutation['file']}: {mutation['what']}\n"
                  f"          {caught or ''}", flush=True)
    print(f"{len(rows) - survived} of {len(rows)} caught")
    report(mutations, rows)
    sys.exit(bool(survived))


def one(mutation, folder, binary, setup):
    if mutation["file"].startswith("kernels/"):
        sources, out = folder / "sources", folder / "ptx"
        for path in (sources, out):
            shutil.rmtree(path, ignore_errors=True)
        out.mkdir()
        shutil.copytree(ROOT / "kernels", sources / "kernels")
        mutate(sources, mutation)
        touched = stems(sources, mutation["file"])

        def prepare(target):
            for stem in touched:
                compile_kernel(sources, stem, target, out)
            return any((out / f"{stem}.{target}.ptx").exists() for stem in touched)

        return first_failure(binary, setup, {"STABLEREP_KERNELS": str(out)}, mutation["tests"], prepare)
    copy, target = ROOT / "target/mutation/sources", ROOT / "target/mutation/target"
    update_copy(copy)
    mutate(copy, mutation)
    env = {**os.environ, "CARGO_TARGET_DIR": str(target), "NVCC": nvcc(), "STABLEREP_PTX_ONLY": "1", "CARGO_INCREMENTAL": "1"}
    done = subprocess.run(["cargo", "build", "--bin", "stablerep"], cwd=copy, env=env, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"does not compile:\n{done.stderr[-3000:]}")
    return first_failure(target / "debug/stablerep", setup, {}, mutation["tests"])


def update_copy(copy):
    """Makes the copy what the working tree is; writes only what differs, so that cargo builds only that again."""
    files = subprocess.check_output(["git", "ls-files", "-z", "--", ":!docs"], cwd=ROOT, text=True).split("\0")
    for name in filter(None, files):
        source, to = ROOT / name, copy / name
        if source.is_file() and not (to.is_file() and to.read_bytes() == source.read_bytes()):
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, to)


def report(mutations, rows):
    """Writes results.md; what this run left out keeps its line."""
    path = HERE / "results.md"
    table = [line.split(" | ") for line in path.read_text().splitlines() if line.startswith("| ")] if path.exists() else []
    results = {(cells[0].strip("| "), cells[1]): cells[2].strip("| ") for cells in table if len(cells) == 3}
    for mutation, why in rows:
        results[mutation["file"], mutation["what"]] = (why or "**survived**").replace("|", "/")
    lines = [(m["file"], m["what"], results.get((m["file"], m["what"]), "not run")) for m in mutations]
    count = {word: sum(line[2] == word for line in lines) for word in ("**survived**", "not run")}
    caught = len(lines) - sum(count.values())
    head = ["# Planted mistakes and what caught them", "",
            f"`python3 dev/mutation/run.py`, {time.strftime('%Y-%m-%d')}: of {len(lines)} mistakes {caught} are caught, "
            f"{count['**survived**']} survived, {count['not run']} not run.", "",
            "| file | mistake | caught by |", "|---|---|---|"]
    path.write_text("\n".join(head + [f"| {' | '.join(line)} |" for line in lines]) + "\n")


if __name__ == "__main__":
    main()
