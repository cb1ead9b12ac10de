#!/usr/bin/env python3
"""Plants mistakes in the kernels and their launches, one at a time, and checks that the test suite catches each.

    python3 dev/mutation/run.py [--only TEXT]

`mutations.toml` lists them: file, what to find (exactly once) and put in its place, and the tests that must fail: names of `selftest`
groups, run on the simulated Hopper and Ampere devices, or `train` for the whole training run of tests/cuda. A mistake in a kernel is
compiled to PTX that the unchanged binary loads (STABLEREP_KERNELS); one in Rust is built in a copy of the sources. The result goes to
`results.md`. A mutation that survives fails the run, and so does one that does not compile. Needs nvcc, and `cargo test --no-run` done.
"""
import argparse
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
MODELS = ("h200", "a100")
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


def targets(stem):
    return ["sm_90a"] if stem.endswith("_sm90") else ["sm_80", "sm_90a"]


def compile_kernel(folder, stem, out):
    for target in targets(stem):
        command = [nvcc(), "-ptx", "-O3", "-std=c++17", "-lineinfo", "-arch", target, "-I", folder / "kernels",
                   folder / f"kernels/{stem}.cu", "-o", out / f"{stem}.{target}.ptx"]
        done = subprocess.run(command, capture_output=True, text=True)
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


def first_failure(binary, driver, environment, tests, scratch):
    """Runs the tests; the first line that says why one failed, or None if all passed."""
    for test in tests:
        for model in MODELS:
            env = {**os.environ, **environment, "LD_LIBRARY_PATH": str(driver), "CUDA_SIM_DEVICE": model, "CUDA_SIM_SEED": "1"}
            if test == "train":
                command = [binary, "train", "--device", "cuda", "--output", scratch / f"{model}-{time.time_ns()}",
                           "--data", ROOT / "tests/fixtures/train_run/stablerep", "--model", "custom", "--image-size", "32",
                           "--patch-size", "8", "--width", "64", "--depth", "2", "--heads", "2", "--head-dims", "64,32",
                           "--batch", "4", "--images-per-caption", "3", "--steps", "6", "--warmup-steps", "1", "--lr", "1e-3"]
                reference = [str(c) if c != "cuda" else "cpu" for c in command]
                reference[reference.index("--output") + 1] += "-cpu"
            else:
                command, reference = [binary, "selftest", test, "--quick", "--seed", "1"], None
            try:
                done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=LIMIT)
            except subprocess.TimeoutExpired:
                return f"{test} on {model}: no end after {LIMIT} s"
            text = done.stdout + done.stderr
            if done.returncode:
                lines = [line.strip() for line in text.splitlines()]
                why = [line for line in lines if "cuda-sim" in line or "expected" in line or line.startswith("error")]
                return f"{test} on {model}: {(why or lines or ['exit code'])[0][:150]}"
            if reference:
                subprocess.run(reference, capture_output=True, check=True)
                why = runs_differ(pathlib.Path(reference[reference.index("--output") + 1]), pathlib.Path(command[5 - 1]))
                if why:
                    return f"train on {model}: {why}"
    return None


def runs_differ(cpu, cuda):
    """The bounds of tests/cuda/train.rs on losses and gradient norms."""
    import json
    lines = [[json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in (cpu, cuda)]
    if len(lines[0]) != len(lines[1]):
        return f"{len(lines[1])} updates, {len(lines[0])} on the CPU"
    for want, got in zip(*lines):
        for key, tolerance in (("loss", 0.01), ("grad_norm", 0.05), ("lr", 1e-12)):
            if not abs(want[key] - got[key]) <= tolerance * abs(want[key]):
                return f"step {want['step']}: {key} {got[key]:.6g}, on the CPU {want[key]:.6g}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="mutations whose file or text contains this; results.md stays as it is")
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
        driver, scratch = folder / "driver", folder / "runs"
        driver.mkdir()
        scratch.mkdir()
        for name in ("libcuda.so", "libcuda.so.1"):
            (driver / name).symlink_to(library)
        for mutation in chosen:
            started = time.time()
            try:
                caught = one(mutation, folder, binary, driver, scratch, options.profile)
            except ValueError as error:
                sys.exit(f"mutation: {mutation['what']}: {error}")
            survived += caught is None
            rows.append((mutation, caught))
            print(f"{'caught  ' if caught else 'SURVIVED'} {time.time() - started:5.1f} s  {mutation['file']}: {mutation['what']}\n"
                  f"          {caught or ''}", flush=True)
    print(f"{len(rows) - survived} of {len(rows)} caught")
    if not options.only:
        report(rows)
    sys.exit(bool(survived))


def one(mutation, folder, binary, driver, scratch, profile):
    if mutation["file"].startswith("kernels/"):
        sources, out = folder / "sources", folder / "ptx"
        for path in (sources, out):
            shutil.rmtree(path, ignore_errors=True)
        out.mkdir()
        shutil.copytree(ROOT / "kernels", sources / "kernels")
        mutate(sources, mutation)
        for stem in stems(sources, mutation["file"]):
            compile_kernel(sources, stem, out)
        return first_failure(binary, driver, {"STABLEREP_KERNELS": str(out)}, mutation["tests"], scratch)
    # Built where cargo finds everything else built already.
    copy = ROOT / "target" / "mutation"
    if not copy.exists():
        subprocess.run(["git", "worktree", "add", "--detach", copy, "HEAD"], cwd=ROOT, check=True, capture_output=True)
    subprocess.run(["git", "checkout", "--force", "--detach", subprocess.check_output(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip()], cwd=copy, check=True, capture_output=True)
    mutate(copy, mutation)
    env = {**os.environ, "CARGO_TARGET_DIR": str(copy / "target"), "NVCC": nvcc(), "STABLEREP_PTX_ONLY": "1", "CARGO_INCREMENTAL": "1"}
    done = subprocess.run(["cargo", "build", "--bin", "stablerep"], cwd=copy, env=env, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"does not compile:\n{done.stderr[-3000:]}")
    return first_failure(copy / "target/debug/stablerep", driver, {}, mutation["tests"], scratch)


def report(rows):
    caught = sum(why is not None for _, why in rows)
    lines = ["# Planted mistakes and what caught them", "",
             f"`python3 dev/mutation/run.py`, {time.strftime('%Y-%m-%d')}: {caught} of {len(rows)} caught.", "",
             "| file | mistake | caught by |", "|---|---|---|"]
    for mutation, why in rows:
        lines.append(f"| {mutation['file']} | {mutation['what']} | {(why or '**survived**').replace('|', '/')} |")
    (HERE / "results.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
