"""What a card computes where PTX gives only a bound: approximate functions, and the sums inside matrix instructions.

    python dev/golden/card.py [--out FILE]

Runs tests/cuda-sim/tests/recorded/probes.ptx through the driver (no CUDA toolkit, no PyTorch) and writes every probe's inputs and results as words to
tests/cuda-sim/tests/recorded/<card>.txt, which the simulator's tests replay. Needs a Hopper card, or the simulated driver in LD_LIBRARY_PATH.
"""
import argparse
import ctypes
import random
import re
import struct
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent.parent / "tests/cuda-sim/tests/recorded"
COUNT = 512  # inputs of a function; blocks of 128


def f32(value: float) -> int:
    return struct.unpack("<I", struct.pack("<f", value))[0]


def bf16(value: float) -> int:
    return f32(value) >> 16


def f16(value: float) -> int:
    return struct.unpack("<H", struct.pack("<e", value))[0]


def inputs(name: str) -> list[int]:
    """Words that a probe reads, the same in every run."""
    draw = random.Random(name)
    kind, _, what = name.partition("_")
    if kind == "f":
        spread = {"ex2": 140.0, "ex2_bf16x2": 20.0, "sin": 10.0, "cos": 10.0, "tanh": 5.0, "tanh_bf16x2": 5.0}.get(what)
        edges = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 3.0, 1e-30, 1e30, 1e-40, -1e-40, float("inf"), float("-inf")]

        def value() -> float:
            if spread is not None:
                return draw.uniform(-spread, spread)
            return draw.uniform(1.0, 2.0) * 2.0 ** draw.randint(-60, 60)

        values = edges + [value() for _ in range(COUNT - len(edges))]
        if what.endswith("bf16x2"):
            return [bf16(v) | bf16(-v if abs(v) < 3 else v / 2) << 16 for v in values]
        return [f32(v) for v in values]

    def bits8() -> int:
        # Any e4m3 but NaN.
        while True:
            byte = draw.randrange(256)
            if byte & 0x7F != 0x7F:
                return byte

    def operand(words: int) -> list[int]:
        if what == "e4m3":
            return [sum(bits8() << 8 * i for i in range(4)) for _ in range(words)]
        pack = f16 if what == "f16" else bf16

        # Magnitudes over eight octaves: sums in which small terms meet large ones.
        def half() -> int:
            return pack(draw.choice([-1, 1]) * draw.uniform(1.0, 2.0) * 2.0 ** draw.randint(-6, 1))

        return [half() | half() << 16 for _ in range(words)]

    if kind == "m":
        return [w for _ in range(32) for w in operand(4) + operand(2) + [f32(draw.uniform(-64, 64)) for _ in range(4)]]
    return operand(2304)


def results(name: str) -> int:
    return {"f": COUNT, "m": 128, "w": 512}[name[0]]


class Driver:
    def __init__(self):
        self.cuda = ctypes.CDLL("libcuda.so.1")
        device, self.context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        name = ctypes.create_string_buffer(100)
        self.call("cuDeviceGetName", name, 100, device)
        self.name = name.value.decode()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), device)
        self.call("cuCtxSetCurrent", self.context)
        version = ctypes.c_int()
        self.call("cuDriverGetVersion", ctypes.byref(version))
        self.version = version.value

    def call(self, function: str, *arguments) -> None:
        code = getattr(self.cuda, function)(*arguments)
        if code != 0:
            raise SystemExit(f"{function}: CUDA error {code}")

    def load(self, ptx: str):
        module = ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(ptx.encode()))
        return module

    def run(self, module, name: str, words: list[int], count: int) -> list[int]:
        function, source, target = ctypes.c_void_p(), ctypes.c_uint64(), ctypes.c_uint64()
        self.call("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
        data, back = (ctypes.c_uint32 * len(words))(*words), (ctypes.c_uint32 * count)()
        self.call("cuMemAlloc_v2", ctypes.byref(source), ctypes.c_size_t(ctypes.sizeof(data)))
        self.call("cuMemAlloc_v2", ctypes.byref(target), ctypes.c_size_t(ctypes.sizeof(back)))
        self.call("cuMemcpyHtoD_v2", source, data, ctypes.c_size_t(ctypes.sizeof(data)))
        arguments = (ctypes.c_void_p * 2)(ctypes.addressof(target), ctypes.addressof(source))
        grid, block = (COUNT // 128 if name[0] == "f" else 1), (32 if name[0] == "m" else 128)
        self.call("cuLaunchKernel", function, grid, 1, 1, block, 1, 1, 0, None, arguments, None)
        self.call("cuCtxSynchronize")
        self.call("cuMemcpyDtoH_v2", back, target, ctypes.c_size_t(ctypes.sizeof(back)))
        self.call("cuMemFree_v2", source)
        self.call("cuMemFree_v2", target)
        return list(back)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    ptx = (FOLDER / "probes.ptx").read_text()
    driver = Driver()
    module = driver.load(ptx)
    lines = [f"# {driver.name}, driver {driver.version}"]
    for name in re.findall(r"\.entry (\w+)", ptx):
        words = inputs(name)
        back = driver.run(module, name, words, results(name))
        lines += [name, " ".join(f"{w:x}" for w in words), " ".join(f"{w:x}" for w in back)]
    out = given.out or FOLDER / (re.sub(r"[^a-z0-9]+", "-", driver.name.lower()).strip("-") + ".txt")
    out.write_text("\n".join(lines) + "\n")
    print(f"{len(lines) // 3} probes of {driver.name}: {out}")


if __name__ == "__main__":
    main()
