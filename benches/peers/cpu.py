"""Networks on the CPU, one call each: ours beside PyTorch (as it is and by torch.compile) and OpenVINO, in f32 and bf16, on the same threads.

    python dev/golden/full_sd15.py FOLDER --no-reference         # once: Stable Diffusion 1.5's sizes, random weights, 2.1 GB
    python benches/peers/cpu.py --model FOLDER/model [--only unet-256,text] [--engines ours,pytorch,compile,openvino]
        [--precisions f32,bf16] [--rounds 5] [--seconds 0.5] [--threads 2] [--save FILE.json] [--binary FILE] [--others 0.1] [--lock FILE]

Rows (cpu_rows.py): a UNet call with guidance and a decode of full-size Stable Diffusion at 256² and 512² (decode-512 only if --only names it), its text
encoder, the bundled model's UNet and decode of 16 pictures, an update of StableRep with ViT-Ti, ViT-S, ViT-B and the demo's ViT, features of ViT-S.
--model is needed by the full-size rows alone. unet-256 takes 16 GB of memory with all engines in both precisions, of which --engines and --precisions
choose, and minutes before its first round, in which torch.compile compiles.

Ours is `calls` of benches/end_to_end, built here unless --binary names it; diffusers', transformers' and timm's networks are PyTorch's, channels last,
bf16 by `.to(bfloat16)`, of training by autocast; OpenVINO converts them in memory and computes bf16 by INFERENCE_PRECISION_HINT. Training has no OpenVINO.
What computes in no bf16 is left out there, and said.

First every engine's outputs are compared with PyTorch's in f32: the largest difference by the largest value (of training loss and gradient norm
of the first update and loss of the second, each by itself); beyond 1e-3 in f32 or 5e-2 in bf16 the run fails. Then rounds: in each every engine in turn
is called for --seconds or once, and the median of its calls counts; another engine begins each round. Printed are the median over the rounds, the least
and the most, how many times as long as ours it took (more than 1: ours is faster), and how many cores other programs used meanwhile, which hurts most
whoever waits in a loop for its other thread. With --others a round waits for them, and is repeated if they used more (kept, but not counted). --save keeps
every call of every round.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import diffusers
import numpy as np
import openvino
import timm
import torch
import transformers

from cpu_engines import ENGINES, PRECISIONS, ROOT, Ours, engines, forget
from cpu_machine import Others, locked
from cpu_rows import FULL, LARGE, ROWS, Row

# How far outputs may be from PyTorch's in f32, and between which calls threads that wait in a loop come to rest.
LIMITS, REST = {"f32": 1e-3, "bf16": 5e-2}, 0.05


def built() -> Path:
    """The benchmark, by cargo."""
    command = ["cargo", "bench", "--bench", "end_to_end", "--no-run", "--message-format", "json"]
    lines = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    found = [message["executable"] for message in map(json.loads, lines) if message.get("target", {}).get("name") == "end_to_end"]
    if not found:
        sys.exit(f"{' '.join(command)}: named no executable")
    return Path(found[-1])


def outputs(engine, row: Row) -> np.ndarray:
    """Of training the loss and the gradient's norm, and the next loss, which the update made; what comes later hangs on rounding."""
    first = engine.look()
    return np.concatenate([first, engine.look()[:1]]) if row.trains else first


def apart(got: np.ndarray, wanted: np.ndarray, row: Row) -> float:
    if got.shape != wanted.shape:
        return float("nan")
    scale = np.abs(wanted) if row.trains else np.abs(wanted).max()
    return float((np.abs(got - wanted) / scale).max())


def calls(engine, seconds: float) -> list[float]:
    time.sleep(REST)
    done = [engine.call()]
    while sum(done) < seconds:
        done.append(engine.call())
    return done


def measured(row: Row, given: argparse.Namespace, scratch: Path) -> dict:
    """How far each engine is apart from PyTorch in f32, and of every round the seconds of every call and how many cores other programs used."""
    running = {f"{name} {kind}": engine for name, kind, engine in engines(row, given.engines, given.precisions, given.binary, given.threads, scratch)}
    try:
        distances = compared(row, running, given.threads, scratch)
        order, rounds, counted = list(running), [], 0
        others = Others([engine.process.pid for engine in running.values() if isinstance(engine, Ours)])
        while counted < given.rounds:
            first = counted % len(order)
            others.rest(given.others)
            with locked(given.lock):
                others.begin()
                seconds = {name: calls(running[name], given.seconds) for name in order[first:] + order[:first]}
                rounds.append({"others": others.cores(), "seconds": {name: seconds[name] for name in order}})
            rounds[-1]["counted"] = rounds[-1]["others"] <= given.others
            counted += rounds[-1]["counted"]
        return {"apart": distances, "rounds": rounds}
    finally:
        for engine in running.values():
            engine.close()


def compared(row: Row, running: dict, threads: int, scratch: Path) -> dict[str, float]:
    if (reference := running.get("pytorch f32")) is None:
        [(_, _, reference)] = engines(row, ["pytorch"], ["f32"], None, threads, scratch)
    wanted = outputs(reference, row)
    found = {name: 0.0 if engine is reference else apart(outputs(engine, row), wanted, row) for name, engine in running.items()}
    print("apart from PyTorch f32: " + ", ".join(f"{name} {distance:.1e}" for name, distance in found.items()), flush=True)
    # So that what is no number fails.
    if wrong := [name for name, distance in found.items() if not distance <= LIMITS[name.split()[1]]]:
        sys.exit(f"too far from PyTorch f32: {', '.join(wrong)}; not the same network")
    return found


def show(name: str, found: dict) -> None:
    rounds = [made for made in found["rounds"] if made["counted"]]
    medians = {engine: [1e3 * statistics.median(made["seconds"][engine]) for made in rounds] for engine in found["apart"]}
    middle = {engine: statistics.median(times) for engine, times in medians.items()}
    ours = {kind: middle.get(f"ours {kind}") for kind in PRECISIONS}
    for engine, times in medians.items():
        ratios = [f"{middle[engine] / ours[kind]:.2f}x" if ours[kind] else "–" for kind in PRECISIONS]
        spread = f"{min(times):.1f}..{max(times):.1f}"
        print(f"{name:<15} {engine:<14} {middle[engine]:>10.1f} {spread:>18} {ratios[0]:>11} {ratios[1]:>12} {found['apart'][engine]:>9.1e}")
    cores = [f"{made['others']:.2f}{'' if made['counted'] else ' (not counted)'}" for made in found["rounds"]]
    print(f"cores that other programs used, by round: {', '.join(cores)}", flush=True)


def keep(path: Path, record: dict) -> None:
    """Whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(json.dumps(record, indent=1) + "\n")
    unfinished.replace(path)


def chosen(parser: argparse.ArgumentParser, flag: str, words: str, known) -> list[str]:
    names = words.split(",")
    if wrong := [name for name in names if name not in known]:
        parser.error(f"{flag} {','.join(wrong)}: expected some of {', '.join(known)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a diffusers folder of Stable Diffusion 1.5's sizes")
    parser.add_argument("--only", default=",".join(row for row in ROWS if row not in LARGE), help="rows, separated by commas")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of an engine's calls in a round, one at least")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save", type=Path, help="every call, as JSON")
    parser.add_argument("--binary", type=Path, help="the benchmark end_to_end, in place of what cargo builds here")
    parser.add_argument("--others", type=float, default=float("inf"), help="cores that other programs may use: a round waits for it, and is repeated if they used more")
    parser.add_argument("--lock", type=Path, help="a file that every round holds locked, as flock does, where measurements share a machine")
    given = parser.parse_args()
    given.engines = chosen(parser, "--engines", given.engines, ENGINES)
    given.precisions = chosen(parser, "--precisions", given.precisions, PRECISIONS)
    rows = chosen(parser, "--only", given.only, ROWS)
    if given.rounds < 1:
        parser.error("--rounds: expected at least 1")
    if needing := [row for row in rows if row in FULL and given.model is None]:
        parser.error(f"{', '.join(needing)}: need --model DIR (dev/golden/full_sd15.py makes one), or choose other rows by --only")
    if given.model:
        given.model = given.model.absolute()
    if "ours" in given.engines:
        given.binary = given.binary.absolute() if given.binary else built()
    torch.set_num_threads(given.threads)

    versions = {module.__name__: module.__version__ for module in (torch, diffusers, transformers, timm, openvino)}
    record = {"versions": versions, "threads": given.threads, "seconds": given.seconds, "load": os.getloadavg()[0], "rows": {}}
    print(f"{os.cpu_count()} cores, load average {record['load']:.1f} before the start (another program's work falsifies the ratios), {given.threads} threads")
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"{'row':<15} {'engine':<14} {'ms a call':>10} {'least..most':>18} {'by ours f32':>11} {'by ours bf16':>12} {'apart':>9}", flush=True)
    for name in rows:
        what, make = ROWS[name]
        print(f"{name}: {what}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            found = measured(make(given.model, Path(folder)), given, Path(folder))
        forget()
        show(name, found)
        record["rows"][name] = found
        if given.save:
            keep(given.save, record)


if __name__ == "__main__":
    main()
