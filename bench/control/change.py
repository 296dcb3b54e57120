"""What one change from the control plane costs: `python -m bench.control.change`. See README.md.

The control side of a node (`learner.py`) and a control plane (`istiod.py`), each a process of its own, speak over TLS on
the loopback; nobody else takes part and nothing needs root. Three paces: each change when the one before it was
acknowledged, so that it finds the node asleep; a thousand a second; as many as are taken. CPU seconds of each process by
its clock; wall-clock time says nothing here.

    python -m bench.control.change --subject before=../other/python --subject after=python --rounds 5

Subjects are trees of the package, with the compiled half in them; their blocks are interleaved, in turning order.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.macro.authority import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
# What the control plane is told, and what it is called.
PACES = {
    "alone": "one at a time",
    "updates 1000": "1,000 a second",
    "updates 0": "as many as are taken",
}
SIZES = (10_000, 500, 200)
SIZED = "workloads, services, policies of the mesh"
STOPPING = 10.0


class Child:
    """A process of the measurement: one line to it, one line from it."""

    def __init__(self, *words: str, package: Path) -> None:
        path = os.pathsep.join((str(package), str(ROOT)))
        self.process = subprocess.Popen(
            [sys.executable, "-m", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
        )

    def tell(self, order: str) -> None:
        """Give an order."""
        assert self.process.stdin is not None
        print(order, file=self.process.stdin, flush=True)

    def answer(self) -> str:
        """What it says next; `RuntimeError` if it has ended instead."""
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(f"{self.process.args!r} ended: its own words are above")
        return line.strip()

    def ask(self, order: str) -> dict[str, Any]:
        """An order, and the object that it is answered with."""
        self.tell(order)
        found: dict[str, Any] = json.loads(self.answer())
        if "error" in found:
            raise RuntimeError(f"{order}: {found['error']}")
        return found

    def cpu(self) -> float:
        """CPU seconds so far, all threads: `clock_getcpuclockid(3)`."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def end(self) -> None:
        """Gone afterwards."""
        self.process.kill()
        self.process.communicate()


@dataclass(frozen=True, kw_only=True)
class Block:
    """One life of a learner under one pace."""

    node: float
    """CPU seconds of the node for one change."""
    plane: float
    """The same of the control plane: the measurement's own cost."""
    rate: float
    """Changes a second, as they were taken."""


def measure(
    package: Path,
    sizes: Sequence[int],
    pace: str,
    count: int,
    profile: Path | None = None,
) -> Block:
    """One block."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-change-")))
        authority = Authority()
        authority.server_context(folder)
        words = [str(folder), "0", *map(str, sizes)]
        plane = Child("bench.control.istiod", *words, package=ROOT / "python")
        stack.callback(plane.end)
        port = json.loads(plane.answer())["port"]
        node = Child("bench.control.learner", str(folder), str(port), package=package)
        stack.callback(node.end)
        plane.ask("connected")
        plane.ask("whole")
        assert node.answer() == "ready"
        # Once over what is made at first use.
        warm = 500
        plane.ask(f"prepare {warm + count}")
        plane.ask(f"updates 0 {warm}")
        if profile is not None:
            node.tell(f"profile {profile}")
        before = node.cpu(), plane.cpu()
        found = plane.ask(f"{pace} {count}")
        after = node.cpu(), plane.cpu()
        if profile is not None:
            node.tell("rest")
            assert node.answer() == "written"
        if found["answered"] != count or found["nacks"]:
            raise RuntimeError(f"not every change was taken: {found}")
        costs = [(b - a) / count for a, b in zip(before, after, strict=True)]
        seconds = found["seconds"] + found.get("behind", 0.0)
        return Block(node=costs[0], plane=costs[1], rate=count / seconds)


def report(blocks: Mapping[tuple[str, str], list[Block]]) -> Iterator[str]:
    """A Markdown table, medians; the last column is over the first subject's block of the same round."""
    yield "| subject | pace | node, CPU µs | control plane, CPU µs | taken, 1/s | ÷ first |"
    yield "|---|---|--:|--:|--:|--:|"
    first = next(iter(blocks))[0]
    for (name, pace), found in blocks.items():
        ratios = [b.node / a.node for a, b in zip(blocks[first, pace], found, strict=True)]
        node, plane, taken = (
            statistics.median(getattr(each, part) for each in found)
            for part in ("node", "plane", "rate")
        )
        yield (
            f"| {name} | {PACES[pace]} | {node * 1e6:.0f} | {plane * 1e6:.0f} | {taken:.0f} "
            f"| {statistics.median(ratios):.2f} |"
        )


def main(words: Sequence[str] | None = None) -> None:
    """Measure in rounds, print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.control.change")
    parser.add_argument("--subject", action="append", help="NAME=FOLDER of a tree of the package")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=3_000, help="changes of a block")
    parser.add_argument("--sizes", type=int, nargs=3, default=SIZES, metavar="N", help=SIZED)
    parser.add_argument("--profile", type=Path, help="one block only, and cProfile's statistics")
    asked = parser.parse_args(words)
    named = [each.partition("=") for each in asked.subject or [f"ours={ROOT / 'python'}"]]
    subjects = {name: Path(folder).resolve() for name, _, folder in named}
    if asked.profile is not None:
        for folder in subjects.values():
            profile = asked.profile.resolve()
            print(measure(folder, asked.sizes, "updates 1000", asked.count, profile))
        return
    blocks: dict[tuple[str, str], list[Block]] = {(s, p): [] for s in subjects for p in PACES}
    for number in range(asked.rounds):
        order = list(subjects) if number % 2 == 0 else list(reversed(subjects))
        for pace in PACES:
            for name in order:
                blocks[name, pace].append(measure(subjects[name], asked.sizes, pace, asked.count))
    print("\n".join(report(blocks)))


if __name__ == "__main__":
    main()
