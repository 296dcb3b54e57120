"""Counting: system calls and allocations of two data planes, instructions of the parts without I/O.

Runs the two examples that do fixed pieces of work, under strace and callgrind; decides nothing about the counts. Everything
is kept on one CPU: with two, whether a peer wakes up in the middle of a write is a matter of luck.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RUNS = 3
"""A count is the median of this many runs."""
DEADLINE = 120.0
"""Seconds for one run of a program; they take one or two."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one of the examples is asked to do."""

    name: str
    units: int
    counted_in: str


NODES = (
    Work(name="connections", units=100, counted_in="connection"),
    Work(name="down", units=32, counted_in="MiB down"),
    Work(name="round-trips", units=500, counted_in="round trip"),
    Work(name="up", units=32, counted_in="MiB up"),
)
PURE = (
    Work(name="authorize", units=2000, counted_in="decision by 1,000 policies"),
    Work(name="change", units=200, counted_in="changed endpoint of 10,000"),
    Work(name="receive-128", units=800, counted_in="frame of 128 B received"),
    Work(name="receive-16k", units=800, counted_in="frame of 16 KiB received"),
    Work(name="route", units=2000, counted_in="route to 10,000 endpoints"),
    Work(name="send-16k", units=800, counted_in="frame of 16 KiB sent"),
    Work(name="streams", units=200, counted_in="stream opened and closed"),
)


class Missing(Exception):
    """A tool that is needed is not there."""


def everything(root: Path) -> dict[str, float]:
    """Builds what is needed and gives each count by its name."""
    for tool, package in (("strace", "strace"), ("valgrind", "valgrind")):
        if shutil.which(tool) is None:
            raise Missing(f"missing: {tool}; apt-get install {package}")
    counted = _build(root, "proxy", "counted", "dev")
    pump = _build(root, "micro", "pump", "release")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    counts = {}
    for work in NODES:
        counts[f"allocations per {work.counted_in}"] = _median(_allocations(counted, work))
        counts[f"syscalls per {work.counted_in}"] = _median(_syscalls(counted, work))
    for work in PURE:
        counts[f"instructions per {work.counted_in}"] = _median(_instructions(pump, work))
    return counts


def _build(root: Path, package: str, example: str, profile: str) -> Path:
    command = ["cargo", "build", "--locked", "--quiet", f"--profile={profile}"]
    command += ["--package", package, "--example", example, "--message-format=json"]
    output = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = (json.loads(line) for line in output.splitlines())
    built = [m["executable"] for m in messages if m.get("target", {}).get("name") == example]
    return Path(next(executable for executable in built if executable))


def _median(counts: Iterable[float]) -> float:
    return round(statistics.median(counts), 3)


def _allocations(program: Path, work: Work) -> Iterable[float]:
    for _ in range(RUNS):
        answer = json.loads(_run([program, work.name, str(work.units)]))
        yield answer["allocations"] / work.units


def _syscalls(program: Path, work: Work) -> Iterable[float]:
    for _ in range(RUNS):
        with tempfile.NamedTemporaryFile(mode="r", prefix="strace-") as trace:
            strace = ["strace", "-f", "-qq", "-e", "signal=none", "-o", trace.name]
            answer = json.loads(_run([*strace, program, work.name, str(work.units)]))
            yield syscalls_in(trace, answer["workers"]) / work.units


def syscalls_in(trace: Iterable[str], threads: Sequence[int]) -> int:
    """How many calls these threads began between the two markers of a trace by `strace -f -o`."""
    lines = iter(trace)
    begun = any('"/gates/begin"' in line for line in lines)
    count = 0
    for line in lines:
        thread, _, call = line.partition(" ")
        call = call.lstrip()
        if '"/gates/end"' in call:
            return count
        # Not the second half of a call that another thread's interrupted, nor the end of a thread.
        if int(thread) in threads and call[:1] not in ("<", "+", "-"):
            count += 1
    raise ValueError(f"the trace has no {'end' if begun else 'begin'} marker")


def _instructions(program: Path, work: Work) -> Iterable[float]:
    callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    callgrind += ["--collect-atstart=no", "--toggle-collect=*pumped*"]
    for _ in range(RUNS):
        output = _run([*callgrind, program, work.name, str(work.units)])
        yield instructions_in(output) / work.units


def instructions_in(output: str) -> int:
    """What callgrind says that it collected."""
    found = re.search(r"Collected *: *(\d+)", output)
    if found is None or found[1] == "0":
        raise ValueError(f"callgrind collected nothing: {output[-500:]}")
    return int(found[1])


def _run(command: Sequence[str | Path]) -> str:
    """What a command says on both streams; the examples say nothing on the second."""
    done = subprocess.run(
        command,
        check=False,
        timeout=DEADLINE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout
