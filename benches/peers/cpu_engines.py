"""The engines of cpu.py: each is made for a row, called, timed, and asked for what its last call gave."""
import copy
import gc
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import openvino
import torch
from safetensors.torch import save_file

from cpu_rows import Row, nhwc
from train import adamw, update

ROOT = Path(__file__).resolve().parent.parent.parent
ENGINES, PRECISIONS = ("ours", "pytorch", "compile", "openvino"), ("f32", "bf16")
TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
# Of diffusers' code, whose caches are of versions.
warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
# The exit code of what cannot be asked for.
USAGE = 2


class Refused(Exception):
    """An engine does not compute in this precision."""


def flat(values: torch.Tensor) -> np.ndarray:
    """In our order."""
    return (nhwc(values) if values.ndim == 4 else values).float().reshape(-1).numpy()


class Ours:
    """`calls` of benches/end_to_end, a process of its own that keeps its network in memory."""

    def __init__(self, binary: Path, row: Row, precision: str, threads: int, scratch: Path):
        inputs, self.file = (scratch / f"{precision}.{end}" for end in ("safetensors", "outputs"))
        save_file(row.tensors, inputs)
        self.errors = tempfile.TemporaryFile("w+")
        words = ["--bench", "calls", row.network, "--model", row.weights, "--inputs", inputs, "--precision", precision, "--threads", threads]
        command = [str(word) for word in (binary, *words)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        if not self.process.stdout.readline():
            if self.process.wait() == USAGE:
                raise Refused(self.said())
            self.fail()

    def said(self) -> str:
        self.errors.seek(0)
        return self.errors.read()[-2000:].strip()

    def fail(self) -> NoReturn:
        code = self.process.wait()
        sys.exit(f"{' '.join(self.process.args)}: exit code {code}: {self.said()}")

    def ask(self, line: str) -> float:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        return json.loads(answer)["seconds"] if answer else self.fail()

    def call(self) -> float:
        return self.ask("call")

    def look(self) -> np.ndarray:
        self.ask(f"call {self.file}")
        return np.fromfile(self.file, dtype="<f4")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Here:
    """An engine in this process."""

    def work(self) -> None:
        raise NotImplementedError

    def given(self) -> np.ndarray:
        raise NotImplementedError

    def call(self) -> float:
        begin = time.perf_counter()
        self.work()
        return time.perf_counter() - begin

    def look(self) -> np.ndarray:
        self.work()
        return self.given()

    def close(self) -> None:
        pass


class Torch(Here):
    """A network as it is or compiled, channels last, its weights in the type it computes in."""

    def __init__(self, module: torch.nn.Module, row: Row, precision: str, compiled: bool):
        self.module = torch.compile(module) if compiled else module
        self.inputs = [x.to(TYPES[precision]) if x.is_floating_point() else x for x in row.inputs]

    def work(self) -> None:
        with torch.inference_mode():
            self.result = self.module(*self.inputs)

    def given(self) -> np.ndarray:
        return flat(self.result)


class Training(Here):
    """An update by AdamW of f32 weights; bf16 by autocast."""

    def __init__(self, row: Row, precision: str, compiled: bool):
        self.module, [self.images] = copy.deepcopy(row.module), row.inputs
        self.module.bf16 = precision == "bf16"
        self.optimizer = adamw(self.module)
        self.loss_of = torch.compile(self.module) if compiled else self.module

    def work(self) -> None:
        self.loss = update(self.loss_of, self.optimizer, self.images).detach()

    def given(self) -> np.ndarray:
        """The loss and the norm of the gradient."""
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.module.parameters()])
        return torch.stack([self.loss, norm]).numpy()


class OpenVino(Here):
    """A network converted in memory, with the row's shapes fixed."""

    def __init__(self, model: openvino.Model, row: Row, precision: str, threads: int):
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        self.request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
        self.inputs = [x.contiguous().numpy() for x in row.inputs]

    def work(self) -> None:
        self.result = self.request.infer(self.inputs, share_inputs=True, share_outputs=True)[0]

    def given(self) -> np.ndarray:
        return flat(torch.from_numpy(self.result))


def converted(row: Row) -> openvino.Model:
    with torch.no_grad(), warnings.catch_warnings():
        # Branches are taken by shape, and shapes are fixed.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        # OpenVINO traces.
        warnings.simplefilter("ignore", FutureWarning)
        model = openvino.convert_model(row.module, example_input=row.inputs)
    model.reshape({place.any_name: list(x.shape) for place, x in zip(model.inputs, row.inputs, strict=True)})
    return model


def engines(row: Row, names: list[str], precisions: list[str], binary: Path | None, threads: int, scratch: Path) -> Iterator[tuple[str, str, object]]:
    """Each engine of a row with its name and precision; one that refuses the precision is left out, which is said."""
    for name in names:
        if name == "openvino" and row.trains:
            continue
        model = converted(row) if name == "openvino" else None
        for precision in precisions:
            if name == "ours":
                try:
                    yield name, precision, Ours(binary, row, precision, threads, scratch)
                except Refused as refused:
                    print(f"ours in {precision} is left out: {refused}", flush=True)
            elif name == "openvino":
                yield name, precision, OpenVino(model, row, precision, threads)
            elif row.trains:
                yield name, precision, Training(row, precision, name == "compile")
            else:
                yield name, precision, Torch(in_type(row, precision), row, precision, name == "compile")


def in_type(row: Row, precision: str) -> torch.nn.Module:
    """The module with its weights in a type: one for both, PyTorch as it is and compiled."""
    if precision == "f32":
        return row.module
    if row.rounded is None:
        row.rounded = copy.deepcopy(row.module).to(TYPES[precision])
    return row.rounded


def forget() -> None:
    """What a row compiled and held."""
    torch.compiler.reset()
    gc.collect()
