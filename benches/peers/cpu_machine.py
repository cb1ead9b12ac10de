"""What else the machine of cpu.py does: how much of it other programs use, and a lock between measurements."""
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
# Seconds of a look whether others are at work.
LOOK = 1.0


def everyone() -> float:
    """Seconds of all cores that any program used since the machine began, and the kernel for them."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / TICKS


def used_by(process: int) -> float:
    return sum(map(int, Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13])) / TICKS


class Others:
    """Programs other than this one and some processes that it started."""

    def __init__(self, processes: list[int]):
        self.own = [os.getpid(), *processes]
        self.begin()

    def begin(self) -> None:
        self.since, self.before = time.perf_counter(), everyone() - sum(map(used_by, self.own))

    def cores(self) -> float:
        """How many cores they used since the beginning."""
        return (everyone() - sum(map(used_by, self.own)) - self.before) / (time.perf_counter() - self.since)

    def rest(self, most: float) -> None:
        """Waits until they use no more than so many, and says that it waits."""
        said = False
        while most < os.cpu_count():
            self.begin()
            time.sleep(LOOK)
            if (cores := self.cores()) <= most:
                return
            if not said:
                print(f"waiting for other programs, which use {cores:.2f} cores", flush=True)
            said = True


@contextmanager
def locked(file: Path | None) -> Iterator[None]:
    """Holds a file as flock does, if there is one."""
    if file is None:
        yield
        return
    with file.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
