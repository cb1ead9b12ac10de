"""On paper: how a guided UNet call of Stable Diffusion 1.5 at 256² would share its work among 1 to 64 threads.

    python scaling.py

Every layer is cut into tasks by the rules of src/ops (gemm/cpu/share.rs, packed.rs, conv/winograd.rs, conv/direct.rs), tasks of a layer
are dealt to whoever is free, and the next layer begins when the last has ended and BARRIER has passed. RATES are about what one thread
does here, in GFLOP/s of what is really multiplied; the linear one was measured, the others are rounded guesses. Not in it: bandwidth of memory, clocks that fall when many cores work,
and norms (each a pass over rows, of which there are enough).
"""
from math import ceil

RATES, BARRIER = {"linear": 135.0, "winograd": 100.0, "direct": 115.0, "attention": 60.0}, 10e-6


def by_parts(m: int, n: int, threads: int) -> int:
    wanted, panels, fewest = 4 * threads, ceil(n / 48), ceil(m / 448)
    group = min(max(fewest * panels // wanted, 1), 4)
    across = ceil(panels / group)
    return max(fewest, min(ceil(wanted / across), ceil(m / 9) // 2), 1) * across


def linear(m: int, k: int, n: int, threads: int) -> tuple[str, float, int]:
    tasks = ceil(m / 64) if m >= 64 * threads else by_parts(m, n, threads)
    return "linear", 2.0 * m * k * n, tasks


def conv(images: int, side: int, c: int, n: int, threads: int, stride: int = 1) -> tuple[str, float, int]:
    rows = images * side * side
    if stride == 1 and c >= 32 and n >= 32 and c * n <= 640 * 1920 and side >= 4:
        across = ceil(side / 4)
        strips = images * across
        parts = ceil(ceil(strips / max(72 // across, 1)) / threads) * threads
        each = ceil(strips / parts)
        shared = each * across >= 24 or 36 * c * n <= 1 << 18
        return "winograd", 2.0 * 36 * strips * across * c * n, ceil(strips / each) if shared else 36
    share = min(ceil(ceil(rows / threads) / 16) * 16, 256)
    tasks = ceil(rows / share) if share >= 32 else by_parts(min(rows, 256), n, threads)
    return "direct", 2.0 * 9 * rows * c * n, tasks


def call(threads: int) -> list[tuple[str, float, int]]:
    ops = []

    def res(side, c, n):
        ops.append(conv(2, side, c, n, threads))
        ops.append(conv(2, side, n, n, threads))
        if c != n:
            ops.append(linear(2 * side * side, c, n, threads))

    def attention(side, c):
        m, tokens = 2 * side * side, side * side
        for k, n in [(c, c), (c, 3 * c), (c, c), (c, c), (c, c), (c, 8 * c), (4 * c, c), (c, c)]:
            ops.append(linear(m, k, n, threads))
        for keys in (tokens, 77):
            blocks = max(1, ceil(tokens * keys / (1 << 17)))
            ops.append(("attention", 4.0 * m * keys * c, 2 * 8 * blocks))

    for side, c, n, attends in [(32, 320, 320, True), (16, 320, 640, True), (8, 640, 1280, True), (4, 1280, 1280, False)]:
        for c in (c, n):
            res(side, c, n)
            if attends:
                attention(side, n)
        if attends:
            ops.append(conv(2, side // 2, n, n, threads, stride=2))
    for _ in range(2):
        res(4, 1280, 1280)
    attention(4, 1280)
    ups = [(4, (2560, 2560, 2560), 1280, False), (8, (2560, 2560, 1920), 1280, True), (16, (1920, 1280, 960), 640, True), (32, (960, 640, 640), 320, True)]
    for side, inputs, n, attends in ups:
        for c in inputs:
            res(side, c, n)
            if attends:
                attention(side, n)
        if side < 32:
            ops.append(conv(2, 2 * side, n, n, threads))
    return ops


def seconds(threads: int) -> float:
    total = 0.0
    for kind, flops, tasks in call(threads):
        whole = flops / RATES[kind] / 1e9
        total += whole if threads == 1 else whole * ceil(tasks / threads) / tasks + BARRIER
    return total


one = seconds(1)
print(f"one thread: {one:.2f} s, {len(call(1))} layers")
for threads in (2, 4, 8, 16, 32, 64):
    now = seconds(threads)
    print(f"{threads:3} threads: {1e3 * now:7.1f} ms, {one / now:5.1f} x, {100 * one / now / threads:3.0f} %")
