"""Ours beside the pure-Python tunnel, over loopback, in interleaved rounds.

Within a round every subject does the same work once, in an order that turns from round to round, so
that a noisy minute hits all of them. Ratios are medians of the ratios within rounds. The method is
told in README.md, the figures are written to results/ by conftest.py.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import pytest

from bench import workloads
from bench.report import Sample, Sheet
from bench.subjects import SUBJECTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.subjects import Subject
    from bench.workloads import Address, Run

    class Benchmark(Protocol):
        """The part of pytest-benchmark's fixture that is used here."""

        extra_info: dict[str, object]

        def pedantic(self, target: Callable[[], None], *, rounds: int) -> None:
            """Call `target` that many times."""


MIB = 1024 * 1024
# To try the harness, or to look at one alone: BENCH_SUBJECTS=ours
WANTED = os.environ.get("BENCH_SUBJECTS", "direct,ours,pure_python").split(",")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One row group of the table."""

    title: str
    unit: str
    full: Callable[[Address], Run]
    smoke: Callable[[Address], Run]


def _pings(title: str, count: int, size: int, trips: int) -> Workload:
    return Workload(
        title=title,
        unit="round trip",
        full=partial(workloads.ping_pong, connections=count, size=size, trips=trips),
        smoke=partial(workloads.ping_pong, connections=count, size=size, trips=2 * count),
    )


def _bulk(title: str, run: Callable[[Address, int], Run]) -> Workload:
    return Workload(
        title=title,
        unit="GiB",
        full=lambda way_in: run(way_in, 512 * MIB),
        smoke=lambda way_in: run(way_in, 4 * MIB),
    )


WORKLOADS = [
    _bulk("bulk down, 1 connection", workloads.bulk_down),
    _bulk("bulk up, 1 connection", workloads.bulk_up),
    _pings("128 B round trips, 1 connection", 1, 128, 3_000),
    _pings("16 KiB round trips, 1 connection", 1, 16_384, 2_000),
    _pings("128 B round trips, 64 connections", 64, 128, 9_600),
    _pings("16 KiB round trips, 64 connections", 64, 16_384, 6_400),
    Workload(
        title="new connections, 8 at a time",
        unit="connection",
        full=partial(workloads.connections, count=1_500, at_once=8),
        smoke=partial(workloads.connections, count=16, at_once=8),
    ),
]


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.title)
def test_same_work(
    workload: Workload, benchmark: Benchmark, sheet: Sheet, rounds: int, tmp_path: Path
) -> None:
    run = workload.smoke if sheet.smoke else workload.full
    with ExitStack() as stack:
        subjects = _start(stack, list(SUBJECTS), tmp_path)
        for subject in subjects:
            workload.smoke(subject.way_in)  # tunnels are up, caches are warm

        def one_round() -> None:
            subjects.append(subjects.pop(0))
            for subject in subjects:
                sheet.add(workload.title, workload.unit, subject.name, _measure(subject, run))

        benchmark.pedantic(one_round, rounds=rounds)
    benchmark.extra_info.update(sheet.summary(workload.title))


def test_idle_connections(benchmark: Benchmark, sheet: Sheet, rounds: int, tmp_path: Path) -> None:
    count = 64 if sheet.smoke else 1_000
    folders = iter(tmp_path / str(number) for number in range(rounds))

    def one_round() -> None:
        folder = next(folders)
        with ExitStack() as stack:
            for subject in _start(stack, ["ours", "pure_python"], folder):
                workloads.greeted(subject.way_in).close()
                empty = subject.memory()
                held = [workloads.greeted(subject.way_in) for _ in range(count)]
                grown = subject.memory() - empty
                for connection in held:
                    connection.close()
                sample = Sample(units=count, memory=grown, resident=empty)
                sheet.add(f"{count} idle connections", "connection", subject.name, sample)

    benchmark.pedantic(one_round, rounds=rounds)
    benchmark.extra_info.update(sheet.summary(f"{count} idle connections"))


def _start(stack: ExitStack, names: list[str], folder: Path) -> list[Subject]:
    subjects = []
    for name in names:
        if name not in WANTED:
            continue
        (folder / name).mkdir(parents=True)
        subjects.append(stack.enter_context(SUBJECTS[name](folder / name)))
    return subjects


def _measure(subject: Subject, run: Callable[[Address], Run]) -> Sample:
    before = subject.cpu()
    seen = run(subject.way_in)
    return Sample(
        units=seen.units,
        seconds=seen.seconds,
        cpu=subject.cpu() - before,
        latencies=sorted(seen.latencies),
    )
