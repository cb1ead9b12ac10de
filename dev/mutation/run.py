#!/usr/bin/env python3
"""Plants mistakes in the kernels and their launches, one at a time, and checks that the test suite catches each.

    python3 dev/mutation/run.py [--only TEXT]

`mutations.toml` lists them: file, what to find (exactly once) and put in its place, and the tests that must fail: names of `selftest`
groups, run on the simulated Hopper, Ampere and Ada devices, of tests in tests/cuda (`train::…`), or of tests in another binary
(`sampler/…`, unit tests `lib/…`). A mistake in a kernel is compiled by the unchanged binary (STABLEREP_KERNELS); one in Rust is built in a copy of the sources. The result goes to
`results.md`. A mutation that survives fails the run, and so do one that does not compile and a test that fails without any. Needs NVRTC (dev/cuda-toolchain.sh), and
`cargo test --no-run` done; the first mistake in Rust builds the crate once more, under target/mutation.
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
# Devices with their seeds, as in tests/cuda, and what kernels are compiled to for them.
MODELS = {"h200": ("1", "sm_90a"), "a100": ("2", "sm_80"), "rtx4090": ("3", "sm_89")}
# A deadlock is found by the simulator; a mutation that makes a kernel loop for ever is caught by this.
LIMIT = 300


def mutate(folder, mutation):
    path = folder / mutation["file"]
    text = path.read_text()
    count = text.count(mutation["find"])
    if count != mutation.get("count", 1):
        raise ValueError(f"{mutation['file']}: `{mutation['find']}` occurs {count} times")
    path.write_text(text.replace(mutation["find"], mutation["put"]))


def targets(stem):
    """What the build compiles a kernel file for."""
    return {"sm90": ["sm_90a"], "sm89": ["sm_89", "sm_90a"]}.get(stem.rpartition("_")[2], ["sm_80", "sm_90a"])


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


def first_failure(built, environment, tests, prepare=lambda target: True):
    """Runs the tests where `prepare` says that the target is touched; the first line that says why one failed, or None if all passed."""
    for test in tests:
        if "::" in test or "/" in test:
            if any([prepare(target) for _, target in MODELS.values()]):
                why = built.test_fails(test, environment)
                if why:
                    return f"{test}: {why}"
            continue
        for model, (seed, target) in MODELS.items():
            if prepare(target):
                why = built.selftest_fails(test, model, seed, environment)
                if why:
                    return f"{test} on {model}: {why}"
    return None


class Built:
    """The binary, the simulated driver and the tests of one tree of sources."""

    def __init__(self, sources, target, profile, scratch):
        self.sources, self.target, self.scratch = sources, target, scratch
        self.flags = ["--release"] if profile == "release" else []
        folder = target / profile
        self.binary, library = folder / "stablerep", folder / "deps/libcuda_sim.so"
        for path in (self.binary, library):
            if not path.exists():
                sys.exit(f"mutation: {path} is missing; run cargo test --no-run (and --release) first")
        self.driver = pathlib.Path(tempfile.mkdtemp(dir=scratch))
        for name in ("libcuda.so", "libcuda.so.1"):
            (self.driver / name).symlink_to(library)

    def selftest_fails(self, group, model, seed, environment):
        """The group as tests/cuda/main.rs runs it."""
        environment = {**environment, "LD_LIBRARY_PATH": str(self.driver), "CUDA_SIM_DEVICE": model, "CUDA_SIM_SEED": seed}
        return self.why([self.binary, "selftest", group, "--quick", "--seed", seed], environment)

    def test_fails(self, name, environment):
        binary, _, name = name.rpartition("/")
        target = ["--lib"] if binary == "lib" else ["--test", binary or "cuda"]
        command = ["cargo", "test", *self.flags, *target, "--", "--exact", name]
        return self.why(command, {**environment, "CARGO_TARGET_DIR": str(self.target)}, f"test {name} ... ok")

    def why(self, command, environment, proof=""):
        """Runs the command; why it failed, or None. `proof` is in the output of one that did run."""
        try:
            done = subprocess.run(command, cwd=self.sources, capture_output=True, text=True, timeout=LIMIT, env={**os.environ, **environment})
        except subprocess.TimeoutExpired:
            return f"no end after {LIMIT} s"
        if done.returncode == 0:
            if proof not in done.stdout:
                raise ValueError(f"{command}: `{proof}` is not in the output\n{done.stdout}")
            return None
        if "error: could not compile" in done.stderr or " for compute_" in done.stdout + done.stderr:
            raise ValueError(f"does not compile:\n{(done.stdout + done.stderr)[-3000:]}")
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        # NVRTC asks the driver for a table of its own, which the simulator says it has not.
        lines = [line for line in lines if "cuGetExportTable" not in line]
        why = [line for line in lines if "cuda-sim" in line or "expected" in line]
        # What a failed test says follows the line that names its place.
        why += [after for line, after in zip(lines, lines[1:]) if "panicked at" in line]
        why = why or [line for line in lines if line.startswith("error")] or lines or [f"exit code {done.returncode}"]
        return why[0].replace(f"{self.scratch}/sources/", "")[:200]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="mutations whose file or text contains this; the others' results stay")
    parser.add_argument("--profile", default="release", help="folder of target/ that holds the binary and the simulator")
    options = parser.parse_args()
    mutations = tomllib.loads((HERE / "mutations.toml").read_text())["mutation"]
    chosen = [m for m in mutations if options.only in m["file"] + m["what"]]
    rows, survived = [], 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        built = Built(ROOT, ROOT / "target", options.profile, folder)
        # What fails without a mistake would be said to catch every mistake.
        for test in sorted({test for mutation in chosen for test in mutation["tests"]}):
            why = first_failure(built, {}, [test])
            if why:
                sys.exit(f"mutation: without any mistake, {why}")
        for mutation in chosen:
            started = time.time()
            try:
                caught = one(mutation, folder, built)
            except ValueError as error:
                sys.exit(f"mutation: {mutation['what']}: {error}")
            survived += caught is None
            rows.append((mutation, caught))
            print(f"{'caught  ' if caught else 'SURVIVED'} {time.time() - started:5.1f} s  {mutation['file']}: {mutation['what']}\n"
                  f"          {caught or ''}", flush=True)
    print(f"{len(rows) - survived} of {len(rows)} caught")
    report(mutations, rows)
    sys.exit(bool(survived))


def one(mutation, folder, built):
    if mutation["file"].startswith("kernels/"):
        sources = folder / "sources"
        shutil.rmtree(sources, ignore_errors=True)
        shutil.copytree(ROOT / "kernels", sources / "kernels")
        (sources / ".cuda").symlink_to(ROOT / ".cuda")
        mutate(sources, mutation)
        touched = stems(sources, mutation["file"])
        # The binary compiles what it finds; the others it has.
        for path in (sources / "kernels").glob("*.cu"):
            if path.stem not in touched:
                path.unlink()
        environment = {"STABLEREP_KERNELS": str(sources / "kernels")}
        return first_failure(built, environment, mutation["tests"], lambda target: any(target in targets(stem) for stem in touched))
    copy, target = ROOT / "target/mutation/sources", ROOT / "target/mutation/target"
    update_copy(copy)
    mutate(copy, mutation)
    environment = {"CARGO_TARGET_DIR": str(target), "STABLEREP_PTX_ONLY": "1", "CARGO_INCREMENTAL": "1"}
    command = ["cargo", "test", "--no-run", "--test", "cuda"]
    done = subprocess.run(command, cwd=copy, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"does not compile:\n{done.stderr[-3000:]}")
    return first_failure(Built(copy, target, "debug", folder), environment, mutation["tests"])


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
