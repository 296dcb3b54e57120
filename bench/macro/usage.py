"""What process trees use: CPU time and memory, from /proc and the processes' own clocks. Reads only."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_TICK = os.sysconf("SC_CLK_TCK")


def tree(roots: Iterable[int]) -> list[int]:
    """These processes and all that descend from them."""
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system time of the trees, in nanoseconds' steps; children that have ended in ticks."""
    total = 0.0
    for pid in tree(roots):
        with contextlib.suppress(OSError, IndexError):
            total += time.clock_gettime(_cpu_clock(pid))
            # After the command's name, which may hold anything: utime is field 14, cutime 16 (proc(5)).
            rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(rest[13]) + int(rest[14])) / _TICK
    return total


def machine_busy_seconds() -> float:
    """What all processors together did since the machine started."""
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    user, nice, system, _idle, _wait, irq, softirq = (int(field) for field in fields[:7])
    return (user + nice + system + irq + softirq) / _TICK


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of the trees, and of the kernel beside them."""

    anonymous: int
    """RssAnon: what only these processes have, and no file can give back."""
    resident: int
    """VmRSS: with the pages of files."""
    proportional: int
    """Pss: shared pages divided among those who share them."""
    slab: int
    """The kernel's, of the whole machine: sockets are in it."""


def memory(roots: Iterable[int]) -> Memory:
    """Now."""
    anonymous = resident = proportional = 0
    for pid in tree(roots):
        with contextlib.suppress(OSError):
            status = _kib(Path(f"/proc/{pid}/status"))
            anonymous += status.get("RssAnon", 0)
            resident += status.get("VmRSS", 0)
            proportional += _kib(Path(f"/proc/{pid}/smaps_rollup")).get("Pss", 0)
    slab = _kib(Path("/proc/meminfo"))["Slab"]
    return Memory(anonymous=anonymous, resident=resident, proportional=proportional, slab=slab)


def resident(pid: int) -> int:
    """What one process holds now, in bytes; 0 once it is gone. Cheap for it: nobody walks through its pages."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def _kib(file: Path) -> dict[str, int]:
    """The lines `Name: 123 kB` of a file of /proc, in bytes."""
    found = {}
    for line in file.read_text().splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            found[name] = int(value.split()[0]) * 1024
    return found


def _cpu_clock(pid: int) -> int:
    """The clock id of another process' CPU time: `clock_getcpuclockid(3)`, CPUCLOCK_SCHED."""
    return (~pid << 3) | 2
